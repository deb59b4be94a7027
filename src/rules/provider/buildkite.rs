//! Buildkite Pipelines: a token in clear text or a signature with a timestamp, and no id of a delivery.
//!
//! Bodies recur: a build goes back to running after it was unblocked, with a body that may equal the first
//! byte for byte, an agent connects again, a ping comes with every settings change. So a request is a repeat
//! only when it uses a signature again, or when nothing else happened to its subject since the same body.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Step, Unnamed, Verification};
use crate::rules::verify::Scheme;

/// The receiver's choice; Buildkite's documentation suggests five minutes.
const TOLERANCE: Duration = Duration::from_secs(300);

pub(super) static PRESET: Preset = Preset {
    name: "buildkite",
    title: "Buildkite",
    docs: "https://buildkite.com/docs/apis/webhooks/pipelines",
    setup: "Notification Services, Add Webhook: enter the URL, choose the events, and prefer `Send an HMAC signature`.",
    secret: "the Token of the notification service, in either of its modes",
    note: "Its source addresses are published at https://api.buildkite.com/v2/meta (webhook_ips), for `allow_ips`.",
    verification: Verification::Schemes(|| {
        let signature = Scheme {
            list: Some(','),
            kv: Some('='),
            pick: Some("signature".into()),
            signed: "{timestamp}.{body}".into(),
            timestamp: Some("sig:timestamp".into()),
            tolerance: Some(TOLERANCE),
            ..Scheme::hmac("x-buildkite-signature")
        };
        vec![signature, Scheme::token("x-buildkite-token")]
    }),
    event: EventName {
        // Test Engine documents no header, only the body's member.
        fields: &["header:x-buildkite-event", "/event"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[
        PerEvent { events: &["build.*", "job.*"], fields: &["/build/id"] },
        PerEvent { events: &["agent.*"], fields: &["/agent/id"] },
        PerEvent { events: &["cluster_token.*"], fields: &["/cluster_token/id"] },
        PerEvent { events: &["ping"], fields: &["/service/id"] },
    ],
    repeats: Repeats::Latest {
        // ping, agent.blocked and cluster_token.* hold no time: two of them may be equal and both be news.
        subjects: &[
            PerEvent { events: &["build.*"], fields: &["/build/id"] },
            PerEvent { events: &["job.*"], fields: &["/job/id"] },
            PerEvent { events: &["agent.* !agent.blocked"], fields: &["/agent/id"] },
        ],
    },
    // A build that is canceled finishes without having run, and one that is skipped does nothing else.
    steps: &[
        Step::new("build.scheduled", &[]),
        Step::new("build.running", &["build.scheduled"]),
        Step::new("build.failing", &["build.running"]),
        Step::last("build.finished", &["build.scheduled"]),
        Step::last("build.skipped", &[]),
    ],
    filter_fields: &[
        "/pipeline/slug",
        "/build/branch",
        "/build/state",
        "/build/blocked",
        "/build/source",
        "/build/tag",
        "/build/pull_request/id",
        "/job/step_key",
        "/job/state",
        "/job/soft_failed",
        "/job/exit_status",
        "/agent/queue",
        "/agent/os_id",
        "/agent/arch",
    ],
    samples: &[
        Sample {
            event: "build.scheduled",
            headers: &[("x-buildkite-event", "build.scheduled")],
            body: r#"{"event":"build.scheduled","build":{"id":"00000000-0000-4000-8000-0000000000b1","number":1,"state":"scheduled","blocked":false,"branch":"main","commit":"5d41402abc4b2a76b9719d911017c592ae1c21d3","tag":null,"source":"ui","started_at":null,"finished_at":null},"pipeline":{"id":"00000000-0000-4000-8000-0000000000a1","slug":"sample"},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
        Sample {
            event: "build.running",
            headers: &[("x-buildkite-event", "build.running")],
            body: r#"{"event":"build.running","build":{"id":"00000000-0000-4000-8000-0000000000b1","number":1,"state":"running","blocked":false,"branch":"main","commit":"5d41402abc4b2a76b9719d911017c592ae1c21d3","tag":null,"source":"ui","started_at":"2026-04-01T09:00:05.000Z","finished_at":null},"pipeline":{"id":"00000000-0000-4000-8000-0000000000a1","slug":"sample"},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
        Sample {
            event: "build.finished",
            headers: &[("x-buildkite-event", "build.finished")],
            body: r#"{"event":"build.finished","build":{"id":"00000000-0000-4000-8000-0000000000b1","number":1,"state":"passed","blocked":false,"branch":"main","commit":"5d41402abc4b2a76b9719d911017c592ae1c21d3","tag":null,"source":"ui","started_at":"2026-04-01T09:00:05.000Z","finished_at":"2026-04-01T09:07:00.000Z"},"pipeline":{"id":"00000000-0000-4000-8000-0000000000a1","slug":"sample"},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
        Sample {
            event: "job.finished",
            headers: &[("x-buildkite-event", "job.finished")],
            body: r#"{"event":"job.finished","job":{"id":"00000000-0000-4000-8000-0000000000d1","type":"script","step_key":"test","state":"finished","exit_status":0,"soft_failed":false},"build":{"id":"00000000-0000-4000-8000-0000000000b1","number":1,"state":"running","blocked":false,"branch":"main"},"pipeline":{"id":"00000000-0000-4000-8000-0000000000a1","slug":"sample"},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
        Sample {
            event: "agent.connected",
            headers: &[("x-buildkite-event", "agent.connected")],
            body: r#"{"event":"agent.connected","agent":{"id":"00000000-0000-4000-8000-0000000000e1","name":"sample-1","connection_state":"connected","os_id":"linux","arch":"amd64","queue":"default","connected_at":"2026-04-01T08:59:00.000Z"},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
        Sample {
            event: "ping",
            headers: &[("x-buildkite-event", "ping")],
            body: r#"{"event":"ping","service":{"id":"00000000-0000-4000-8000-0000000000f1","provider":"webhook","settings":{"url":"https://hooks.example/in/buildkite"}},"sender":{"id":"00000000-0000-4000-8000-0000000000c1","name":"Sam Sample"}}"#,
        },
    ],
    ..BASE
};
