//! Senders that follow a published convention instead of one of their own.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Encoding, Kind, Scheme};

/// Standard Webhooks with the names of its header fields under a prefix of one's own.
fn convention(prefix: &str) -> Scheme {
    Scheme {
        list: Some(' '),
        kv: Some(','),
        pick: Some("v1".into()),
        encoding: Encoding::Base64,
        key_encoding: Encoding::Base64,
        key_prefix: "whsec_".into(),
        signed: format!("{{header:{prefix}-id}}.{{timestamp}}.{{body}}"),
        timestamp: Some(format!("header:{prefix}-timestamp")),
        // What the convention's own libraries use, in both directions.
        tolerance: Some(Duration::from_secs(300)),
        ..Scheme::hmac(&format!("{prefix}-signature"))
    }
}

fn asymmetric() -> Scheme {
    Scheme {
        kind: Kind::Ed25519,
        pick: Some("v1a".into()),
        key_prefix: "whpk_".into(),
        ..convention("webhook")
    }
}

const SAMPLE_BODY: &str =
    r#"{"type":"invoice.paid","timestamp":"2026-04-01T09:00:00.000Z","data":{"id":"inv_sample"}}"#;

pub(super) static STANDARD_WEBHOOKS: Preset = Preset {
    name: "standard-webhooks",
    title: "Standard Webhooks",
    docs: "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
    setup: "Enter the URL at the sender and copy the endpoint's secret.",
    secret: "the endpoint's secret, whsec_..., or its public key, whpk_...",
    verification: Verification::Schemes(|| vec![convention("webhook"), asymmetric()]),
    event: EventName { fields: &["/type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["header:webhook-id"]], exempt: &[] },
    filter_fields: &["/type"],
    samples: &[Sample {
        event: "invoice.paid",
        headers: &[("webhook-id", "msg_sample1")],
        body: SAMPLE_BODY,
    }],
    ..BASE
};

pub(super) static SVIX: Preset = Preset {
    name: "svix",
    title: "Svix, and who sends with it",
    docs: "https://docs.svix.com/receiving/verifying-payloads/how-manual",
    setup: "Add the URL as an endpoint in the sender's webhook portal and reveal its signing secret.",
    secret: "the endpoint's signing secret, whsec_...",
    verification: Verification::FirstOf(|| vec![convention("svix"), convention("webhook")]),
    event: EventName { fields: &["/type", "/eventType"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["header:svix-id"], &["header:webhook-id"]], exempt: &[] },
    filter_fields: &["/type"],
    samples: &[Sample {
        event: "invoice.paid",
        headers: &[("svix-id", "msg_sample1")],
        body: SAMPLE_BODY,
    }],
    ..BASE
};

pub(super) static CLOUDEVENTS: Preset = Preset {
    name: "cloudevents",
    title: "CloudEvents over HTTP",
    docs: "https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md",
    setup: "Enter the URL at the sender with an OAuth bearer token; its OPTIONS request is answered.",
    secret: "the bearer token",
    note: "Binary and structured mode are read. A sender that shows no token needs verify = { kind = \"none\" } and a `path_token`.",
    verification: Verification::Schemes(|| {
        vec![Scheme { prefix: "Bearer ".into(), ..Scheme::token("authorization") }]
    }),
    event: EventName { fields: &["header:ce-type", "/type"], unnamed: Unnamed::Called("unknown") },
    order: &[
        PerEvent { events: &[], fields: &["header:ce-source", "header:ce-subject"] },
        PerEvent { events: &[], fields: &["/source", "/subject"] },
    ],
    repeats: Repeats::Fields {
        keys: &[&["header:ce-source", "header:ce-id"], &["/source", "/id", "/specversion"]],
        exempt: &[],
    },
    filter_fields: &["header:ce-source", "header:ce-subject"],
    samples: &[
        Sample {
            event: "com.example.build.finished",
            headers: &[
                ("ce-specversion", "1.0"),
                ("ce-id", "sample-1"),
                ("ce-source", "/sample"),
                ("ce-type", "com.example.build.finished"),
                ("ce-subject", "build/1"),
            ],
            body: r#"{"result":"passed"}"#,
        },
        Sample {
            event: "com.example.build.started",
            headers: &[("content-type", "application/cloudevents+json")],
            body: r#"{"specversion":"1.0","id":"sample-2","source":"/sample","type":"com.example.build.started","subject":"build/2","data":{}}"#,
        },
    ],
    ..BASE
};
