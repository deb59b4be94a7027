//! What claims look at, and what they find there.

use super::*;
use crate::model::{DeadReason, Order};

const TARGETS: Number = 1_000;

fn name(number: Number) -> Name {
    Name::parse(&format!("t-{number}")).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn wanted(number: Number, most: usize) -> Wanted {
    Wanted { target: name(number), most, order: Order::None }
}

fn put(index: &mut Index<()>, sequence: u64, target: Number, state: State) {
    let target = index.number(&name(target)).unwrap();
    let (id, received_at) = (EventId::new(at(0), [0; 10]), at(0));
    let deliveries = Slots::new(&[Slot { target, attempts: 0, state }]);
    let entry = Entry { id, received_at, order: 0, label: 0, place: (), deliveries };
    index.insert(sequence, entry);
}

/// A thousand targets in demand, a hundred of which have something that waits.
fn many() -> Index<()> {
    let mut index = Index::new();
    for target in 0..TARGETS {
        index.demand(wanted(target, 4));
    }
    for target in 0..100 {
        put(&mut index, u64::from(target), target, State::Waiting(at(1_000)));
    }
    index
}

#[test]
fn a_claim_looks_at_those_that_have_something_and_at_no_others() {
    let mut index = many();
    for sequence in 1_000..2_000 {
        put(&mut index, sequence, 500, State::Ready);
        let claimed = index.take(at(1));
        assert_eq!(claimed.len(), 1);
        assert_eq!(index.next_due(), Some(at(1_000)));
        index.settle(claimed[0].lease, Settlement::Delivered, true).unwrap();
        index.demand(wanted(500, 4));
        assert!(index.take(at(1)).is_empty());
    }
    assert_eq!(index.looked, 1_000, "once for each event");
    assert_eq!(index.take(at(1_000)).len(), 100, "and those that waited come when they are due");
    assert_eq!(index.looked, 1_100);
}

#[test]
fn what_is_leased_is_wanted_no_longer_and_what_was_not_asked_for_stays() {
    let mut index = many();
    for sequence in 0..6 {
        put(&mut index, 1_000 + sequence, 7, State::Ready);
        put(&mut index, 2_000 + sequence, TARGETS, State::Ready);
    }
    assert_eq!(index.take(at(1)).len(), 4);
    assert_eq!(index.take(at(1)), [], "no more was asked for");
    index.demand(wanted(7, 1));
    assert_eq!(index.take(at(1)).len(), 1);
    index.demand(wanted(TARGETS, 9));
    index.demand(wanted(7, 0));
    let targets: Vec<_> = index.take(at(1)).into_iter().map(|it| it.target).collect();
    assert_eq!(targets, vec![name(TARGETS); 6]);
}

#[test]
fn what_is_hastened_goes_first_and_everything_is_counted_once() {
    let mut index = many();
    for sequence in 1_000..1_003 {
        put(&mut index, sequence, 500, State::Ready);
    }
    put(&mut index, 1_003, 500, State::Waiting(at(1_000)));
    let all = Scope::All;
    assert_eq!(index.hasten_all(1_003, &all).len(), 1);
    for _ in 0..3 {
        assert_eq!(index.hasten_all(1_002, &all).len(), 1, "it is due, and goes first");
    }
    let ready = |index: &mut Index<()>| {
        let depth = index.depth(at(1)).into_iter().find(|depth| depth.target == name(500));
        depth.map(|depth| depth.ready)
    };
    assert_eq!(ready(&mut index), Some(4));
    let mut order = Vec::new();
    for _ in 0..4 {
        index.demand(wanted(500, 1));
        let lease = index.take(at(1))[0].lease;
        assert_eq!(index.hasten_all(lease.sequence, &all), [], "in flight");
        order.push(lease.sequence);
        index.settle(lease, Settlement::Delivered, true).unwrap();
    }
    assert_eq!(order, [1_002, 1_003, 1_000, 1_001]);
    index.demand(wanted(500, 4));
    assert_eq!((index.take(at(1)).len(), ready(&mut index)), (0, Some(0)));
    assert_eq!(index.hasten_all(1_000, &all), [], "it is over");
    assert_eq!(index.hasten_all(7, &Scope::Dead), [], "not meant");
}

#[test]
fn what_went_first_is_counted_once_when_an_order_is_kept_from_then_on() {
    let mut index = many();
    for sequence in 1_000..1_003 {
        put(&mut index, sequence, 500, State::Ready);
    }
    index.hasten_all(1_002, &Scope::All);
    let order = Order::Key(crate::model::OnDead::Continue);
    index.demand(Wanted { order, ..wanted(500, 9) });
    let claimed: Vec<_> = index.take(at(1)).iter().map(|it| it.lease.sequence).collect();
    assert_eq!(claimed, [1_000, 1_001, 1_002], "the order is that of their events");
    let depth = index.depth(at(1)).into_iter().find(|depth| depth.target == name(500));
    let depth = depth.unwrap();
    assert_eq!((depth.ready, depth.in_flight), (0, 3));
    put(&mut index, 1_003, 500, State::Ready);
    let depth = index.depth(at(1)).into_iter().find(|depth| depth.target == name(500));
    assert_eq!(depth.map(|depth| depth.ready), Some(1));
}

#[test]
fn every_change_of_a_queue_is_seen_by_the_next_claim() {
    let mut index = many();
    put(&mut index, 1_000, 7, State::Ready);
    let lease = index.take(at(1))[0].lease;
    index.settle(lease, Settlement::RetryAt(at(5)), true).unwrap();
    assert_eq!(index.next_due(), Some(at(5)));
    let lease = index.take(at(5))[0].lease;
    index.settle(lease, Settlement::Released, false).unwrap();
    let lease = index.take(at(5))[0].lease;
    index.settle(lease, Settlement::Dead(DeadReason::Attempts), true).unwrap();
    assert!(index.decide(1_000, lease.target, State::Ready).is_some(), "replayed");
    index.depth(at(5));
    assert_eq!(index.take(at(5)).len(), 1);
    index.demand(wanted(7, 4));
    index.depth(at(1_000));
    assert_eq!(index.take(at(1_000)).len(), 100, "what a look at the depth found to be due");
}
