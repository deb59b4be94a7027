//! The configuration is read again, and the answer says what changed or everything that is wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Problem, json as answer_json, with_type};
use crate::config::Mistake;
use crate::reload::{ReloadError, Reloaded};

/// How long it may take: it reads files.
const PATIENCE: Duration = Duration::from_secs(20);

impl Shared {
    /// Reads the configuration again.
    pub(super) async fn reload(&self, peer: SocketAddr) -> Result<Answer, Problem> {
        tracing::info!(%peer, "an operator has the configuration read again");
        match tokio::time::timeout(PATIENCE, self.reload.reload()).await {
            Ok(Ok(reloaded)) => Ok(done(&reloaded)),
            Ok(Err(ReloadError::Invalid(error))) => Ok(refused("it has mistakes", &error.mistakes)),
            Ok(Err(ReloadError::Unusable(why))) => Ok(refused(&why, &[])),
            Ok(Err(ReloadError::Stopped)) => {
                Err(Problem::unavailable("the daemon is starting or stopping"))
            }
            Err(_elapsed) => Err(Problem::unavailable("the reload has not ended yet")),
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
    answer_json(StatusCode::OK, &body)
}

/// A problem with every mistake.
fn refused(why: &str, mistakes: &[Mistake]) -> Answer {
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
        "cause": "configuration",
        "detail": format!("the configuration was refused: {why}; the one before stays in effect"),
        "mistakes": mistakes.iter().map(shown).collect::<Vec<_>>(),
    });
    with_type(status, "application/problem+json", format!("{body}\n").into())
}
