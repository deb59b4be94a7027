//! Which header fields a target receives: the provider's own as they came, and ours.

use hyper::header::{Entry, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::Call;
use crate::model::Headers;
use crate::rules::outbound::speaks_of_a_secret;
use crate::rules::trace;
use crate::template::Body;

/// What the relay calls itself toward targets.
const USER_AGENT_VALUE: &str = concat!("everhook/", env!("CARGO_PKG_VERSION"));

/// Never passed on: hop-by-hop fields (RFC 9110, section 7.6.1), what describes the caller's connection to us
/// rather than the event, the caller's credentials toward us, and every name that is ours to set.
const NOT_PASSED_ON: [&str; 22] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "everhook-attempt",
    "everhook-event",
    "everhook-source",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
];

/// Fields that describe the bytes the provider sent, and nothing that is made of them.
const ABOUT_THE_BYTES: [&str; 5] =
    ["content-digest", "content-encoding", "content-md5", "content-type", "digest"];

/// What the configuration says of a target's fields.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// To be set on each request.
    pub(super) set: HeaderMap,
    /// Whether the provider's tokens go with its other fields.
    pub(super) tokens: bool,
    /// Fields of sources that hold a token, whatever their names say.
    pub(super) known_tokens: Vec<HeaderName>,
}

/// The header fields of one attempt. `signature` is the field that signs it, if the target signs.
pub(super) fn outbound(
    call: &Call<'_>,
    body: &Body,
    Fields { set, tokens, known_tokens }: &Fields,
    signature: Option<(&str, &[u8])>,
) -> HeaderMap {
    let event = call.event;
    let mut fields = HeaderMap::with_capacity(24);
    for (name, value) in event.headers.iter() {
        // When the target signs, a provider's own signature under the same name would be taken for ours.
        let replaced = signature.is_some_and(|(ours, _)| ours == name) || set.contains_key(name);
        let stale = !body.is_verbatim() && ABOUT_THE_BYTES.contains(&name);
        let is_token = || carries_a_token(name) || known_tokens.iter().any(|it| it == name);
        let withheld = !tokens && is_token();
        if replaced
            || stale
            || withheld
            || !body.passes_headers()
            || !passes(&event.headers, name, call.trace.parent.is_some())
        {
            continue;
        }
        append(&mut fields, name, value);
    }
    if let Some(content_type) = body.content_type() {
        append(&mut fields, "content-type", content_type.as_bytes());
    }
    for name in known_tokens {
        if let Entry::Occupied(mut entry) = fields.entry(name) {
            // What an answer's record may not repeat.
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
    fields.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    fields.extend(set.clone());
    if let Some((name, value)) = signature {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(mut value)) = parsed {
            // It may be a token, which no answer's record may repeat.
            value.set_sensitive(true);
            fields.append(name, value);
        }
    }
    let mut ours = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            fields.insert(HeaderName::from_static(name), value);
        }
    };
    ours("webhook-id", &event.id.to_string());
    ours("webhook-timestamp", &call.wall.as_secs().to_string());
    ours("everhook-source", event.source.as_str());
    ours("everhook-event", &event.name);
    ours("everhook-attempt", &call.number.to_string());
    ours(trace::FIELD, &call.trace.field(call.span));
    fields
}

/// An idempotency key is a name of the event, and no secret.
fn carries_a_token(name: &str) -> bool {
    speaks_of_a_secret(name) && name != "idempotency-key"
}

/// Both came through a parser, so they fit; a field that does not is left out, never fatal.
fn append(fields: &mut HeaderMap, name: &str, value: &[u8]) {
    let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
    if let (Ok(name), Ok(value)) = parsed {
        fields.append(name, value);
    }
}

fn passes(all: &Headers, name: &str, traced: bool) -> bool {
    let ours = NOT_PASSED_ON.binary_search(&name).is_ok() || name == trace::FIELD;
    let about_the_caller = name.starts_with("x-forwarded-") || (name == "tracestate" && !traced);
    !ours && !about_the_caller && !named_by_connection(all, name)
}

