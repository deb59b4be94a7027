//! Platforms that ask a source to confirm itself before they send.

use super::{BASE, EventName, Handshake, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::Scheme;

pub(super) static ASANA: Preset = Preset {
    name: "asana",
    title: "Asana",
    docs: "https://developers.asana.com/docs/webhooks-guide",
    setup: "Configure the source without a secret, create the webhook by the API (POST /webhooks), then set `secret` to the \
            X-Hook-Secret of the API's response and restart.",
    secret: "the X-Hook-Secret that Asana gave when the webhook was created",
    note: "Until the secret is set, any handshake is answered and every event is refused; Asana sends refused events again \
           for a day. Afterwards only a handshake with a configured secret is answered.",
    verification: Verification::Schemes(|| vec![Scheme::hmac("x-hook-signature")]),
    handshake: Handshake::HookSecret,
    event: EventName { fields: &[], unnamed: Unnamed::Called("events") },
    samples: &[Sample::json(
        "events",
        r#"{"events":[{"action":"changed","created_at":"2026-04-01T09:00:00.000Z","resource":{"gid":"1","resource_type":"task"},"user":{"gid":"2","resource_type":"user"}}]}"#,
    )],
    ..BASE
};

pub(super) static META: Preset = Preset {
    name: "meta",
    title: "Meta (Facebook, Instagram, WhatsApp)",
    docs: "https://developers.facebook.com/docs/graph-api/webhooks/getting-started",
    setup: "App Dashboard, Webhooks: enter the Callback URL and a Verify Token, the same as the source's `handshake_token`.",
    secret: "the App Secret (App settings, Basic)",
    verification: Verification::Schemes(|| {
        vec![Scheme { prefix: "sha256=".into(), ..Scheme::hmac("x-hub-signature-256") }]
    }),
    handshake: Handshake::HubChallenge,
    event: EventName { fields: &["/object"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/object", "/entry/0/id"] }],
    filter_fields: &["/object", "/entry/0/id", "/entry/0/changes/0/field"],
    samples: &[Sample::json(
        "page",
        r#"{"object":"page","entry":[{"id":"1","time":1775034000,"changes":[{"field":"feed","value":{"item":"status","verb":"add"}}]}]}"#,
    )],
    ..BASE
};

pub(super) static MICROSOFT_GRAPH: Preset = Preset {
    name: "microsoft-graph",
    title: "Microsoft Graph change notifications",
    docs: "https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks",
    setup: "Create the subscription by the API with notificationUrl set to the URL with its path token; Graph validates it at once.",
    note: "Nothing is signed: set `path_token`. The clientState of a subscription can be checked by the target.",
    verification: Verification::Unsigned,
    handshake: Handshake::ValidationToken,
    event: EventName {
        fields: &["/value/0/lifecycleEvent", "/value/0/changeType"],
        unnamed: Unnamed::Called("notification"),
    },
    order: &[PerEvent { events: &[], fields: &["/value/0/subscriptionId"] }],
    repeats: Repeats::Off,
    filter_fields: &["/value/0/subscriptionId", "/value/0/resource", "/value/0/tenantId"],
    samples: &[Sample::json(
        "updated",
        r#"{"value":[{"subscriptionId":"00000000-0000-4000-8000-0000000000e1","changeType":"updated","clientState":"sample","resource":"users/1/messages/1","tenantId":"00000000-0000-4000-8000-0000000000e2","resourceData":{"id":"1"}}]}"#,
    )],
    ..BASE
};
