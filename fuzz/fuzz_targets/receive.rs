//! A request that nobody signed, to a source of every preset.
#![no_main]

use arbitrary::Arbitrary;
use everhook::rules::intake::{Decision, Inbound, Method};
use everhook::time::Timestamp;
use libfuzzer_sys::fuzz_target;

mod sources;

#[derive(Arbitrary, Debug)]
struct Request {
    get: bool,
    query: Option<String>,
    fields: Vec<(u8, Vec<u8>)>,
    body: Vec<u8>,
}

fuzz_target!(|request: Request| {
    let headers = sources::headers(&request.fields);
    let method = if request.get { Method::Get } else { Method::Post };
    for intake in sources::all() {
        let inbound = Inbound {
            method,
            query: request.query.as_deref(),
            headers: &headers,
            body: &request.body,
        };
        let decided = intake.receive(&inbound, Timestamp::from_secs(1_775_000_000));
        let proves = intake.verifies();
        // A token is short enough to be found.
        let shown = |(_, value): (&str, &[u8])| value.ends_with(b"secret");
        let guessed = headers.iter().any(shown);
        if matches!(decided, Ok(Decision::Store(_))) {
            assert!(!proves || guessed, "{} without a proof", intake.provider().name);
        }
    }
});
