//! What a receiver verifies, style by style, with implementations that are not the product's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::{Act, OK, Received, Receiver};
use crate::harness::{sign, within};

const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";
/// What a sender may claim, and a receiver must not take for ours.
const FOREIGN: [(&str, &str); 3] =
    [("webhook-signature", "v1,theirs"), ("x-sig", "theirs"), ("authorization", "Bearer theirs")];

/// Runs `everhook secret new` for a style.
async fn new_secret(home: &Home, style: &str) -> (String, Option<String>) {
    let made = home.command(&["secret", "new", "--json", "--style", style]).output();
    let made = within("a secret is made", made).await.expect("ran");
    assert!(made.status.success(), "{made:?}");
    let json: serde_json::Value = serde_json::from_slice(&made.stdout).expect("json");
    (json["secret"].as_str().expect("text").into(), json["public"].as_str().map(str::to_owned))
}

/// Two attempts of one event: the first is refused.
async fn attempts(keys: &str, home: &Home) -> (Daemon, Vec<Received>) {
    let mut receiver = Receiver::scripted(|number, _| match number {
        0 => Act::Answer("500 Not yet", ""),
        _ => OK,
    })
    .await;
    let retry = "retry = { schedule = [\"1100ms\"], jitter = 0.0 }";
    let url = receiver.url();
    home.configure(&format!("{SOURCE}[target.t]\nurl = {url:?}\n{retry}\n{keys}\n"));
    let daemon = home.start().await;
    daemon.post("/in/any", &FOREIGN, b"{\"a\": 1}").await.ack();
    let got = receiver.take(2).await;
    assert_eq!(got[0].id(), got[1].id(), "the id stays");
    assert_ne!(got[0].header("webhook-timestamp"), got[1].header("webhook-timestamp"));
    (daemon, got)
}

#[tokio::test]
async fn ed25519_is_verified_with_the_public_key_alone_and_hmac_beside_it_in_a_rotation() {
    let home = Home::new("");
    let (pair, public) = new_secret(&home, "ed25519").await;
    let (old, none) = new_secret(&home, "standard-webhooks").await;
    assert_eq!(none, None);
    let keys = format!(
        "sign = {{ style = \"standard-webhooks\", secrets = [\"plain:{pair}\", \"plain:{old}\"] }}"
    );
    let (_daemon, got) = attempts(&keys, &home).await;
    let public = BASE64.decode(public.expect("there").trim_start_matches("whpk_")).expect("base64");
    let public = VerifyingKey::from_bytes(&public.try_into().expect("32 bytes")).expect("a key");
    let old = BASE64.decode(old.trim_start_matches("whsec_")).expect("base64");
    for request in &got {
        let timestamp = request.header("webhook-timestamp");
        let mut message = format!("{}.{timestamp}.", request.id()).into_bytes();
        message.extend_from_slice(&request.body);
        let value = request.header("webhook-signature").to_owned();
        let (new, beside) = value.split_once(' ').expect("two signatures");
        let signature = BASE64.decode(new.trim_start_matches("v1a,")).expect("base64");
        let signature = Signature::from_slice(&signature).expect("64 bytes");
        public.verify(&message, &signature).expect("it verifies");
        let expected = format!("v1,{}", BASE64.encode(sign::hmac_sha256(&old, &message)));
        assert_eq!(beside, expected);
    }
    assert_ne!(got[0].header("webhook-signature"), got[1].header("webhook-signature"));
}

#[tokio::test]
async fn hmac_goes_into_the_field_that_was_named_and_replaces_what_came_there() {
    let home = Home::new("");
    let (secret, _) = new_secret(&home, "hmac-sha256").await;
    let keys = format!(
        "sign = {{ style = \"hmac-sha256\", secret = \"plain:{secret}\", header = \"X-Sig\", prefix = \"v0=\" }}"
    );
    let (_daemon, got) = attempts(&keys, &home).await;
    for request in &got {
        let digest = hex::encode(sign::hmac_sha256(secret.as_bytes(), &request.body));
        assert_eq!(request.header("x-sig"), format!("v0={digest}"));
        assert_eq!(request.headers.iter().filter(|(name, _)| name == "x-sig").count(), 1);
    }
}

#[tokio::test]
async fn buildkites_way_signs_a_fresh_timestamp() {
    let home = Home::new("");
    let (secret, _) = new_secret(&home, "buildkite").await;
    let keys = format!("sign = {{ style = \"buildkite\", secret = \"plain:{secret}\" }}");
    let (_daemon, got) = attempts(&keys, &home).await;
    for request in &got {
        let seconds = request.header("webhook-timestamp").parse().expect("seconds");
        let expected = sign::buildkite(&secret, seconds, &request.body);
        assert_eq!(request.header("x-buildkite-signature"), expected);
    }
}

#[tokio::test]
async fn a_token_is_sent_as_it_is_and_never_logged() {
    let home = Home::new("");
    let (secret, _) = new_secret(&home, "token").await;
    let keys = format!(
        "sign = {{ style = \"token\", secret = \"plain:{secret}\", header = \"authorization\", prefix = \"Bearer \" }}"
    );
    let (daemon, got) = attempts(&keys, &home).await;
    for request in &got {
        assert_eq!(request.header("authorization"), format!("Bearer {secret}"));
    }
    assert!(!daemon.log().join("\n").contains(&secret));
}

#[tokio::test]
async fn a_new_secret_is_alone_on_stdout() {
    let home = Home::new("");
    let made = home.command(&["secret", "new", "--style", "ed25519"]).output();
    let made = within("a secret is made", made).await.expect("ran");
    let secret = String::from_utf8(made.stdout).expect("text");
    assert!(secret.starts_with("whsk_") && secret.lines().count() == 1, "{secret}");
    let said = String::from_utf8(made.stderr).expect("text");
    assert!(said.contains("whpk_") && !said.contains("whsk_"), "{said}");
}
