//! Whether the configuration in effect is the one that was written last.

use prometheus::{Gauge, IntGauge, Opts, Registry};

use super::register;
use crate::time::Timestamp;

/// What a reload tells.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    successful: IntGauge,
    loaded_at: Gauge,
}

impl ConfigMetrics {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let successful = Opts::new(
            "config_last_reload_successful",
            "1 when the configuration read last is in effect, 0 when it was refused.",
        );
        let loaded_at = Opts::new(
            "config_last_reload_timestamp_seconds",
            "When the configuration in effect was read, in seconds since 1970.",
        );
        Ok(Self {
            successful: register(r, IntGauge::with_opts(successful)?)?,
            loaded_at: register(r, Gauge::with_opts(loaded_at)?)?,
        })
    }

    /// A configuration took effect.
    pub fn loaded(&self, at: Timestamp) {
        self.successful.set(1);
        self.loaded_at.set(at.since(Timestamp::EPOCH).as_secs_f64());
    }

    /// A configuration was refused.
    pub fn refused(&self) {
        self.successful.set(0);
    }
}
