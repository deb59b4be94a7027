//! How a source's requests are verified: the scheme that was written or that of the preset, with the secrets.

use crate::config::mistake::Findings;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::model::Secret;
use crate::rules::intake;
use crate::rules::provider::{Preset, Verification};
use crate::rules::verify::{Algorithm, Fault, Kind, Place, Scheme};

/// What a source says of its verification.
pub(super) struct Written<'a> {
    pub(super) verify: Option<raw::Verify>,
    pub(super) secrets: Vec<Secret>,
    /// Whether the secrets stand under `secrets`.
    pub(super) several: bool,
    pub(super) public_url: Option<&'a str>,
}

/// The scheme, if one was written, and the secrets. Every mistake is noted at its own key, whatever else is wrong
/// with the source.
pub(super) fn proof(
    written: Written<'_>,
    provider: Option<&'static Preset>,
    at: &KeyPath,
    findings: &mut Findings,
) -> (Option<Scheme>, Vec<Secret>) {
    let Written { verify, secrets, several, public_url } = written;
    let says_how = verify.is_some() || findings.is_wrong_below(&at.key("verify"));
    let scheme = verify.and_then(|verify| scheme(verify, &at.key("verify"), findings));
    let secret = at.key(if several { "secrets" } else { "secret" });
    // A secret that could not be read is a mistake already; what is made of the others is not worth saying.
    let unread = [at.key("secret"), at.key("secrets")].iter().any(|at| findings.is_wrong_below(at));
    let faults = match (&scheme, provider.map(|preset| (preset.name, preset.verification))) {
        (Some(scheme), _) => scheme.faults(&secrets, public_url),
        (None, Some((name, Verification::Configured))) if !says_how => {
            let problem = format!("provider {name:?} needs `verify`");
            let remedy =
                r#"write how the sender signs, or verify = { kind = "none" } to accept anything"#;
            findings.mistake(&at.key("verify"), problem, remedy);
            Vec::new()
        }
        (None, Some((name, Verification::Unsigned))) if !says_how && !secrets.is_empty() => {
            let problem =
                format!("{name} does not sign its webhooks: a secret has nothing to verify");
            findings.mistake(
                &secret,
                problem,
                "remove it, and protect the source with `path_token`",
            );
            Vec::new()
        }
        (None, Some((name, Verification::Schemes(_) | Verification::FirstOf(_))))
            if !says_how && secrets.is_empty() =>
        {
            if !unread && provider.is_some_and(Preset::needs_secret) {
                let problem =
                    format!("{name} signs its webhooks, and there is no secret to verify with");
                findings.mistake(&secret, problem, "set `secret` to the one it signs with");
            }
            Vec::new()
        }
        (None, Some((_, Verification::Schemes(schemes) | Verification::FirstOf(schemes))))
            if !says_how =>
        {
            intake::faults(&schemes(), &secrets, public_url)
        }
        (None, _) => Vec::new(),
    };
    for Fault { at: place, sentence } in faults {
        let (at, remedy) = match place {
            Place::Verify(key) => (at.key("verify").key(key), VERIFY_REMEDY),
            Place::PublicUrl => (at.key("public_url"), VERIFY_REMEDY),
            Place::Secret(index) if several => (secret.index(index), SECRET_REMEDY),
            Place::Secret(_) => (secret.clone(), SECRET_REMEDY),
            Place::Secrets => (secret.clone(), SECRETS_REMEDY),
        };
        let of_secret = matches!(place, Place::Secret(_) | Place::Secrets);
        if !(of_secret && unread) {
            findings.mistake(&at, sentence, remedy);
        }
    }
    (scheme, secrets)
}

/// Where schemes are described.
const VERIFY_REMEDY: &str = "the keys of `verify` are described in docs/configuration.md";
/// What secrets are.
const SECRETS_REMEDY: &str = "how to write one is in docs/configuration.md, \"Secrets\"";
/// What a secret is to a scheme.
const SECRET_REMEDY: &str = "`key_encoding` and `key_prefix` of `verify` say how the secret is written; see docs/configuration.md";

fn scheme(raw: raw::Verify, at: &KeyPath, findings: &mut Findings) -> Option<Scheme> {
    let kind = raw.kind?;
    let header = raw.header?.to_ascii_lowercase();
    let word = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if kind != Kind::None && (header.is_empty() || !header.bytes().all(word)) {
        let problem = "this is not the name of a header field";
        findings.mistake(&at.key("header"), problem, r#"write header = "x-signature""#);
    }
    let algorithm = match (kind, raw.algorithm) {
        (_, Some(raw::Digest::Hmac(algorithm))) if kind != Kind::Ed25519 => algorithm,
        (Kind::Ed25519, None | Some(raw::Digest::Ed25519))
        | (Kind::Hmac | Kind::Token | Kind::None, None) => Algorithm::Sha256,
        (_, Some(_)) => {
            // The digest changes nothing of what else is checked.
            let problem = "the algorithm does not belong to this kind";
            let remedy = r#"kind "hmac" takes sha256, sha1 or sha512; kind "ed25519" takes none"#;
            findings.mistake(&at.key("algorithm"), problem, remedy);
            Algorithm::Sha256
        }
    };
    Some(Scheme {
        kind,
        header,
        prefix: raw.prefix?,
        list: raw.list.map(|list| list.0),
        kv: raw.kv.map(|kv| kv.0),
        pick: raw.pick,
        algorithm,
        encoding: raw.encoding?.0,
        key_encoding: raw.key_encoding?.0,
        key_prefix: raw.key_prefix?,
        signed: raw.signed?,
        timestamp: raw.timestamp,
        unit: raw.unit?,
        tolerance: raw.tolerance.map(|tolerance| tolerance.0),
    })
}
