//! Which deliveries of an event a bulk order is about.

use super::Shared;
use super::deliveries::latest;
use crate::journal::{DeliveryState, Journal, Listed, Scope, Stage};
use crate::model::Name;
use crate::rules::jobs::Kind;
use crate::rules::query::Query;

/// What an order says of deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) kind: Kind,
    pub(super) force: bool,
    pub(super) targets: Option<&'a [String]>,
}

impl Shared {
    /// The deliveries of an event that a query asks for; `None` when it asks nothing of deliveries.
    pub(super) async fn fitting<'a>(
        &self,
        journal: &dyn Journal,
        query: &Query,
        item: &'a Listed,
    ) -> Option<Vec<&'a DeliveryState>> {
        if !query.asks_delivery() {
            return None;
        }
        let fits = |it: &&DeliveryState| query.fits_delivery(it.outline());
        let mut fitting: Vec<_> = item.deliveries.iter().filter(fits).collect();
        if query.needs_attempts() {
            // What cannot be read, or is gone, does not fit.
            let found = journal.find(item.id).await.ok().flatten();
            fitting.retain(|it| {
                let made = found.as_ref().and_then(|found| latest(found, &it.target));
                query.fits_attempt(made.map(|(made, _)| made))
            });
        }
        Some(fitting)
    }
}

/// What the journal is told about one event; `None` when nothing of it is meant.
pub(super) fn scope(
    Choice { kind, force, targets }: Choice<'_>,
    fitting: Option<Vec<&DeliveryState>>,
) -> Option<Scope> {
    let told = targets.map(|names| names.iter().filter_map(|name| Name::parse(name)).collect());
    let of_dead = kind == Kind::Retry || kind == Kind::Discard && !force;
    let meant: Option<Vec<Name>> = match (fitting, told) {
        // A replay goes where it is told, whatever of the event was asked for.
        (_, Some(told)) if kind == Kind::Replay => Some(told),
        (Some(fitting), Some(told)) => {
            let fitting = fitting.into_iter().map(|it| it.target.clone());
            Some(fitting.filter(|name| told.contains(name)).collect())
        }
        (Some(fitting), None) => Some(fitting.into_iter().map(|it| it.target.clone()).collect()),
        (None, told) => told,
    };
    match meant {
        Some(names) if names.is_empty() => None,
        Some(names) if of_dead => Some(Scope::DeadOf(names)),
        Some(names) => Some(Scope::Targets(names)),
        None if of_dead => Some(Scope::Dead),
        None => Some(Scope::All),
    }
}

/// How many deliveries an order would change, as far as a list can tell.
pub(super) fn would_change(
    choice: Choice<'_>,
    item: &Listed,
    fitting: Option<Vec<&DeliveryState>>,
) -> usize {
    let Some(scope) = scope(choice, fitting) else { return 0 };
    let changes = |it: &&DeliveryState| match choice.kind {
        Kind::Replay | Kind::Retry => {
            matches!(it.stage, Stage::Delivered | Stage::Dead(_) | Stage::Discarded)
        }
        Kind::Discard => matches!(it.stage, Stage::Dead(_) | Stage::Ready | Stage::Waiting(_)),
    };
    let is_dead = |it: &DeliveryState| matches!(it.stage, Stage::Dead(_));
    let meant = |it: &&DeliveryState| match &scope {
        Scope::All => true,
        Scope::Dead => is_dead(it),
        Scope::Targets(names) => names.contains(&it.target),
        Scope::DeadOf(names) => is_dead(it) && names.contains(&it.target),
    };
    let there = item.deliveries.iter().filter(meant).filter(changes).count();
    let new = match &scope {
        Scope::Targets(names) if choice.kind == Kind::Replay => {
            let has = |name: &&Name| item.deliveries.iter().any(|it| it.target == **name);
            names.iter().filter(|name| !has(name)).count()
        }
        Scope::All | Scope::Dead | Scope::Targets(_) | Scope::DeadOf(_) => 0,
    };
    there.saturating_add(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeadReason, EventId};
    use crate::time::Timestamp;

    const DEAD: Stage = Stage::Dead(DeadReason::Gone);

    fn item(stages: &[(&str, Stage)]) -> Listed {
        let state = |(target, stage): &(&str, Stage)| DeliveryState {
            target: Name::parse(target).unwrap(),
            stage: *stage,
            attempts: 1,
        };
        Listed {
            sequence: 1,
            id: EventId::new(Timestamp::EPOCH, [0; 10]),
            source: "s".into(),
            name: "e".into(),
            received_at: Timestamp::EPOCH,
            bytes: 1,
            deliveries: stages.iter().map(state).collect(),
        }
    }

    fn names(names: &[&str]) -> Vec<Name> {
        names.iter().map(|name| Name::parse(name).unwrap()).collect()
    }

    fn choice(kind: Kind, targets: Option<&[String]>) -> Choice<'_> {
        Choice { kind, force: false, targets }
    }

    #[test]
    fn an_order_is_about_what_was_asked_for_and_no_more() {
        let item = item(&[("a", DEAD), ("b", DEAD), ("c", Stage::Delivered)]);
        let fitting = || Some(vec![&item.deliveries[0], &item.deliveries[2]]);
        let b: &[String] = &["b".into(), "a".into()];
        assert_eq!(scope(choice(Kind::Replay, None), None), Some(Scope::All));
        assert_eq!(scope(choice(Kind::Retry, None), None), Some(Scope::Dead));
        let scope_of = |kind, targets| scope(choice(kind, targets), fitting());
        assert_eq!(scope_of(Kind::Replay, None), Some(Scope::Targets(names(&["a", "c"]))));
        assert_eq!(scope_of(Kind::Retry, None), Some(Scope::DeadOf(names(&["a", "c"]))));
        assert_eq!(scope_of(Kind::Discard, Some(b)), Some(Scope::DeadOf(names(&["a"]))));
        assert_eq!(scope_of(Kind::Replay, Some(b)), Some(Scope::Targets(names(&["b", "a"]))));
        assert_eq!(scope(choice(Kind::Retry, Some(b)), Some(Vec::new())), None);
        let forced = Choice { kind: Kind::Discard, force: true, targets: None };
        assert_eq!(scope(forced, None), Some(Scope::All));
    }

    #[test]
    fn what_would_change_is_counted() {
        let item = item(&[("a", DEAD), ("b", Stage::Ready), ("c", Stage::Delivered)]);
        let count = |kind, targets| would_change(choice(kind, targets), &item, None);
        let new: &[String] = &["c".into(), "new".into()];
        assert_eq!(count(Kind::Replay, None), 2);
        assert_eq!(count(Kind::Replay, Some(new)), 2);
        assert_eq!((count(Kind::Retry, None), count(Kind::Discard, None)), (1, 1));
        let forced = Choice { kind: Kind::Discard, force: true, targets: None };
        assert_eq!(would_change(forced, &item, None), 2);
    }
}
