//! `POST /api/v1/reload`: reads the configuration again, and says what changed or everything that is wrong with it.

use std::time::Duration;

use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::targets::{has_one_method, is_own_page};
use super::{Answer, Shared, problem, with_type};
use crate::config::Mistake;
use crate::reload::{ReloadError, Reloaded};

/// Where it is asked for.
pub(super) const PATH: &str = "/api/v1/reload";
/// How long it may take: it reads files.
const PATIENCE: Duration = Duration::from_secs(20);

impl Shared {
    /// Reloads. Who asks has been looked at already, but for what a browser says of itself.
    pub(super) async fn reload<B>(&self, request: &Request<B>) -> Answer {
        if request.method() != Method::POST {
            return has_one_method(&Method::POST);
        }
        if !is_own_page(request) {
            return problem(StatusCode::FORBIDDEN, "another site's page may not change anything");
        }
        match tokio::time::timeout(PATIENCE, self.reload.reload()).await {
            Ok(Ok(reloaded)) => done(&reloaded),
            Ok(Err(ReloadError::Invalid(error))) => {
                refused("the configuration has mistakes", &error.mistakes)
            }
            Ok(Err(ReloadError::Unusable(why))) => refused(&why, &[]),
            Ok(Err(ReloadError::Stopped)) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting or stopping")
            }
            Err(_elapsed) => problem(StatusCode::GATEWAY_TIMEOUT, "the reload has not ended yet"),
        }
    }
}

fn done(reloaded: &Reloaded) -> Answer {
    let mut body = json!({ "status": "reloaded" });
    if let (Some(all), Ok(Value::Object(said))) =
        (body.as_object_mut(), serde_json::to_value(reloaded))
    {
        all.extend(said);
    }
    with_type(StatusCode::OK, "application/json", format!("{body}\n").into())
}

/// Problem details with every mistake.
fn refused(detail: &str, mistakes: &[Mistake]) -> Answer {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let shown = |mistake: &Mistake| {
        json!({
            "place": mistake.place.to_string(),
            "key": mistake.key,
            "problem": mistake.problem,
            "remedy": mistake.remedy,
        })
    };
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": format!("{detail}; the configuration before stays in effect"),
        "mistakes": mistakes.iter().map(shown).collect::<Vec<_>>(),
    });
    with_type(status, "application/problem+json", format!("{body}\n").into())
}
