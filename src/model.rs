//! The nouns of the program: ids, events, attempts and why a delivery ended.
//!
//! Nothing here decides anything. The words are those of the product: a *source* receives, an
//! *event* is one accepted webhook, a *delivery* is one event for one *target*, an *attempt* is
//! one HTTP request of a delivery.

mod attempt;
mod id;
mod rejection;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

pub use self::attempt::{
    AS_IT_CAME, Answer, Attempt, DeadReason, ErrorClass, MASKED, MAX_SEEN_BODY, MAX_SEEN_DETAIL,
    MAX_SEEN_HEADERS, Seen, Settlement, Timing,
};
pub use self::id::{EventId, JobId, RejectionId};
pub use self::rejection::{REPEATS, Refusal, Rejection, RejectionOutline};
use crate::time::Timestamp;

/// Longest name of a source or a target, in bytes.
pub const MAX_NAME_LEN: usize = 63;

/// The name of a source or of a target: `[a-z0-9][a-z0-9-]{0,62}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks the shape of a name; `None` when it does not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(word);
        let rest = text.bytes().all(|b| word(b) || b == b'-');
        (first && rest && text.len() <= MAX_NAME_LEN).then(|| Self(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the deliveries of a target keep an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each goes as soon as it can.
    #[default]
    None,
    /// Those of one order key go one after the other, in the order in which their events were accepted.
    Key(OnDead),
}

/// What one target can take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The target.
    pub target: Name,
    /// At most so many.
    pub most: usize,
    /// The order they keep. It may change from one demand to the next; it holds for what is leased from then on.
    pub order: Order,
}

/// What a dead letter means for those of its order key behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDead {
    /// The next one goes.
    #[default]
    Continue,
    /// They wait until the dead letter is retried or discarded.
    Hold,
}

/// Header fields in the order they came, packed into one buffer, values as raw bytes.
///
/// This is both the form in which rules look headers up and the form in which the journal stores
/// them: name length (u16 big-endian), name, value length (u32 big-endian), value, repeated. Names are
/// lower-case.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(Bytes);

impl Headers {
    /// Packs `(lower-case name, value)` pairs; a name longer than 65,535 bytes is left out.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut packed = BytesMut::with_capacity(512);
        for (name, value) in pairs {
            let (Ok(name_len), Ok(value_len)) =
                (u16::try_from(name.len()), u32::try_from(value.len()))
            else {
                continue;
            };
            packed.put_u16(name_len);
            packed.put_slice(name.as_bytes());
            packed.put_u32(value_len);
            packed.put_slice(value);
        }
        Self(packed.freeze())
    }

    /// Takes a packed buffer back; `None` when it is not exactly the form described above.
    pub fn from_packed(packed: Bytes) -> Option<Self> {
        let mut rest: &[u8] = &packed;
        while !rest.is_empty() {
            rest = split_field(rest)?.2;
        }
        Some(Self(packed))
    }

    /// The packed form.
    pub fn packed(&self) -> &Bytes {
        &self.0
    }

    /// Every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name, value, after) = split_field(rest)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Every value of one lower-case name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The first value of one lower-case name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The first value of one lower-case name, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// One field off the front of a packed buffer: name, value, what follows.
fn split_field(packed: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (name_len, rest) = packed.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*name_len)))?;
    let (value_len, rest) = rest.split_first_chunk::<4>()?;
    let value_len = usize::try_from(u32::from_be_bytes(*value_len)).ok()?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some((std::str::from_utf8(name).ok()?, value, rest))
}

impl fmt::Debug for Headers {
    /// Names only: values may hold a provider's token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// One accepted webhook, exactly as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Stable over every attempt, replay and restart.
    pub id: EventId,
    /// The source that received it.
    pub source: Name,
    /// The provider's name for what happened, for example `build.approved`.
    pub name: String,
    /// What groups events that belong together, for example one build's.
    pub order_key: Option<String>,
    /// When the request was received.
    pub received_at: Timestamp,
    /// The request's header fields, as they came.
    pub headers: Headers,
    /// The request's body, byte for byte.
    pub body: Bytes,
}

impl fmt::Debug for Event {
    /// No payload: a log line made from this must not leak one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("name", &self.name)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What an append remembers so that a repeat of the same webhook yields no second event.
///
/// Keys and digests are the first 128 bits of SHA-256 over their parts, so that no sender can make two
/// different webhooks collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKey {
    /// A repeat while `key` is remembered is a duplicate; it is remembered for `window`.
    Exact {
        /// What makes two webhooks the same.
        key: u128,
        /// How long a repeat is recognised, counted from the first copy.
        window: Duration,
    },
    /// A repeat is a duplicate only while `digest` is the latest accepted one of `subject`: when something
    /// else happened to the subject in between, the same bytes are a new event.
    Latest {
        /// Whose history this is, for example one build's.
        subject: u128,
        /// The digest of this body.
        digest: u128,
        /// How long the latest digest is remembered.
        window: Duration,
    },
}

/// A key or token, already resolved. It never prints itself and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps the bytes of a secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the one place that computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "0-x", "streampixel", &"a".repeat(63)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn event_ids_print_and_parse_and_sort_by_time() {
        let first = EventId::new(Timestamp::from_millis(1), [7; 10]);
        assert_eq!(first.made_at(), Timestamp::from_millis(1));
        let late = Timestamp::from_millis(1_775_000_000_123);
        assert_eq!(EventId::new(late, [255; 10]).made_at(), late);
        let later = EventId::new(Timestamp::from_millis(2), [0; 10]);
        assert!(first.to_string() < later.to_string());
        assert_eq!(EventId::parse(&first.to_string()), Some(first));
        assert_eq!(EventId::from_bytes(first.to_bytes()), first);
        assert_eq!(EventId::parse("evt_"), None);
        assert_eq!(EventId::parse(&first.to_string().to_uppercase()), None);
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "[secret]");
    }

    #[test]
    fn headers_keep_order_repeats_and_raw_bytes() {
        let pairs: [(&str, &[u8]); 3] = [("a", b"1"), ("b", b"\xff\xfe"), ("a", b"")];
        let headers = Headers::from_pairs(pairs);
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(headers.get_all("a").count(), 2);
        assert_eq!(headers.get_str("b"), None);
        let again = Headers::from_packed(headers.packed().clone()).unwrap();
        assert_eq!(again, headers);
        assert!(Headers::from_packed(headers.packed().slice(1..)).is_none());
    }
}
