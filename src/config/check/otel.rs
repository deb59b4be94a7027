//! Where spans go: whether this build can export them, and where to.

use super::{body, url};
use crate::config::mistake::Findings;
use crate::config::tree::KeyPath;
use crate::config::{Otel, raw};

/// The export that is configured; `None` when there is none, and after a mistake was noted.
pub(super) fn otel(raw: raw::Otel, findings: &mut Findings) -> Option<Otel> {
    let at = KeyPath::of(&["otel"]);
    let named = raw.headers.as_ref().is_some_and(|fields| !fields.0.is_empty());
    let headers = body::headers(raw.headers, &at.key("headers"), findings);
    let endpoint = at.key("endpoint");
    let Some(url) = raw.endpoint else {
        if named && !findings.is_wrong_below(&endpoint) {
            findings.mistake(&endpoint, "there are headers and nothing to send", "write it, too");
        }
        return None;
    };
    if !cfg!(feature = "otel") {
        let problem = "this everhook was built without the export of traces";
        let remedy = "build it with `cargo build --release --features otel`, or leave the key out";
        findings.mistake(&endpoint, problem, remedy);
        return None;
    }
    if let Some(problem) = url::fault(&url.0) {
        let remedy = r#"write an absolute URL such as "http://127.0.0.1:4318/v1/traces""#;
        findings.mistake(&endpoint, problem, remedy);
        return None;
    }
    let (endpoint, headers) = (url.0, headers?);
    Some(Otel { endpoint, headers, sample: raw.sample?, queue: raw.queue? })
}
