//! What an attempt leaves for whoever looks for the reason of a failure: fields, body and errors of the other side,
//! bounded, and without what is secret.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderValue, LOCATION};
use memchr::memmem;

use super::Exchange;
use super::connect::Way;
use super::pool::SendError;
use crate::model::{
    AS_IT_CAME, Answer, ErrorClass, Headers, MASKED, MAX_SEEN_BODY, MAX_SEEN_DETAIL,
    MAX_SEEN_HEADERS, Seen,
};
use crate::rules::outbound::{is_a_proof, speaks_of_a_secret};
use crate::time::in_time;

/// Most bytes of an answer's body that are read. What is beyond the record is dropped as it comes, so that a connection
/// whose answer is a whole page can be used again.
pub const MAX_ANSWER_BODY: usize = 64 * 1024;
/// Read beyond the record, so that a secret that lies across its end is found.
const BEYOND_THE_RECORD: usize = MAX_SEEN_BODY;
/// A shorter value is not looked for in answers: it would be found by chance.
const SHORTEST_SECRET: usize = 8;
/// What stands in an answer's record where it repeated a secret.
const REMOVED: &[u8] = b"[removed]";
/// The request's body goes to the HTTP library in pieces of this size, so that it is known how much was taken.
const PIECE: usize = 16 * 1024;
/// Most causes of an error whose words are recorded.
const CAUSES: usize = 8;

impl Exchange {
    /// Cut off by our own stop.
    pub fn interrupted() -> Self {
        Self { answer: Answer::Interrupted, seen: Seen::default() }
    }

    /// No head of an answer within the target's `timeout`. `way` is there once a connection was.
    pub(super) fn timed_out(way: Option<Way>, body_taken: bool) -> Self {
        let (class, words) = match way {
            None => (ErrorClass::Connect, "no connection within timeout"),
            Some(_) if !body_taken => {
                (ErrorClass::TimeoutBody, "the request's body was not taken within timeout")
            }
            Some(_) => (ErrorClass::Timeout, "no complete head of an answer within timeout"),
        };
        let seen = Seen { detail: Some(words.into()), ..way.unwrap_or_default().seen() };
        Self { answer: Answer::Failed(class), seen }
    }

    /// `broken` is what TLS said when it ended the connection.
    pub(super) fn failed(error: &SendError, way: Option<Way>, broken: Option<&str>) -> Self {
        let way = match error {
            SendError::Connect(failed) => Some(failed.way),
            SendError::Http(_) | SendError::Late => way,
        };
        let (class, words) = match broken {
            Some(words) => (ErrorClass::Tls, clean(words)),
            None => (class_of(error), words_of(error)),
        };
        let seen = Seen { detail: Some(words), ..way.unwrap_or_default().seen() };
        Self { answer: Answer::Failed(class), seen }
    }
}

impl Way {
    /// The part of the record that a connection gives.
    pub(super) fn seen(self) -> Seen {
        Seen { remote: self.remote, timing: self.timing, ..Seen::default() }
    }
}

/// Whether the server says itself that it has not looked at the request (RFC 9113, section 8.7): the connection was at its
/// end already, or it was one request too many at once.
pub(super) fn is_untouched(error: &SendError) -> bool {
    let SendError::Http(error) = error else { return false };
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(http2) = current.downcast_ref::<h2::Error>() {
            let at_its_end = http2.is_go_away() && http2.reason() == Some(h2::Reason::NO_ERROR);
            let one_too_many =
                http2.is_reset() && http2.reason() == Some(h2::Reason::REFUSED_STREAM);
            return http2.is_remote() && (at_its_end || one_too_many);
        }
        cause = current.source();
    }
    false
}

/// How far an attempt got.
pub(super) fn class_of(error: &SendError) -> ErrorClass {
    match error {
        SendError::Connect(failed) => failed.class,
        SendError::Http(http) if http.is_parse_too_large() => ErrorClass::TooLarge,
        SendError::Http(http) if http.is_parse() => ErrorClass::Protocol,
        SendError::Http(http) if http.is_timeout() => ErrorClass::Timeout,
        SendError::Late => ErrorClass::Timeout,
        SendError::Http(_) => ErrorClass::Reset,
    }
}

/// The error in its own words. None of the libraries below puts a URL's path or a header field into them.
fn words_of(error: &SendError) -> String {
    let error = match error {
        SendError::Connect(failed) => return clean(&failed.cause.to_string()),
        SendError::Late => return clean(&error.to_string()),
        SendError::Http(error) => error,
    };
    let mut words: Vec<String> = Vec::new();
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(current) = cause.filter(|_| words.len() < CAUSES) {
        let more = current.to_string();
        // Some repeat their cause in their own words.
        if !words.iter().any(|said| said.contains(&more)) {
            words.push(more);
        }
        cause = current.source();
    }
    clean(&words.join(": "))
}

