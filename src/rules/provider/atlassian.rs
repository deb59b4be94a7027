//! Atlassian: SHA-256 under the header name that GitHub uses for SHA-1; the prefix says which it is.

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::Scheme;

fn schemes() -> Vec<Scheme> {
    vec![Scheme { prefix: "sha256=".into(), ..Scheme::hmac("x-hub-signature") }]
}

pub(super) static BITBUCKET: Preset = Preset {
    name: "bitbucket",
    title: "Bitbucket Cloud",
    docs: "https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/",
    setup: "Repository settings, Webhooks, Add webhook: enter the URL and a Secret, choose the triggers.",
    secret: "the webhook's Secret",
    verification: Verification::Schemes(schemes),
    event: EventName { fields: &["header:x-event-key"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/repository/uuid"] }],
    repeats: Repeats::Fields { keys: &[&["header:x-request-uuid"]], exempt: &[] },
    filter_fields: &["/repository/full_name", "/push/changes/0/new/name", "/actor/uuid"],
    samples: &[Sample {
        event: "repo:push",
        headers: &[
            ("x-event-key", "repo:push"),
            ("x-request-uuid", "00000000-0000-4000-8000-000000000051"),
            ("x-hook-uuid", "00000000-0000-4000-8000-000000000050"),
            ("x-attempt-number", "1"),
        ],
        body: r#"{"push":{"changes":[{"new":{"type":"branch","name":"main"}}]},"repository":{"uuid":"{00000000-0000-4000-8000-0000000000a1}","full_name":"sample-org/sample"},"actor":{"uuid":"{00000000-0000-4000-8000-0000000000c1}"}}"#,
    }],
    ..BASE
};

pub(super) static BITBUCKET_DATA_CENTER: Preset = Preset {
    name: "bitbucket-data-center",
    title: "Bitbucket Data Center",
    docs: "https://confluence.atlassian.com/bitbucketserver/manage-webhooks-938025878.html",
    setup: "Repository settings, Webhooks, Create webhook: enter the URL and a Secret, choose the events.",
    secret: "the webhook's Secret",
    verification: Verification::Schemes(schemes),
    event: EventName { fields: &["header:x-event-key"], unnamed: Unnamed::Called("unknown") },
    order: &[
        PerEvent { events: &["repo:*"], fields: &["/repository/id"] },
        PerEvent { events: &["pr:*"], fields: &["/pullRequest/toRef/repository/id"] },
    ],
    repeats: Repeats::Fields { keys: &[&["header:x-request-id"]], exempt: &[] },
    filter_fields: &["/repository/slug", "/changes/0/ref/displayId", "/actor/name"],
    samples: &[Sample {
        event: "repo:refs_changed",
        headers: &[
            ("x-event-key", "repo:refs_changed"),
            ("x-request-id", "00000000-0000-4000-8000-000000000061"),
        ],
        body: r#"{"eventKey":"repo:refs_changed","date":"2026-04-01T09:00:00+0000","actor":{"name":"sample-user","id":1},"repository":{"slug":"sample","id":84,"project":{"key":"SAM"}},"changes":[{"ref":{"displayId":"main"},"type":"UPDATE"}]}"#,
    }],
    ..BASE
};

pub(super) static JIRA: Preset = Preset {
    name: "jira",
    title: "Jira (administrators' webhooks)",
    docs: "https://developer.atlassian.com/cloud/jira/platform/webhooks/",
    setup: "System, WebHooks, Create: enter the URL and generate a Secret.",
    secret: "the webhook's Secret",
    note: "Webhooks of Connect apps carry a JWT instead and are not covered.",
    verification: Verification::Schemes(schemes),
    event: EventName { fields: &["/webhookEvent"], unnamed: Unnamed::Called("unknown") },
    order: &[
        PerEvent { events: &[], fields: &["/issue/id"] },
        PerEvent { events: &[], fields: &["/project/id"] },
    ],
    repeats: Repeats::Fields { keys: &[&["header:x-atlassian-webhook-identifier"]], exempt: &[] },
    filter_fields: &[
        "/issue/fields/project/key",
        "/issue/fields/issuetype/name",
        "/issue_event_type_name",
    ],
    samples: &[Sample {
        event: "jira:issue_updated",
        headers: &[("x-atlassian-webhook-identifier", "00000000-0000-4000-8000-000000000071")],
        body: r#"{"timestamp":1775034000000,"webhookEvent":"jira:issue_updated","issue_event_type_name":"issue_generic","issue":{"id":"10001","key":"SAM-1","fields":{"summary":"A sample","project":{"key":"SAM"},"issuetype":{"name":"Task"}}}}"#,
    }],
    ..BASE
};
