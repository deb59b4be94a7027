//! Code forges. Each names its event and its delivery in header fields, so any body it sends can be stored.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Encoding, Scheme};

/// What Gitea, Forgejo and Gogs sign: the JSON document, also when it comes as a form.
const FORM_OR_BODY: &str = "{form:payload}";
const REPOSITORY: &[PerEvent] = &[PerEvent { events: &[], fields: &["/repository/id"] }];
const USUAL_FIELDS: &[&str] = &["/repository/full_name", "/ref", "/action", "/sender/login"];

const PUSH: &str = r#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"5d41402abc4b2a76b9719d911017c592ae1c21d3","repository":{"id":1001,"name":"sample","full_name":"sample-org/sample"},"sender":{"id":1,"login":"sample-user"}}"#;
const OPENED: &str = r#"{"action":"opened","number":1,"pull_request":{"id":2001,"title":"A sample","head":{"ref":"feature"},"base":{"ref":"main"}},"repository":{"id":1001,"name":"sample","full_name":"sample-org/sample"},"sender":{"id":1,"login":"sample-user"}}"#;

pub(super) static GITHUB: Preset = Preset {
    name: "github",
    title: "GitHub",
    docs: "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
    setup: "Settings, Webhooks, Add webhook: enter the Payload URL and a Secret; either content type is read.",
    secret: "the webhook's Secret",
    note: "GitHub never sends again by itself; a redelivery by hand keeps its delivery id and is a duplicate inside the window.",
    verification: Verification::Schemes(|| {
        vec![Scheme { prefix: "sha256=".into(), ..Scheme::hmac("x-hub-signature-256") }]
    }),
    event: EventName { fields: &["header:x-github-event"], unnamed: Unnamed::Called("unknown") },
    order: REPOSITORY,
    repeats: Repeats::Fields { keys: &[&["header:x-github-delivery"]], exempt: &[] },
    filter_fields: USUAL_FIELDS,
    samples: &[
        Sample {
            event: "push",
            headers: &[
                ("x-github-event", "push"),
                ("x-github-delivery", "00000000-0000-4000-8000-000000000001"),
            ],
            body: PUSH,
        },
        Sample {
            event: "pull_request",
            headers: &[
                ("x-github-event", "pull_request"),
                ("x-github-delivery", "00000000-0000-4000-8000-000000000002"),
            ],
            body: OPENED,
        },
        Sample {
            event: "ping",
            headers: &[
                ("x-github-event", "ping"),
                ("x-github-delivery", "00000000-0000-4000-8000-000000000003"),
            ],
            body: r#"{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository","id":1,"events":["push"]},"repository":{"id":1001,"full_name":"sample-org/sample"}}"#,
        },
    ],
    ..BASE
};

