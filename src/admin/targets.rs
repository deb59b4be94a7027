//! Targets as an operator sees them, and what an operator tells them: pause and resume.

use std::time::Duration;

use hyper::header::{ALLOW, HOST, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Shared, problem, with_type};
use crate::control::ControlError;
use crate::journal::Depth;
use crate::model::Name;
use crate::rules::breaker;
use crate::rules::dispatch::{Last, TargetView};

/// Where targets are.
const PREFIX: &str = "/api/v1/targets";
/// How long the relay may take to answer: it may not have begun yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of them.
    List,
    /// Nothing more begins at this one.
    Pause(Name),
    /// This one is attempted again.
    Resume(Name),
}

impl Asked {
    /// Reads a path; `None` when it is not about targets.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(PREFIX)?;
        if rest.is_empty() {
            return Some(Self::List);
        }
        let (name, what) = rest.strip_prefix('/')?.split_once('/')?;
        let name = Name::parse(name)?;
        match what {
            "pause" => Some(Self::Pause(name)),
            "resume" => Some(Self::Resume(name)),
            _ => None,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::List => Method::GET,
            Self::Pause(_) | Self::Resume(_) => Method::POST,
        }
    }
}

impl Shared {
    /// Answers about targets. Who asks has been looked at already, but for what a browser says of itself.
    pub(super) async fn targets<B>(&self, asked: Asked, request: &Request<B>) -> Answer {
        let method = asked.method();
        if request.method() != method {
            return has_one_method(&method);
        }
        if method == Method::POST && !is_own_page(request) {
            return problem(StatusCode::FORBIDDEN, "another site's page may not change anything");
        }
        match tokio::time::timeout(PATIENCE, self.carry_out(&asked)).await {
            Ok(Ok(body)) => {
                with_type(StatusCode::OK, "application/json", format!("{body}\n").into())
            }
            Ok(Err(ControlError::Unknown)) => {
                problem(StatusCode::NOT_FOUND, "no target of that name is configured")
            }
            Ok(Err(ControlError::Stopped)) | Err(_) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the relay does not run")
            }
        }
    }

    async fn carry_out(&self, asked: &Asked) -> Result<Value, ControlError> {
        match asked {
            Asked::List => {
                let views = self.control.view().await?;
                let depths = self.readiness.journal().map(|journal| journal.depth());
                let depths = depths.unwrap_or_default();
                let items = views.iter().map(|view| self.shown(view, &depths));
                Ok(json!({ "items": items.collect::<Vec<_>>(), "next": null }))
            }
            Asked::Pause(name) => {
                self.control.pause(name).await?;
                tracing::info!(target_name = %name, "an operator paused the target");
                Ok(json!({ "target": name.as_str(), "paused": true }))
            }
            Asked::Resume(name) => {
                self.control.resume(name).await?;
                tracing::info!(target_name = %name, "an operator resumed the target");
                Ok(json!({ "target": name.as_str(), "paused": false }))
            }
        }
    }

    fn shown(&self, view: &TargetView, depths: &[Depth]) -> Value {
        let depth = depths.iter().find(|depth| depth.target == view.target);
        let count = |of: fn(&Depth) -> u64| depth.map_or(0, of);
        let now = self.clock.now();
        let oldest = depth.and_then(|depth| depth.oldest).map(|at| now.since(at).as_secs());
        let breaker = match view.breaker {
            None => "off",
            Some(breaker::View::Closed) => "closed",
            Some(breaker::View::Open { .. }) => "open",
            Some(breaker::View::Probing) => "probing",
        };
        json!({
            "target": view.target.as_str(),
            "paused": view.paused,
            "breaker": breaker,
            "breaker_open_since": view.open_since,
            "held_until": view.held_until.filter(|until| *until > now),
            "in_flight": view.in_flight,
            "concurrency": view.concurrency,
            "ready": count(|depth| depth.ready),
            "waiting": count(|depth| depth.waiting),
            "dead": count(|depth| depth.dead),
            "oldest_age_seconds": oldest,
            "last_failure": view.last_failure.map(failure),
            "last_success_at": view.last_success,
        })
    }
}

fn failure(last: Last) -> Value {
    let error = last.error.map(crate::model::ErrorClass::as_str);
    json!({ "at": last.at, "status": last.status, "error": error })
}

/// The answer to another method.
pub(super) fn has_one_method(method: &Method) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "this path has one method");
    let allowed = HeaderValue::from_str(method.as_str());
    answer.headers_mut().extend(allowed.ok().map(|allowed| (ALLOW, allowed)));
    answer
}

/// A browser says where a page that asks comes from; a program says nothing.
pub(super) fn is_own_page<B>(request: &Request<B>) -> bool {
    let field = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let site = field("sec-fetch-site");
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    request.headers().get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let origin = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        origin.is_some() && origin == host
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_nothing_else() {
        let name = Name::parse("a-1").unwrap();
        assert_eq!(Asked::parse("/api/v1/targets"), Some(Asked::List));
        assert_eq!(Asked::parse("/api/v1/targets/a-1/pause"), Some(Asked::Pause(name.clone())));
        assert_eq!(Asked::parse("/api/v1/targets/a-1/resume"), Some(Asked::Resume(name)));
        for other in
            ["/api/v1/target", "/api/v1/targets/", "/api/v1/targets/A/pause", "/api/v1/targets/a/x"]
        {
            assert_eq!(Asked::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_not_change_anything() {
        let request = |fields: &[(&str, &str)]| {
            let mut request = Request::builder().header("host", "127.0.0.1:9464");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            is_own_page(&request.body(()).unwrap())
        };
        assert!(request(&[]) && request(&[("origin", "http://127.0.0.1:9464")]));
        assert!(request(&[("sec-fetch-site", "same-origin")]));
        assert!(!request(&[("sec-fetch-site", "cross-site")]));
        assert!(!request(&[("sec-fetch-site", "same-site")]));
        assert!(!request(&[("origin", "http://evil.example")]) && !request(&[("origin", "null")]));
    }
}
