//! What is sent to a target: the event's own bytes, a preset's message, or a template of the configuration's author.
//!
//! Rendering is a decision about data and has no effect, so the configuration can try a template on the providers'
//! samples before anything runs. A template is bounded in work and in output; one that fails on an event fails on
//! every attempt, so its delivery is dead at once.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use minijinja::value::{Serde, Value as Datum};
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value;

use self::summary::Summary;
use crate::model::Event;

mod chat;
mod dispatch;
mod summary;
#[cfg(test)]
mod tests;

/// Work and memory of one rendering: an instruction or 64 bytes cost one each, so this is 12 MiB at most.
const FUEL: u64 = 200_000;
/// Most bytes of a rendered body, unless the preset's target has a limit of its own.
pub const MAX_RENDERED: usize = 1024 * 1024;
/// The one template of an environment.
const NAME: &str = "body";
/// What a template can speak of.
const ROOTS: [&str; 5] = ["event", "headers", "body", "attempt", "summary"];

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Anything; gets the event as it came.
    Raw,
    /// A Slack incoming webhook.
    Slack,
    /// A Discord webhook.
    Discord,
    /// A Teams workflow that takes adaptive cards.
    Teams,
    /// GitHub's `repository_dispatch`.
    GithubDispatch,
    /// A Buildkite pipeline trigger.
    BuildkiteTrigger,
}

impl Preset {
    /// Most bytes of a body that its target takes.
    fn limit(self) -> usize {
        match self {
            Self::Raw | Self::Slack | Self::Discord => MAX_RENDERED,
            Self::BuildkiteTrigger => dispatch::BUILDKITE_LIMIT,
            Self::Teams => chat::TEAMS_LIMIT,
            Self::GithubDispatch => dispatch::GITHUB_LIMIT,
        }
    }
}

/// A target's way of making bodies, compiled.
#[derive(Clone, Debug)]
pub struct Body {
    preset: Preset,
    template: Option<Arc<Environment<'static>>>,
    content_type: Option<String>,
}

/// Why a body could not be made. The sentences show no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template does not compile, or names what does not exist.
    #[error("{0}")]
    Malformed(String),
    /// It fails on this event.
    #[error("the template fails: {0}")]
    Failed(String),
    /// It does not come to an end within its bounds.
    #[error("the template takes too long")]
    TooLong,
    /// The body is larger than the target takes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The content type promises JSON and the body is none.
    #[error("the body is not JSON; write values with the `tojson` filter")]
    NotJson,
}

impl Body {
    /// Compiles `template`, or takes what the preset sends; `content_type` overrides the preset's own.
    pub fn new(
        preset: Preset,
        template: Option<String>,
        content_type: Option<String>,
    ) -> Result<Self, TemplateError> {
        let compiled = template.map(compile).transpose()?.map(Arc::new);
        let usual =
            (compiled.is_some() || preset != Preset::Raw).then(|| "application/json".into());
        Ok(Self { preset, template: compiled, content_type: content_type.or(usual) })
    }

    /// The content type, if it is not the event's own.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Whether the event's own bytes are sent.
    pub fn is_verbatim(&self) -> bool {
        self.preset == Preset::Raw && self.template.is_none()
    }

    /// Whether the provider's header fields go with it. A preset's target is a third party, which has no business
    /// with the provider's tokens.
    pub fn passes_headers(&self) -> bool {
        self.preset == Preset::Raw
    }

    /// What this target is.
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// The body of attempt `number` of an event.
    pub fn render(&self, event: &Event, number: u32) -> Result<Bytes, TemplateError> {
        if self.is_verbatim() {
            return Ok(event.body.clone());
        }
        let parsed = parsed(&event.body);
        let summary = Summary::of(event, &parsed);
        let limit = self.preset.limit();
        let body = match &self.template {
            Some(template) => expand(template, event, &parsed, &summary, number, limit)?,
            None => self.built_in(event, &parsed, &summary).into_bytes(),
        };
        if body.len() > limit {
            return Err(TemplateError::TooLarge(limit));
        }
        let promises_json = self.content_type.as_deref().is_some_and(is_json);
        if promises_json && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(TemplateError::NotJson);
        }
        Ok(body.into())
    }

    fn built_in(&self, event: &Event, parsed: &Value, summary: &Summary) -> String {
        match self.preset {
            Preset::Slack => chat::slack(summary),
            Preset::Discord => chat::discord(summary),
            Preset::Teams => chat::teams(summary),
            Preset::GithubDispatch => dispatch::github(event, parsed),
            Preset::BuildkiteTrigger | Preset::Raw => dispatch::buildkite(event, parsed),
        }
    }
}

/// The body as JSON, or else as text.
fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_not_json| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

fn compile(source: String) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    // The output is JSON or whatever the author says; HTML's escapes are wrong in either.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let malformed = |error: minijinja::Error| {
        let line = error.line().map(|line| format!(" (line {line} of the template)"));
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        TemplateError::Malformed(format!("{detail}{}", line.unwrap_or_default()))
    };
    environment.add_template_owned(NAME, source).map_err(malformed)?;
    let unknown = {
        let template = environment.get_template(NAME).map_err(malformed)?;
        let used = template.undeclared_variables(false);
        let known = |name: &String| {
            ROOTS.contains(&name.as_str())
                || environment.globals().any(|(global, _)| global == name)
        };
        let mut unknown: Vec<_> = used.into_iter().filter(|name| !known(name)).collect();
        unknown.sort();
        unknown
    };
    match unknown.first() {
        Some(name) => Err(TemplateError::Malformed(format!("there is no `{name}` in a template"))),
        None => Ok(environment),
    }
}

fn expand(
    environment: &Environment<'static>,
    event: &Event,
    parsed: &Value,
    summary: &Summary,
    number: u32,
    limit: usize,
) -> Result<Vec<u8>, TemplateError> {
    let headers: serde_json::Map<_, _> = event
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.to_owned(), Value::from(std::str::from_utf8(value).ok()?)))
        })
        .collect();
    let context = context! {
        event => context! {
            id => event.id.to_string(),
            source => event.source.as_str(),
            name => event.name.as_str(),
            received_at => event.received_at.to_string(),
            order_key => event.order_key.as_deref(),
        },
        headers => Datum::from(Serde(headers)),
        body => Datum::from(Serde(parsed)),
        attempt => number,
        summary => Datum::from(Serde(summary.in_context())),
    };
    let mut output = Bounded { bytes: Vec::new(), limit };
    let rendered = environment
        .get_template(NAME)
        .and_then(|template| template.render_captured_to(context, &mut output));
    match rendered {
        Ok(_) => Ok(output.bytes),
        Err(error) if error.kind() == ErrorKind::OutOfFuel => Err(TemplateError::TooLong),
        Err(error) if error.kind() == ErrorKind::WriteFailure => {
            Err(TemplateError::TooLarge(limit))
        }
        // The detail may quote the payload, and this sentence is logged.
        Err(error) => {
            let line = error.line().map(|line| format!(" (line {line} of the template)"));
            Err(TemplateError::Failed(format!("{}{}", error.kind(), line.unwrap_or_default())))
        }
    }
}

/// Takes no more than its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(more.len()) > self.limit {
            return Err(io::Error::other("the output is at its limit"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
