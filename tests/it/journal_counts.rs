//! What an operator asks of a journal's whole: how many dead letters there are of which kind, and what came in a span of time.

use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;

use everhook::journal::{Ask, Group, Journal, Tally};
use everhook::model::{DeadReason, Name, Settlement};
use everhook::rules::query::Query;

use crate::journal_contract::{on_each, start};
use crate::journal_lookup::{fill, open, pages, put, settle};

/// Every group of a count, as target, reason, how many, and when the oldest and the newest were received.
async fn counted(journal: &dyn Journal, query: Query) -> Vec<(String, &'static str, u64, u64)> {
    let mut tally = Tally::default();
    loop {
        let ask = Ask { query: query.clone(), before: tally.next, limit: 0 };
        tally.go_on(journal.tally(ask).await.expect("readable"));
        if tally.next.is_none() {
            break;
        }
    }
    let group = |((target, reason), group): (&(Name, DeadReason), &Group)| {
        let span = group.newest.since(group.oldest).as_secs();
        (target.to_string(), reason.as_str(), group.count, span)
    };
    tally.groups.iter().map(group).collect()
}

#[tokio::test]
async fn dead_letters_are_counted_by_target_and_reason() {
    on_each(|journal, clock| async move {
        let second = Duration::from_secs(1);
        for number in 0..8 {
            put(&*journal, number, &["a", "b"], &clock).await;
            clock.advance(second);
        }
        let start = clock.now();
        for reason in [DeadReason::Gone, DeadReason::Expired, DeadReason::Gone] {
            settle(&*journal, "a", Settlement::Dead(reason), &clock).await;
        }
        settle(&*journal, "b", Settlement::Dead(DeadReason::Gone), &clock).await;
        settle(&*journal, "b", Settlement::Delivered, &clock).await;
        put(&*journal, 8, &[], &clock).await;
        let found = async |query: Query| counted(&*journal, query).await;
        let all = Query::default;
        let group = |target: &str, reason, count, span| (target.to_owned(), reason, count, span);
        let gone_of_a = group("a", "gone", 2, 2);
        let one = |target, reason| group(target, reason, 1, 0);
        let everything = [one("a", "expired"), gone_of_a.clone(), one("b", "gone")];
        assert_eq!(found(all()).await, everything);
        assert_eq!(found(Query { status: vec!["5xx".into()], ..all() }).await, everything);
        assert_eq!(found(Query { q: Some("\"n\":".into()), ..all() }).await, everything);
        assert_eq!(found(Query { event: vec!["build.*".into()], ..all() }).await, everything);
        assert_eq!(found(Query { attempts: Some(2), ..all() }).await, []);
        let reason = vec!["gone".into()];
        let of_a = Query { target: vec!["a".into()], reason, ..all() };
        assert_eq!(found(of_a.clone()).await, slice::from_ref(&gone_of_a));
        let early = start.minus(second * 7);
        assert_eq!(found(Query { until: Some(early), ..of_a }).await, [one("a", "gone")]);
        assert_eq!(found(Query { since: Some(start), ..all() }).await, []);
        let number = Some(("/n".into(), "2".into()));
        assert_eq!(found(Query { pointer: number, ..all() }).await, [one("a", "gone")]);
        assert_eq!(found(Query { source: vec!["other".into()], ..all() }).await, []);
        assert_eq!(found(Query { status: vec!["2xx".into()], ..all() }).await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_of_time_is_listed_whole_over_generations_and_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = start();
    let mut journal = open(dir.path(), &clock);
    let minute = Duration::from_secs(60);
    let mut spans = Vec::new();
    for _ in 0..3 {
        spans.push((clock.now(), fill(&journal, &clock, 2_000).await));
        clock.advance(minute);
    }
    assert!(dir.path().join("generations/00000003").exists(), "it spans generations");
    for _ in 0..2 {
        for (since, ids) in &spans {
            let until = Some(since.plus(minute));
            let query = Query { since: Some(*since), until, ..Query::default() };
            let found: BTreeSet<_> =
                pages(&journal, &query, 1_000).await.iter().map(|it| it.id).collect();
            assert!(found == ids.iter().copied().collect(), "{} of {}", found.len(), ids.len());
        }
        journal.close().await;
        drop(journal);
        journal = open(dir.path(), &clock);
    }
}