pub(super) static GITLAB: Preset = Preset {
    name: "gitlab",
    title: "GitLab",
    docs: "https://docs.gitlab.com/user/project/integrations/webhooks/",
    setup: "Settings, Webhooks, Add new webhook: enter the URL and a signing token or, on older releases, a secret token.",
    secret: "the signing token (begins with whsec_) or the secret token (anything else); both, as `secrets`, if GitLab has both",
    note: "A request that carries both proofs is judged by the signature.",
    verification: Verification::FirstOf(|| {
        let signing = Scheme {
            list: Some(' '),
            kv: Some(','),
            pick: Some("v1".into()),
            encoding: Encoding::Base64,
            key_encoding: Encoding::Base64,
            key_prefix: "whsec_".into(),
            signed: "{header:webhook-id}.{timestamp}.{body}".into(),
            timestamp: Some("header:webhook-timestamp".into()),
            tolerance: Some(Duration::from_secs(300)),
            ..Scheme::hmac("webhook-signature")
        };
        vec![signing, Scheme::token("x-gitlab-token")]
    }),
    // The header's names have spaces in them, which patterns cannot match.
    event: EventName {
        fields: &["/object_kind", "/event_name", "header:x-gitlab-event"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[
        PerEvent { events: &[], fields: &["/project/id"] },
        PerEvent { events: &[], fields: &["/project_id"] },
    ],
    repeats: Repeats::Fields {
        keys: &[
            &["header:webhook-id"],
            &["header:idempotency-key"],
            &["header:x-gitlab-event-uuid"],
        ],
        exempt: &[],
    },
    filter_fields: &[
        "/project/path_with_namespace",
        "/ref",
        "/object_attributes/action",
        "/object_attributes/status",
    ],
    samples: &[
        Sample {
            event: "push",
            headers: &[
                ("x-gitlab-event", "Push Hook"),
                ("idempotency-key", "00000000-0000-4000-8000-000000000011"),
                ("webhook-id", "00000000-0000-4000-8000-000000000011"),
            ],
            body: r#"{"object_kind":"push","event_name":"push","ref":"refs/heads/main","checkout_sha":"5d41402abc4b2a76b9719d911017c592ae1c21d3","project_id":1001,"project":{"id":1001,"path_with_namespace":"sample-group/sample"},"user_username":"sample-user"}"#,
        },
        Sample {
            event: "pipeline",
            headers: &[
                ("x-gitlab-event", "Pipeline Hook"),
                ("idempotency-key", "00000000-0000-4000-8000-000000000012"),
                ("webhook-id", "00000000-0000-4000-8000-000000000012"),
            ],
            body: r#"{"object_kind":"pipeline","object_attributes":{"id":31,"ref":"main","status":"success"},"project":{"id":1001,"path_with_namespace":"sample-group/sample"}}"#,
        },
    ],
    ..BASE
};

pub(super) static GITEA: Preset = Preset {
    name: "gitea",
    title: "Gitea",
    docs: "https://docs.gitea.com/usage/webhooks",
    setup: "Settings, Webhooks, Add Webhook, Gitea: enter the Target URL and a Secret; either content type is read.",
    secret: "the webhook's Secret",
    verification: Verification::Schemes(|| {
        vec![Scheme { signed: FORM_OR_BODY.into(), ..Scheme::hmac("x-gitea-signature") }]
    }),
    event: EventName { fields: &["header:x-gitea-event"], unnamed: Unnamed::Called("unknown") },
    order: REPOSITORY,
    repeats: Repeats::Fields { keys: &[&["header:x-gitea-delivery"]], exempt: &[] },
    filter_fields: USUAL_FIELDS,
    samples: &[Sample {
        event: "push",
        headers: &[
            ("x-gitea-event", "push"),
            ("x-gitea-delivery", "00000000-0000-4000-8000-000000000021"),
        ],
        body: PUSH,
    }],
    ..BASE
};

pub(super) static FORGEJO: Preset = Preset {
    name: "forgejo",
    title: "Forgejo",
    docs: "https://forgejo.org/docs/latest/user/webhooks/",
    setup: "Settings, Webhooks, Add webhook, Forgejo: enter the Target URL and a Secret; either content type is read.",
    secret: "the webhook's Secret",
    verification: Verification::Schemes(|| {
        vec![Scheme { signed: FORM_OR_BODY.into(), ..Scheme::hmac("x-forgejo-signature") }]
    }),
    event: EventName { fields: &["header:x-forgejo-event"], unnamed: Unnamed::Called("unknown") },
    order: REPOSITORY,
    repeats: Repeats::Fields { keys: &[&["header:x-forgejo-delivery"]], exempt: &[] },
    filter_fields: USUAL_FIELDS,
    samples: &[Sample {
        event: "push",
        headers: &[
            ("x-forgejo-event", "push"),
            ("x-forgejo-delivery", "00000000-0000-4000-8000-000000000031"),
        ],
        body: PUSH,
    }],
    ..BASE
};

pub(super) static GOGS: Preset = Preset {
    name: "gogs",
    title: "Gogs",
    docs: "https://gogs.io/docs/features/webhook",
    setup: "Settings, Webhooks, Add a new webhook, Gogs: enter the Payload URL and a Secret.",
    secret: "the webhook's Secret",
    verification: Verification::Schemes(|| vec![Scheme::hmac("x-gogs-signature")]),
    event: EventName { fields: &["header:x-gogs-event"], unnamed: Unnamed::Called("unknown") },
    order: REPOSITORY,
    repeats: Repeats::Fields { keys: &[&["header:x-gogs-delivery"]], exempt: &[] },
    filter_fields: USUAL_FIELDS,
    samples: &[Sample {
        event: "push",
        headers: &[
            ("x-gogs-event", "push"),
            ("x-gogs-delivery", "00000000-0000-4000-8000-000000000041"),
        ],
        body: PUSH,
    }],
    ..BASE
};
