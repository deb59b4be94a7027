//! A request that the provider has signed, whatever is in it.
#![no_main]

use arbitrary::Arbitrary;
use everhook::model::Headers;
use everhook::rules::intake::{Inbound, Method, Refusal};
use everhook::rules::verify::PrivateKey;
use everhook::time::Timestamp;
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "this target makes its own header fields")]
mod sources;

#[derive(Arbitrary, Debug)]
struct Request {
    preset: u8,
    media: u8,
    query: Option<String>,
    body: Vec<u8>,
}

const MEDIA: [&str; 4] =
    ["application/json", "application/x-www-form-urlencoded", "text/plain", ""];

fuzz_target!(|request: Request| {
    let all = sources::all();
    let intake = &all[usize::from(request.preset) % all.len()];
    let media = MEDIA[usize::from(request.media) % MEDIA.len()];
    let now = Timestamp::from_secs(1_775_000_000);
    let plain = Headers::from_pairs([("content-type", media.as_bytes())]);
    let private = PrivateKey::parse(&"01".repeat(32)).expect("a key");
    let private = (intake.provider().name == "discord").then_some(&private);
    // A body without the timestamp that its provider signs there cannot be signed.
    let Ok(made) = intake.sign_sample_with(private, &plain, &request.body, now) else { return };
    let made = made.iter().map(|(name, value)| (&**name, value.as_bytes()));
    let headers = Headers::from_pairs(plain.iter().chain(made));
    let query = request.query.as_deref();
    let inbound = Inbound { method: Method::Post, query, headers: &headers, body: &request.body };
    let decided = intake.receive(&inbound, now);
    // Linear's freshness is that of the body, which is arbitrary.
    if intake.provider().name != "linear" {
        assert_ne!(decided.err(), Some(Refusal::Unverified), "{}", intake.provider().name);
    }
});
