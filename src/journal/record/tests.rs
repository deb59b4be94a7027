//! Every record comes back as it went in, and no byte can change unnoticed.

use bytes::Bytes;
use proptest::prelude::*;

use super::content::{self, Content, FRAME, PART, Parts};
use super::frame::{PREFIX, VERSION};
use super::*;
use crate::model::{
    AS_IT_CAME, Answer, ErrorClass, Headers, MAX_SEEN_BODY, MAX_SEEN_HEADERS, Seen, Timing,
};

const MARK: Mark = Mark { commit: 1, ordinal: 5 };

fn id() -> EventId {
    EventId::new(Timestamp::from_secs(1), [9; 10])
}

fn rejection() -> RejectionId {
    RejectionId::new(Timestamp::from_secs(4), [8; 10])
}

fn records() -> Vec<Record> {
    let window = Duration::from_secs(60);
    let keys = vec![
        DedupKey::Exact { key: 1 << 100, window },
        DedupKey::Latest { subject: 3, digest: 4, window },
    ];
    let states =
        [State::Ready, State::Waiting(Timestamp::from_secs(5)), State::Delivered, State::Discarded]
            .into_iter()
            .chain(DeadReason::ALL.map(State::Dead));
    let slots = |attempts| states.clone().map(move |state| Slot { target: 7, attempts, state });
    let at = Timestamp::from_secs(2);
    let place = Place { commit: MARK.commit, ordinal: 4, length: 3 };
    let answers = ErrorClass::ALL
        .map(Answer::Failed)
        .into_iter()
        .chain([Answer::Interrupted, Answer::Status { status: 503, retry_after: None }]);
    let settled = answers.zip(seen().into_iter().cycle()).map(|(answer, seen)| Record::Settled {
        sequence: 4,
        target: 2,
        attempts: 1,
        state: State::Ready,
        at,
        attempt: Some(Attempt {
            number: 1,
            started_at: at,
            duration: window,
            answer,
            seen: Box::new(seen),
        }),
    });
    let event = Record::Event {
        sequence: u64::MAX,
        id: id(),
        received_at: at,
        order: 77,
        place,
        label: Arc::new(Label { source: "streampixel".into(), name: "build.approved".into() }),
        dedup: keys.clone(),
        deliveries: slots(0).chain(slots(3)).collect(),
    };
    let kept = Kept {
        source: crate::model::Name::parse("ci").unwrap(),
        cause: crate::model::Refusal::NotAllowed,
        received_at: at,
        client: "2001:db8::7".parse().unwrap(),
        held: true,
        bytes: 700,
        place,
    };
    let entries = keys.into_iter().map(|key| (id(), at, key)).collect();
    settled
        .chain([
            event,
            Record::Commit { at, after: 9, records: 1, contents: 2 },
            Record::Dedup { entries },
            Record::Name { number: 3, name: "deploy".into() },
            Record::Note { topic: "pause".into(), name: "deploy".into(), value: vec![0, 255] },
            Record::Note { topic: "pause".into(), name: String::new(), value: Vec::new() },
            Record::Rejected { id: rejection(), kept },
            Record::Dropped { ids: vec![rejection(), rejection()] },
        ])
        .collect()
}

/// Nothing, everything, and each kind of address.
fn seen() -> Vec<Seen> {
    let micros = |count| Some(Duration::from_micros(count));
    let pairs: [(&str, &[u8]); 2] = [("server", b"x"), ("x-odd", b"\xff")];
    let whole = Seen {
        remote: Some("[2001:db8::1]:443".parse().unwrap()),
        timing: Timing { dns: micros(1), connect: micros(0), tls: None, first_byte: micros(70) },
        request: Headers::from_pairs([("webhook-id", &b"evt_1"[..]), ("x-own", AS_IT_CAME)]),
        headers: Headers::from_pairs(pairs),
        body: Bytes::from(vec![b'x'; MAX_SEEN_BODY]),
        body_cut: true,
        detail: Some("connection refused".into()),
    };
    let remote = Some("192.0.2.1:80".parse().unwrap());
    vec![Seen::default(), whole, Seen { remote, ..Seen::default() }]
}

#[test]
fn what_was_seen_of_an_answer_is_bounded() {
    let fields = vec![b'v'; MAX_SEEN_HEADERS];
    let seen = Seen {
        headers: Headers::from_pairs([("x", &fields[..])]),
        body: Bytes::from(vec![b'x'; MAX_SEEN_BODY + 1]),
        ..Seen::default()
    };
    let answer = Answer::Interrupted;
    let (started_at, duration) = (Timestamp::EPOCH, Duration::ZERO);
    let attempt = Attempt { number: 1, started_at, duration, answer, seen: Box::new(seen) };
    let mut out = BytesMut::new();
    attempt::put_attempt(&mut out, Some(&attempt));
    let mut rest: &[u8] = &out;
    assert_eq!(rest.get_u8(), 1);
    let back = attempt::take_attempt(&mut rest).unwrap();
    assert!(rest.is_empty() && back.seen.headers.packed().is_empty());
    assert_eq!(back.seen.body.len(), MAX_SEEN_BODY);
}

