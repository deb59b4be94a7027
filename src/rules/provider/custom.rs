//! Any other provider: the configuration says how it signs and where its values stand.

use super::{EventName, Preset, Repeats, Sample, Unnamed, Verification};

pub(super) static PRESET: Preset = Preset {
    name: "custom",
    docs: "",
    verification: Verification::Configured,
    event: EventName { fields: &[], unnamed: Unnamed::Called("webhook") },
    order: &[],
    repeats: Repeats::Off,
    test_event: &[],
    filter_fields: &[],
    samples: &[Sample {
        event: "webhook",
        headers: &[],
        body: r#"{"id":"sample-1","event":"webhook","message":"A sample of everhook."}"#,
    }],
};
