//! A refused request that is released, by today's rules and by force, at a source of every preset.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use everhook::rules::intake::{Inbound, Method};
use everhook::time::Timestamp;
use libfuzzer_sys::fuzz_target;

mod sources;

#[derive(Arbitrary, Debug)]
struct Request {
    query: Option<String>,
    fields: Vec<(u8, Vec<u8>)>,
    body: Vec<u8>,
    late: u32,
}

fuzz_target!(|request: Request| {
    let headers = sources::headers(&request.fields);
    let received_at = Timestamp::from_secs(1_775_000_000);
    let now = received_at.plus(Duration::from_secs(request.late.into()));
    let (query, body) = (request.query.as_deref(), &*request.body);
    let inbound = Inbound { method: Method::Post, query, headers: &headers, body };
    for intake in sources::all() {
        let again = intake.reconsider(&inbound, received_at, now);
        let forced = intake.admit_anyway(&inbound, received_at, now);
        assert!(!forced.event.is_empty());
        let Ok(again) = again else { continue };
        let shown = |(_, value): (&str, &[u8])| value.ends_with(b"secret");
        let guessed = headers.iter().any(shown);
        assert!(!intake.verifies() || guessed, "{} without a proof", intake.provider().name);
        // Force is needed for what is refused, and changes nothing else.
        assert_eq!(again, forced, "{}", intake.provider().name);
    }
});
