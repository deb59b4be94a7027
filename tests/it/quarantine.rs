//! What is refused and may have been an event is kept, whole and in sight, until it can be admitted.

use everhook::journal::{Journal, RejectionAsk};
use everhook::model::{Refusal, Rejection};
use everhook::time::Clock;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::sign;
use crate::journal_contract::open_at;

/// A status, a cause, and the header fields and body that lead to them.
type Refused<'a> = (u16, Refusal, &'a [(&'a str, &'a str)], &'a [u8]);

const KEPT: &str = "everhook_quarantine_rejections{source=\"a\"}";

/// Everything that is kept in a journal which no daemon uses, the latest first.
async fn rejections(home: &Home) -> Vec<Rejection> {
    let (journal, _) = open_at(&home.journal(), &Clock::system()).expect("opens");
    let ask = RejectionAsk { limit: 1000, ..RejectionAsk::default() };
    let mut whole = Vec::new();
    for outline in journal.rejections(&ask) {
        let one = journal.rejection(outline.id).await.expect("readable").expect("there");
        assert_eq!((one.cause, one.held), (outline.cause, outline.held));
        whole.push(one);
    }
    journal.close().await;
    whole
}

async fn stop(daemon: Daemon) {
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn what_is_refused_by_what_it_holds_is_kept_whole() {
    let receiver = Receiver::good().await;
    let home = Home::with_ingress(
        "trusted_proxies = [\"127.0.0.0/8\"]\n",
        &format!(
            "[source.a]\nprovider = \"buildpixel\"\nsecret = \"plain:secret\"\n\
             where = {{ \"/data/project/id\" = [\"p1\"] }}\n\
             [source.locked]\nprovider = \"streampixel\"\npath_token = \"plain:a-token-of-sixteen\"\n\
             [source.meta]\nprovider = \"meta\"\nsecret = \"plain:s\"\nhandshake_token = \"plain:t\"\n\
             [target.t]\nurl = {:?}\n",
            receiver.url()
        ),
    );
    let daemon = home.start().await;
    assert!(daemon.metric(KEPT).await.abs() < 0.1);
    let page = String::from_utf8(daemon.admin_get("/metrics").await.body.to_vec()).expect("text");
    assert!(page.contains(&format!("\n{KEPT} 0\n")), "shown before there is one");

    let other = br#"{"type":"build.created","data":{"project":{"id":"p2"}}}"#;
    let signed = sign::buildpixel("secret", other);
    let garbled = sign::buildpixel("secret", b"{");
    let story: [Refused<'_>; 4] = [
        (401, Refusal::Unverified, &[("x-forwarded-for", "203.0.113.9")], b"\xff\x00raw"),
        (403, Refusal::NotAllowed, &[("x-buildpixel-signature", &signed)], other),
        (400, Refusal::Malformed, &[("x-buildpixel-signature", &garbled)], b"{"),
        (415, Refusal::MediaType, &[("content-encoding", "gzip")], b"\x1f\x8b"),
    ];
    for (status, _, headers, body) in &story {
        assert_eq!(daemon.post("/in/a?x=1", headers, body).await.status, *status);
    }
    // Neither what is not for us, nor what was not read, nor what can only be a handshake.
    assert_eq!(daemon.post("/in/locked/another-token", &[], b"{}").await.status, 401);
    assert_eq!(daemon.post("/in/nothing", &[], b"{}").await.status, 404);
    assert_eq!(daemon.post("/in/a", &[], &vec![b' '; 1_100_000]).await.status, 413);
    let mut connection = daemon.connect().await;
    let question = "/in/meta?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x";
    assert_eq!(connection.get(question).await.expect("an answer").status, 401);
    daemon.metric_becomes(KEPT, 4.0).await;
    for source in ["locked", "meta"] {
        let kept = format!("everhook_quarantine_rejections{{source=\"{source}\"}}");
        assert!(daemon.metric(&kept).await.abs() < 0.1, "{source}");
    }
    stop(daemon).await;

    let kept = rejections(&home).await;
    assert_eq!(kept.len(), story.len());
    for (one, (_, cause, headers, body)) in kept.iter().rev().zip(&story) {
        assert_eq!((one.source.as_str(), one.cause, one.held), ("a", *cause, false));
        assert_eq!((&*one.body, one.query.as_deref()), (*body, Some("x=1")));
        for (name, value) in *headers {
            assert_eq!(one.headers.get_str(name), Some(*value));
        }
        let proxied = one.headers.get_str("x-forwarded-for");
        assert_eq!(one.client.to_string(), proxied.unwrap_or("127.0.0.1"));
    }
}