/// Whether the caller's `Connection` field declares this name as meant for the next hop only.
fn named_by_connection(all: &Headers, name: &str) -> bool {
    all.get_all("connection")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Event, EventId, Name};
    use crate::rules::trace::Trace;
    use crate::template::Preset;
    use crate::time::Timestamp;

    fn event(pairs: &[(&str, &[u8])]) -> Event {
        Event {
            id: EventId::new(Timestamp::from_secs(1), [3; 10]),
            source: Name::parse("streampixel").unwrap(),
            name: "build.approved".into(),
            order_key: None,
            received_at: Timestamp::from_secs(1),
            headers: Headers::from_pairs(pairs.iter().copied()),
            body: Bytes::new(),
        }
    }

    fn with(set: HeaderMap, tokens: bool) -> Fields {
        Fields { set, tokens, known_tokens: vec![HeaderName::from_static("x-proof")] }
    }

    fn call(event: &Event, body: Bytes, wall: Timestamp) -> Call<'_> {
        let trace = Trace::of(event.id, &event.headers, 1.0);
        Call { event, body, number: 2, wall, trace, span: [0xab; 8] }
    }

    fn sent(pairs: &[(&str, &[u8])], signature: Option<&str>) -> HeaderMap {
        let event = event(pairs);
        let wall = Timestamp::from_secs(1_700_000_000);
        let signature = signature.map(|value| ("webhook-signature", value.as_bytes()));
        let raw = Body::new(Preset::Raw, None, None).unwrap();
        let body = event.body.clone();
        let call = call(&event, body, wall);
        outbound(&call, &raw, &with(HeaderMap::new(), true), signature)
    }

    #[test]
    fn the_list_of_withheld_names_is_sorted_for_its_binary_search() {
        assert!(NOT_PASSED_ON.is_sorted());
    }

    #[test]
    fn passes_the_providers_fields_and_withholds_the_connections() {
        let got = sent(
            &[
                ("x-buildkite-event", b"build.finished"),
                ("x-buildkite-token", b"t0ken"),
                ("content-type", b"application/json"),
                ("x-odd", b"\xff\xfe"),
                ("x-twice", b"1"),
                ("x-twice", b"2"),
                ("host", b"relay"),
                ("authorization", b"Bearer x"),
                ("cookie", b"a=b"),
                ("x-forwarded-for", b"1.2.3.4"),
                ("connection", b"keep-alive, X-Hop"),
                ("x-hop", b"1"),
                ("transfer-encoding", b"chunked"),
                ("everhook-attempt", b"999"),
                ("webhook-id", b"theirs"),
                ("tracestate", b"a=1"),
            ],
            None,
        );
        assert_eq!(got["x-buildkite-event"], "build.finished");
        assert_eq!(got["x-buildkite-token"], "t0ken");
        assert_eq!(got["x-odd"].as_bytes(), b"\xff\xfe");
        assert_eq!(got.get_all("x-twice").iter().count(), 2);
        for withheld in [
            "host",
            "authorization",
            "cookie",
            "x-forwarded-for",
            "connection",
            "x-hop",
            "tracestate",
        ] {
            assert!(!got.contains_key(withheld), "{withheld}");
        }
        assert_eq!(got["everhook-attempt"], "2");
        assert_eq!(got["everhook-source"], "streampixel");
        assert_eq!(got["everhook-event"], "build.approved");
        assert_eq!(got["webhook-timestamp"], "1700000000");
        assert!(got["webhook-id"].to_str().unwrap().starts_with("evt_"));
        assert!(got["user-agent"].to_str().unwrap().starts_with("everhook/"));
    }

    #[test]
    fn a_target_that_signs_never_sees_a_foreign_signature_under_the_same_name() {
        let theirs: (&str, &[u8]) = ("webhook-signature", b"v1,theirs");
        assert_eq!(sent(&[theirs], Some("v1,ours"))["webhook-signature"], "v1,ours");
        assert_eq!(sent(&[theirs], None)["webhook-signature"], "v1,theirs");
    }

    #[test]
    fn a_body_of_our_own_goes_without_what_described_the_providers() {
        let event = event(&[
            ("content-type", b"application/x-www-form-urlencoded"),
            ("content-encoding", b"gzip"),
            ("x-buildkite-token", b"t0ken"),
            ("x-team", b"theirs"),
        ]);
        let set: HeaderMap =
            [(HeaderName::from_static("x-team"), HeaderValue::from_static("ours"))]
                .into_iter()
                .collect();
        let fields = |preset, template: Option<&str>| {
            let body = Body::new(preset, template.map(str::to_owned), None).unwrap();
            let wall = Timestamp::from_secs(1_700_000_000);
            let bytes = Bytes::new();
            let call = call(&event, bytes, wall);
            outbound(&call, &body, &with(set.clone(), true), None)
        };
        let templated = fields(Preset::Raw, Some("{}"));
        assert_eq!(templated["content-type"], "application/json");
        assert!(!templated.contains_key("content-encoding"));
        assert_eq!(templated["x-buildkite-token"], "t0ken");
        assert_eq!(templated.get_all("x-team").iter().collect::<Vec<_>>(), ["ours"]);
        let slack = fields(Preset::Slack, None);
        assert_eq!(slack["content-type"], "application/json");
        assert!(!slack.contains_key("x-buildkite-token"), "a third party gets no tokens");
        assert!(slack.contains_key("webhook-id"));
    }

    #[test]
    fn a_trace_goes_on_with_its_state_and_a_new_one_begins_without() {
        let valid: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let got = sent(&[("traceparent", valid), ("tracestate", b"a=1")], None);
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01";
        assert_eq!(got["traceparent"], expected);
        assert_eq!(got["tracestate"], "a=1");
        let got = sent(&[("traceparent", b"none"), ("tracestate", b"a=1")], None);
        let id = got["webhook-id"].to_str().unwrap().trim_start_matches("evt_");
        assert_eq!(got["traceparent"], format!("00-{id}-abababababababab-01").as_str());
        assert!(!got.contains_key("tracestate"));
    }

    #[test]
    fn tokens_stay_behind_where_the_target_is_not_to_have_them() {
        let event = event(&[
            ("x-gitlab-token", b"t0ken"),
            ("x-proof", b"t0ken"),
            ("x-gitlab-event", b"Push Hook"),
            ("x-hub-signature-256", b"sha256=00"),
            ("idempotency-key", b"1"),
        ]);
        let raw = Body::new(Preset::Raw, None, None).unwrap();
        let wall = Timestamp::from_secs(1_700_000_000);
        let call = call(&event, Bytes::new(), wall);
        let fields = |tokens| outbound(&call, &raw, &with(HeaderMap::new(), tokens), None);
        let (all, without) = (fields(true), fields(false));
        assert!(all["x-proof"].is_sensitive() && !all["x-gitlab-event"].is_sensitive());
        for token in ["x-gitlab-token", "x-proof"] {
            assert!(all.contains_key(token) && !without.contains_key(token), "{token}");
        }
        for kept in ["x-gitlab-event", "x-hub-signature-256", "idempotency-key"] {
            assert!(without.contains_key(kept), "{kept}");
        }
    }
}
