//! What an operator asks of the journal: lists, one event whole, replay and discard, on every engine and over restarts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use everhook::journal::sled::{Options, SledJournal};
use everhook::journal::{
    AppendError, Appended, Ask, Changed, Found, Journal, Listed, MAX_TOLD, OperateError,
    RejectionAsk, Repeat, Repeats, Scope, Stage, What,
};
use everhook::metrics::JournalMetrics;
use everhook::model::{
    Answer, DeadReason, DedupKey, EventId, Headers, Name, Refusal, Rejection, RejectionId,
    Settlement,
};
use everhook::rules::query::{Query, StateWord};
use everhook::time::Clock;

use crate::journal_contract::{HOUR, append, attempt, due, event, exact, on_each, options, start};

/// Small generations, so that a few thousand events fill several of them.
pub fn open(path: &Path, clock: &Clock) -> SledJournal {
    let options = Options { max_bytes: 96 << 20, ..options(path) };
    let metrics = JournalMetrics::detached().expect("metrics");
    SledJournal::open(&options, clock, metrics).expect("opens").0
}

async fn found(journal: &dyn Journal, id: EventId) -> Found {
    journal.find(id).await.expect("readable").expect("kept")
}

fn stages(found: &Found) -> Vec<(&str, Stage, u32)> {
    found.deliveries.iter().map(|it| (it.target.as_str(), it.stage, it.attempts)).collect()
}

/// All pages of a query.
pub async fn pages(journal: &dyn Journal, query: &Query, limit: usize) -> Vec<Listed> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let ask = Ask { query: query.clone(), before, limit };
        let page = journal.list(ask).await.expect("readable");
        assert!(page.items.len() <= limit);
        all.extend(page.items);
        before = page.next;
        if before.is_none() {
            return all;
        }
    }
}

fn numbers(listed: &[Listed]) -> Vec<u64> {
    listed.iter().map(|it| it.sequence).collect()
}

pub async fn put(journal: &dyn Journal, number: u64, targets: &[&str], clock: &Clock) -> EventId {
    let event = event(number, format!("{{\"n\":{number}}}").as_bytes(), clock);
    let id = event.id;
    journal.append(append(event, targets, &[exact(number.into())])).await.expect("appended");
    id
}

pub async fn settle(journal: &dyn Journal, target: &str, settlement: Settlement, clock: &Clock) {
    let claimed = due(journal, target, 1).remove(0);
    let made = attempt(&claimed, clock);
    journal.settle(claimed.lease, settlement, Some(made)).await.expect("taken");
}

