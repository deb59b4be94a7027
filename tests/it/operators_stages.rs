//! What an operator sees of builds and sources, and has read again.

use serde_json::{Value, json};

use crate::harness::api::{Api, each};
use crate::harness::daemon::{Daemon, Home, run};
use crate::harness::receiver::Receiver;
use crate::harness::within;

async fn hears(daemon: &Daemon, upload: &str, events: &[&str]) {
    for event in events {
        let body = format!(
            r#"{{"event":"build.{event}","projectId":"p","uploadId":"{upload}","objection":null}}"#
        );
        assert_eq!(daemon.post("/in/s", &[], body.as_bytes()).await.ack().1, "accepted");
    }
}

async fn watching(keys: &str) -> (Home, Daemon, Receiver) {
    let receiver = Receiver::good().await;
    let home = Home::new(&sources(keys, &receiver));
    let daemon = home.start().await;
    (home, daemon, receiver)
}

fn sources(keys: &str, receiver: &Receiver) -> String {
    format!(
        "[source.s]\nprovider = \"streampixel\"\n{keys}\n[source.other]\nprovider = \"custom\"\n\
         verify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
        receiver.url()
    )
}

fn step<'a>(build: &'a Value, event: &str) -> &'a Value {
    let steps = build["steps"].as_array().expect("a list");
    steps.iter().find(|step| step["event"] == event).expect("a step of the provider")
}

#[tokio::test]
async fn builds_are_listed_with_their_steps_gaps_and_stalls() {
    let keys = "stages = { gap_after = \"1s\", stall_after = \"2s\" }";
    let (home, daemon, _receiver) = watching(keys).await;
    let api = Api::of(daemon.admin).await;
    assert_eq!(api.get("stages").await, json!({ "items": [], "next": null }));
    hears(&daemon, "u1", &["uploaded", "saving"]).await;
    hears(&daemon, "u2", &["uploaded", "downloading", "extracting", "saving", "approved"]).await;
    hears(&daemon, "u3", &["uploaded", "rejected"]).await;
    let builds = each(&api.all("stages", 2).await, "build");
    assert_eq!(builds, ["p/u3", "p/u2", "p/u1"].map(Value::from), "the latest heard of first");
    let found = async |query: &str| each(&api.all(&format!("stages?{query}"), 1).await, "build");
    assert_eq!(found("state=ended&q=U2").await, [json!("p/u2")]);
    let ended = &api.get("stages?state=ended&q=u2").await["items"][0];
    assert_eq!((&ended["last"], &ended["late"]), (&json!("build.approved"), &json!([])));
    assert_eq!(step(ended, "build.uploaded")["state"], "came");
    assert_eq!(step(ended, "build.rejected")["state"], "open");
    within("what is missing is told", async {
        while found("missing=true&q=u1").await.is_empty() {
            tokio::task::yield_now().await;
        }
        while found("state=stalled").await != [json!("p/u1")] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stuck = &api.get("stages?state=stalled").await["items"][0];
    assert_eq!(stuck["missing"], json!(["build.downloading", "build.extracting"]));
    assert_eq!(step(stuck, "build.extracting")["state"], "missing");
    assert!(step(stuck, "build.saving")["at"] == stuck["heard_at"], "{stuck}");
    for bad in ["state=gone", "missing=perhaps", "q=", "cursor=1", "since=1h", "source=S"] {
        assert_eq!(api.ask("GET", &format!("stages?{bad}"), None).await.0, 400, "{bad}");
    }

    let (list, _, code) = run(&home, &daemon, &["stages", "list", "--missing", "-q", "u1"]).await;
    assert!(list.contains("p/u1") && list.contains("build.downloading"), "{list}");
    assert_eq!((list.lines().count(), code), (2, Some(0)));
    let (lines, ..) = run(&home, &daemon, &["stages", "list", "--json", "--limit", "2"]).await;
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[tokio::test]
async fn a_source_says_by_which_url_its_provider_reaches_it() {
    let keys = "path_token = \"plain:canary-0123456789-canary\"\n\
                public_url = \"https://hooks.example.com/in/s/canary-0123456789-canary?x=1\"";
    let (_home, daemon, _receiver) = watching(keys).await;
    let api = Api::of(daemon.admin).await;
    let sources = api.get("sources").await;
    assert!(!sources.to_string().contains("canary"), "{sources}");
    let of = |name: &str| {
        let items = sources["items"].as_array().expect("a list").clone();
        items.into_iter().find(|it| it["source"] == name).expect("a source")
    };
    assert_eq!(of("s")["url"], "https://hooks.example.com/in/s/PATH_TOKEN?x=1");
    assert_eq!(
        (&of("s")["is_public_url"], &of("s")["watches_builds"]),
        (&json!(true), &json!(false))
    );
    assert!(of("other")["url"].as_str().unwrap().ends_with("/in/other"), "{sources}");
    assert_eq!(of("other")["is_public_url"], false);
}

#[tokio::test]
async fn the_configuration_is_read_again_by_a_command() {
    let (home, daemon, receiver) = watching("").await;
    let (said, _, code) = run(&home, &daemon, &["reload"]).await;
    assert!(said.contains("nothing differs") && code == Some(0), "{said}");
    home.configure(&sources("expect_every = \"1h\"", &receiver));
    let (said, _, code) = run(&home, &daemon, &["reload"]).await;
    assert!(said.contains("source.s.expect_every added") && code == Some(0), "{said}");
    home.configure(&sources("expect_evry = \"1h\"", &receiver));
    let (_, said, code) = run(&home, &daemon, &["reload"]).await;
    assert!(said.contains("expect_evry") && code == Some(78), "the command reads it, too: {said}");
    let admin = format!("http://{}", daemon.admin);
    let mut asking = tokio::process::Command::new(env!("CARGO_BIN_EXE_everhook"));
    asking.args(["reload", "--admin", &admin]);
    let output = within("the command ends", asking.output()).await.expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("stays in effect") && said.contains("source.s.expect_evry"), "{said}");
    assert_eq!(output.status.code(), Some(78));
    let api = Api::of(daemon.admin).await;
    let (status, refused) = api.post("reload", json!({})).await;
    assert_eq!((status, &refused["mistakes"][0]["key"]), (422, &json!("source.s.expect_evry")));
}
