//! Streampixel: unsigned, sent once and never again, a closed envelope with an open list of events.
//!
//! `fileUrl` comes from whoever uploads, in a request nobody signed: it is passed on, never fetched.

use std::time::Duration;

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Step, Unnamed, Verification};

pub(super) static PRESET: Preset = Preset {
    name: "streampixel",
    title: "Streampixel",
    docs: "https://docs.streampixel.io/resources/api-reference/webhook-events",
    setup: "Project Settings: enter the URL with its path token, tick the events, save, then press Test Webhook.",
    note: "Nothing is signed: set `path_token`, and admit only your own project with where = { \"/projectId\" = [\"...\"] }. \
           It sends each event once and never again.",
    verification: Verification::Unsigned,
    event: EventName { fields: &["/event"], unnamed: Unnamed::Malformed },
    order: &[PerEvent { events: &[], fields: &["/projectId", "/uploadId"] }],
    // Streampixel documents uploadId and event as the key; uploadId is null when there is no upload yet.
    repeats: Repeats::Fields {
        keys: &[&["/projectId", "/uploadId", "/event"]],
        exempt: &["webhook.test"],
    },
    // A build can be distributed again by hand, with the same uploadId and event.
    window: Some(Duration::from_secs(24 * 60 * 60)),
    // Its pages let a build be rejected at any stage, and do not say that every one is distributed.
    steps: &[
        Step::new("build.uploaded", &[]),
        Step::new("build.downloading", &["build.uploaded"]),
        Step::new("build.extracting", &["build.downloading"]),
        Step::new("build.saving", &["build.extracting"]),
        Step::new("build.distributing", &["build.saving"]),
        Step::last("build.approved", &["build.saving"]),
        Step::last("build.rejected", &["build.uploaded"]),
    ],
    test_event: &[
        ("/event", "webhook.test"),
        ("/projectId", "test_project_id"),
        ("/uploadId", "test_upload_id"),
    ],
    filter_fields: &["/event", "/projectId", "/status", "/objection"],
    samples: &[
        Sample::json(
            "build.uploaded",
            r#"{"event":"build.uploaded","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":null,"status":"pending","objection":null,"timestamp":"2026-04-01T09:00:00.000Z"}"#,
        ),
        Sample::json(
            "build.downloading",
            r#"{"event":"build.downloading","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Downloading Files","objection":null,"timestamp":"2026-04-01T09:00:20.000Z"}"#,
        ),
        Sample::json(
            "build.extracting",
            r#"{"event":"build.extracting","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Extracting & Scanning","objection":null,"timestamp":"2026-04-01T09:01:10.000Z"}"#,
        ),
        Sample::json(
            "build.saving",
            r#"{"event":"build.saving","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Saving to Repository","objection":null,"timestamp":"2026-04-01T09:02:40.000Z"}"#,
        ),
        Sample::json(
            "build.distributing",
            r#"{"event":"build.distributing","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Distribute","objection":null,"timestamp":"2026-04-01T09:04:00.000Z"}"#,
        ),
        Sample::json(
            "build.approved",
            r#"{"event":"build.approved","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Approved","objection":null,"timestamp":"2026-04-01T09:06:00.000Z"}"#,
        ),
        Sample::json(
            "build.rejected",
            r#"{"event":"build.rejected","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000002","fileUrl":"https://files.example/broken.zip","status":"Reject","objection":"No executable was found.","timestamp":"2026-04-01T09:03:00.000Z"}"#,
        ),
        Sample::json(
            "webhook.test",
            r#"{"event":"webhook.test","projectId":"test_project_id","uploadId":"test_upload_id","fileUrl":"https://files.example/test.zip","status":"test","objection":null,"timestamp":"2026-04-01T09:00:00.000Z"}"#,
        ),
    ],
    ..BASE
};