/// One line within its bound.
fn clean(text: &str) -> String {
    let mut clean = String::new();
    for letter in text.chars().filter(|c| !c.is_control()) {
        if clean.len() + letter.len_utf8() > MAX_SEEN_DETAIL {
            break;
        }
        clean.push(letter);
    }
    clean
}

/// The values in a request that an answer may repeat and a record must not.
pub(super) fn secrets_in(fields: &HeaderMap) -> Vec<HeaderValue> {
    let secret = |name: &str, value: &HeaderValue| {
        value.len() >= SHORTEST_SECRET && (value.is_sensitive() || speaks_of_a_secret(name))
    };
    let found = fields.iter().filter(|(name, value)| secret(name.as_str(), value));
    found.map(|(_, value)| value.clone()).collect()
}

/// Whether a request's own fields are worth recording: it was sent, and was not what the target wanted. Of every attempt
/// that succeeds they would be the larger part of what a delivery writes to the disk.
pub(super) fn is_worth_recording(answer: &Answer) -> bool {
    match answer {
        Answer::Status { status: 200..=299, .. }
        | Answer::Failed(
            ErrorClass::Dns | ErrorClass::Connect | ErrorClass::Tls | ErrorClass::Template,
        )
        | Answer::Interrupted => false,
        Answer::Status { .. } | Answer::Failed(_) => true,
    }
}

/// The request's fields as far as there is room: no secret, and of what came with the event only that it was passed on.
pub(super) fn sent_fields(fields: &HeaderMap, event: &Headers) -> Headers {
    let value = |name: &str, value: &HeaderValue| {
        if event.get_all(name).any(|own| own == value.as_bytes()) {
            return AS_IT_CAME.to_vec();
        }
        let is_secret = value.is_sensitive() || is_a_proof(name);
        if is_secret { MASKED.to_vec() } else { value.as_bytes().to_vec() }
    };
    let all = fields.iter().map(|(name, it)| (name.as_str(), value(name.as_str(), it)));
    within_room(all)
}

/// The answer's fields, without those that carry a credential, as far as there is room.
pub(super) fn recorded_fields(fields: &HeaderMap, secrets: &[HeaderValue]) -> Headers {
    let kept = fields.iter().filter(|(name, _)| !speaks_of_a_secret(name.as_str()));
    within_room(kept.map(|(name, value)| {
        let shown = if *name == LOCATION { origin_of(value.as_bytes()) } else { value.as_bytes() };
        (name.as_str(), removed(shown, secrets))
    }))
}

/// Each field that fits into what is left of the bound.
fn within_room<'a, V: AsRef<[u8]>>(fields: impl Iterator<Item = (&'a str, V)>) -> Headers {
    /// What a field takes beside its name and value when it is packed.
    const FRAME: usize = 6;
    let mut room = MAX_SEEN_HEADERS;
    let fields = fields.filter(|(name, value)| {
        let left = room.checked_sub(name.len() + value.as_ref().len() + FRAME);
        room = left.unwrap_or(room);
        left.is_some()
    });
    let fields: Vec<_> = fields.collect();
    Headers::from_pairs(fields.iter().map(|(name, value)| (*name, value.as_ref())))
}

/// Where a redirect leads, without path and query: a target that moves its own URL repeats what is secret in it.
fn origin_of(location: &[u8]) -> &[u8] {
    let after_scheme = memmem::find(location, b"://").map_or(0, |at| at + 3);
    let path = location.iter().skip(after_scheme).position(|b| b"/?#".contains(b));
    path.and_then(|path| location.get(..after_scheme + path)).unwrap_or(location)
}

/// The bytes with every repeated secret taken out; of `Bearer abc`, the second word alone as well.
fn removed(bytes: &[u8], secrets: &[HeaderValue]) -> Bytes {
    let mut clean = Bytes::copy_from_slice(bytes);
    for secret in secrets {
        let whole = secret.as_bytes();
        let word = whole.rsplit(|b| *b == b' ').next().unwrap_or_default();
        let needle = if word.len() >= SHORTEST_SECRET { word } else { whole };
        let mut found = memmem::find(&clean, needle).is_some().then(BytesMut::new);
        let Some(out) = &mut found else { continue };
        let mut from = 0;
        for at in memmem::find_iter(&clean, needle) {
            out.extend_from_slice(clean.get(from..at).unwrap_or_default());
            out.extend_from_slice(REMOVED);
            from = at + needle.len();
        }
        out.extend_from_slice(clean.get(from..).unwrap_or_default());
        clean = found.unwrap_or_default().freeze();
    }
    clean
}

/// The beginning of an answer's body.
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    /// There was more, or it did not end in time.
    pub(super) cut: bool,
}

