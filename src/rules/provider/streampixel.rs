//! Streampixel: unsigned, sent once and never again, a closed envelope with an open list of events.
//!
//! `fileUrl` comes from whoever uploads, in a request nobody signed: it is passed on, never fetched.

use super::{EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};

pub(super) static PRESET: Preset = Preset {
    name: "streampixel",
    docs: "Streampixel's public webhook page",
    verification: Verification::Unsigned,
    event: EventName { fields: &["/event"], unnamed: Unnamed::Malformed },
    order: &[PerEvent { events: &[], fields: &["/projectId", "/uploadId"] }],
    // Streampixel documents uploadId and event as the key; uploadId is null when there is no upload yet.
    repeats: Repeats::Fields {
        fields: &["/projectId", "/uploadId", "/event"],
        exempt: &["webhook.test"],
    },
    test_event: &[
        ("/event", "webhook.test"),
        ("/projectId", "test_project_id"),
        ("/uploadId", "test_upload_id"),
    ],
    filter_fields: &["/event", "/projectId", "/status", "/objection"],
    samples: &[
        sample(
            "build.uploaded",
            r#"{"event":"build.uploaded","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":null,"status":"pending","objection":null,"timestamp":"2026-04-01T09:00:00.000Z"}"#,
        ),
        sample(
            "build.downloading",
            r#"{"event":"build.downloading","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Downloading Files","objection":null,"timestamp":"2026-04-01T09:00:20.000Z"}"#,
        ),
        sample(
            "build.extracting",
            r#"{"event":"build.extracting","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Extracting & Scanning","objection":null,"timestamp":"2026-04-01T09:01:10.000Z"}"#,
        ),
        sample(
            "build.saving",
            r#"{"event":"build.saving","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Saving to Repository","objection":null,"timestamp":"2026-04-01T09:02:40.000Z"}"#,
        ),
        sample(
            "build.distributing",
            r#"{"event":"build.distributing","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Distribute","objection":null,"timestamp":"2026-04-01T09:04:00.000Z"}"#,
        ),
        sample(
            "build.approved",
            r#"{"event":"build.approved","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000001","fileUrl":"https://files.example/game.zip","status":"Approved","objection":null,"timestamp":"2026-04-01T09:06:00.000Z"}"#,
        ),
        sample(
            "build.rejected",
            r#"{"event":"build.rejected","projectId":"66aa00000000000000000001","uploadId":"66bb00000000000000000002","fileUrl":"https://files.example/broken.zip","status":"Reject","objection":"No executable was found.","timestamp":"2026-04-01T09:03:00.000Z"}"#,
        ),
        sample(
            "webhook.test",
            r#"{"event":"webhook.test","projectId":"test_project_id","uploadId":"test_upload_id","fileUrl":"https://files.example/test.zip","status":"test","objection":null,"timestamp":"2026-04-01T09:00:00.000Z"}"#,
        ),
    ],
};

const fn sample(event: &'static str, body: &'static str) -> Sample {
    Sample { event, headers: &[], body }
}
