//! What is refused and may have been an event is kept, whole and in sight, until it can be admitted.

use std::sync::Arc;
use std::time::Duration;

use everhook::config::{Config, LoadOptions};
use everhook::control::{Release as _, Released};
use everhook::ingress::{Ingress, Releaser};
use everhook::journal::memory::MemoryJournal;
use everhook::journal::{Ask, Journal, RejectionAsk};
use everhook::lifecycle::Tasks;
use everhook::metrics::Metrics;
use everhook::model::{EventId, Headers, Name, Refusal, Rejection, RejectionId};
use everhook::time::{Clock, Timestamp};
use everhook::trace::Spans;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::sign;
use crate::journal_contract::open_at;

/// A status, a cause, and the header fields and body that lead to them.
type Refused<'a> = (u16, Refusal, &'a [(&'a str, &'a str)], &'a [u8]);

const KEPT: &str = "everhook_quarantine_rejections{source=\"a\"}";

/// Everything that is kept in a journal which no daemon uses, the latest first.
pub async fn rejections(home: &Home) -> Vec<Rejection> {
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
    // Those of one millisecond are in no order.
    for (_, cause, headers, body) in &story {
        let one = kept.iter().find(|one| one.cause == *cause).expect("kept");
        assert_eq!((one.source.as_str(), one.held), ("a", false));
        assert_eq!((&*one.body, one.query.as_deref()), (*body, Some("x=1")));
        for (name, value) in *headers {
            assert_eq!(one.headers.get_str(name), Some(*value));
        }
        let proxied = one.headers.get_str("x-forwarded-for");
        assert_eq!(one.client.to_string(), proxied.unwrap_or("127.0.0.1"));
    }
}

/// An ingress with two sources on a journal in memory, an hour after something was refused.
struct Later {
    journal: Arc<MemoryJournal>,
    releaser: Releaser,
    metrics: Metrics,
    refused_at: Timestamp,
    _home: Home,
}

impl Later {
    fn new() -> Self {
        let home = Home::new(
            "[source.a]\nprovider = \"buildkite\"\nsecret = \"plain:new\"\n\
             [source.b]\nprovider = \"streampixel\"\nwhere = { \"/projectId\" = [\"p1\"] }\n\
             [target.t]\nurl = \"http://127.0.0.1:1/\"\n",
        );
        let options = LoadOptions { file: Some(home.config()), flags: Vec::new() };
        let config = Config::load(&options).expect("a valid configuration");
        let refused_at = Timestamp::from_secs(1_775_000_000);
        let clock = Clock::manual(refused_at);
        clock.advance(Duration::from_secs(3600));
        let journal = Arc::new(MemoryJournal::new(clock.clone()));
        let metrics = Metrics::new("1", "r").expect("metrics");
        let kept: Arc<dyn Journal> = Arc::<MemoryJournal>::clone(&journal);
        let (ingress, sources, tasks) = (&config.ingress, config.sources, Tasks::new());
        let ingress =
            Ingress::new(ingress, &sources, kept, clock, (&metrics, Spans::default()), 7, &tasks);
        Self { journal, releaser: ingress.releaser(), metrics, refused_at, _home: home }
    }

    /// Keeps a request that was refused an hour ago, `number` seconds later.
    async fn refused(&self, number: u8, source: &str, body: &[u8]) -> RejectionId {
        let at = self.refused_at.plus(Duration::from_secs(number.into()));
        let seconds = u64::try_from(at.as_secs()).expect("after 1970");
        // Signed an hour ago, with the secret that was set too late.
        let signature = sign::buildkite("new", seconds, body);
        let headers = [("x-buildkite-signature", signature.as_bytes())];
        self.kept(number, source, Headers::from_pairs(headers), body).await
    }

    async fn kept(&self, number: u8, source: &str, headers: Headers, body: &[u8]) -> RejectionId {
        self.kept_for(Refusal::Unverified, number, source, headers, body).await
    }

    async fn kept_for(
        &self,
        cause: Refusal,
        number: u8,
        source: &str,
        headers: Headers,
        body: &[u8],
    ) -> RejectionId {
        let received_at = self.refused_at.plus(Duration::from_secs(number.into()));
        let id = RejectionId::new(received_at, [number; 10]);
        let client = [127, 0, 0, 1].into();
        let (source, body) = (Name::parse(source).expect("a name"), body.to_vec().into());
        let (held, query) = (number.is_multiple_of(2), None);
        let rejection =
            Rejection { id, source, cause, received_at, client, held, query, headers, body };
        self.journal.reject(rejection).await.expect("kept");
        id
    }

    fn left(&self) -> usize {
        self.journal.rejections(&RejectionAsk { limit: 1000, ..RejectionAsk::default() }).len()
    }
}