fn sample(body: &[u8]) -> Content {
    let pairs: [(&str, &[u8]); 2] = [("x-odd", b"\xff"), ("a", b"")];
    Content {
        id: id(),
        received_at: Timestamp::from_secs(3),
        source: "s".into(),
        name: "build.approved".into(),
        order_key: Some(String::new()),
        headers: Headers::from_pairs(pairs),
        body: Bytes::copy_from_slice(body),
    }
}

/// The frames that a place names.
fn frames(parts: &mut Parts, place: Place) -> Vec<Bytes> {
    parts.finish();
    let part = |ordinal: u32| parts.iter().take_while(|(first, _)| *first <= ordinal).last();
    let frame = |ordinal| content::frame_in(part(ordinal).unwrap().1, ordinal).unwrap();
    place.ordinals().map(frame).collect()
}

#[test]
fn records_come_back_as_they_went_in() {
    let mut bytes = BytesMut::new();
    for record in records() {
        put_record(&mut bytes, MARK, &record);
    }
    let mut rest: &[u8] = &bytes;
    for record in records() {
        assert_eq!(take_record(&mut rest), Ok((MARK, record)));
    }
    assert!(rest.is_empty());
}

#[test]
fn a_damaged_record_is_found_and_the_next_one_is_read() {
    let all = records();
    let mut bytes = BytesMut::new();
    put_record(&mut bytes, MARK, &all[0]);
    let first = bytes.len();
    put_record(&mut bytes, MARK, &all[1]);
    for at in 4..first {
        let mut torn = bytes.clone();
        torn[at] ^= 0x10;
        let mut rest: &[u8] = &torn;
        assert_eq!(take_record(&mut rest), Err(Damage::Checksum), "byte {at}");
        assert_eq!(take_record(&mut rest).as_ref(), Ok(&(MARK, all[1].clone())));
    }
}

#[test]
fn a_newer_version_is_not_guessed_at() {
    let mut bytes = BytesMut::new();
    put_record(&mut bytes, MARK, &records()[0]);
    bytes[PREFIX] = VERSION + 1;
    let checksum = crc32c::crc32c(&bytes[PREFIX..]);
    bytes[4..PREFIX].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(take_record(&mut &bytes[..]), Err(Damage::Version));
}

#[test]
fn frames_are_found_in_bytes_of_any_kind_and_what_is_damaged_is_passed_over() {
    let all = records();
    let mut bytes = BytesMut::from(&b"\x00\x00\x00\x20some noise"[..]);
    let mut begins = Vec::new();
    for record in &all[..3] {
        begins.push(bytes.len());
        put_record(&mut bytes, MARK, record);
        bytes.put_slice(b"\x01\x01 noise");
    }
    bytes[begins[1] + 12] ^= 1;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((begin, frame)) = frame::find(&bytes, at) {
        found.push((begin, record(&frame).unwrap()));
        at = begin + 1;
    }
    assert_eq!(found, [(begins[0], all[0].clone()), (begins[2], all[2].clone())]);
}

#[test]
fn contents_share_parts_and_none_crosses_a_border() {
    let mut parts = Parts::new(MARK.commit);
    let sizes = [0, 100, 5_000, 5_000, FRAME, 100_000, 10];
    let contents: Vec<_> = sizes.iter().map(|size| sample(&vec![7; *size])).collect();
    let places: Vec<_> = contents.iter().map(|content| parts.put(content)).collect();
    for (content, place) in contents.iter().zip(places) {
        assert_eq!(content::read(&frames(&mut parts, place)).as_ref(), Ok(content));
    }
    let mut next = 0;
    for (first, part) in parts.iter() {
        assert_eq!(first, next);
        assert!(part.len() <= PART);
        let mut rest: &[u8] = part;
        while !rest.is_empty() {
            assert_eq!(frame::take(&mut rest).unwrap().mark, Mark { commit: 1, ordinal: next });
            next += 1;
        }
    }
    assert_eq!(next, parts.frames());
}

proptest! {
    #[test]
    fn content_comes_back_byte_for_byte(body in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let mut parts = Parts::new(MARK.commit);
        parts.put(&sample(b"another"));
        let place = parts.put(&sample(&body));
        prop_assert_eq!(content::read(&frames(&mut parts, place)), Ok(sample(&body)));
    }

    #[test]
    fn no_changed_byte_of_a_content_goes_unnoticed(size in 0usize..20_000, at in any::<usize>(), flip in 1u8..) {
        let mut parts = Parts::new(MARK.commit);
        let place = parts.put(&sample(&vec![1; size]));
        let mut slices = frames(&mut parts, place);
        let total: usize = slices.iter().map(Bytes::len).sum();
        let mut at = at % total;
        for slice in &mut slices {
            if at < slice.len() {
                let mut changed = slice.to_vec();
                changed[at] ^= flip;
                *slice = changed.into();
                break;
            }
            at -= slice.len();
        }
        prop_assert!(content::read(&slices).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(take_record(&mut &bytes[..]));
        let _ = frame::find(&bytes, 0);
        drop(content::frame_in(&Bytes::from(bytes.clone()), 1));
        drop(content::read(&[Bytes::from(bytes)]));
    }
}
