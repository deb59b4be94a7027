//! Every record comes back as it went in, and no byte can change unnoticed.

use proptest::prelude::*;

use super::*;

fn id() -> EventId {
    EventId::new(Timestamp::from_secs(1), [9; 10])
}

fn records() -> Vec<Record> {
    let window = Duration::from_secs(60);
    let keys = vec![
        DedupKey::Exact { key: 1 << 100, window },
        DedupKey::Latest { subject: 3, digest: 4, window },
    ];
    let slot = |state| Slot { target: 7, attempts: 3, state };
    let states = [State::Ready, State::Waiting(Timestamp::from_secs(5)), State::Delivered]
        .into_iter()
        .chain(DeadReason::ALL.map(State::Dead));
    let at = Timestamp::from_secs(2);
    let place = Place { commit: 1, offset: 2, length: 3 };
    let answers = CLASSES
        .map(Answer::Failed)
        .into_iter()
        .chain([Answer::Interrupted, Answer::Status { status: 503, retry_after: None }]);
    let settled = answers.map(|answer| Record::Settled {
        sequence: 4,
        target: 2,
        attempts: 1,
        state: State::Ready,
        at,
        attempt: Some(Attempt { number: 1, started_at: at, duration: window, answer }),
    });
    let event = Record::Event {
        sequence: u64::MAX,
        id: id(),
        received_at: at,
        place,
        dedup: keys.clone(),
        deliveries: states.map(slot).collect(),
    };
    settled.chain([event, Record::Commit { at }, Record::Dedup { id: id(), at, keys }]).collect()
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

#[test]
fn records_come_back_as_they_went_in() {
    let mut bytes = BytesMut::new();
    for record in records() {
        put_record(&mut bytes, &record);
    }
    let mut rest: &[u8] = &bytes;
    for record in records() {
        assert_eq!(take_record(&mut rest), Ok(record));
    }
    assert!(rest.is_empty());
}

#[test]
fn a_damaged_record_is_found_and_the_next_one_is_read() {
    let all = records();
    let mut bytes = BytesMut::new();
    put_record(&mut bytes, &all[0]);
    let first = bytes.len();
    put_record(&mut bytes, &all[1]);
    for at in 4..first {
        let mut torn = bytes.clone();
        torn[at] ^= 0x10;
        let mut rest: &[u8] = &torn;
        assert_eq!(take_record(&mut rest), Err(Damage::Checksum), "byte {at}");
        assert_eq!(take_record(&mut rest).as_ref(), Ok(&all[1]));
    }
}

#[test]
fn a_newer_version_is_not_guessed_at() {
    let mut bytes = BytesMut::new();
    put_record(&mut bytes, &records()[0]);
    bytes[PREFIX] = VERSION + 1;
    let checksum = crc32c::crc32c(&bytes[PREFIX..]);
    bytes[4..PREFIX].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(take_record(&mut &bytes[..]), Err(Damage::Version));
}

proptest! {
    #[test]
    fn content_comes_back_byte_for_byte(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut bytes = BytesMut::new();
        put_content(&mut bytes, &sample(&body));
        prop_assert_eq!(content(&bytes.freeze()), Ok(sample(&body)));
    }

    #[test]
    fn no_changed_byte_of_a_content_goes_unnoticed(at in 0usize..200, flip in 1u8..) {
        let mut bytes = BytesMut::new();
        put_content(&mut bytes, &sample(b"the body"));
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert!(content(&bytes.freeze()).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(take_record(&mut &bytes[..]));
        drop(name(&bytes));
        drop(content(&Bytes::from(bytes)));
    }
}
