//! Shops and payments. All of them repeat until they are answered 2xx, and all of them give an event an id.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Encoding, Scheme};

const FIVE_MINUTES: Option<Duration> = Some(Duration::from_secs(300));

pub(super) static STRIPE: Preset = Preset {
    name: "stripe",
    title: "Stripe",
    docs: "https://docs.stripe.com/webhooks",
    setup: "Developers, Webhooks, Add destination: enter the URL, choose the events, reveal the signing secret.",
    secret: "the destination's signing secret, whole: it is used as text, whsec_ included",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            list: Some(','),
            kv: Some('='),
            pick: Some("v1".into()),
            signed: "{timestamp}.{body}".into(),
            timestamp: Some("sig:t".into()),
            tolerance: FIVE_MINUTES,
            ..Scheme::hmac("stripe-signature")
        }]
    }),
    event: EventName { fields: &["/type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/object/id"] }],
    repeats: Repeats::Fields { keys: &[&["/id"]], exempt: &[] },
    filter_fields: &["/livemode", "/account", "/data/object/object", "/data/object/status"],
    samples: &[Sample::json(
        "payment_intent.succeeded",
        r#"{"id":"evt_sample1","object":"event","type":"payment_intent.succeeded","created":1775034000,"livemode":false,"data":{"object":{"id":"pi_sample","object":"payment_intent","amount":1200,"currency":"eur","status":"succeeded"}}}"#,
    )],
    ..BASE
};

pub(super) static PADDLE: Preset = Preset {
    name: "paddle",
    title: "Paddle Billing",
    docs: "https://developer.paddle.com/webhooks/signature-verification",
    setup: "Developer Tools, Notifications, New destination: enter the URL, choose the events, copy the secret key.",
    secret: "the destination's secret key",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            list: Some(';'),
            kv: Some('='),
            pick: Some("h1".into()),
            signed: "{timestamp}:{body}".into(),
            timestamp: Some("sig:ts".into()),
            tolerance: FIVE_MINUTES,
            ..Scheme::hmac("paddle-signature")
        }]
    }),
    event: EventName { fields: &["/event_type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["/event_id"]], exempt: &[] },
    filter_fields: &["/data/status", "/data/customer_id", "/data/currency_code"],
    samples: &[Sample::json(
        "transaction.completed",
        r#"{"event_id":"evt_sample1","event_type":"transaction.completed","occurred_at":"2026-04-01T09:00:00.000Z","notification_id":"ntf_sample1","data":{"id":"txn_sample","status":"completed","customer_id":"ctm_sample","currency_code":"EUR"}}"#,
    )],
    ..BASE
};

pub(super) static SQUARE: Preset = Preset {
    name: "square",
    title: "Square",
    docs: "https://developer.squareup.com/docs/webhooks/step3validate",
    setup: "Developer Console, Webhooks, Subscriptions, Add: enter the URL and set `public_url` to exactly the same.",
    secret: "the subscription's signature key",
    note: "The URL is signed, so the source needs its `public_url`.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            encoding: Encoding::Base64,
            signed: "{url}{body}".into(),
            ..Scheme::hmac("x-square-hmacsha256-signature")
        }]
    }),
    event: EventName { fields: &["/type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/id"] }],
    repeats: Repeats::Fields { keys: &[&["/event_id"]], exempt: &[] },
    filter_fields: &["/merchant_id", "/data/type"],
    samples: &[Sample::json(
        "payment.updated",
        r#"{"merchant_id":"SAMPLE","type":"payment.updated","event_id":"00000000-0000-4000-8000-0000000000a2","created_at":"2026-04-01T09:00:00Z","data":{"type":"payment","id":"sample-payment","object":{"payment":{"id":"sample-payment","status":"COMPLETED"}}}}"#,
    )],
    ..BASE
};

pub(super) static SHOPIFY: Preset = Preset {
    name: "shopify",
    title: "Shopify",
    docs: "https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
    setup: "Subscribe to topics from the app (or Settings, Notifications, Webhooks in a shop) with the URL.",
    secret: "the app's client secret, or the secret shown below a shop's webhooks",
    verification: Verification::Schemes(|| {
        vec![Scheme { encoding: Encoding::Base64, ..Scheme::hmac("x-shopify-hmac-sha256") }]
    }),
    event: EventName { fields: &["header:x-shopify-topic"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["header:x-shopify-shop-domain", "/id"] }],
    repeats: Repeats::Fields { keys: &[&["header:x-shopify-webhook-id"]], exempt: &[] },
    filter_fields: &["header:x-shopify-shop-domain", "/financial_status"],
    samples: &[Sample {
        event: "orders/create",
        headers: &[
            ("x-shopify-topic", "orders/create"),
            ("x-shopify-shop-domain", "sample.myshopify.com"),
            ("x-shopify-webhook-id", "00000000-0000-4000-8000-0000000000a3"),
            ("x-shopify-triggered-at", "2026-04-01T09:00:00.000000000Z"),
        ],
        body: r#"{"id":820982911946154500,"name":"9999","currency":"EUR","total_price":"12.00","financial_status":"paid"}"#,
    }],
    ..BASE
};