#[tokio::test]
async fn a_delivered_event_is_found_with_its_attempts() {
    on_each(|journal, clock| async move {
        let id = put(&*journal, 1, &["a", "b"], &clock).await;
        let again = clock.now().plus(Duration::from_secs(5));
        settle(&*journal, "a", Settlement::RetryAt(again), &clock).await;
        clock.advance(Duration::from_secs(5));
        settle(&*journal, "a", Settlement::Delivered, &clock).await;
        settle(&*journal, "b", Settlement::Delivered, &clock).await;
        // A settlement rides on a commit that this append makes.
        put(&*journal, 2, &[], &clock).await;
        let found = found(&*journal, id).await;
        assert_eq!(stages(&found), [("a", Stage::Delivered, 2), ("b", Stage::Delivered, 1)]);
        let attempts: Vec<_> =
            found.attempts.iter().map(|(to, it, due)| (to.as_str(), it.number, *due)).collect();
        assert_eq!(attempts, [("a", 1, Some(again)), ("a", 2, None), ("b", 1, None)]);
        assert_eq!(&found.event.body[..], b"{\"n\":1}");
        assert_eq!(journal.find(event(9, b"", &clock).id).await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn pages_hold_every_event_once_while_others_arrive() {
    on_each(|journal, clock| async move {
        for number in 0..25 {
            put(&*journal, number, &["a"], &clock).await;
        }
        let all = Ask { limit: 10, ..Ask::default() };
        let first = journal.list(all.clone()).await.unwrap();
        for number in 25..40 {
            put(&*journal, number, &["a"], &clock).await;
        }
        let second = journal.list(Ask { before: first.next, ..all.clone() }).await.unwrap();
        let third = journal.list(Ask { before: second.next, ..all }).await.unwrap();
        let seen = [first.items, second.items, third.items].concat();
        assert_eq!(numbers(&seen), (0..25).rev().collect::<Vec<_>>());
        assert_eq!(third.next, None);
    })
    .await;
}

#[tokio::test]
async fn a_query_finds_by_state_target_content_and_latest_attempt() {
    on_each(|journal, clock| async move {
        for number in 0..6 {
            put(&*journal, number, if number % 2 == 0 { &["a"] } else { &["b"] }, &clock).await;
        }
        settle(&*journal, "a", Settlement::Delivered, &clock).await;
        settle(&*journal, "a", Settlement::Dead(DeadReason::Gone), &clock).await;
        let later = clock.now().plus(HOUR);
        settle(&*journal, "b", Settlement::RetryAt(later), &clock).await;
        put(&*journal, 6, &[], &clock).await;
        let found = async |query: Query| numbers(&pages(&*journal, &query, 2).await);
        let all = Query::default;
        let state = |state| Query { state: vec![state], ..all() };
        assert_eq!(found(state(StateWord::Delivered)).await, [0]);
        assert_eq!(found(state(StateWord::Dead)).await, [2]);
        assert_eq!(found(state(StateWord::Waiting)).await, [1]);
        assert_eq!(found(state(StateWord::Pending)).await, [5, 4, 3, 1]);
        let b = Query { target: vec!["b".into()], ..all() };
        assert_eq!(found(b.clone()).await, [5, 3, 1]);
        assert_eq!(found(Query { state: vec![StateWord::Ready], ..b }).await, [5, 3]);
        assert_eq!(found(Query { reason: vec!["gone".into()], ..all() }).await, [2]);
        assert_eq!(found(Query { q: Some("\"N\":4".into()), ..all() }).await, [4]);
        assert_eq!(found(Query { pointer: Some(("/n".into(), "3".into())), ..all() }).await, [3]);
        assert_eq!(found(Query { status: vec!["5xx".into()], ..all() }).await, [2, 1, 0]);
        let dead = Query { status: vec!["500".into()], ..state(StateWord::Dead) };
        assert_eq!(found(dead).await, [2]);
        assert_eq!(found(Query { source: vec!["other".into()], ..all() }).await, [0; 0]);
        assert_eq!(found(Query { event: vec!["build.*".into()], ..all() }).await.len(), 7);
        assert_eq!(found(Query { attempts: Some(1), ..all() }).await, [2, 1, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_replay_makes_settled_deliveries_due_and_repeating_it_does_nothing_more() {
    on_each(|journal, clock| async move {
        let id = put(&*journal, 1, &["a", "b"], &clock).await;
        settle(&*journal, "a", Settlement::Delivered, &clock).await;
        settle(&*journal, "b", Settlement::Delivered, &clock).await;
        let a = Scope::Targets(vec![Name::parse("a").unwrap()]);
        assert_eq!(journal.replay(id, a.clone()).await, Ok(Changed { deliveries: 1 }));
        assert_eq!(journal.replay(id, a).await, Ok(Changed { deliveries: 0 }));
        assert_eq!(due(&*journal, "b", 9).len(), 0);
        let claimed = due(&*journal, "a", 9);
        assert_eq!((claimed.len(), claimed[0].attempts, claimed[0].event), (1, 0, id));
        assert_eq!(&journal.load(claimed[0].lease).await.unwrap().body[..], b"{\"n\":1}");
        journal.settle(claimed[0].lease, Settlement::Delivered, None).await.unwrap();
        // A target that the event never had.
        let new = Scope::Targets(vec![Name::parse("new").unwrap()]);
        assert_eq!(journal.replay(id, new.clone()).await, Ok(Changed { deliveries: 1 }));
        assert_eq!(journal.replay(id, new).await, Ok(Changed { deliveries: 0 }));
        assert_eq!(due(&*journal, "new", 9).len(), 1);
        // The key is remembered by its first event.
        let repeat = append(event(7, b"x", &clock), &["a"], &[exact(1)]);
        let repeat = journal.append(repeat).await;
        assert_eq!(repeat, Ok(everhook::journal::Appended::Duplicate(id)));
        let unknown = journal.replay(event(9, b"", &clock).id, Scope::All).await;
        assert_eq!(unknown, Err(OperateError::Unknown));
        assert_eq!(pages(&*journal, &Query::default(), 10).await.len(), 1, "it is listed once");
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_retried_or_discarded_and_pending_ones_can_be_discarded() {
    on_each(|journal, clock| async move {
        let mut ids = Vec::new();
        for number in 0..4 {
            ids.push(put(&*journal, number, &["a"], &clock).await);
        }
        for _ in 0..3 {
            settle(&*journal, "a", Settlement::Dead(DeadReason::Attempts), &clock).await;
        }
        let of = async |id| stages(&found(&*journal, id).await)[0].1;
        assert_eq!(journal.replay(ids[0], Scope::Dead).await, Ok(Changed { deliveries: 1 }));
        assert_eq!(journal.discard(ids[1], Scope::Dead).await, Ok(Changed { deliveries: 1 }));
        assert_eq!(journal.discard(ids[1], Scope::Dead).await, Ok(Changed { deliveries: 0 }));
        assert_eq!(journal.discard(ids[3], Scope::Dead).await, Ok(Changed { deliveries: 0 }));
        assert_eq!(journal.discard(ids[3], Scope::All).await, Ok(Changed { deliveries: 1 }));
        assert_eq!(of(ids[0]).await, Stage::Ready);
        assert_eq!(of(ids[1]).await, Stage::Discarded);
        assert_eq!(of(ids[2]).await, Stage::Dead(DeadReason::Attempts));
        assert_eq!(of(ids[3]).await, Stage::Discarded);
        let depth = journal.depth().remove(0);
        assert_eq!((depth.ready, depth.dead), (1, 1));
        assert_eq!(journal.replay(ids[3], Scope::All).await, Ok(Changed { deliveries: 1 }));
        let claimed = due(&*journal, "a", 9);
        let claimed: BTreeSet<_> = claimed.iter().map(|claimed| claimed.event).collect();
        assert_eq!(claimed, BTreeSet::from([ids[0], ids[3]]));
        // What is in flight is left alone.
        assert_eq!(journal.discard(ids[0], Scope::All).await, Ok(Changed { deliveries: 0 }));
    })
    .await;
}

#[tokio::test]
async fn whoever_watches_is_told() {
    on_each(|journal, clock| async move {
        let mut watch = journal.watch();
        let id = put(&*journal, 1, &["a"], &clock).await;
        settle(&*journal, "a", Settlement::Delivered, &clock).await;
        let accepted = watch.recv().await.unwrap();
        assert_eq!(accepted.id, id);
        assert!(matches!(accepted.what, What::Accepted { name, .. } if name == "build.approved"));
        let What::Delivery(state) = watch.recv().await.unwrap().what else { panic!("delivery") };
        assert_eq!((state.stage, state.attempts), (Stage::Delivered, 1));
    })
    .await;
}

pub fn rejection(number: u8, clock: &Clock) -> Rejection {
    Rejection {
        id: RejectionId::new(clock.now(), [number; 10]),
        source: Name::parse("source").unwrap(),
        cause: Refusal::Unverified,
        received_at: clock.now(),
        client: [127, 0, 0, 1].into(),
        held: number % 2 == 1,
        query: Some("a=b".into()),
        headers: Headers::from_pairs([("x-odd", &b"\xff"[..])]),
        body: vec![number; 20_000].into(),
    }
}

fn kept(journal: &dyn Journal) -> Vec<RejectionId> {
    journal
        .rejections(&RejectionAsk { limit: 100, ..RejectionAsk::default() })
        .iter()
        .map(|it| it.id)
        .collect()
}

#[tokio::test]
async fn a_refused_request_is_kept_whole_until_it_is_released_or_dropped() {
    on_each(|journal, clock| async move {
        let all: Vec<_> = (0..4).map(|number| rejection(number, &clock)).collect();
        for one in &all {
            journal.reject(one.clone()).await.unwrap();
        }
        let ids: Vec<_> = all.iter().map(|it| it.id).rev().collect();
        assert_eq!(kept(&*journal), ids);
        let held = RejectionAsk { held: Some(true), limit: 1, ..RejectionAsk::default() };
        assert_eq!(journal.rejections(&held)[0].id, all[3].id);
        assert_eq!(journal.rejection(all[2].id).await, Ok(Some(all[2].clone())));
        let append = || append(event(9, b"x", &clock), &["a"], &[exact(9)]);
        let released = journal.release(all[2].id, append()).await;
        assert_eq!(released, Ok(Appended::New(event(9, b"", &clock).id)));
        assert_eq!(journal.release(all[2].id, append()).await, Err(AppendError::NotKept));
        let repeat = journal.release(all[3].id, append()).await;
        assert!(matches!(repeat, Ok(Appended::Duplicate(_))), "a repeat ends a rejection, too");
        assert_eq!(journal.drop_rejections(vec![all[0].id, all[2].id]).await, Ok(1));
        assert_eq!(kept(&*journal), [all[1].id]);
        assert_eq!(journal.rejection(all[0].id).await, Ok(None));
        let counts: Vec<_> = journal.quarantined().into_iter().collect();
        assert_eq!(counts, [(Name::parse("source").unwrap(), 1)]);
        assert_eq!(due(&*journal, "a", 9).len(), 1);
        let crowd: Vec<_> = (0..=u16::MAX).map(|number| format!("t{number}")).collect();
        let crowd: Vec<_> = crowd.iter().map(String::as_str).collect();
        let too_many = super::journal_contract::append(event(8, b"x", &clock), &crowd, &[]);
        assert_eq!(journal.release(all[1].id, too_many).await, Err(AppendError::Full));
        assert_eq!(kept(&*journal), [all[1].id], "what is not admitted stays");
    })
    .await;
}

#[tokio::test]
async fn who_repeated_an_event_is_told_with_it() {
    on_each(|journal, clock| async move {
        let one = event(1, b"x", &clock);
        let id = one.id;
        journal.append(append(one, &["a"], &[])).await.unwrap();
        assert_eq!(found(&*journal, id).await.repeats, Repeats::default());
        for client in 0..30 {
            journal.repeated(id, Repeat { at: clock.now(), client: [10, 0, 0, client].into() });
        }
        let Repeats { count, latest } = found(&*journal, id).await.repeats;
        assert_eq!((count, latest.len()), (30, MAX_TOLD));
        assert_eq!(latest[MAX_TOLD - 1].client.to_string(), "10.0.0.29");
    })
    .await;
}

/// Waits until a generation was drained and removed; upkeep is done with the commits that this makes.
async fn goes(generation: &Path, journal: &SledJournal, clock: &Clock) {
    let gone = async {
        for number in 2_000_000.. {
            if !generation.exists() {
                return;
            }
            clock.advance(Duration::from_millis(200));
            journal.append(append(event(number, b"x", clock), &[], &[])).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the generation is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_event_keeps_its_dedup_key_when_its_first_copy_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = open(dir.path(), &clock);
    let key = DedupKey::Exact { key: 7, window: 48 * HOUR };
    let first = event(1_000_000, b"x", &clock);
    let id = first.id;
    journal.append(append(first, &["b"], &[key])).await.unwrap();
    settle(&journal, "b", Settlement::Delivered, &clock).await;
    fill(&journal, &clock, 4_000).await;
    assert_eq!(journal.replay(id, Scope::All).await, Ok(Changed { deliveries: 1 }));
    clock.advance(2 * HOUR);
    goes(&dir.path().join("generations/00000001"), &journal, &clock).await;
    journal.abandon();
    let journal = open(dir.path(), &clock);
    let repeat = journal.append(append(event(1_000_001, b"x", &clock), &["b"], &[key])).await;
    assert_eq!(repeat, Ok(Appended::Duplicate(id)));
    assert_eq!(due(&journal, "b", 9).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejections_outlive_restarts_and_their_generations_and_end_with_retention_unless_held() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = open(dir.path(), &clock);
    let all: Vec<_> = (0..6).map(|number| rejection(number, &clock)).collect();
    for one in &all {
        journal.reject(one.clone()).await.unwrap();
    }
    journal.drop_rejections(vec![all[0].id]).await.unwrap();
    let released = append(event(1_000_000, b"x", &clock), &[], &[]);
    journal.release(all[1].id, released).await.unwrap();
    journal.abandon();
    let journal = open(dir.path(), &clock);
    assert_eq!(kept(&journal), [all[5].id, all[4].id, all[3].id, all[2].id]);
    // Past the retention of the events, and far enough that their generation is drained and removed.
    fill(&journal, &clock, 4_000).await;
    clock.advance(HOUR / 2);
    let late = rejection(8, &clock);
    journal.reject(late.clone()).await.unwrap();
    clock.advance(HOUR / 2 + Duration::from_secs(60));
    goes(&dir.path().join("generations/00000001"), &journal, &clock).await;
    let left = [&late, &all[5], &all[3]];
    let ids = left.map(|it| it.id);
    assert_eq!(kept(&journal), ids, "held ones outlive the retention");
    for one in left {
        assert_eq!(journal.rejection(one.id).await.as_ref(), Ok(&Some(one.clone())), "moved");
    }
    journal.abandon();
    let journal = open(dir.path(), &clock);
    assert_eq!(kept(&journal), ids);
    for one in left {
        assert_eq!(journal.rejection(one.id).await.as_ref(), Ok(&Some(one.clone())), "recovered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_rejection_stays_dropped_when_the_record_of_it_outlives_its_generation() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = open(dir.path(), &clock);
    let one = rejection(1, &clock);
    journal.reject(one.clone()).await.unwrap();
    // The first generation is full of what stays, so that it is not drained.
    let second = dir.path().join("generations/00000002");
    let third = dir.path().join("generations/00000003");
    for number in 3_000_000.. {
        if third.exists() {
            break;
        }
        let stays = append(event(number, &[b'x'; 8_000], &clock), &["stay"], &[]);
        journal.append(stays).await.unwrap();
    }
    journal.drop_rejections(vec![one.id]).await.unwrap();
    fill(&journal, &clock, 6_000).await;
    clock.advance(2 * HOUR);
    goes(&second, &journal, &clock).await;
    assert!(dir.path().join("generations/00000001").exists(), "what it needs is still there");
    journal.abandon();
    let journal = open(dir.path(), &clock);
    assert_eq!(kept(&journal), []);
}

/// Several sealed generations and one that is written.
pub async fn fill(journal: &SledJournal, clock: &Clock, count: u64) -> Vec<EventId> {
    let mut ids = Vec::new();
    for from in (0..count).step_by(200) {
        let appends: Vec<_> = (from..from + 200)
            .map(|number| {
                let event = event(number, &[b'x'; 2048], clock);
                ids.push(event.id);
                journal.append(append(event, &["a"], &[]))
            })
            .collect();
        for appended in appends {
            appended.await.expect("appended");
        }
        for claimed in due(journal, "a", 190) {
            let made = attempt(&claimed, clock);
            let settlement = match claimed.lease.sequence % 100 {
                7 => Settlement::Dead(DeadReason::Attempts),
                _ => Settlement::Delivered,
            };
            journal.settle(claimed.lease, settlement, Some(made)).await.expect("taken");
        }
        clock.advance(Duration::from_millis(300));
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_sealed_generations_are_listed_found_and_replayed_over_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = open(dir.path(), &clock);
    let ids = fill(&journal, &clock, 8_000).await;
    journal.close().await;
    let journal = open(dir.path(), &clock);
    let generations = std::fs::read_dir(dir.path().join("generations")).unwrap().count();
    assert!(generations > 3, "{generations} generations");
    let all = pages(&journal, &Query::default(), 700).await;
    assert!(numbers(&all).into_iter().eq((0..8_000).rev()), "each event once, the latest first");
    let dead = Query { state: vec![StateWord::Dead], ..Query::default() };
    let dead = pages(&journal, &dead, 7).await;
    assert_eq!(
        dead.len(),
        all.iter().filter(|it| it.deliveries[0].outline().reason.is_some()).count()
    );
    assert!(dead.len() >= 20);
    for at in [0, 1_234, 2_100] {
        let found = found(&journal, ids[at]).await;
        assert_eq!(stages(&found), [("a", Stage::Delivered, 1)]);
        assert_eq!(found.attempts.len(), 1, "{at}");
        assert!(matches!(found.attempts[0].1.answer, Answer::Status { status: 500, .. }));
    }
    assert_eq!(journal.replay(ids[0], Scope::All).await, Ok(Changed { deliveries: 1 }));
    assert_eq!(journal.discard(dead[0].id, Scope::All).await, Ok(Changed { deliveries: 1 }));
    assert_eq!(journal.replay(dead[1].id, Scope::Dead).await, Ok(Changed { deliveries: 1 }));
    journal.abandon();
    let journal = open(dir.path(), &clock);
    let of = async |id| stages(&found(&journal, id).await)[0].1;
    assert_eq!(of(ids[0]).await, Stage::Ready);
    assert_eq!(of(dead[0].id).await, Stage::Discarded);
    assert_eq!(of(dead[1].id).await, Stage::Ready);
    assert_eq!(pages(&journal, &Query::default(), 1_000).await.len(), 8_000);
    clock.advance(HOUR + HOUR);
    let left = pages(&journal, &Query::default(), 1_000).await;
    assert!(left.len() < 600, "past its retention only what is not delivered is shown");
    assert!(left.iter().any(|it| it.id == ids[0]));
}
