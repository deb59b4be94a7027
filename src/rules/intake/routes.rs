//! Which targets want an event, found without asking each of them.
//!
//! A target that names what it wants (an event name, a branch, a project) is found by that text; only those whose patterns
//! cannot be looked up are asked each time. A source with a thousand targets of which an event concerns one asks one.

use std::collections::HashMap;

use super::{Check, hold};
use crate::model::Name;
use crate::rules::filter::Patterns;
use crate::rules::payload::{FieldId, Fields};

/// What one target wants of a source's events.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) target: Name,
    pub(super) events: Option<Patterns>,
    pub(super) conditions: Vec<Check>,
}

/// All targets of a source.
#[derive(Debug)]
pub(super) struct Routes {
    all: Vec<Route>,
    /// Those that are asked whatever the event is.
    open: Vec<usize>,
    /// Those that name the events that they want.
    by_event: HashMap<String, Vec<usize>>,
    /// Those that name the values of a field that they want.
    by_value: Vec<(FieldId, HashMap<String, Vec<usize>>)>,
}

/// Where a text is looked for: the event's name, or a field.
type Place = Option<FieldId>;

impl Routes {
    pub(super) fn new(all: Vec<Route>) -> Self {
        let mut shares: HashMap<(Place, String), usize> = HashMap::new();
        for (place, texts) in all.iter().flat_map(named) {
            for text in texts {
                let share = shares.entry((place, text)).or_default();
                *share = share.saturating_add(1);
            }
        }
        // A target is filed under what it shares with the fewest others.
        let crowd = |(place, texts): &(Place, Vec<String>)| -> usize {
            let share = |text: &String| shares.get(&(*place, text.clone())).copied().unwrap_or(0);
            texts.iter().map(share).sum()
        };
        let mut routes = Self {
            all: Vec::new(),
            open: Vec::new(),
            by_event: HashMap::new(),
            by_value: Vec::new(),
        };
        for (index, route) in all.iter().enumerate() {
            match named(route).min_by_key(crowd) {
                None => routes.open.push(index),
                Some((None, texts)) => file(&mut routes.by_event, texts, index),
                Some((Some(field), texts)) => file(routes.values_of(field), texts, index),
            }
        }
        routes.all = all;
        routes
    }

    fn values_of(&mut self, field: FieldId) -> &mut HashMap<String, Vec<usize>> {
        let known = self.by_value.iter().position(|(known, _)| *known == field);
        let at = known.unwrap_or(self.by_value.len());
        if known.is_none() {
            self.by_value.push((field, HashMap::new()));
        }
        #[expect(clippy::indexing_slicing, reason = "found, or just put there")]
        &mut self.by_value[at].1
    }

    /// Those that may want an event, in their order; each is there once.
    fn candidates(&self, event: &str, fields: &Fields<'_>) -> Vec<&Route> {
        let mut found = self.open.clone();
        found.extend(self.by_event.get(event).into_iter().flatten());
        for (field, by_text) in &self.by_value {
            fields.get(*field).any_text(|text| {
                found.extend(by_text.get(text).into_iter().flatten());
                false
            });
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| self.all.get(index)).collect()
    }

    /// The targets that want an event.
    pub(super) fn targets(&self, event: &str, fields: &Fields<'_>) -> Vec<Name> {
        let wants = |route: &&Route| {
            route.events.as_ref().is_none_or(|events| events.matches(event))
                && hold(&route.conditions, fields)
        };
        let all = self.candidates(event, fields).into_iter();
        all.filter(wants).map(|route| route.target.clone()).collect()
    }

    /// Every target with what it wants.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }
}

/// What a target names, one of whose texts has to be there for each place.
fn named(route: &Route) -> impl Iterator<Item = (Place, Vec<String>)> {
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    let events = route.events.as_ref().and_then(Patterns::literals);
    let events = events.map(|texts| (None, owned(texts)));
    let values = route
        .conditions
        .iter()
        .filter_map(move |check| Some((Some(check.field), owned(check.patterns.literals()?))));
    events.into_iter().chain(values)
}

