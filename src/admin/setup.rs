//! What the configuration says that an operator wants to see: how each source is set up, and what each target is.

use hyper::Uri;

use super::shown::masked_query;
use crate::config::Config;
use crate::model::{Name, Order, Secret};
use crate::rules::provider::Preset;

/// The parts of a configuration that this side shows.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub(super) sources: Vec<SourceSetup>,
    pub(super) targets: Vec<TargetSetup>,
    /// The header fields in which sources are shown proofs, sorted; they may have any name.
    pub(super) proof_fields: Vec<String>,
}

/// One source.
#[derive(Clone, Debug)]
pub(super) struct SourceSetup {
    pub(super) name: Name,
    pub(super) provider: &'static Preset,
    /// What there is to know of it, as label and sentence.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) path: String,
    pub(super) address: Address,
    pub(super) needs_path_token: bool,
    pub(super) verifies: bool,
    pub(super) watches_builds: bool,
}

/// Where a source is reached, without its path token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The configuration says by which URL the provider reaches it.
    Public(String),
    /// It does not: this is where it listens.
    Listening(String),
}

/// One target.
#[derive(Clone, Debug)]
pub(super) struct TargetSetup {
    pub(super) name: Name,
    /// Scheme, host and port: a webhook's path is often its secret.
    pub(super) origin: String,
    pub(super) order: &'static str,
    /// The names it had before.
    pub(super) was: Vec<Name>,
}

impl Address {
    /// The URL, and whether it is the provider's.
    pub(super) fn url(&self) -> (&str, bool) {
        match self {
            Self::Public(url) => (url, true),
            Self::Listening(url) => (url, false),
        }
    }
}

impl Setup {
    /// Takes what is shown out of a configuration.
    pub fn of(config: &Config) -> Self {
        let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
        let host = config.ingress.listen.first().map_or("localhost".into(), ToString::to_string);
        let source = |source: &crate::config::Source| {
            let token = if source.path_token.is_some() { "/PATH_TOKEN" } else { "" };
            SourceSetup {
                name: source.name.clone(),
                provider: source.intake.provider(),
                facts: source.intake.facts().to_vec(),
                path: source.path.clone(),
                address: match &source.public_url {
                    Some(url) => Address::Public(without_token(url, source.path_token.as_ref())),
                    None => Address::Listening(format!("{scheme}://{host}{}{token}", source.path)),
                },
                needs_path_token: source.path_token.is_some(),
                verifies: source.intake.verifies(),
                watches_builds: source.stages.is_some(),
            }
        };
        let target = |target: &crate::config::Target| TargetSetup {
            name: target.name.clone(),
            origin: origin(&target.url),
            order: match target.order {
                Order::None => "none",
                Order::Key(_) => "key",
            },
            was: target.was.clone(),
        };
        let proofs = config.sources.iter().flat_map(|source| source.intake.proof_fields());
        let setup = Self {
            sources: config.sources.iter().map(source).collect(),
            targets: config.targets.iter().map(target).collect(),
            proof_fields: Vec::new(),
        };
        setup.proved_by(proofs)
    }

    /// The same, still knowing what was a proof before: the requests of then may be looked at now.
    pub(super) fn after(self, before: &Self) -> Self {
        self.proved_by(before.proof_fields.iter().map(String::as_str))
    }

    fn proved_by<'a>(mut self, fields: impl Iterator<Item = &'a str>) -> Self {
        self.proof_fields.extend(fields.map(str::to_owned));
        self.proof_fields.sort_unstable();
        self.proof_fields.dedup();
        self
    }

    /// Whether somebody takes what is queued for a name: its target, or the one that it is called now.
    pub(super) fn has_heir(&self, name: &Name) -> bool {
        self.targets.iter().any(|target| target.name == *name || target.was.contains(name))
    }

    /// Whether a target is configured.
    pub(super) fn has_target(&self, name: &Name) -> bool {
        self.targets.iter().any(|target| target.name == *name)
    }
}

/// A URL in which nothing stands that is a secret.
fn without_token(url: &str, token: Option<&Secret>) -> String {
    let token = token.and_then(|token| std::str::from_utf8(token.expose()).ok());
    let url = token
        .filter(|it| !it.is_empty())
        .map_or(url.to_owned(), |it| url.replace(it, "PATH_TOKEN"));
    match url.split_once('?') {
        Some((path, query)) => format!("{path}?{}", masked_query(query)),
        None => url,
    }
}

fn origin(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default());
    let port = uri.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_public_url_no_secret_is_shown() {
        let token = Secret::new("canary");
        let shown = |url| without_token(url, Some(&token));
        assert_eq!(shown("https://h.example/in/a/canary"), "https://h.example/in/a/PATH_TOKEN");
        assert_eq!(shown("https://h.example/a?b=c&key=canary2"), "https://h.example/a?b=c&key=***");
        assert_eq!(without_token("https://h.example/a", None), "https://h.example/a");
    }

    #[test]
    fn of_a_targets_url_only_the_origin_is_shown() {
        assert_eq!(
            origin("https://u:p@hooks.example:8443/T/secret?x=y"),
            "https://hooks.example:8443"
        );
        assert_eq!(origin("http://[::1]/a"), "http://[::1]");
    }
}
