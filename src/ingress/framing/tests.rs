//! What passes, what is a violation, and where.

use proptest::prelude::*;

use super::*;

/// Feeds the bytes whole and then one by one: both must agree.
fn verdict(bytes: &[u8]) -> Result<Phase, usize> {
    let mut whole = Framing::new();
    let at_once = whole.feed(bytes).map(|_| whole.phase());
    let mut piecewise = Framing::new();
    let pieces = bytes.iter().try_for_each(|b| piecewise.feed(&[*b]).map(drop));
    assert_eq!(at_once.is_ok(), pieces.is_ok(), "{:?}", String::from_utf8_lossy(bytes));
    at_once.map_err(|violation| violation.sound)
}

fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST /in HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn requests_in_order_pass() {
    for (bytes, phase) in [
        (&b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Phase::Between),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Phase::Between),
        (b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:5 \r\n\r\nhell", Phase::Body),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Phase::Between),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\nA\r\n0123", Phase::Body),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\nPOST", Phase::Head),
        (b"GET /a?b=c HTTP/1.0\r\n\r\nPOST http://a/ HTTP/1.1\r\nHos", Phase::Head),
        (b"\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Between),
        (b"", Phase::Between),
    ] {
        assert_eq!(verdict(bytes), Ok(phase), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn whatever_can_be_read_in_two_ways_is_a_violation() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        " folded: yes\r\n",
        "A: b\r\n c\r\n",
        "A: b\nC: d\r\n",
        "A: b\rC: d\r\n",
        "A: b\0\r\n",
        "no colon\r\n",
        ": no name\r\n",
    ] {
        assert_eq!(verdict(&with_fields(fields)), Err(0), "{fields:?}");
    }
    for bytes in [
        &b"POST / HTTP/1.1\nHost: a\n\n"[..],
        b"POST  / HTTP/1.1\r\n",
        b"POST / HTTP/1.1 \r\n",
        b"POST / HTTP/2.0\r\n",
        b"POST /\r\n",
        b"PO(ST / HTTP/1.1\r\n",
        b"\nPOST / HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(verdict(bytes), Err(0), "{}", String::from_utf8_lossy(bytes));
    }
    for body in [
        "5\nhello",
        "5 \r\nhello",
        "0x5\r\nhello",
        "-5\r\n",
        "\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "0\r\nbad trailer\r\n",
    ] {
        let bytes = [&with_fields("Transfer-Encoding: chunked\r\n")[..], body.as_bytes()].concat();
        assert_eq!(verdict(&bytes), Err(0), "{body:?}");
    }
}

#[test]
fn what_came_before_a_violation_is_still_sound() {
    let good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let bytes = [&good[..], b"POST / HTTP/1.1\nX: y\r\n\r\n"].concat();
    assert_eq!(verdict(&bytes), Err(good.len()));
}

#[test]
fn endless_lines_and_chunk_frames_end() {
    let mut framing = Framing::new();
    assert_eq!(framing.feed(&vec![b'a'; MAX_HEAD]), Ok(0));
    assert_eq!(framing.feed(b"a").map_err(|v| v.refusal), Err(Refusal::TooLarge));
    let mut framing = Framing::new();
    framing.feed(&with_fields("Transfer-Encoding: chunked\r\n")).unwrap();
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    assert!((0..100).any(|_| framing.feed(chunk.as_bytes()).is_err()));
    let mut framing = Framing::new();
    assert_eq!(framing.feed(&b"\r\n".repeat(MAX_BLANKS)), Ok(2 * MAX_BLANKS));
    assert!(framing.feed(b"\r\n").is_err());
}

#[test]
fn a_head_has_exactly_so_many_bytes_and_fields() {
    let of_bytes = |bytes: usize| {
        let frame = with_fields("X: \r\n").len();
        with_fields(&format!("X: {}\r\n", "y".repeat(bytes - frame)))
    };
    let of_fields = |fields: usize| with_fields(&"X: y\r\n".repeat(fields - 1));
    let refusal = |bytes: &[u8]| Framing::new().feed(bytes).map_err(|v| v.refusal);
    assert_eq!(refusal(&of_bytes(MAX_HEAD)), Ok(MAX_HEAD));
    assert_eq!(refusal(&of_bytes(MAX_HEAD + 1)), Err(Refusal::TooLarge));
    assert!(refusal(&of_fields(MAX_FIELDS)).is_ok());
    assert_eq!(refusal(&of_fields(MAX_FIELDS + 1)), Err(Refusal::TooLarge));
    assert_eq!(verdict(&of_bytes(MAX_HEAD + 1)), Err(0));
}

#[test]
fn http_1_1_names_one_host() {
    let with_host = |version: &str, fields: &str| {
        verdict(format!("POST / {version}\r\n{fields}\r\n").as_bytes()).is_ok()
    };
    for host in ["", "a", "a:", "a:80", "a.b-c_d~", "%41:1", "127.0.0.1:8080", "[::1]", "[::1]:80"]
    {
        assert!(with_host("HTTP/1.1", &format!("Host: {host}\r\n")), "{host}");
    }
    for host in
        ["a b", "a/b", "a:b", "a@b", "a:1:2", "[::1", "[x]", "::1", "%4", "%zz", "a?", "\u{e4}"]
    {
        assert!(!with_host("HTTP/1.1", &format!("Host: {host}\r\n")), "{host}");
        assert!(!with_host("HTTP/1.0", &format!("Host: {host}\r\n")), "{host}");
    }
    assert!(!with_host("HTTP/1.1", ""));
    assert!(!with_host("HTTP/1.1", "Host: a\r\nHost: a\r\n"));
    assert!(with_host("HTTP/1.0", ""));
    assert!(!with_host("HTTP/1.0", "Host: a\r\nHost: b\r\n"));
}

#[test]
fn the_beginning_of_a_head_is_kept_back() {
    let good = with_fields("A: b\r\n");
    let mut framing = Framing::new();
    let two = [&good[..], &good[..9]].concat();
    assert_eq!(framing.feed(&two), Ok(good.len()));
    assert_eq!(
        framing.feed(b"\n"),
        Err(Violation { sound: 0, amid_body: false, refusal: Refusal::Malformed })
    );
    let mut framing = Framing::new();
    framing.feed(&with_fields("Transfer-Encoding: chunked\r\n")).unwrap();
    assert!(framing.feed(b"zz\r\n").is_err_and(|violation| violation.amid_body));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_pieces_agree_with_the_whole(bytes in proptest::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'5'), any::<u8>()], 0..200)) {
        // The comparison is inside `verdict`.
        let first = verdict(&bytes);
        let after = [&with_fields("Transfer-Encoding: chunked\r\n")[..], &bytes].concat();
        prop_assert!(first.is_err() || verdict(&after) == verdict(&after));
    }
}
