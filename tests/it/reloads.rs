//! Another configuration while the daemon runs: what it changes, what it leaves alone, and what it says.

mod certificates;
mod under_load;

use serde_json::json;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::notified::Manager;
use crate::harness::receiver::{Act, Receiver};
use crate::harness::sign::buildpixel;

/// A source that takes everything.
const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";

fn target(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[target.{name}]\nurl = {:?}\n{more}\n", receiver.url())
}

/// What the log says of changed keys.
fn changed(daemon: &Daemon) -> Vec<(String, String)> {
    let lines = daemon.log().into_iter();
    let lines = lines.filter(|line| line.contains("\"the configuration changed\""));
    let read = |line: String| {
        let json: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let field = |name: &str| json["fields"][name].as_str().expect("a field").to_owned();
        (field("what"), field("key"))
    };
    lines.map(read).collect()
}

#[tokio::test]
async fn a_reload_takes_effect_at_once_and_says_what_changed() {
    let (mut first, mut second) = (Receiver::good().await, Receiver::good().await);
    let home = Home::new(&format!("{SOURCE}{}", target("t", &first, "")));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"1").await.ack();
    assert_eq!(first.next().await.body, "1");
    let more = "[source.more]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";
    home.configure(&format!(
        "dedup_window = \"1h\"\n[delivery]\nconcurrency = 9\n{SOURCE}{more}{}",
        target("t", &second, "timeout = \"3s\"")
    ));
    let answer = daemon.admin_post("/api/v1/reload").await;
    assert_eq!(answer.status, 200);
    let change = |key: &str, what: &str| json!({ "key": key, "what": what });
    assert_eq!(
        answer.json(),
        json!({
            "status": "reloaded",
            "changes": [
                change("delivery.concurrency", "changed"),
                change("journal.dedup_window", "changed"),
                change("source.more", "added"),
                change("target.t.timeout", "changed"),
                change("target.t.url", "changed"),
            ],
            "needs_restart": [],
            "warnings": [],
        })
    );
    daemon.post("/in/more", &[], b"2").await.ack();
    assert_eq!(second.next().await.body, "2");
    daemon.metric_becomes("everhook_events_accepted_total{source=\"more\"}", 1.0).await;
    assert_eq!(daemon.admin_get("/api/v1/reload").await.status, 405);
    // Nothing changed since then.
    let again = daemon.admin_post("/api/v1/reload").await;
    assert_eq!(again.json()["changes"], json!([]));
}

#[tokio::test]
async fn a_configuration_with_mistakes_changes_nothing_and_every_mistake_is_told() {
    let mut receiver = Receiver::good().await;
    let right = format!("{SOURCE}{}", target("t", &receiver, ""));
    let home = Home::new(&right);
    let daemon = home.start().await;
    let loaded_at = daemon.metric("everhook_config_last_reload_timestamp_seconds").await;
    daemon.metric_becomes("everhook_config_last_reload_successful", 1.0).await;
    home.configure("[source.any]\nprovider = \"costom\"\n[target.t]\nurl = \"ftp://x\"\n");
    let answer = daemon.admin_post("/api/v1/reload").await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let told = answer.json();
    let keys: Vec<_> =
        told["mistakes"].as_array().expect("a list").iter().map(|m| &m["key"]).collect();
    assert_eq!(keys, ["source.any.provider", "target.t.url"], "{told}");
    daemon.metric_becomes("everhook_config_last_reload_successful", 0.0).await;
    daemon.metric_becomes("everhook_config_last_reload_timestamp_seconds", loaded_at).await;
    daemon.hang_up();
    let line = daemon.logs("was not reloaded").await;
    assert!(line.contains("source.any.provider") && line.contains("ERROR"), "{line}");
    daemon.post("/in/any", &[], b"still served").await.ack();
    assert_eq!(receiver.next().await.body, "still served");
    home.configure(&right);
    daemon.hang_up();
    daemon.metric_becomes("everhook_config_last_reload_successful", 1.0).await;
    assert!(daemon.metric("everhook_config_last_reload_timestamp_seconds").await > loaded_at);
}

