//! The trace that an event belongs to: the provider's own (W3C Trace Context), or one that begins with the event.
//!
//! Everything is found in the event itself, so it is the same at every attempt, also after a restart: a trace that begins
//! here has the digits of the event's id, and the span of the request that brought the event those of its second half.

use std::fmt::Write as _;

use crate::model::{EventId, Headers};

/// The field in which a trace is passed on.
pub const FIELD: &str = "traceparent";
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A span's id.
pub type SpanId = [u8; 8];

/// The trace of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's id.
    pub id: [u8; 16],
    /// The provider's span; `None` when the trace begins here.
    pub parent: Option<SpanId>,
    /// The span of the request that brought the event.
    pub received: SpanId,
    /// The flags, as they are passed on.
    pub flags: u8,
}

impl Trace {
    /// The trace of an event. Of those that begin here this share is recorded; about others the provider has decided.
    pub fn of(event: EventId, headers: &Headers, share: f64) -> Self {
        let id = event.to_bytes();
        let received = second_half(id);
        match headers.get_str(FIELD).and_then(continued) {
            Some((id, parent, flags)) => Self { id, parent: Some(parent), received, flags },
            None => Self { id, parent: None, received, flags: u8::from(is_chosen(id, share)) },
        }
    }

    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of the field for a request that is `span`.
    pub fn field(&self, span: SpanId) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.id);
        text.push('-');
        push_hex(&mut text, &span);
        text.push('-');
        push_hex(&mut text, &[self.flags]);
        text
    }
}

/// Trace, span and flags of a valid field. A later version may append fields after the flags; version 00 may not.
fn continued(text: &str) -> Option<([u8; 16], SpanId, u8)> {
    let mut parts = text.splitn(4, '-');
    let (version, id, parent, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let flags = rest.split('-').next()?;
    let exact = version != "00" || flags.len() == rest.len();
    let [version] = bytes(version)?;
    let (id, parent, [flags]) = (bytes(id)?, bytes(parent)?, bytes(flags)?);
    let valid = version != 0xff && id != [0; 16] && parent != [0; 8] && exact;
    valid.then_some((id, parent, flags))
}

/// Lower-case hex of exactly so many bytes.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

fn second_half(id: [u8; 16]) -> SpanId {
    let [_, _, _, _, _, _, _, _, half @ ..] = id;
    half
}

/// Whether a trace is of the share that is recorded. Its last seven bytes are random, and everybody who samples looks at them.
fn is_chosen(id: [u8; 16], share: f64) -> bool {
    let [.., a, b, c, d, _, _, _] = id;
    f64::from(u32::from_be_bytes([a, b, c, d])) < share * (f64::from(u32::MAX) + 1.0)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn event(random: [u8; 10]) -> EventId {
        EventId::new(Timestamp::from_secs(1_700_000_000), random)
    }

    fn of(field: &[u8]) -> Trace {
        Trace::of(event([3; 10]), &Headers::from_pairs([(FIELD, field)]), 1.0)
    }

    #[test]
    fn a_valid_trace_goes_on_and_any_other_begins_with_the_event() {
        let valid = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = of(valid);
        assert_eq!(trace.parent.map(hex::encode).as_deref(), Some("00f067aa0ba902b7"));
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01";
        assert_eq!(trace.field([0xab; 8]), expected);
        let later = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(of(later).parent.is_some() && !of(later).is_sampled());
        for invalid in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf9-00f067aa0ba902b7-01",
            "",
        ] {
            let trace = of(invalid.as_bytes());
            assert_eq!((trace.parent, trace.id), (None, event([3; 10]).to_bytes()), "{invalid}");
            assert!(trace.is_sampled());
        }
    }

    #[test]
    fn the_request_that_brought_an_event_is_known_by_the_event() {
        let id = event([7; 10]).to_bytes();
        assert_eq!(of(b"").received, event([3; 10]).to_bytes()[8..]);
        assert_eq!(second_half(id), id[8..]);
    }

    #[test]
    fn a_share_of_the_traces_that_begin_here_is_recorded() {
        let none = Headers::default();
        let sampled = |share| {
            let events = (0..=255).map(|n| event([0, 0, 0, n, 0, 0, 0, 0, 0, 0]));
            events.filter(|event| Trace::of(*event, &none, share).is_sampled()).count()
        };
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(sampled), [0, 64, 128, 256]);
    }
}
