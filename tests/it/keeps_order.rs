//! `order = "key"`: the deliveries of one order key go one after the other, whatever happens to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everhook::journal::memory::MemoryJournal;
use everhook::journal::{Changed, Claimed, Journal, Scope};
use everhook::model::{DeadReason, EventId, Name, OnDead, Order, Settlement, Wanted};
use everhook::time::Clock;
use proptest::prelude::*;

use crate::harness::daemon::Home;
use crate::harness::receiver::{Act, OK, Receiver};
use crate::journal_contract::{append, event, now, reopen, start};

const CONTINUE: Order = Order::Key(OnDead::Continue);
const HOLD: Order = Order::Key(OnDead::Hold);

fn claim(journal: &dyn Journal, most: usize, order: Order) -> Vec<Claimed> {
    let target = Name::parse("a").unwrap();
    journal.demand(vec![Wanted { target, most, order }]);
    now(journal)
}

async fn put(journal: &dyn Journal, number: u64, key: Option<&str>, clock: &Clock) -> EventId {
    let mut event = event(number, b"x", clock);
    event.order_key = key.map(str::to_owned);
    let id = event.id;
    journal.append(append(event, &["a"], &[])).await.unwrap();
    id
}

async fn settle(journal: &dyn Journal, claimed: &Claimed, settlement: Settlement) {
    journal.settle(claimed.lease, settlement, None).await.unwrap();
}

fn ids(claimed: &[Claimed]) -> Vec<EventId> {
    claimed.iter().map(|it| it.event).collect()
}

