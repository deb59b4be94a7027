//! Messaging and calls. All of them have a handshake or sign more than the body.

use std::time::Duration;

use super::{BASE, EventName, Handshake, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Algorithm, Encoding, Kind, Scheme, Unit};

const FIVE_MINUTES: Option<Duration> = Some(Duration::from_secs(300));

pub(super) static SLACK: Preset = Preset {
    name: "slack",
    title: "Slack",
    docs: "https://docs.slack.dev/authentication/verifying-requests-from-slack/",
    setup: "Event Subscriptions, Enable Events: enter the Request URL; Slack verifies it at once. Slash commands and \
            interactivity may use the same URL.",
    secret: "the app's Signing Secret (Basic Information)",
    note: "Slack reads the answer to a command or an interaction; the relay's says only that it has it, so reply by response_url.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            prefix: "v0=".into(),
            signed: "v0:{timestamp}:{body}".into(),
            timestamp: Some("header:x-slack-request-timestamp".into()),
            tolerance: FIVE_MINUTES,
            ..Scheme::hmac("x-slack-signature")
        }]
    }),
    handshake: Handshake::UrlVerification,
    event: EventName {
        fields: &["/event/type", "/type", "/command"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[
        PerEvent { events: &[], fields: &["/team_id", "/event/channel"] },
        PerEvent { events: &[], fields: &["/team_id"] },
    ],
    // Commands and interactions have no event_id.
    repeats: Repeats::Fields { keys: &[&["/event_id"], &["/trigger_id"]], exempt: &[] },
    filter_fields: &["/team_id", "/event/channel", "/event/user", "/command"],
    samples: &[
        Sample::json(
            "app_mention",
            r#"{"type":"event_callback","team_id":"T000SAMPLE","api_app_id":"A000SAMPLE","event_id":"Ev000SAMPLE","event_time":1775034000,"event":{"type":"app_mention","user":"U000SAMPLE","channel":"C000SAMPLE","text":"a sample","ts":"1775034000.000100"}}"#,
        ),
        Sample {
            event: "/deploy",
            headers: &[("content-type", "application/x-www-form-urlencoded")],
            body: "team_id=T000SAMPLE&channel_id=C000SAMPLE&user_id=U000SAMPLE&command=%2Fdeploy&text=staging&trigger_id=1.2.sample",
        },
    ],
    ..BASE
};

pub(super) static DISCORD: Preset = Preset {
    name: "discord",
    title: "Discord",
    docs: "https://discord.com/developers/docs/events/webhook-events",
    setup: "Developer Portal, Webhooks: enter the Endpoint URL; Discord pings it and probes it with bad signatures.",
    secret: "the application's Public Key (General Information)",
    note: "Interactions want their reply in the answer, which a relay cannot give: use this for webhook events. A public \
           key cannot sign, so `everhook send` needs --signing-key.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            kind: Kind::Ed25519,
            key_encoding: Encoding::Hex,
            signed: "{timestamp}{body}".into(),
            timestamp: Some("header:x-signature-timestamp".into()),
            tolerance: FIVE_MINUTES,
            ..Scheme::hmac("x-signature-ed25519")
        }]
    }),
    handshake: Handshake::Ping,
    event: EventName { fields: &["/event/type"], unnamed: Unnamed::Called("interaction") },
    order: &[PerEvent { events: &[], fields: &["/application_id"] }],
    repeats: Repeats::Latest { subjects: &[] },
    filter_fields: &["/event/type", "/application_id"],
    samples: &[Sample::json(
        "APPLICATION_AUTHORIZED",
        r#"{"version":1,"application_id":"1234560123453231555","type":1,"event":{"type":"APPLICATION_AUTHORIZED","timestamp":"2026-04-01T09:00:00.000000","data":{"integration_type":1,"scopes":["applications.commands"],"user":{"id":"1","username":"sample"}}}}"#,
    )],
    ..BASE
};

