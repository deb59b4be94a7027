//! Signatures of every scheme through the real ingress: those that are published or made by an implementation of
//! our own are accepted, and refused as soon as one thing about them differs.

mod generated;
mod vectors;

use serde::Deserialize;

use crate::harness::http::Connection;
use crate::harness::sender::Scheme;
use crate::harness::within;

/// The cause that a refusal tells, whatever it was that failed.
const UNVERIFIED: &str = "unverified";

/// A scheme as the tests write it down, once more and apart from the presets.
#[derive(Clone, Debug, Deserialize)]
struct Known {
    name: String,
    /// The presets that are verified by it.
    presets: Vec<String>,
    scheme: Scheme,
}

fn known() -> Vec<Known> {
    serde_json::from_str(include_str!("signatures/schemes.json")).expect("a list of schemes")
}

/// A source, as TOML: of a preset, or custom with the scheme.
fn source(
    name: &str,
    preset: Option<&str>,
    scheme: &Scheme,
    secrets: &[&str],
    url: &str,
) -> String {
    let secrets: Vec<_> = secrets.iter().map(|secret| format!("plain:{secret}")).collect();
    let secrets = serde_json::to_string(&secrets).expect("text");
    let proof = if scheme.is("none") { String::new() } else { format!("secrets = {secrets}\n") };
    let how = match preset {
        Some("meta") => "provider = \"meta\"\nhandshake_token = \"plain:a token\"\n".to_owned(),
        Some(preset) => format!("provider = {preset:?}\n"),
        None => format!("provider = \"custom\"\nverify = {}\n", scheme.to_toml()),
    };
    format!("[source.{name}]\n{how}{proof}public_url = {url:?}\n")
}

/// The status of the answer and the cause of a refusal.
async fn posted(
    connection: &mut Connection,
    path: &str,
    fields: &[(String, String)],
    body: &[u8],
) -> (u16, String) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let reply = within("an answer", connection.post(path, &fields, body.to_vec())).await;
    let reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
    let cause =
        if reply.status == 200 { None } else { reply.json()["cause"].as_str().map(str::to_owned) };
    (reply.status, cause.unwrap_or_default())
}

#[test]
fn every_preset_that_signs_is_among_them() {
    let known = known();
    for preset in everhook::rules::provider::presets() {
        let listed = known.iter().any(|known| known.presets.iter().any(|name| name == preset.name));
        assert_eq!(listed, !preset.schemes().is_empty(), "{}", preset.name);
    }
}
