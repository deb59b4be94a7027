//! Incidents, issues and content.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Encoding, Scheme, Unit};

pub(super) static PAGERDUTY: Preset = Preset {
    name: "pagerduty",
    title: "PagerDuty (V3 webhooks)",
    docs: "https://developer.pagerduty.com/docs/verifying-webhook-signatures",
    setup: "Integrations, Generic Webhooks (v3), New Webhook: enter the URL, choose scope and events, copy the secret.",
    secret: "the subscription's secret, shown once",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            list: Some(','),
            kv: Some('='),
            pick: Some("v1".into()),
            ..Scheme::hmac("x-pagerduty-signature")
        }]
    }),
    event: EventName { fields: &["/event/event_type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/event/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["/event/id"]], exempt: &["pagey.ping"] },
    filter_fields: &[
        "/event/data/service/id",
        "/event/data/urgency",
        "/event/data/priority/summary",
    ],
    samples: &[Sample::json(
        "incident.triggered",
        r#"{"event":{"id":"01SAMPLE","event_type":"incident.triggered","resource_type":"incident","occurred_at":"2026-04-01T09:00:00.000Z","data":{"id":"PSAMPLE1","type":"incident","number":1,"status":"triggered","title":"A sample","urgency":"high","service":{"id":"PSAMPLE2"}}}}"#,
    )],
    ..BASE
};

pub(super) static LINEAR: Preset = Preset {
    name: "linear",
    title: "Linear",
    docs: "https://linear.app/developers/webhooks",
    setup: "Settings, API, New webhook: enter the URL, choose the data, copy the signing secret.",
    secret: "the webhook's signing secret",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            timestamp: Some("json:/webhookTimestamp".into()),
            unit: Unit::Millis,
            // Linear's documentation asks for a minute.
            tolerance: Some(Duration::from_secs(60)),
            ..Scheme::hmac("linear-signature")
        }]
    }),
    event: EventName {
        fields: &["header:linear-event", "/type"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[PerEvent { events: &[], fields: &["/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["header:linear-delivery"]], exempt: &[] },
    filter_fields: &["/action", "/data/team/key", "/data/state/name"],
    samples: &[Sample {
        event: "Issue",
        headers: &[
            ("linear-event", "Issue"),
            ("linear-delivery", "00000000-0000-4000-8000-0000000000d1"),
        ],
        body: r#"{"action":"update","type":"Issue","createdAt":"2026-04-01T09:00:00.000Z","data":{"id":"00000000-0000-4000-8000-0000000000d2","title":"A sample","team":{"key":"SAM"}},"organizationId":"00000000-0000-4000-8000-0000000000d3","webhookId":"00000000-0000-4000-8000-0000000000d4","webhookTimestamp":{now_ms}}"#,
    }],
    ..BASE
};

pub(super) static SANITY: Preset = Preset {
    name: "sanity",
    title: "Sanity",
    docs: "https://www.sanity.io/docs/content-lake/webhooks",
    setup: "Manage, API, Webhooks, Create webhook: enter the URL, method POST, and a Secret.",
    secret: "the webhook's Secret",
    note: "The body is what the webhook's projection makes of the document; keep `_id` in it for the order key.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            list: Some(','),
            kv: Some('='),
            pick: Some("v1".into()),
            encoding: Encoding::Base64Url,
            signed: "{timestamp}.{body}".into(),
            timestamp: Some("sig:t".into()),
            unit: Unit::Millis,
            ..Scheme::hmac("sanity-webhook-signature")
        }]
    }),
    event: EventName { fields: &["header:sanity-operation"], unnamed: Unnamed::Called("document") },
    order: &[PerEvent { events: &[], fields: &["/_id"] }],
    repeats: Repeats::Fields { keys: &[&["header:idempotency-key"]], exempt: &[] },
    filter_fields: &["/_type", "header:sanity-dataset"],
    samples: &[Sample {
        event: "update",
        headers: &[
            ("sanity-operation", "update"),
            ("sanity-dataset", "production"),
            ("idempotency-key", "sample-transaction-1"),
        ],
        body: r#"{"_id":"sample-document","_type":"post","title":"A sample"}"#,
    }],
    ..BASE
};
