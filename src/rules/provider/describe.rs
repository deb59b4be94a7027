//! What a preset does, in words: for `everhook providers` and `docs/providers.md`.

use std::time::Duration;

use super::{Handshake, PerEvent, Preset, Repeats, Unnamed, Verification};
use crate::rules::verify::{Algorithm, Encoding, Kind, Scheme, Unit};

impl Preset {
    /// What there is to know, as label and sentence, in the order a reader needs it.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let samples: Vec<_> = self.samples.iter().map(|sample| sample.event).collect();
        let all = [
            ("set up", self.setup.to_owned()),
            ("secret", self.secret.to_owned()),
            ("verified by", self.verified_by()),
            ("handshake", self.handshake.sentence().to_owned()),
            ("event name", self.named_by()),
            ("a repeat is", self.repeated_by()),
            ("order key", order(self.order)),
            ("worth a where", self.filter_fields.join(", ")),
            ("samples", samples.join(", ")),
            ("know", self.note.to_owned()),
            ("source", self.docs.to_owned()),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The smallest source of this provider, as it is written in a configuration.
    pub fn example(&self) -> String {
        let (name, schemes) = (self.name, self.schemes());
        let file = |key: &str, what: &str| format!("{key} = \"file:/etc/everhook/{name}-{what}\"");
        let mut lines = vec![format!("[source.{name}]"), format!("provider = \"{name}\"")];
        match self.verification {
            Verification::Unsigned => lines.push(file("path_token", "path-token")),
            Verification::Configured => {
                lines.push(file("secret", "secret"));
                lines.push("verify = { kind = \"hmac\", header = \"x-signature\" }".into());
            }
            Verification::Schemes(_) | Verification::FirstOf(_) => {
                lines.push(file("secret", "secret"));
            }
        }
        if schemes.iter().any(|scheme| scheme.signed.contains("{url}")) {
            lines.push(format!("public_url = \"https://hooks.example.com/in/{name}\""));
        }
        if self.handshake == Handshake::HubChallenge {
            lines.push(file("handshake_token", "verify-token"));
        }
        lines.join("\n") + "\n"
    }

    fn verified_by(&self) -> String {
        match self.verification {
            Verification::Unsigned => "nothing; a path token is its only protection".into(),
            Verification::Configured => "what `verify` says".into(),
            Verification::Schemes(schemes) | Verification::FirstOf(schemes) => {
                schemes().iter().map(Scheme::sentence).collect::<Vec<_>>().join("; or ")
            }
        }
    }

    fn named_by(&self) -> String {
        let fields = self.event.fields.join(", else ");
        match (self.event.unnamed, fields.is_empty()) {
            (Unnamed::Malformed, _) => format!("{fields}; without one the request is refused"),
            (Unnamed::Called(name), true) => format!("always {name}"),
            (Unnamed::Called(name), false) => format!("{fields}, else \"{name}\""),
        }
    }

    fn repeated_by(&self) -> String {
        let text = match self.repeats {
            Repeats::Off => return "never assumed: every request is a new event".into(),
            Repeats::Fields { keys, exempt } => {
                let keys: Vec<_> = keys.iter().map(|key| key.join(" + ")).collect();
                let always = if exempt.is_empty() {
                    String::new()
                } else {
                    format!("; {} is always new", exempt.join(" "))
                };
                format!("one with the same {}{always}", keys.join(", else "))
            }
            Repeats::Latest { subjects } => {
                let subjects: Vec<_> = subjects.iter().map(per_event).collect();
                let latest = (!subjects.is_empty()).then(|| {
                    let of = subjects.join(", ");
                    format!("one whose body equals the latest one accepted of the same {of}")
                });
                let signature = self.schemes().iter().any(|s| s.signed.contains("{timestamp}"));
                let signature = signature.then(|| "one that uses a signature again".to_owned());
                signature.into_iter().chain(latest).collect::<Vec<_>>().join(", or ")
            }
        };
        let within = |window: Duration| format!("; within {} h", window.as_secs() / 3600);
        text + &self.window.map(within).unwrap_or_default()
    }
}

impl Handshake {
    fn sentence(self) -> &'static str {
        match self {
            Self::None => "",
            Self::UrlVerification => "a signed url_verification is answered with its challenge",
            Self::Ping => {
                "a signed PING is answered 204 (webhook events) or with a PONG (interactions); bad signatures 401"
            }
            Self::CallbackVerification => {
                "a signed webhook_callback_verification is answered with its challenge"
            }
            Self::HubChallenge => {
                "GET with hub.challenge is answered with it, if hub.verify_token is the source's `handshake_token`"
            }
            Self::ValidationToken => "POST with validationToken is answered with it",
            Self::UrlValidation => {
                "a signed endpoint.url_validation is answered with the HMAC of its plainToken"
            }
            Self::HookSecret => "X-Hook-Secret is sent back",
        }
    }
}

impl Scheme {
    /// The scheme in words.
    pub(in crate::rules) fn sentence(&self) -> String {
        let digest = match self.kind {
            Kind::None => return "nothing".into(),
            Kind::Token => {
                return format!("the secret itself in {}{}", self.header, after(&self.prefix));
            }
            Kind::Ed25519 => "ed25519",
            Kind::Hmac => match self.algorithm {
                Algorithm::Sha256 => "HMAC-SHA256",
                Algorithm::Sha1 => "HMAC-SHA1",
                Algorithm::Sha512 => "HMAC-SHA512",
            },
        };
        let encoding = match self.encoding {
            Encoding::Utf8 => "text",
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
            Encoding::Base64Url => "base64url",
        };
        let place = self.pick.as_ref().map_or_else(String::new, |pick| format!(" at {pick}"));
        let (header, prefix) = (&self.header, after(&self.prefix));
        let timestamp = self.timestamp.as_ref().map(|at| {
            let unit = match self.unit {
                Unit::Seconds => "s",
                Unit::Millis => "ms",
                Unit::Rfc3339 => "RFC 3339",
            };
            format!(", timestamp at {at} ({unit})")
        });
        let old = |tolerance: Duration| format!(", at most {} s old or ahead", tolerance.as_secs());
        let tolerance = self.tolerance.map(old);
        let signed = &self.signed;
        [
            format!("{digest} in {encoding} of {signed} in {header}{place}{prefix}"),
            timestamp.unwrap_or_default(),
            tolerance.unwrap_or_default(),
        ]
        .concat()
    }
}

fn after(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!(" after \"{prefix}\"") }
}

fn order(order: &[PerEvent]) -> String {
    if order.is_empty() {
        "none".into()
    } else {
        order.iter().map(per_event).collect::<Vec<_>>().join(", else ")
    }
}

fn per_event(per: &PerEvent) -> String {
    let fields = per.fields.join(" + ");
    if per.events.is_empty() { fields } else { format!("{fields} ({})", per.events.join(" ")) }
}
