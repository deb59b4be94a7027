//! An event in a few words, for people: a title, facts, and where to look.
//!
//! It is read from the shape of the body, so that it also holds for events stored before a configuration changed.
//! Everything in it was written by a sender, so it is cut and cleaned here once.

use serde_json::{Value, json};

use crate::model::Event;

/// Most characters of one text.
const MAX_TEXT: usize = 300;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) title: String,
    /// Name and value, in the order they matter.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Where a person can see more: always http or https.
    pub(super) url: Option<String>,
}

impl Summary {
    pub(super) fn of(event: &Event, body: &Value) -> Self {
        let has = |pointer: &str| body.pointer(pointer).is_some();
        if has("/data/build") && has("/type") {
            buildpixel(event, body)
        } else if has("/projectId") && has("/event") {
            streampixel(event, body)
        } else if has("/pipeline") && has("/build") {
            buildkite(event, body)
        } else if has("/agent") && has("/event") {
            buildkite_agent(event, body)
        } else {
            let title = format!("{} from {}", event.name, event.source);
            Self { title: clean(&title), facts: Vec::new(), url: None }
        }
    }

    /// As a template sees it.
    pub(super) fn in_context(&self) -> Value {
        json!({ "title": self.title, "text": self.text(), "url": self.url })
    }

    /// Title and facts, a line each.
    pub(super) fn text(&self) -> String {
        let facts = self.facts.iter().map(|(name, value)| format!("\n{name}: {value}"));
        std::iter::once(self.title.clone()).chain(facts).collect()
    }
}

fn streampixel(event: &Event, body: &Value) -> Summary {
    let facts = [("Status", "/status"), ("Project", "/projectId"), ("Upload", "/uploadId")];
    let mut facts = pointed(body, &facts);
    facts.extend(pointed(body, &[("Objection", "/objection")]));
    Summary { title: happened(&event.name), facts, url: None }
}

fn buildpixel(event: &Event, body: &Value) -> Summary {
    let project = text(body, "/data/project/name").unwrap_or_else(|| event.source.to_string());
    let mut facts = pointed(
        body,
        &[
            ("Platform", "/data/build/platform"),
            ("Type", "/data/build/buildType"),
            ("Branch", "/data/build/branch"),
            ("Commit", "/data/build/commit"),
        ],
    );
    let millis = body.pointer("/data/build/durationMs").and_then(Value::as_u64);
    facts.extend(millis.filter(|ms| *ms > 0).map(|ms| ("Duration", duration(ms / 1_000))));
    let title = clean(&format!("{project}: {}", happened(&event.name).to_lowercase()));
    Summary { title, facts, url: link(body, "/data/build/artifactUrl") }
}

fn buildkite(event: &Event, body: &Value) -> Summary {
    let pipeline = text(body, "/pipeline/slug").unwrap_or_else(|| event.source.to_string());
    let number = text(body, "/build/number").unwrap_or_default();
    let blocked = body.pointer("/build/blocked") == Some(&Value::Bool(true));
    let state = match text(body, "/build/state") {
        // A blocked build keeps its last state, which would read as its end.
        Some(_) if blocked && event.name == "build.finished" => "blocked".to_owned(),
        Some(state) => state,
        None => event.name.clone(),
    };
    let mut facts = Vec::new();
    let title = if event.name.starts_with("job.") {
        let job = text(body, "/job/name").or_else(|| text(body, "/job/step_key"));
        facts.extend(pointed(
            body,
            &[("Job state", "/job/state"), ("Exit status", "/job/exit_status")],
        ));
        format!(
            "{pipeline} #{number}: {} ({})",
            happened(&event.name).to_lowercase(),
            job.unwrap_or_default()
        )
    } else {
        format!("{pipeline} #{number} {state}")
    };
    facts.extend(pointed(
        body,
        &[
            ("Branch", "/build/branch"),
            ("Commit", "/build/commit"),
            ("Message", "/build/message"),
            ("By", "/build/creator/name"),
        ],
    ));
    Summary { title: clean(&title), facts, url: link(body, "/build/web_url") }
}

fn buildkite_agent(event: &Event, body: &Value) -> Summary {
    let facts = [("Name", "/agent/name"), ("Queue", "/agent/queue"), ("Host", "/agent/hostname")];
    Summary { title: happened(&event.name), facts: pointed(body, &facts), url: None }
}

/// `build.approved` as a person would say it: "Build approved".
fn happened(name: &str) -> String {
    let words = name.replace(['.', '_'], " ");
    let mut letters = words.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    clean(&(first + letters.as_str()))
}

fn duration(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// The facts that are there.
fn pointed(body: &Value, facts: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    facts.iter().filter_map(|(name, pointer)| Some((*name, text(body, pointer)?))).collect()
}

/// One scalar, clean; nothing when it is missing, null or empty.
fn text(body: &Value, pointer: &str) -> Option<String> {
    let text = match body.pointer(pointer)? {
        Value::String(text) => clean(text),
        scalar @ (Value::Number(_) | Value::Bool(_)) => scalar.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn link(body: &Value, pointer: &str) -> Option<String> {
    let url = body.pointer(pointer)?.as_str()?;
    let web = url.starts_with("https://") || url.starts_with("http://");
    let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"<>|\"`()[]\\".contains(&b));
    (web && plain && url.len() <= 2_000).then(|| url.to_owned())
}

/// The first line, without what cannot be seen and may turn the direction of what can, cut.
fn clean(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut clean: String = line.chars().filter(|c| !is_unseen(*c)).take(MAX_TEXT).collect();
    if line.chars().nth(MAX_TEXT).is_some() {
        clean.push('…');
    }
    clean
}

/// Control characters, and the marks of direction. Those that join letters and emoji stay.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
