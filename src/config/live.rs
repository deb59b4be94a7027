//! The configuration in effect. A reload replaces it as a whole: whoever looks twice may see two of them, and never a
//! mixture.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Config;

/// The configuration in effect. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live(Arc<ArcSwap<Config>>);

impl Live {
    /// The configuration that the daemon starts with.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// The configuration as it is now. For one decision: it is not to be kept.
    pub fn now(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// From now on this one.
    pub fn replace(&self, config: Arc<Config>) {
        self.0.store(config);
    }
}
