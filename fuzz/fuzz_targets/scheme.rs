//! A scheme as a user might write it, and what it makes of its own signature.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use everhook::model::{Headers, Secret};
use everhook::rules::verify::{Algorithm, Encoding, Kind, Scheme, Unit, Verifier};
use everhook::time::Timestamp;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    token: bool,
    header: String,
    prefix: String,
    list: Option<u8>,
    kv: Option<bool>,
    pick: Option<String>,
    digest: u8,
    encoding: u8,
    signed: String,
    timestamp: Option<String>,
    unit: u8,
    tolerance: bool,
    secret: Vec<u8>,
    body: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let scheme = Scheme {
        kind: if input.token { Kind::Token } else { Kind::Hmac },
        header: input.header,
        prefix: input.prefix,
        list: input.list.map(|which| [',', ';', ' '][usize::from(which) % 3]),
        kv: input.kv.map(|equals| if equals { '=' } else { ',' }),
        pick: input.pick,
        algorithm: [Algorithm::Sha256, Algorithm::Sha1, Algorithm::Sha512]
            [usize::from(input.digest) % 3],
        encoding: [Encoding::Hex, Encoding::Base64, Encoding::Base64Url]
            [usize::from(input.encoding) % 3],
        signed: input.signed,
        timestamp: input.timestamp,
        unit: [Unit::Seconds, Unit::Millis, Unit::Rfc3339][usize::from(input.unit) % 3],
        tolerance: input.tolerance.then_some(Duration::from_secs(60)),
        ..Scheme::none()
    };
    let url = Some("https://hooks.example/in");
    let Ok(verifier) = Verifier::new(&scheme, &[Secret::new(input.secret)], url) else { return };
    let now = Timestamp::from_secs(1_775_000_000);
    let none = Headers::default();
    assert!(!verifier.verifies(&none, &input.body, now), "nothing proves nothing");
    let Ok(made) = verifier.imitate(&none, &input.body, now) else { return };
    let headers = Headers::from_pairs(made.iter().map(|(name, value)| (&**name, value.as_bytes())));
    // What a scheme says of its own signature may be no: a timestamp in the body is as old as it is, and one header
    // cannot carry a signature and a timestamp at once. It must not panic.
    verifier.verifies(&headers, &input.body, now);
});