#[tokio::test]
async fn the_units_way_to_reload_needs_no_program_that_a_minimal_system_lacks() {
    let unit = include_str!("../../systemd/everhook.service");
    let way = unit.lines().find_map(|line| line.strip_prefix("ExecReload=")).expect("a way");
    let script = way.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\''));
    let receiver = Receiver::good().await;
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver, "")));
    let daemon = home.start().await;
    let mut shell = tokio::process::Command::new("/bin/sh");
    shell.args(["-c", script.expect("the shell's own")]).env_clear();
    shell.env("PATH", "/nowhere").env("MAINPID", daemon.pid().to_string());
    assert!(shell.status().await.expect("a shell").success());
    daemon.logs("the configuration was reloaded").await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_in_its_file_counts_from_the_next_request_on() {
    let receiver = Receiver::good().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, "canary-old-secret").expect("written");
    let source =
        format!("[source.b]\nprovider = \"buildpixel\"\nsecret = \"file:{}\"\n", file.display());
    let home = Home::new(&format!("{source}{}", target("t", &receiver, "")));
    let daemon = home.start().await;
    let post = async |secret: &str, body: &str| {
        let signature = buildpixel(secret, body.as_bytes());
        let headers =
            [("x-buildpixel-signature", signature.as_str()), ("content-type", "application/json")];
        daemon.post("/in/b", &headers, body.as_bytes()).await.status
    };
    let body = |n: u32| {
        format!("{{\"event\":\"build.complete\",\"data\":{{\"build\":{{\"id\":\"{n}\"}}}}}}")
    };
    assert_eq!(post("canary-old-secret", &body(1)).await, 200);
    std::fs::write(&file, "canary-new-secret").expect("written");
    assert_eq!(post("canary-old-secret", &body(2)).await, 200, "nobody said that it changed");
    daemon.hang_up();
    daemon.logs("the configuration was reloaded").await;
    assert_eq!(post("canary-new-secret", &body(3)).await, 200);
    assert_eq!(post("canary-old-secret", &body(4)).await, 401);
    assert_eq!(changed(&daemon), [("changed".to_owned(), "source.b.secret".to_owned())]);
    assert!(!daemon.log().iter().any(|line| line.contains("canary")));
}

#[tokio::test]
async fn a_target_that_leaves_keeps_its_deliveries_and_gets_them_when_it_returns() {
    let failing = Receiver::scripted(|_, _| Act::Answer("500 No", "")).await;
    let mut other = Receiver::good().await;
    let slow = "retry = { schedule = [\"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"] }\n";
    let both = |receiver: &Receiver, other: &Receiver| {
        format!("{SOURCE}{}{}", target("gone", receiver, slow), target("other", other, ""))
    };
    let home = Home::new(&both(&failing, &other));
    let daemon = home.start().await;
    let (id, _) = daemon.post("/in/any", &[], b"kept").await.ack();
    other.next().await;
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"gone\"}", 1.0).await;
    home.configure(&format!("{SOURCE}{}", target("other", &other, "")));
    daemon.hang_up();
    daemon.logs("the configuration was reloaded").await;
    daemon.metric_becomes("everhook_deliveries{state=\"orphaned\",target=\"gone\"}", 1.0).await;
    assert_eq!(changed(&daemon), [("removed".to_owned(), "target.gone".to_owned())]);
    assert!(daemon.log().iter().any(|line| line.contains("a target that is not configured")));
    let page = daemon.admin_get("/metrics").await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!page.contains("everhook_breaker_open{target=\"gone\"}"), "it has no breaker any more");
    daemon.post("/in/any", &[], b"not for it").await.ack();
    assert_eq!(other.next().await.body, "not for it");
    let mut mended = Receiver::good().await;
    home.configure(&both(&mended, &other));
    daemon.hang_up();
    let came = mended.next().await;
    assert_eq!((came.id(), &*came.body), (id.as_str(), &b"kept"[..]));
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"gone\"}", 0.0).await;
    assert_eq!(mended.seen().len(), 1, "what came while it was away was never for it");
}

#[tokio::test]
async fn a_target_that_was_renamed_takes_what_is_queued_for_its_old_name() {
    let failing = Receiver::scripted(|_, _| Act::Answer("500 No", "")).await;
    let slow = "retry = { schedule = [\"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"] }\n";
    let home = Home::new(&format!("{SOURCE}{}", target("old-name", &failing, slow)));
    let daemon = home.start().await;
    let (id, _) = daemon.post("/in/any", &[], b"1").await.ack();
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"old-name\"}", 1.0).await;
    let mut mended = Receiver::good().await;
    let renamed = format!("{slow}was = \"old-name\"\n");
    home.configure(&format!("{SOURCE}{}", target("new-name", &mended, &renamed)));
    daemon.hang_up();
    assert_eq!(mended.next().await.id(), id);
    daemon.metric_becomes("everhook_deliveries{state=\"waiting\",target=\"old-name\"}", 0.0).await;
    let counted = "everhook_delivery_attempts_total{outcome=\"delivered\",target=\"new-name\"}";
    daemon.metric_becomes(counted, 1.0).await;
    assert!(!daemon.log().iter().any(|line| line.contains("a target that is not configured")));
    // It stays so over a restart: the configuration says it.
    daemon.terminate();
    assert!(daemon.ended().await.success());
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"2").await.ack();
    assert_eq!(mended.next().await.body, "2");
}

#[tokio::test]
async fn a_target_that_wants_to_know_is_pinged_when_a_reload_changed_its_settings() {
    let (mut told, mut quiet) = (Receiver::good().await, Receiver::good().await);
    let configured = |more: &str| {
        let told = target("told", &told, &format!("ping = true\n{more}"));
        format!("{SOURCE}{told}{}", target("quiet", &quiet, more))
    };
    let (before, after) = (configured(""), configured("timeout = \"3s\"\n"));
    let home = Home::new(&before);
    let daemon = home.start().await;
    // Neither a start nor a reload that changed nothing is worth a ping.
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    home.configure(&after);
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    let ping = told.next().await;
    assert_eq!(ping.header("everhook-event"), "everhook.ping");
    let body: serde_json::Value = serde_json::from_slice(&ping.body).expect("JSON");
    assert_eq!(body["changes"], json!(["target.told.timeout"]), "{body}");
    daemon.post("/in/any", &[], b"an event").await.ack();
    assert_eq!(
        (told.next().await.body, quiet.next().await.body),
        ("an event".into(), "an event".into())
    );
    assert_eq!((told.seen().len(), quiet.seen().len()), (2, 1));
}