#[tokio::test]
async fn what_is_hastened_does_not_overtake_its_key() {
    let (clock, dir) = (start(), tempfile::tempdir().unwrap());
    let engines: [Arc<dyn Journal>; 2] =
        [Arc::new(MemoryJournal::new(clock.clone())), Arc::new(reopen(dir.path(), &clock))];
    for journal in engines {
        let first = put(&*journal, 1, Some("k"), &clock).await;
        let second = put(&*journal, 2, Some("k"), &clock).await;
        let head = claim(&*journal, 9, CONTINUE);
        assert_eq!(head.iter().map(|it| it.event).collect::<Vec<_>>(), [first]);
        settle(&*journal, &head[0], Settlement::RetryAt(clock.now().plus(Duration::from_secs(60))))
            .await;
        journal.hasten(second, Scope::All).await.unwrap();
        assert!(claim(&*journal, 9, CONTINUE).is_empty(), "its turn has not come");
        journal.hasten(first, Scope::All).await.unwrap();
        let head = claim(&*journal, 9, CONTINUE);
        assert_eq!(head.iter().map(|it| it.event).collect::<Vec<_>>(), [first]);
        settle(&*journal, &head[0], Settlement::Delivered).await;
        let next = claim(&*journal, 9, CONTINUE);
        assert_eq!(next.iter().map(|it| it.event).collect::<Vec<_>>(), [second]);
        settle(&*journal, &next[0], Settlement::Delivered).await;
        let depth = &journal.depth()[0];
        assert_eq!((depth.ready, depth.waiting, depth.in_flight), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_failing_head_holds_its_key_up_and_no_other() {
    let clock = start();
    let journal = MemoryJournal::new(clock.clone());
    let mut of = Vec::new();
    for (number, key) in [Some("k"), Some("k"), Some("l"), None, None].into_iter().enumerate() {
        of.push(put(&journal, number as u64, key, &clock).await);
    }
    let first = claim(&journal, 9, CONTINUE);
    assert_eq!(ids(&first), [of[0], of[2], of[3], of[4]]);
    let later = clock.now().plus(Duration::from_secs(5));
    settle(&journal, &first[0], Settlement::RetryAt(later)).await;
    assert_eq!(claim(&journal, 9, CONTINUE), []);
    let depth = journal.depth().remove(0);
    assert_eq!((depth.ready, depth.waiting, depth.in_flight), (1, 1, 3));
    clock.advance(Duration::from_secs(5));
    let again = claim(&journal, 9, CONTINUE);
    assert_eq!(ids(&again), [of[0]]);
    settle(&journal, &again[0], Settlement::Released).await;
    let again = claim(&journal, 9, CONTINUE);
    assert_eq!(ids(&again), [of[0]], "an interrupted head stays the head");
    settle(&journal, &again[0], Settlement::Delivered).await;
    assert_eq!(ids(&claim(&journal, 9, CONTINUE)), [of[1]]);
}

#[tokio::test]
async fn a_dead_letter_lets_the_next_go_or_holds_it_until_it_is_retried_or_discarded() {
    for (order, holds) in [(CONTINUE, false), (HOLD, true)] {
        let clock = start();
        let journal = MemoryJournal::new(clock.clone());
        let mut of = Vec::new();
        for number in 0..3 {
            of.push(put(&journal, number, Some("k"), &clock).await);
        }
        let head = claim(&journal, 9, order).remove(0);
        settle(&journal, &head, Settlement::Dead(DeadReason::Attempts)).await;
        let next = claim(&journal, 9, order);
        if !holds {
            assert_eq!(ids(&next), [of[1]]);
            continue;
        }
        assert_eq!(next, []);
        assert_eq!(journal.replay(of[0], Scope::Dead).await, Ok(Changed { deliveries: 1 }));
        let head = claim(&journal, 9, order).remove(0);
        assert_eq!(head.event, of[0]);
        settle(&journal, &head, Settlement::Dead(DeadReason::Gone)).await;
        assert_eq!(claim(&journal, 9, order), []);
        assert_eq!(journal.discard(of[0], Scope::Dead).await, Ok(Changed { deliveries: 1 }));
        let head = claim(&journal, 9, order).remove(0);
        assert_eq!(head.event, of[1]);
        // One that stands in line can be discarded, too, and is missed by nobody.
        assert_eq!(journal.discard(of[2], Scope::All).await, Ok(Changed { deliveries: 1 }));
        settle(&journal, &head, Settlement::Delivered).await;
        assert_eq!(claim(&journal, 9, order), []);
        assert_eq!(journal.depth().remove(0).ready, 0);
    }
}

#[tokio::test]
async fn order_holds_over_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let journal = reopen(dir.path(), &clock);
    let first = put(&journal, 1, Some("k"), &clock).await;
    let second = put(&journal, 2, Some("k"), &clock).await;
    let dead = put(&journal, 3, Some("l"), &clock).await;
    let held = put(&journal, 4, Some("l"), &clock).await;
    let claimed = claim(&journal, 9, HOLD);
    assert_eq!(ids(&claimed), [first, dead]);
    let later = clock.now().plus(Duration::from_secs(60));
    settle(&journal, &claimed[0], Settlement::RetryAt(later)).await;
    settle(&journal, &claimed[1], Settlement::Dead(DeadReason::Attempts)).await;
    everhook::journal::Journal::close(&journal).await;
    let journal = reopen(dir.path(), &clock);
    assert_eq!(
        claim(&journal, 9, HOLD),
        [],
        "neither the one that waits nor the dead one is passed"
    );
    assert_eq!(ids(&claim(&journal, 9, CONTINUE)), [held], "the order was changed");
    clock.advance(Duration::from_secs(60));
    let again = claim(&journal, 9, CONTINUE);
    assert_eq!(ids(&again), [first]);
    settle(&journal, &again[0], Settlement::Delivered).await;
    assert_eq!(ids(&claim(&journal, 9, CONTINUE)), [second]);
}

#[tokio::test]
async fn a_backlog_of_one_key_is_taken_one_by_one_and_given_up_with_the_order() {
    let clock = start();
    let journal = MemoryJournal::new(clock.clone());
    let mut of = Vec::new();
    for number in 0..20_000 {
        of.push(put(&journal, number, Some("k"), &clock).await);
    }
    for expected in &of[..50] {
        let claimed = claim(&journal, 16, CONTINUE);
        assert_eq!(ids(&claimed), [*expected]);
        settle(&journal, &claimed[0], Settlement::Delivered).await;
    }
    // A claim looks at a part of the backlog at a time; the rest is looked at by the next ones.
    for _ in 0..3 {
        drop(claim(&journal, 0, CONTINUE));
    }
    assert_eq!(ids(&claim(&journal, 16, Order::None)), of[50..66]);
}

/// One step of a random run.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u8),
    Claim(usize),
    End(Settle),
    Replay(usize),
    Discard(usize),
    Advance,
}

#[derive(Clone, Copy, Debug)]
enum Settle {
    Delivered,
    Retry,
    Dead,
    Released,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4).prop_map(Step::Append),
        4 => (1usize..5).prop_map(Step::Claim),
        6 => prop_oneof![
            3 => Just(Settle::Delivered),
            2 => Just(Settle::Retry),
            1 => Just(Settle::Dead),
            1 => Just(Settle::Released),
        ].prop_map(Step::End),
        1 => (0usize..40).prop_map(Step::Replay),
        1 => (0usize..40).prop_map(Step::Discard),
        1 => Just(Step::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_each_key_one_goes_at_a_time_and_nothing_is_forgotten(
        steps in proptest::collection::vec(step(), 1..120),
        hold in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps, if hold { HOLD } else { CONTINUE }));
    }
}

/// Leases what may go, of each key one at a time.
fn take(
    journal: &dyn Journal,
    flying: &mut Vec<Claimed>,
    keys: &BTreeMap<EventId, u8>,
    (most, order): (usize, Order),
) {
    for claimed in claim(journal, most, order) {
        let key = keys[&claimed.event];
        let busy = flying.iter().any(|other| keys[&other.event] == key);
        assert!(key == 0 || !busy, "two of one key at once");
        flying.push(claimed);
    }
}

