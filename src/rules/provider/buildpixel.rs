//! BuildPixel: a signed envelope with an open list of types.
//!
//! The signature holds no timestamp, so only dedup stands against a replay. `createdAt` is no part of the
//! key: it is not documented whether a retry keeps it.

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Step, Unnamed, Verification};
use crate::rules::verify::Scheme;

pub(super) static PRESET: Preset = Preset {
    name: "buildpixel",
    title: "BuildPixel",
    docs: "https://docs.buildpixel.io/api-reference/webhooks/overview",
    setup: "Settings, Webhooks: add the URL, choose the events, copy the signing secret.",
    secret: "the webhook's signing secret; each webhook of an organization has its own",
    note: "The signature holds no timestamp, so only dedup stands against a replay.",
    verification: Verification::Schemes(|| {
        vec![Scheme { prefix: "sha256=".into(), ..Scheme::hmac("x-buildpixel-signature") }]
    }),
    // Signed, so a type that is not there is news and not a forgery.
    event: EventName { fields: &["/type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/data/build/id"] }],
    repeats: Repeats::Fields { keys: &[&["/type", "/data/build/id"]], exempt: &[] },
    // A build may fail, or be replaced by a newer one, before it runs.
    steps: &[
        Step::new("build.created", &[]),
        Step::new("build.running", &["build.created"]),
        Step::last("build.complete", &["build.running"]),
        Step::last("build.failed", &["build.created"]),
        Step::last("build.superseded", &["build.created"]),
    ],
    filter_fields: &[
        "/type",
        "/data/project/id",
        "/data/project/name",
        "/data/build/platform",
        "/data/build/buildType",
        "/data/build/branch",
        "/data/build/status",
    ],
    samples: &[
        Sample::json(
            "build.created",
            r#"{"type":"build.created","createdAt":"2026-04-01T09:00:00.000Z","organizationId":"org_sample","data":{"build":{"id":"bld_sample1","status":"created","platform":"Win64","buildType":"Shipping","branch":"main","commit":"5d41402abc4b","durationMs":0,"artifactUrl":null},"project":{"id":"prj_sample","name":"Sample Game"}}}"#,
        ),
        Sample::json(
            "build.running",
            r#"{"type":"build.running","createdAt":"2026-04-01T09:00:30.000Z","organizationId":"org_sample","data":{"build":{"id":"bld_sample1","status":"running","platform":"Win64","buildType":"Shipping","branch":"main","commit":"5d41402abc4b","durationMs":0,"artifactUrl":null},"project":{"id":"prj_sample","name":"Sample Game"}}}"#,
        ),
        Sample::json(
            "build.complete",
            r#"{"type":"build.complete","createdAt":"2026-04-01T09:14:00.000Z","organizationId":"org_sample","data":{"build":{"id":"bld_sample1","status":"complete","platform":"Win64","buildType":"Shipping","branch":"main","commit":"5d41402abc4b","durationMs":810000,"artifactUrl":"https://files.example/game.zip"},"project":{"id":"prj_sample","name":"Sample Game"}}}"#,
        ),
        Sample::json(
            "build.failed",
            r#"{"type":"build.failed","createdAt":"2026-04-01T09:20:00.000Z","organizationId":"org_sample","data":{"build":{"id":"bld_sample2","status":"failed","platform":"Win64","buildType":"Development","branch":"feature/x","commit":"7d793037a076","durationMs":62000,"artifactUrl":null},"project":{"id":"prj_sample","name":"Sample Game"}}}"#,
        ),
    ],
    ..BASE
};