#[tokio::test]
async fn a_release_admits_what_today_verifies_once_and_in_its_order() {
    let later = Later::new();
    let build = |state: &str| {
        format!(r#"{{"event":"build.finished","build":{{"id":"b1","state":"{state}"}}}}"#)
    };
    let failed = later.refused(3, "a", build("failed").as_bytes()).await;
    let passed = later.refused(5, "a", build("passed").as_bytes()).await;
    let ping = later.refused(7, "a", br#"{"event":"ping"}"#).await;
    let none = Headers::default();
    let forged = later.kept(9, "a", none.clone(), b"{}").await;
    let foreign = later.kept(11, "b", none.clone(), br#"{"event":"x","projectId":"p2"}"#).await;
    let orphan = later.kept(13, "gone", none, b"{}").await;
    // The same request once more: its sender had tried again.
    let whole = later.journal.rejection(ping).await.expect("readable").expect("there");
    let copy = later.kept(15, "a", whole.headers, &whole.body).await;

    let unknown = RejectionId::new(later.refused_at, [99; 10]);
    let all = vec![copy, passed, unknown, orphan, failed, foreign, ping, forged, ping];
    let released = later.releaser.release(all.clone(), false).await;
    let event = |id: RejectionId| EventId::from_bytes(id.to_bytes());
    assert_eq!(
        released,
        [
            (unknown, Released::Gone),
            (failed, Released::Accepted(event(failed))),
            (passed, Released::Accepted(event(passed))),
            (ping, Released::Accepted(event(ping))),
            (forged, Released::Refused(Refusal::Unverified)),
            (foreign, Released::Refused(Refusal::NotAllowed)),
            (orphan, Released::NoSource),
            (copy, Released::Duplicate(event(ping))),
        ]
    );
    assert_eq!(later.left(), 3);
    let again = later.releaser.release(all, false).await;
    let gone = again.iter().filter(|(_, released)| *released == Released::Gone).count();
    assert_eq!((gone, later.left()), (5, 3), "{again:?}");

    let page = later.journal.list(Ask { limit: 10, ..Ask::default() }).await.expect("a list");
    let order: Vec<_> = page.items.iter().rev().map(|listed| listed.id).collect();
    assert_eq!(order, [event(failed), event(passed), event(ping)]);
    assert_eq!(page.items[0].received_at, later.refused_at.plus(Duration::from_secs(7)));
    assert_eq!(page.items[0].deliveries.len(), 1);
    let Metrics { events_accepted, events_duplicate, quarantine, .. } = &later.metrics;
    let counted = [events_accepted, events_duplicate, &quarantine.released]
        .map(|series| series.with_label_values(&["a"]).get());
    assert_eq!(counted, [3, 1, 4]);
}

#[tokio::test]
async fn an_operators_decision_admits_what_proves_nothing() {
    let later = Later::new();
    let none = Headers::default();
    let forged = later.kept(1, "a", none.clone(), b"{}").await;
    let foreign = br#"{"event":"build.approved","projectId":"p2","uploadId":"u"}"#;
    let foreign = later.kept(2, "b", none.clone(), foreign).await;
    let garbled = later.kept(3, "b", none, b"\xff").await;
    let released = later.releaser.release(vec![forged, foreign, garbled], true).await;
    assert_eq!(later.left(), 0);
    let mut names = Vec::new();
    for (id, released) in released {
        assert_eq!(released, Released::Accepted(EventId::from_bytes(id.to_bytes())));
        let found = later.journal.find(EventId::from_bytes(id.to_bytes())).await;
        names.push(found.expect("readable").expect("there").event.name);
    }
    assert_eq!(names, ["unknown", "build.approved", "unknown"]);
}

#[tokio::test]
async fn a_conflicting_copy_is_an_event_only_by_an_operators_decision() {
    let later = Later::new();
    let body = |at: u8| {
        format!(r#"{{"event":"x","projectId":"p1","uploadId":"u","timestamp":{at}}}"#).into_bytes()
    };
    let first = later.kept(1, "b", Headers::default(), &body(1)).await;
    let fields = [("content-type", &b"application/json"[..]), ("everhook-repeats", b"evt_1")];
    let fields = Headers::from_pairs(fields);
    let copy = later.kept_for(Refusal::Conflict, 2, "b", fields, &body(2)).await;
    let event = |id: RejectionId| EventId::from_bytes(id.to_bytes());
    let released = later.releaser.release(vec![first, copy], false).await;
    let stays = Released::Refused(Refusal::Conflict);
    assert_eq!(released, [(first, Released::Accepted(event(first))), (copy, stays)]);
    let forced = later.releaser.release(vec![copy], true).await;
    assert_eq!(forced, [(copy, Released::Accepted(event(copy)))]);
    let found = later.journal.find(event(copy)).await.expect("readable").expect("there");
    let names: Vec<_> = found.event.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["content-type"], "as the provider sent it");
}
