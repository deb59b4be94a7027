//! What an attempt is, what it brought back, and how a delivery goes on after it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Headers;
use crate::time::Timestamp;

/// What came back from one attempt, before anything is decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target answered with a full response head.
    Status {
        /// The HTTP status code.
        status: u16,
        /// The `Retry-After` field as it came, if there was one and it was text.
        retry_after: Option<String>,
    },
    /// No response head came; the class says how far the attempt got.
    Failed(ErrorClass),
    /// The attempt was cut off by our own stop, so it says nothing about the target.
    Interrupted,
}

/// Why an attempt brought no answer. A closed set: it is a metric label and a log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The host name did not resolve.
    Dns,
    /// No connection, refused or unreachable, or none within `connect_timeout`.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The peer closed or reset the connection before its answer was complete.
    Reset,
    /// No complete response head within `timeout`. The head decides, so no answer is lost to a slow body.
    Timeout,
    /// The target did not take the whole request body within `timeout`.
    TimeoutBody,
    /// What came back is not HTTP.
    Protocol,
    /// The response head is larger than the limit.
    TooLarge,
    /// Nothing was sent: the target's template fails on this event.
    Template,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Reset,
        Self::Timeout,
        Self::TimeoutBody,
        Self::Protocol,
        Self::TooLarge,
        Self::Template,
    ];

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout-head",
            Self::TimeoutBody => "timeout-body",
            Self::Protocol => "protocol",
            Self::TooLarge => "too-large",
            Self::Template => "template",
        }
    }
}

/// One attempt as the journal records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first attempt of a delivery; the `everhook-attempt` header.
    pub number: u32,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// From its start to its end: the answer's head, and what was read of its body.
    pub duration: Duration,
    /// What came back.
    pub answer: Answer,
    /// What else was seen of the exchange, for whoever looks for the reason of a failure.
    pub seen: Box<Seen>,
}

/// Most bytes of an answer's body that are recorded.
pub const MAX_SEEN_BODY: usize = 4 * 1024;
/// Most bytes of a request's, and of an answer's, packed header fields that are recorded.
pub const MAX_SEEN_HEADERS: usize = 2 * 1024;
/// Most bytes of an error's own words that are recorded.
pub const MAX_SEEN_DETAIL: usize = 256;

/// Stands in the record of a request for the value of a field that was sent as it came with the event. No field can have
/// it.
pub const AS_IT_CAME: &[u8] = b"\0";
/// Stands in the record of a request for the value of a field that is secret.
pub const MASKED: &[u8] = b"***";

/// What was seen of one exchange beside its outcome. Everything is optional: an attempt may end at any step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The address that was spoken with.
    pub remote: Option<SocketAddr>,
    /// Where the time went.
    pub timing: Timing,
    /// The request's header fields, at most [`MAX_SEEN_HEADERS`] bytes of them, [`AS_IT_CAME`] and [`MASKED`] in place of
    /// what need not or must not be recorded. Empty when it was not sent, or answered 2xx.
    pub request: Headers,
    /// The answer's header fields, at most [`MAX_SEEN_HEADERS`] bytes of them and none that carries a credential.
    pub headers: Headers,
    /// The beginning of the answer's body, at most [`MAX_SEEN_BODY`] bytes.
    pub body: Bytes,
    /// The answer's body was longer than what is recorded, or did not end in time.
    pub body_cut: bool,
    /// The error in its own words, at most [`MAX_SEEN_DETAIL`] bytes. Never holds a secret.
    pub detail: Option<String>,
}

/// How long each step of an attempt took. `None`: it was not reached, or a kept connection spared it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Looking up the host name.
    pub dns: Option<Duration>,
    /// Connecting.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request being sent to the answer's head.
    pub first_byte: Option<Duration>,
}

/// Why a delivery was given up. A closed set: it is a metric label and a log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// The retry policy has no further attempt.
    Attempts,
    /// The delivery is older than the target's `expire`.
    Expired,
    /// The target answered 410: it will never want this.
    Gone,
    /// The stored event can no longer be read.
    Damaged,
    /// The target answered with a status of its `retry.give_up`.
    Refused,
    /// The target's template fails on this event.
    Template,
}

impl DeadReason {
    /// Every reason, for metrics that must exist before their first count.
    pub const ALL: [Self; 6] =
        [Self::Attempts, Self::Expired, Self::Gone, Self::Damaged, Self::Refused, Self::Template];

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Template => "template",
        }
    }
}

/// How a claimed delivery goes on. Told to the journal once its attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The target has it. Final.
    Delivered,
    /// The attempt failed; due again at the given moment.
    RetryAt(Timestamp),
    /// Given up; kept as a dead letter. Final until an operator retries it.
    Dead(DeadReason),
    /// The attempt was interrupted by our own stop: due again at once, and it does not count as an attempt.
    Released,
}