pub(super) static TWILIO: Preset = Preset {
    name: "twilio",
    title: "Twilio",
    docs: "https://www.twilio.com/docs/usage/webhooks/webhooks-security",
    setup: "Enter the URL at the number or service, method POST, and set `public_url` to exactly the same, query included.",
    secret: "the account's Auth Token",
    note: "The URL and a form are signed, so the source needs its `public_url`. Requests with a JSON body, whose hash \
           Twilio adds to the URL, are not covered.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            algorithm: Algorithm::Sha1,
            encoding: Encoding::Base64,
            signed: "{url}{form_sorted}".into(),
            ..Scheme::hmac("x-twilio-signature")
        }]
    }),
    event: EventName {
        fields: &["/EventType", "/MessageStatus", "/SmsStatus", "/CallStatus"],
        unnamed: Unnamed::Called("webhook"),
    },
    order: &[
        PerEvent { events: &[], fields: &["/MessageSid"] },
        PerEvent { events: &[], fields: &["/CallSid"] },
    ],
    repeats: Repeats::Fields { keys: &[&["header:i-twilio-idempotency-token"]], exempt: &[] },
    filter_fields: &["/AccountSid", "/To", "/From", "/MessageStatus", "/CallStatus"],
    samples: &[Sample {
        event: "delivered",
        headers: &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("i-twilio-idempotency-token", "00000000-0000-4000-8000-0000000000b2"),
        ],
        body: "AccountSid=AC00000000000000000000000000000000&MessageSid=SM00000000000000000000000000000001&MessageStatus=delivered&To=%2B15005550006&From=%2B15005550001",
    }],
    ..BASE
};

pub(super) static TWITCH: Preset = Preset {
    name: "twitch",
    title: "Twitch EventSub",
    docs: "https://dev.twitch.tv/docs/eventsub/handling-webhook-events/",
    setup: "Create the subscription by the API with transport method webhook, the URL and a secret; Twitch calls back at once.",
    secret: "the secret given when subscribing, 10 to 100 characters",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            prefix: "sha256=".into(),
            signed: "{header:twitch-eventsub-message-id}{timestamp}{body}".into(),
            timestamp: Some("header:twitch-eventsub-message-timestamp".into()),
            unit: Unit::Rfc3339,
            tolerance: Some(Duration::from_secs(600)),
            ..Scheme::hmac("twitch-eventsub-message-signature")
        }]
    }),
    handshake: Handshake::CallbackVerification,
    event: EventName {
        fields: &["header:twitch-eventsub-subscription-type", "/subscription/type"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[PerEvent { events: &[], fields: &["/subscription/id"] }],
    repeats: Repeats::Fields { keys: &[&["header:twitch-eventsub-message-id"]], exempt: &[] },
    filter_fields: &["header:twitch-eventsub-message-type", "/event/broadcaster_user_id"],
    samples: &[Sample {
        event: "stream.online",
        headers: &[
            ("twitch-eventsub-message-id", "00000000-0000-4000-8000-0000000000b3"),
            ("twitch-eventsub-message-type", "notification"),
            ("twitch-eventsub-subscription-type", "stream.online"),
        ],
        body: r#"{"subscription":{"id":"00000000-0000-4000-8000-0000000000b4","type":"stream.online","version":"1","status":"enabled"},"event":{"id":"1","broadcaster_user_id":"1","type":"live","started_at":"2026-04-01T09:00:00Z"}}"#,
    }],
    ..BASE
};

pub(super) static ZOOM: Preset = Preset {
    name: "zoom",
    title: "Zoom",
    docs: "https://developers.zoom.us/docs/api/webhooks/",
    setup: "App, Feature, Event Subscriptions: enter the Event notification endpoint URL and press Validate.",
    secret: "the app's Secret Token (Feature page)",
    note: "Freshness is not checked, for Zoom does not say how it stamps its own retries; a signature used again is a duplicate.",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            prefix: "v0=".into(),
            signed: "v0:{timestamp}:{body}".into(),
            timestamp: Some("header:x-zm-request-timestamp".into()),
            ..Scheme::hmac("x-zm-signature")
        }]
    }),
    handshake: Handshake::UrlValidation,
    event: EventName { fields: &["/event"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/payload/object/uuid"] }],
    repeats: Repeats::Latest { subjects: &[] },
    filter_fields: &["/payload/account_id", "/payload/object/id"],
    samples: &[Sample::json(
        "meeting.started",
        r#"{"event":"meeting.started","event_ts":1775034000000,"payload":{"account_id":"sample","object":{"id":"1","uuid":"c2FtcGxl","topic":"A sample"}}}"#,
    )],
    ..BASE
};