async fn run(steps: Vec<Step>, order: Order) {
    let clock = start();
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(clock.clone()));
    let (mut all, mut keys) = (Vec::new(), BTreeMap::new());
    let mut flying: Vec<Claimed> = Vec::new();
    let mut ended: BTreeSet<EventId> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Append(key) => {
                let text = key.to_string();
                let key_text = (key > 0).then_some(text.as_str());
                let id = put(&*journal, all.len() as u64, key_text, &clock).await;
                all.push(id);
                keys.insert(id, key);
            }
            Step::Claim(most) => take(&*journal, &mut flying, &keys, (most, order)),
            Step::End(how) if !flying.is_empty() => {
                let claimed = flying.remove(0);
                let settlement = match how {
                    Settle::Delivered => Settlement::Delivered,
                    Settle::Retry => Settlement::RetryAt(clock.now().plus(Duration::from_secs(1))),
                    Settle::Dead => Settlement::Dead(DeadReason::Attempts),
                    Settle::Released => Settlement::Released,
                };
                if matches!(how, Settle::Delivered) {
                    ended.insert(claimed.event);
                }
                settle(&*journal, &claimed, settlement).await;
            }
            Step::End(_) => {}
            Step::Replay(at) => {
                if let Some(id) = all.get(at) {
                    let changed = journal.replay(*id, Scope::All).await.unwrap();
                    if changed.deliveries > 0 {
                        ended.remove(id);
                    }
                }
            }
            Step::Discard(at) => {
                if let Some(id) = all.get(at)
                    && journal.discard(*id, Scope::All).await.unwrap().deliveries > 0
                {
                    ended.insert(*id);
                }
            }
            Step::Advance => clock.advance(Duration::from_secs(1)),
        }
    }
    let end = End { journal: &*journal, clock: &clock, all: &all, order };
    end.of(flying, ended, &keys).await;
}

/// The end of a random run.
struct End<'a> {
    journal: &'a dyn Journal,
    clock: &'a Clock,
    all: &'a [EventId],
    order: Order,
}

impl End<'_> {
    /// Everything ends once dead letters are given up and everything else is delivered.
    async fn of(
        &self,
        mut flying: Vec<Claimed>,
        mut ended: BTreeSet<EventId>,
        keys: &BTreeMap<EventId, u8>,
    ) {
        for _ in 0..self.all.len() * 3 + 3 {
            self.clock.advance(Duration::from_secs(1));
            for id in self.all {
                if self.journal.discard(*id, Scope::Dead).await.unwrap().deliveries > 0 {
                    ended.insert(*id);
                }
            }
            take(self.journal, &mut flying, keys, (100, self.order));
            for claimed in flying.drain(..) {
                ended.insert(claimed.event);
                settle(self.journal, &claimed, Settlement::Delivered).await;
            }
        }
        assert_eq!(ended.len(), self.all.len(), "something stands in line for ever");
        let left = self.journal.depth();
        let pending = left.iter().map(|depth| depth.ready + depth.waiting + depth.in_flight);
        assert_eq!(pending.sum::<u64>(), 0, "{left:?}");
    }
}

#[tokio::test]
async fn a_build_that_fails_at_its_receiver_waits_and_the_others_go_on() {
    // The bad build fails until everything of the good one is there.
    let good = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&good);
    let mut receiver = Receiver::scripted(move |_, request| {
        let is_bad = request.body.windows(5).any(|part| part == b"\"bad\"");
        if !is_bad {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if is_bad && count.load(Ordering::SeqCst) < 2 { Act::Answer("500 Down", "") } else { OK }
    })
    .await;
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\norder_key = [\"/build\"]\n\
         [target.t]\nurl = {:?}\norder = \"key\"\nconcurrency = 8\nbreaker = \"none\"\n\
         retry = {{ initial = \"50ms\", factor = 1.0, max = \"50ms\", attempts = 1000, jitter = 0.0 }}\n",
        receiver.url()
    ));
    let daemon = home.start().await;
    let mut sent = Vec::new();
    for (build, step) in [("bad", 1), ("good", 1), ("bad", 2), ("good", 2), ("bad", 3)] {
        let body = format!("{{\"build\":\"{build}\",\"step\":{step}}}");
        daemon.post("/in/any", &[], body.as_bytes()).await.ack();
        sent.push(body);
    }
    let mut seen: Vec<String> = Vec::new();
    while !seen.contains(&sent[4]) {
        seen.push(String::from_utf8(receiver.next().await.body.to_vec()).unwrap());
    }
    let of = |build: &str| {
        let mut of: Vec<_> = seen.iter().filter(|it| it.contains(build)).collect();
        of.dedup();
        of
    };
    assert_eq!(of("good"), [&sent[1], &sent[3]]);
    assert_eq!(of("bad"), [&sent[0], &sent[2], &sent[4]]);
}
