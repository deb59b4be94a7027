//! What is asked for: a path, read once.

use hyper::Method;

use super::assets::Asset;
use crate::model::{EventId, JobId, Name, RejectionId};

/// What the API's paths begin with.
const API: &str = "/api/v1/";

/// Everything that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The page, or something that it loads.
    Asset(&'static Asset),
    Metrics,
    Alive,
    Ready,
    Openapi,
    Events,
    Event(EventId),
    EventBody(EventId),
    Replay(EventId),
    Resend(EventId),
    Retry(EventId),
    Deliveries,
    DeadLetters,
    DeadGroups,
    Bulk(Kind),
    Jobs,
    Job(JobId),
    Targets,
    Pause(Name),
    Resume(Name),
    Test(Name),
    Sources,
    Stages,
    Stats,
    Rejections,
    Rejection(RejectionId),
    DiscardRejections,
    ReleaseRejections,
    Live,
    Reload,
}

/// What is done to many events at once.
pub(super) use crate::rules::jobs::Kind;

/// What a request must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Nothing: what is answered tells nothing.
    None,
    /// To look.
    Read,
    /// To change something.
    Write,
}

impl Route {
    /// Reads a path; `None` when there is nothing.
    pub(super) fn parse(path: &str) -> Option<Self> {
        match path {
            "/metrics" => return Some(Self::Metrics),
            "/livez" => return Some(Self::Alive),
            "/readyz" | "/healthz" => return Some(Self::Ready),
            _ => {}
        }
        let Some(rest) = path.strip_prefix(API) else { return Asset::find(path).map(Self::Asset) };
        let mut parts = rest.split('/');
        let (first, second, third) = (parts.next()?, parts.next(), parts.next());
        if parts.next().is_some() {
            return None;
        }
        Some(match (first, second, third) {
            ("openapi.json", None, None) => Self::Openapi,
            ("events", None, None) => Self::Events,
            ("events", Some(id), None) => Self::Event(EventId::parse(id)?),
            ("events", Some(id), Some("body")) => Self::EventBody(EventId::parse(id)?),
            ("events", Some(id), Some("replay")) => Self::Replay(EventId::parse(id)?),
            ("events", Some(id), Some("resend")) => Self::Resend(EventId::parse(id)?),
            ("events", Some(id), Some("retry")) => Self::Retry(EventId::parse(id)?),
            ("replay", None, None) => Self::Bulk(Kind::Replay),
            ("deliveries", None, None) => Self::Deliveries,
            ("dead-letters", None, None) => Self::DeadLetters,
            ("dead-letters", Some("groups"), None) => Self::DeadGroups,
            ("dead-letters", Some("retry"), None) => Self::Bulk(Kind::Retry),
            ("dead-letters", Some("discard"), None) => Self::Bulk(Kind::Discard),
            ("jobs", None, None) => Self::Jobs,
            ("jobs", Some(id), None) => Self::Job(JobId::parse(id)?),
            ("targets", None, None) => Self::Targets,
            ("targets", Some(name), Some("pause")) => Self::Pause(Name::parse(name)?),
            ("targets", Some(name), Some("resume")) => Self::Resume(Name::parse(name)?),
            ("targets", Some(name), Some("test")) => Self::Test(Name::parse(name)?),
            ("sources", None, None) => Self::Sources,
            ("stages", None, None) => Self::Stages,
            ("stats", None, None) => Self::Stats,
            ("rejections", None, None) => Self::Rejections,
            ("rejections", Some("discard"), None) => Self::DiscardRejections,
            ("rejections", Some("release"), None) => Self::ReleaseRejections,
            ("rejections", Some(id), None) => Self::Rejection(RejectionId::parse(id)?),
            ("live", None, None) => Self::Live,
            ("reload", None, None) => Self::Reload,
            _ => return None,
        })
    }

    /// The methods that mean something here, as the Allow field lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Job(_) => "GET, HEAD, DELETE",
            Self::Replay(_)
            | Self::Resend(_)
            | Self::Retry(_)
            | Self::Bulk(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_)
            | Self::DiscardRejections
            | Self::ReleaseRejections
            | Self::Reload => "POST",
            Self::Asset(_)
            | Self::Metrics
            | Self::Alive
            | Self::Ready
            | Self::Openapi
            | Self::Events
            | Self::Event(_)
            | Self::EventBody(_)
            | Self::Deliveries
            | Self::DeadLetters
            | Self::DeadGroups
            | Self::Jobs
            | Self::Targets
            | Self::Sources
            | Self::Stages
            | Self::Stats
            | Self::Rejections
            | Self::Rejection(_)
            | Self::Live => "GET, HEAD",
        }
    }

    /// Whether a method is one of them.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|taken| taken == method.as_str())
    }

    /// What asking it takes.
    pub(super) fn rights(&self, method: &Method) -> Rights {
        if matches!(self, Self::Asset(_) | Self::Alive | Self::Ready) {
            Rights::None
        } else if matches!(*method, Method::GET | Method::HEAD) {
            Rights::Read
        } else {
            Rights::Write
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document that programs rely on.
    const OPENAPI: &str = include_str!("openapi.json");

    #[test]
    fn every_documented_path_and_method_is_routed_and_every_other_is_not() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 20);
        for (path, methods) in paths {
            let of = |prefix: &str| format!("{prefix}{}", "0".repeat(32));
            let id = match path.split('/').nth(3).unwrap() {
                "events" => of("evt_"),
                "jobs" => of("job_"),
                _ => of("rej_"),
            };
            let real = path.replace("{id}", &id).replace("{name}", "a-1");
            let route = Route::parse(&real).unwrap_or_else(|| panic!("{path} leads nowhere"));
            let mut documented: Vec<_> =
                methods.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            if documented.iter().any(|method| method == "GET") {
                documented.push("HEAD".into());
            }
            let mut taken: Vec<_> = route.methods().split(", ").collect();
            documented.sort_unstable();
            taken.sort_unstable();
            assert_eq!(documented, taken, "{path}");
            assert!(Route::parse(&format!("{real}/")).is_none() && !real.contains('{'), "{real}");
        }
    }

    #[test]
    fn what_is_no_path_leads_nowhere() {
        for path in [
            "/api/v1/target",
            "/api/v1/targets/",
            "/api/v1/targets/A/pause",
            "/api/v1/targets/a/x",
            "/api/v1/events/evt_1",
            "/api/v1/",
            "/api/v2/events",
            "/api/v1/events/../stats",
            "/metrics/",
            "",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }

    #[test]
    fn only_health_and_the_page_need_no_rights() {
        let rights = |path, method| Route::parse(path).unwrap().rights(&method);
        assert_eq!(rights("/livez", Method::GET), Rights::None);
        assert_eq!(rights("/metrics", Method::GET), Rights::Read);
        assert_eq!(rights("/api/v1/openapi.json", Method::GET), Rights::Read);
        assert_eq!(rights("/api/v1/replay", Method::POST), Rights::Write);
        let job = format!("/api/v1/jobs/job_{}", "0".repeat(32));
        assert_eq!(rights(&job, Method::GET), Rights::Read);
        assert_eq!(rights(&job, Method::DELETE), Rights::Write);
    }
}
