//! A request that was refused, as the quarantine keeps it.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;

use super::{Headers, Name, RejectionId};
use crate::time::Timestamp;

/// Why a request was refused by what it holds. A closed set: a metric label and the `cause` of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// 400: not what the provider sends.
    Malformed,
    /// 401: no proof of origin.
    Unverified,
    /// 403: the source's `where` or `allow_ips` does not admit it.
    NotAllowed,
    /// 415: a content coding that cannot be read.
    MediaType,
    /// It repeats an event by its key, and its body is another one. Its sender was told of the event.
    Conflict,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Malformed, Self::Unverified, Self::NotAllowed, Self::MediaType, Self::Conflict];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unverified => "unverified",
            Self::NotAllowed => "not-allowed",
            Self::MediaType => "media-type",
            Self::Conflict => "conflict",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str() == word)
    }
}

/// The header field of a conflicting copy that names the event it repeats.
pub const REPEATS: &str = "everhook-repeats";

/// What a list shows of a rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionOutline {
    /// Its id.
    pub id: RejectionId,
    /// The source that refused it.
    pub source: Name,
    /// Why.
    pub cause: Refusal,
    /// When it was received.
    pub received_at: Timestamp,
    /// Where it came from.
    pub client: IpAddr,
    /// Its sender was answered 200, so it waits to be released and is never given up for want of room.
    pub held: bool,
    /// Bytes of body and header fields, roughly.
    pub bytes: u64,
}

/// A refused request, whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its id.
    pub id: RejectionId,
    /// The source that refused it.
    pub source: Name,
    /// Why.
    pub cause: Refusal,
    /// When it was received.
    pub received_at: Timestamp,
    /// Where it came from.
    pub client: IpAddr,
    /// Its sender was answered 200.
    pub held: bool,
    /// The query of its target, if it had one.
    pub query: Option<String>,
    /// Its header fields, as they came.
    pub headers: Headers,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl fmt::Debug for Rejection {
    /// No payload: a log line made from this must not leak one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("cause", &self.cause)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