fn file(by_text: &mut HashMap<String, Vec<usize>>, texts: Vec<String>, index: usize) {
    for text in texts {
        by_text.entry(text).or_default().push(index);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Headers;
    use crate::rules::payload::{Field, FieldSet};

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::parse(texts).unwrap()
    }

    fn route(name: &str, events: Option<&[&str]>, branch: Option<(FieldId, &[&str])>) -> Route {
        let check = |(field, texts): (FieldId, &[&str])| Check { field, patterns: patterns(texts) };
        Route {
            target: Name::parse(name).unwrap(),
            events: events.map(patterns),
            conditions: branch.map(check).into_iter().collect(),
        }
    }

    fn set() -> (FieldSet, FieldId) {
        let mut set = FieldSet::default();
        let branch = set.add(&Field::Pointer("/branch".into()));
        (set, branch)
    }

    #[test]
    fn of_a_thousand_targets_only_those_are_asked_that_an_event_may_concern() {
        let (set, branch) = set();
        let mut all: Vec<_> = (0..1_000)
            .map(|number| {
                let own = format!("branch-{number}");
                route(&format!("t-{number}"), Some(&["build.done"]), Some((branch, &[&own])))
            })
            .collect();
        all.push(route("every", None, None));
        all.push(route("glob", None, Some((branch, &["branch-*", "!branch-7"]))));
        all.push(route("named", Some(&["build.done", "build.failed"]), None));
        let routes = Routes::new(all);
        let asked = |event: &str, body: &str| {
            let headers = Headers::default();
            let fields = set.extract(&headers, body.as_bytes()).unwrap();
            let asked = routes.candidates(event, &fields).len();
            let targets = routes.targets(event, &fields);
            (asked, targets.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (count, targets) = asked("build.done", r#"{"branch": "branch-7"}"#);
        assert_eq!((count, targets), (4, vec!["t-7".into(), "every".into(), "named".into()]));
        let (count, targets) = asked("build.begun", r#"{"branch": ["branch-7", "branch-9"]}"#);
        assert_eq!((count, targets), (4, vec!["every".to_owned()]), "the name does not fit");
        let (count, targets) = asked("build.failed", "{}");
        assert_eq!((count, targets), (3, vec!["every".to_owned(), "named".into()]));
    }

    fn words() -> impl Strategy<Value = Vec<&'static str>> {
        let word = prop::sample::select(vec!["a", "b", "c", "a*", "*", "!b", "!c*", "7"]);
        prop::collection::vec(word, 0..4)
    }

    proptest! {
        #[test]
        fn whoever_is_not_asked_does_not_want_it(
            all in prop::collection::vec((prop::option::of(words()), prop::option::of(words())), 0..12),
            event in "[a-c]",
            value in prop::sample::select(vec!["null", "7", "true", r#""a""#, r#""b""#, r#"["c", "b", 7]"#, "[]", "{}"]),
        ) {
            let (set, branch) = set();
            let each = all.iter().enumerate().map(|(index, (events, values))| {
                let values = values.as_deref().map(|it| (branch, it));
                route(&index.to_string(), events.as_deref(), values)
            });
            let routes = Routes::new(each.collect());
            let (headers, body) = (Headers::default(), format!(r#"{{"branch": {value}}}"#));
            let fields = set.extract(&headers, body.as_bytes()).unwrap();
            let wants = |route: &&Route| {
                route.events.as_ref().is_none_or(|events| events.matches(&event))
                    && hold(&route.conditions, &fields)
            };
            let each: Vec<_> = routes.iter().filter(wants).map(|it| it.target.clone()).collect();
            prop_assert_eq!(routes.targets(&event, &fields), each);
        }
    }
}
