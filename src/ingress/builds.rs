//! The builds that sources watch, for whoever looks at them.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Ingress, Shared};
use crate::control::{Build, BuildAsk, BuildPlace, Builds};
use crate::model::Name;
use crate::rules::stages::Looked;
use crate::time::Timestamp;

/// Tells how builds stand, by the sources as they are configured now.
pub struct Watched {
    shared: Arc<Shared>,
}

impl Ingress {
    /// What tells how builds stand.
    pub fn watched(&self) -> Watched {
        Watched { shared: Arc::clone(&self.shared) }
    }
}

impl Builds for Watched {
    fn builds(&self, ask: &BuildAsk) -> Vec<Build> {
        let settings = self.shared.settings.load();
        let sources = settings.routes.sources();
        let wanted = sources.filter(|it| ask.source.is_empty() || ask.source.contains(&it.name));
        let mut builds = Vec::new();
        for source in wanted {
            let Some(watch) = &source.watch else { continue };
            let looked = Looked {
                state: &ask.state,
                missing: ask.missing,
                q: ask.q.as_deref(),
                before: ask.after.as_ref().map(|place| before(place, &source.name)),
                most: ask.limit,
            };
            let name = || source.name.clone();
            let views = watch.builds(&looked).into_iter();
            builds.extend(views.map(|view| Build { source: name(), view }));
        }
        builds.sort_by_cached_key(|build| Reverse(build.place()));
        builds.truncate(ask.limit);
        builds
    }
}

/// What of a source stands after a place: at the same moment, a source with a lesser name is after it with all its builds, and
/// one with a greater name with none.
fn before<'a>(place: &'a BuildPlace, source: &Name) -> (Timestamp, &'a str) {
    let BuildPlace { heard_at, source: other, build } = place;
    match source.cmp(other) {
        std::cmp::Ordering::Less => {
            (Timestamp::from_micros(heard_at.as_micros().saturating_add(1)), "")
        }
        std::cmp::Ordering::Equal => (*heard_at, build),
        std::cmp::Ordering::Greater => (*heard_at, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_within_a_moment_by_source_and_build() {
        let name = |text: &str| Name::parse(text).unwrap();
        let at = Timestamp::from_micros(7);
        let place = BuildPlace { heard_at: at, source: name("m"), build: "b".into() };
        assert_eq!(before(&place, &name("a")), (Timestamp::from_micros(8), ""));
        assert_eq!(before(&place, &name("m")), (at, "b"));
        assert_eq!(before(&place, &name("z")), (at, ""));
    }
}
