//! Which source a path belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::SourceState;

/// Every source by its path.
pub(super) struct Routes {
    by_path: HashMap<String, Arc<SourceState>>,
}

/// What a path leads to.
pub(super) enum Route<'a> {
    /// A source, and the path token fits where one is needed.
    Source(&'a Arc<SourceState>),
    /// A source whose path token is missing or wrong.
    Locked(&'a Arc<SourceState>),
    /// Nothing.
    Unknown,
}

impl Routes {
    pub(super) fn new(sources: impl IntoIterator<Item = Arc<SourceState>>) -> Self {
        let by_path = sources.into_iter().map(|source| (source.path.clone(), source));
        Self { by_path: by_path.collect() }
    }

    /// Every source.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Arc<SourceState>> {
        self.by_path.values()
    }

    pub(super) fn find(&self, path: &str) -> Route<'_> {
        if let Some(source) = self.by_path.get(path) {
            return match source.path_token {
                Some(_) => Route::Locked(source),
                None => Route::Source(source),
            };
        }
        let parent = path
            .rsplit_once('/')
            .map(|(parent, last)| (if parent.is_empty() { "/" } else { parent }, last));
        let Some((parent, last)) = parent else { return Route::Unknown };
        let Some(source) = self.by_path.get(parent) else { return Route::Unknown };
        match &source.path_token {
            // The length of a token is no secret; its content is compared in constant time.
            Some(token) if token.expose().ct_eq(last.as_bytes()).into() => Route::Source(source),
            Some(_) => Route::Locked(source),
            None => Route::Unknown,
        }
    }
}
