//! What an operator does with the command line, on the running daemon; and what is told live.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::daemon::{Daemon, Home, run};
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nevent = \"/event\"\nverify = { kind = \"none\" }\ndedup = { key = [\"header:x-id\"] }\n";

async fn refusing() -> (Home, Daemon, Receiver) {
    let receiver = Receiver::scripted(|_, _| Act::Answer("422 No", "")).await;
    let home = Home::new(&format!(
        "{SOURCE}[target.deploy]\nurl = {:?}\nretry = {{ give_up = [422] }}\nbreaker = \"none\"\n",
        receiver.url()
    ));
    let daemon = home.start().await;
    (home, daemon, receiver)
}

#[tokio::test]
async fn events_and_dead_letters_are_seen_and_acted_on() {
    let (home, daemon, mut receiver) = refusing().await;
    let body =
        json!({ "event": "build.failed", "text": "\u{1b}[31mred\u{202e}\u{9b}2J" }).to_string();
    let twice = [("x-id", "1")];
    let id = daemon.post("/in/any", &twice, body.as_bytes()).await.ack().0;
    receiver.next().await;
    let again = daemon.post("/in/any", &twice, body.as_bytes()).await.ack();
    assert_eq!(again, (id.clone(), "duplicate".to_owned()));
    daemon.metric_becomes("everhook_dead_letters{target=\"deploy\"}", 1.0).await;
    let (list, _, code) = run(&home, &daemon, &["events", "list"]).await;
    assert_eq!(code, Some(0));
    assert!(list.contains(&id) && list.contains("build.failed") && list.contains("dead"), "{list}");
    let (none, said, code) = run(&home, &daemon, &["events", "list", "--event", "x*"]).await;
    assert_eq!((none.as_str(), code), ("", Some(0)));
    assert!(said.contains("no event fits"), "{said}");
    let (json_line, ..) = run(&home, &daemon, &["events", "list", "--json", "--since", "1h"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json_line).unwrap()["id"], json!(id));
    // The attempt is written with the next commit, a moment after it was counted.
    let shown = within("the attempt is written", async {
        loop {
            let (shown, ..) = run(&home, &daemon, &["events", "show", &id]).await;
            if shown.contains("ms (connect ") {
                break shown;
            }
        }
    });
    let shown = shown.await;
    assert!(shown.contains("deploy: dead, because refused"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{shown:?}");
    let (whole, ..) = run(&home, &daemon, &["events", "show", &id, "--json"]).await;
    assert!(whole.trim().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{whole:?}");
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(whole["body"]["data"], json!(body), "and nothing of it is changed");
    let (raw, ..) = run(&home, &daemon, &["events", "show", &id, "--body"]).await;
    assert_eq!(raw, body, "byte for byte");
    for part in ["1 repeat, the latest at", "     < content-length: 2"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let (groups, ..) = run(&home, &daemon, &["dead-letters", "list", "--groups"]).await;
    assert!(groups.contains("refused") && groups.contains('1'), "{groups}");

    let (_, said, code) = run(&home, &daemon, &["dead-letters", "discard", "--all"]).await;
    assert_eq!(code, Some(2), "nobody can be asked: {said}");
    let (told, ..) = run(&home, &daemon, &["dead-letters", "retry", "--all", "--dry-run"]).await;
    assert_eq!(told.trim(), "would retry 1 delivery of 1 event");
    let (told, _, code) = run(&home, &daemon, &["dead-letters", "retry", &id, "--yes"]).await;
    assert!(told.contains("done: 1 delivery of 1 event") && code == Some(0), "{told}");
    receiver.next().await;
    let (_, said, code) = run(&home, &daemon, &["events", "replay", "--yes"]).await;
    assert!(said.contains("say which") && code == Some(2), "{said}");
    let (made, ..) = run(&home, &daemon, &["events", "resend", &id, "--event", "again"]).await;
    assert_eq!(receiver.next().await.id(), made.trim());
    let (jobs, ..) = run(&home, &daemon, &["jobs", "list"]).await;
    assert!(jobs.contains("retry") && jobs.contains("done"), "{jobs}");
    let (figures, ..) = run(&home, &daemon, &["stats"]).await;
    assert!(figures.contains("totals accepted: 1"), "{figures}");
    let (sources, ..) = run(&home, &daemon, &["sources", "list"]).await;
    assert!(sources.contains("/in/any"), "{sources}");
}

#[tokio::test]
async fn a_target_is_listed_tried_and_found_by_a_similar_name() {
    let (home, daemon, _receiver) = refusing().await;
    let (said, _, code) = run(&home, &daemon, &["targets", "test", "deploy"]).await;
    assert!(said.starts_with("failed: 422") && code == Some(1), "{said}");
    let (_, said, code) = run(&home, &daemon, &["targets", "pause", "deplyo"]).await;
    assert!(said.contains("did you mean \"deploy\"?") && code == Some(1), "{said}");
    let (list, ..) = run(&home, &daemon, &["targets", "list"]).await;
    assert!(list.contains("deploy") && list.contains("422 at"), "{list}");
    daemon.kill().await;
    let mut command = home.command(&["targets", "list", "--admin", "http://127.0.0.1:1"]);
    let output = within("the command ends", command.output()).await.expect("it runs");
    let (said, code) = (String::from_utf8(output.stderr).expect("text"), output.status.code());
    assert!(said.contains("is it running?") && code == Some(1), "{said}");
}

#[tokio::test]
async fn a_misspelt_name_is_told_the_one_that_was_meant_wherever_it_stands() {
    let (home, daemon, mut receiver) = refusing().await;
    daemon.post("/in/any", &[], br#"{"event":"e"}"#).await.ack();
    receiver.next().await;
    daemon.metric_becomes("everhook_dead_letters{target=\"deploy\"}", 1.0).await;
    let near = "did you mean \"deploy\"?";
    // What fits nothing may be about a name of before: the answer stands, and the hint beside it.
    for (command, hint, expected) in [
        ("events list --target deplyo", near, 0),
        ("events list --source anny", "did you mean \"any\"?", 0),
        ("dead-letters list --target deplyo", near, 0),
        ("dead-letters list --groups --target zzz", "there are deploy", 0),
        ("dead-letters retry --target deplyo --dry-run", near, 0),
        ("dead-letters discard --target deplyo --yes", near, 0),
        ("rejections list --source anny", "did you mean \"any\"?", 0),
        ("rejections release --source anny --dry-run", "did you mean \"any\"?", 0),
        ("stages list --source anny", "did you mean \"any\"?", 0),
        ("dead-letters retry --all --to deplyo --yes", near, 1),
        ("events replay --all --to deplyo --yes", near, 1),
        ("events tail --target deplyo", near, 1),
        ("events tail --source anny", "did you mean \"any\"?", 1),
        ("events tail --state daed", "dead", 2),
        ("events list --state daed", "dead", 2),
        ("events list --reason refusd", "refused", 2),
        ("events list --error timeouthead", "timeout-head", 2),
        ("rejections list --cause unverfied", "unverified", 2),
        ("stages list --state stalld", "stalled", 2),
        ("events list --since soon --json", "no moment", 1),
        ("events replay --since soon --yes", "no moment", 2),
        ("events show evt_12", "32 hex digits", 2),
        ("jobs cancel job_12", "32 hex digits", 2),
        ("rejections show rej_12", "32 hex digits", 2),
    ] {
        let words: Vec<_> = command.split(' ').collect();
        let (_, said, code) = run(&home, &daemon, &words).await;
        assert!(said.contains(hint) && code == Some(expected), "{command}: {said} {code:?}");
    }
    for known in [
        "events list --event nothing --source any --target deploy",
        "events list --source everhook",
    ] {
        let words: Vec<_> = known.split(' ').collect();
        let (_, said, _) = run(&home, &daemon, &words).await;
        assert_eq!(said.trim(), "everhook: no event fits", "{known}");
    }
    let none = format!("evt_{}", "0".repeat(32));
    let (_, said, code) = run(&home, &daemon, &["events", "replay", &none, "--yes"]).await;
    assert!(said.contains("1 event could not be changed") && code == Some(1), "{said}");
    let log = daemon.log().join("\n");
    assert!(log.contains("\\\"target\\\":[\\\"deplyo\\\"]"), "what a job was about: {log}");
}

#[tokio::test]
async fn an_address_alone_is_enough_and_a_refused_token_says_what_to_do() {
    let home = Home::new(&format!("{SOURCE}[target.deploy]\nurl = \"http://127.0.0.1:9/\"\n"));
    let mut command = home.command(&["serve"]);
    command.env("EVERHOOK_ADMIN__TOKEN", "plain:canary-all");
    let daemon = Home::started(command).await;
    let ask = async |words: &[&str]| {
        let output = within("the command ends", home.command(words).output()).await;
        let output = output.expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout) + &text(output.stderr), output.status.code())
    };
    let address = daemon.admin.to_string();
    let (said, code) = ask(&["health", "--admin", &address]).await;
    assert!(said.contains("ready") && code == Some(0), "{said}");
    let (said, code) = ask(&["targets", "list", "--admin", &address]).await;
    assert!(said.contains("a bearer token is needed; --token-file") && code == Some(1), "{said}");
    let file = home.config().with_file_name("token");
    std::fs::write(&file, "wrong").expect("written");
    let token = file.to_str().expect("text");
    let (said, _) = ask(&["targets", "list", "--admin", &address, "--token-file", token]).await;
    assert!(said.contains("this bearer token is not accepted"), "{said}");
    let (said, _) = ask(&["events", "tail", "--admin", &address]).await;
    assert!(said.contains("--token-file"), "{said}");
    std::fs::write(&file, "canary-all\n").expect("written");
    let reach = ["--admin", &address, "--token-file", token];
    assert_eq!(ask(&[&["targets", "pause", "deploy"][..], &reach].concat()).await.1, Some(0));
    let (said, code) = ask(&[&["targets", "test", "deploy"][..], &reach].concat()).await;
    assert!(said.contains("it is paused; everhook targets resume deploy"), "{said}");
    assert_eq!(code, Some(1));
    let (said, code) = ask(&["targets", "list", "--admin", "ftp://x"]).await;
    assert!(said.contains("--admin takes a URL such as") && code == Some(2), "{said}");
}

#[tokio::test]
async fn what_happens_is_told_live_to_a_reader_and_to_a_tail() {
    let (home, daemon, _receiver) = refusing().await;
    let admin = format!("http://{}", daemon.admin);
    let mut command = home.command(&["events", "tail", "--json", "--admin", &admin]);
    let mut tail = command.spawn().expect("it runs");
    let mut lines = BufReader::new(tail.stdout.take().expect("piped")).lines();

    let mut socket = TcpStream::connect(daemon.admin).await.expect("it listens");
    let ask = format!("GET /api/v1/live HTTP/1.1\r\nhost: {}\r\n\r\n", daemon.admin);
    socket.write_all(ask.as_bytes()).await.expect("sent");
    let mut heard = Vec::new();
    within("the stream begins", async {
        while !String::from_utf8_lossy(&heard).contains(": what happens") {
            socket.read_buf(&mut heard).await.expect("open");
        }
    })
    .await;
    let body = json!({ "event": "a\ndata: {}\n" }).to_string();
    let refused = daemon.post("/in/any", &[], body.as_bytes()).await.status;
    assert_eq!(refused, 400, "no name breaks a line");
    // The tail may begin a moment later; it hears of one of these.
    let first = within("the tail hears", async {
        loop {
            daemon.post("/in/any", &[], br#"{"event":"e"}"#).await.ack();
            let line =
                tokio::time::timeout(std::time::Duration::from_millis(300), lines.next_line());
            if let Ok(line) = line.await {
                return line.expect("readable").expect("a line");
            }
        }
    })
    .await;
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert!(["accepted", "delivery"].contains(&first["kind"].as_str().unwrap()), "{first}");
    within("the reader hears of the end of a delivery", async {
        while !String::from_utf8_lossy(&heard).contains("\"state\":\"dead\"") {
            socket.read_buf(&mut heard).await.expect("open");
        }
    })
    .await;
    let heard_text = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard_text.contains("content-type: text/event-stream"), "{heard_text}");
    assert!(heard_text.contains("event: accepted\ndata: {\"id\":\"evt_"), "{heard_text}");
    // A stop is not held up by those who read along, and ends their streams as streams end.
    daemon.terminate();
    assert!(daemon.ended().await.success());
    within("the stream ends", socket.read_to_end(&mut heard)).await.expect("closed in order");
    assert!(heard.ends_with(b"0\r\n\r\n"), "the end of the last chunk");
    within("the tail ends", tail.wait()).await.expect("a status");
}
