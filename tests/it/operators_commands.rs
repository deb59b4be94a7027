//! What an operator does with the command line, on the running daemon; and what is told live.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::daemon::{Daemon, Home, run};
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

const SOURCE: &str =
    "[source.any]\nprovider = \"custom\"\nevent = \"/event\"\nverify = { kind = \"none\" }\n";

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
    let id = daemon.post("/in/any", &[], body.as_bytes()).await.ack().0;
    receiver.next().await;
    daemon.metric_becomes("everhook_dead_letters{target=\"deploy\"}", 1.0).await;
    let (list, _, code) = run(&home, &daemon, &["events", "list"]).await;
    assert_eq!(code, Some(0));
    assert!(list.contains(&id) && list.contains("build.failed") && list.contains("dead"), "{list}");
    let (none, said, code) = run(&home, &daemon, &["events", "list", "--event", "x*"]).await;
    assert_eq!((none.as_str(), code), ("", Some(0)));
    assert!(said.contains("no event fits"), "{said}");
    let (json_line, ..) = run(&home, &daemon, &["events", "list", "--json", "--since", "1h"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json_line).unwrap()["id"], json!(id));
    let (shown, ..) = run(&home, &daemon, &["events", "show", &id]).await;
    assert!(shown.contains("deploy: dead, because refused"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{shown:?}");
    let (whole, ..) = run(&home, &daemon, &["events", "show", &id, "--json"]).await;
    assert!(whole.trim().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{whole:?}");
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(whole["body"]["data"], json!(body), "and nothing of it is changed");
    let (raw, ..) = run(&home, &daemon, &["events", "show", &id, "--body"]).await;
    assert_eq!(raw, body, "byte for byte");
    let (groups, ..) = run(&home, &daemon, &["dead-letters", "list", "--groups"]).await;
    assert!(groups.contains("refused") && groups.contains('1'), "{groups}");

    let (_, said, code) = run(&home, &daemon, &["dead-letters", "discard", "--all"]).await;
    assert_eq!(code, Some(2), "nobody can be asked: {said}");
    let (told, ..) = run(&home, &daemon, &["dead-letters", "retry", "--all", "--dry-run"]).await;
    assert_eq!(told.trim(), "would retry 1 deliveries of 1 events");
    let (told, _, code) = run(&home, &daemon, &["dead-letters", "retry", &id, "--yes"]).await;
    assert!(told.contains("done: 1 deliveries") && code == Some(0), "{told}");
    receiver.next().await;
    let (_, said, code) = run(&home, &daemon, &["events", "replay", "--yes"]).await;
    assert!(said.contains("say which") && code == Some(1), "{said}");
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
