//! Any other provider: the configuration says how it signs and where its values stand.

use super::{BASE, Preset, Sample, Verification};

pub(super) static PRESET: Preset = Preset {
    name: "custom",
    title: "Any other provider",
    setup: "Say in `verify` how the provider signs; every key of it is in the configuration reference.",
    secret: "whatever `verify` needs",
    note: "Name `event`, `dedup` and `order_key` yourself: without them every request is a new event called webhook.",
    verification: Verification::Configured,
    samples: &[Sample::json(
        "webhook",
        r#"{"id":"sample-1","event":"webhook","message":"A sample of everhook."}"#,
    )],
    ..BASE
};
