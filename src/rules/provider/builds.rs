//! Build, image and deployment services.

use super::{BASE, EventName, PerEvent, Preset, Repeats, Sample, Unnamed, Verification};
use crate::rules::verify::{Algorithm, Scheme};

pub(super) static CIRCLECI: Preset = Preset {
    name: "circleci",
    title: "CircleCI",
    docs: "https://circleci.com/docs/outbound-webhooks/",
    setup: "Project Settings, Webhooks, Add Webhook: enter the URL and a Secret token, choose the events.",
    secret: "the webhook's Secret token",
    verification: Verification::Schemes(|| {
        vec![Scheme {
            list: Some(','),
            kv: Some('='),
            pick: Some("v1".into()),
            ..Scheme::hmac("circleci-signature")
        }]
    }),
    event: EventName {
        fields: &["/type", "header:circleci-event-type"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[PerEvent { events: &[], fields: &["/workflow/id"] }],
    repeats: Repeats::Fields { keys: &[&["/id"]], exempt: &[] },
    filter_fields: &[
        "/project/slug",
        "/workflow/name",
        "/workflow/status",
        "/pipeline/vcs/branch",
        "/job/status",
    ],
    samples: &[Sample {
        event: "workflow-completed",
        headers: &[("circleci-event-type", "workflow-completed")],
        body: r#"{"id":"00000000-0000-4000-8000-000000000081","type":"workflow-completed","happened_at":"2026-04-01T09:00:00.000Z","workflow":{"id":"00000000-0000-4000-8000-000000000082","name":"build","status":"success"},"pipeline":{"id":"00000000-0000-4000-8000-000000000083","number":1,"vcs":{"branch":"main"}},"project":{"slug":"github/sample-org/sample"}}"#,
    }],
    ..BASE
};

pub(super) static DOCKERHUB: Preset = Preset {
    name: "dockerhub",
    title: "Docker Hub",
    docs: "https://docs.docker.com/docker-hub/repos/manage/webhooks/",
    setup: "Repository, Webhooks: enter a name and the URL with its path token.",
    note: "Nothing is signed: set `path_token`.",
    verification: Verification::Unsigned,
    event: EventName { fields: &[], unnamed: Unnamed::Called("push") },
    order: &[PerEvent { events: &[], fields: &["/repository/repo_name"] }],
    repeats: Repeats::Fields {
        keys: &[&["/repository/repo_name", "/push_data/tag", "/push_data/pushed_at"]],
        exempt: &[],
    },
    filter_fields: &["/repository/repo_name", "/push_data/tag", "/push_data/pusher"],
    samples: &[Sample::json(
        "push",
        r#"{"callback_url":"https://registry.hub.docker.com/u/sample-org/sample/hook/1/","push_data":{"pushed_at":1775034000,"pusher":"sample-user","tag":"latest"},"repository":{"name":"sample","namespace":"sample-org","repo_name":"sample-org/sample"}}"#,
    )],
    ..BASE
};

pub(super) static UNITY: Preset = Preset {
    name: "unity",
    title: "Unity Build Automation",
    docs: "https://docs.unity.com/ugs/en-us/manual/devops/manual/build-automation/build-automation-integrations/project-integrations",
    setup: "Administration, Project Integrations, New integration, Webhook: enter the URL and a Secret.",
    secret: "the integration's Secret",
    note: "Unity documents no id of a delivery: a repeat is a body equal to the latest one of the same build.",
    verification: Verification::Schemes(|| vec![Scheme::hmac("x-unitycloudbuild-signature")]),
    event: EventName {
        fields: &["header:x-unitycloudbuild-event"],
        unnamed: Unnamed::Called("unknown"),
    },
    order: &[PerEvent {
        events: &[],
        fields: &["/projectGuid", "/buildTargetName", "/buildNumber"],
    }],
    repeats: Repeats::Latest {
        subjects: &[PerEvent {
            events: &[],
            fields: &["/projectGuid", "/buildTargetName", "/buildNumber"],
        }],
    },
    filter_fields: &["/projectName", "/buildTargetName", "/buildStatus", "/platform"],
    samples: &[Sample {
        event: "ProjectBuildSuccess",
        headers: &[("x-unitycloudbuild-event", "ProjectBuildSuccess")],
        body: r#"{"projectName":"Sample Game","buildTargetName":"Windows desktop 64-bit","projectGuid":"00000000-0000-4000-8000-000000000091","orgForeignKey":"1","buildNumber":14,"buildStatus":"success","startedBy":"Sam Sample","platform":"standalonewindows64"}"#,
    }],
    ..BASE
};

pub(super) static VERCEL: Preset = Preset {
    name: "vercel",
    title: "Vercel",
    docs: "https://vercel.com/docs/webhooks/webhooks-api",
    setup: "Team Settings, Webhooks, Create Webhook: choose the events, enter the URL, copy the secret that is shown once.",
    secret: "the webhook's secret",
    verification: Verification::Schemes(|| {
        vec![Scheme { algorithm: Algorithm::Sha1, ..Scheme::hmac("x-vercel-signature") }]
    }),
    event: EventName { fields: &["/type"], unnamed: Unnamed::Called("unknown") },
    order: &[PerEvent { events: &[], fields: &["/payload/deployment/id"] }],
    repeats: Repeats::Fields { keys: &[&["/id"]], exempt: &[] },
    filter_fields: &["/payload/project/id", "/payload/target", "/payload/deployment/name"],
    samples: &[Sample::json(
        "deployment.succeeded",
        r#"{"id":"sample_event_1","type":"deployment.succeeded","createdAt":1775034000000,"payload":{"deployment":{"id":"dpl_sample","name":"sample","url":"sample.example"},"project":{"id":"prj_sample"},"target":"production"}}"#,
    )],
    ..BASE
};