#[tokio::test]
async fn another_rate_counts_at_once() {
    let mut receiver = Receiver::good().await;
    let limited = "rate = \"1/h\"\nburst = 1\n";
    let home = Home::new(&format!("{SOURCE}{}", target("t", &receiver, limited)));
    let daemon = home.start().await;
    for number in 0..3 {
        daemon.post("/in/any", &[], format!("{number}").as_bytes()).await.ack();
    }
    receiver.next().await;
    // Reloading is no way around the limit.
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    daemon.metric_becomes("everhook_deliveries{state=\"ready\",target=\"t\"}", 2.0).await;
    home.configure(&format!("{SOURCE}{}", target("t", &receiver, "")));
    daemon.hang_up();
    receiver.take(2).await;
}

#[tokio::test]
async fn a_pause_outlives_reloads_also_while_its_target_is_away() {
    let mut receiver = Receiver::good().await;
    let with = |receiver: &Receiver| {
        format!(
            "{SOURCE}{}{}",
            target("a", receiver, ""),
            target("b", receiver, "active = false\n")
        )
    };
    let without =
        |receiver: &Receiver| format!("{SOURCE}{}", target("b", receiver, "active = false\n"));
    let home = Home::new(&with(&receiver));
    let daemon = home.start().await;
    assert_eq!(daemon.admin_post("/api/v1/targets/a/pause").await.status, 200);
    daemon.post("/in/any", &[], b"1").await.ack();
    home.configure(&without(&receiver));
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    assert_eq!(daemon.admin_post("/api/v1/targets/a/resume").await.status, 404);
    home.configure(&with(&receiver));
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
    daemon.metric_becomes("everhook_target_paused{target=\"a\"}", 1.0).await;
    assert!(receiver.seen().is_empty());
    assert_eq!(daemon.admin_post("/api/v1/targets/a/resume").await.status, 200);
    assert_eq!(receiver.next().await.body, "1");
}

#[tokio::test]
async fn the_level_of_the_log_and_the_admin_token_change_and_a_listener_waits_for_a_restart() {
    let receiver = Receiver::good().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (file, token) = (dir.path().join("everhook.toml"), dir.path().join("token"));
    let write = |level: &str, port: u16| {
        let text = format!(
            "[ingress]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"file:{}\"\n\
             [log]\nlevel = \"{level}\"\nformat = \"json\"\n[journal]\npath = {:?}\nmin_free = \"1MiB\"\n{SOURCE}{}",
            token.display(),
            dir.path().join("journal").display().to_string(),
            target("t", &receiver, "")
        );
        std::fs::write(&file, text).expect("written");
    };
    std::fs::write(&token, "first-token").expect("written");
    write("info", 0);
    let home = Home::new("");
    std::fs::copy(&file, home.config()).expect("copied");
    let daemon = home.start().await;
    let reload = async |token: &str| {
        let bearer = format!("Bearer {token}");
        daemon.admin_post_with("/api/v1/reload", &[("authorization", &bearer)]).await
    };
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 401);
    std::fs::write(&token, "second-token").expect("written");
    write("debug", 1);
    std::fs::copy(&file, home.config()).expect("copied");
    let answer = reload("first-token").await;
    assert_eq!(answer.json()["needs_restart"], json!(["ingress.listen"]));
    assert_eq!(reload("first-token").await.status, 401);
    let again = reload("second-token").await.json();
    assert_eq!(again["needs_restart"], json!(["ingress.listen"]), "it still does");
    assert_eq!(again["changes"], json!([]));
    daemon.post("/in/any", &[], b"1").await.ack();
    daemon.logs("\"level\":\"DEBUG\"").await;
}

#[tokio::test]
async fn the_service_manager_is_told_when_a_reload_begins_and_how_it_ends() {
    let receiver = Receiver::good().await;
    let right = format!("{SOURCE}{}", target("t", &receiver, ""));
    let home = Home::new(&right);
    let manager = Manager::of(&home);
    let daemon = Home::started(manager.serve(&home)).await;
    manager.hears("READY=1").await;
    daemon.hang_up();
    let begun = manager.hears("RELOADING=1").await;
    let moment = begun.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(moment.is_some_and(|usec| usec.parse::<u64>().is_ok_and(|usec| usec > 0)), "{begun}");
    let ended = manager.hears("READY=1").await;
    assert!(ended.contains("STATUS=relaying 1 source to 1 target\n"), "{ended}");
    home.configure("[target.t]\nurl = \"http://127.0.0.1:1/\"\n[sorce.x]\n");
    daemon.hang_up();
    manager.hears("RELOADING=1").await;
    let ended = manager.hears("READY=1").await;
    assert!(ended.contains("a new configuration was refused"), "{ended}");
}