/// Reads until the body ends, is too long, or took longer than `within`. A connection whose answer goes on is closed.
pub(super) async fn beginning(
    mut body: Incoming,
    within: Duration,
    secrets: &[HeaderValue],
) -> Beginning {
    let mut kept = BytesMut::new();
    let mut read = 0_usize;
    let reading = async {
        // Whatever happens here says nothing about the delivery any more.
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let Ok(data) = frame.into_data() else { continue };
            read = read.saturating_add(data.len());
            let room = (MAX_SEEN_BODY + BEYOND_THE_RECORD).saturating_sub(kept.len());
            kept.extend_from_slice(data.get(..room).unwrap_or(&data));
            if read > MAX_ANSWER_BODY {
                return false;
            }
        }
        true
    };
    let ended = in_time(within, reading).await.unwrap_or(false);
    let clean = removed(&kept, secrets);
    let cut = !ended || read > kept.len() || clean.len() > MAX_SEEN_BODY;
    Beginning { bytes: clean.slice(..clean.len().min(MAX_SEEN_BODY)), cut }
}

/// A request's body, handed over in pieces.
#[derive(Debug)]
pub(super) struct Outgoing {
    rest: Bytes,
    taken: Arc<AtomicBool>,
}

impl Outgoing {
    /// The body, and whether it has been taken as a whole.
    pub(super) fn new(rest: Bytes) -> (Self, Arc<AtomicBool>) {
        let taken = Arc::new(AtomicBool::new(rest.is_empty()));
        (Self { rest, taken: Arc::clone(&taken) }, taken)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.taken.store(this.rest.is_empty(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::fields;
    use super::*;

    #[test]
    fn no_credential_of_an_answer_is_recorded_and_none_of_ours_that_it_repeats() {
        let sent = fields(&[
            ("authorization", "Bearer canary-token-1"),
            ("x-gitlab-token", "canary-token-2"),
            ("x-team", "an ordinary value"),
        ]);
        let secrets = secrets_in(&sent);
        let came = fields(&[
            ("content-type", "text/plain"),
            ("set-cookie", "session=theirs"),
            ("x-api-key", "theirs"),
            ("x-echo", "got canary-token-2"),
            ("location", "https://discord.example/api/webhooks/1/canary-token-3?x=y"),
        ]);
        let recorded = recorded_fields(&came, &secrets);
        let text = String::from_utf8_lossy(recorded.packed()).into_owned();
        assert!(!text.contains("canary") && !text.contains("theirs"), "{text}");
        assert_eq!(recorded.get_str("location"), Some("https://discord.example"));
        assert_eq!(recorded.get_str("x-echo"), Some("got [removed]"));
        assert_eq!(recorded.get_str("content-type"), Some("text/plain"));
        let body = b"you sent canary-token-1 and canary-token-1, an ordinary value";
        assert_eq!(removed(body, &secrets), "you sent [removed] and [removed], an ordinary value");
    }

    #[test]
    fn of_a_request_is_recorded_what_was_added_and_nothing_secret() {
        let mut sent = fields(&[
            ("x-github-event", "push"),
            ("x-api-key", "canary-1"),
            ("authorization", "Bearer canary-2"),
            ("x-team", "canary-3"),
            ("webhook-signature", "v1,canary-4"),
            ("webhook-id", "evt_1"),
            ("x-github-event", "other"),
        ]);
        sent.get_mut("x-team").unwrap().set_sensitive(true);
        let event =
            Headers::from_pairs([("x-github-event", &b"push"[..]), ("x-api-key", b"canary-1")]);
        let recorded = sent_fields(&sent, &event);
        assert!(!String::from_utf8_lossy(recorded.packed()).contains("canary"));
        let all = |name: &str| recorded.get_all(name).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(all("x-github-event"), [AS_IT_CAME, b"other"]);
        assert_eq!(all("x-api-key"), [AS_IT_CAME], "it stands in the event already");
        for masked in ["authorization", "x-team", "webhook-signature"] {
            assert_eq!(all(masked), [MASKED], "{masked}");
        }
        assert_eq!(all("webhook-id"), [b"evt_1"]);
    }

    #[test]
    fn fields_are_kept_whole_as_far_as_there_is_room() {
        let long: &'static str = "v".repeat(MAX_SEEN_HEADERS).leak();
        let recorded = recorded_fields(&fields(&[("x-long", long), ("x-short", "v")]), &[]);
        assert_eq!(recorded.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["x-short"]);
        let exact: &'static str = "v".repeat(MAX_SEEN_HEADERS - 7).leak();
        assert_eq!(recorded_fields(&fields(&[("x", exact)]), &[]).packed().len(), MAX_SEEN_HEADERS);
    }

    #[test]
    fn words_are_one_line_within_their_bound() {
        assert_eq!(clean("a\u{1b}[31m\r\nb"), "a[31mb");
        let long = clean(&"é".repeat(MAX_SEEN_DETAIL));
        assert!(long.len() <= MAX_SEEN_DETAIL && long.ends_with('é'));
    }
}
