//! What a sender is told before a source is even looked for, over raw sockets, and that it is counted.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::within;

/// A relay with these keys of `[ingress]`, and the receiver of whatever it accepts.
async fn start(ingress: &str) -> (Home, Daemon, Receiver) {
    let receiver = Receiver::good().await;
    let home = Home::with_ingress(
        ingress,
        &format!(
            "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
            receiver.url()
        ),
    );
    let daemon = home.start().await;
    (home, daemon, receiver)
}

async fn open(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.ingress).await.expect("it listens")
}

/// Sends the pieces one by one and reads until the daemon closes.
async fn exchange(daemon: &Daemon, pieces: &[&[u8]]) -> String {
    let mut socket = open(daemon).await;
    socket.set_nodelay(true).expect("an option");
    for piece in pieces {
        drop(socket.write_all(piece).await);
        tokio::task::yield_now().await;
    }
    read_to_end(&mut socket).await
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    within("the connection is closed", async { drop(socket.read_to_end(&mut answer).await) }).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_problem(answer: &str, status: &str, cause: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
        && answer.contains("content-type: application/problem+json\r\n")
        && answer.contains(&format!("\"cause\":\"{cause}\""))
}

#[tokio::test]
async fn what_is_refused_on_the_wire_is_a_problem_and_counted() {
    let (_home, daemon, _receiver) = start("").await;
    let post = "POST /in/any HTTP/1.1\r\n";
    let malformed = [
        format!(
            "{post}Host: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx"
        ),
        format!("{post}Host: a\nContent-Length: 1\r\n\r\nx"),
        format!("{post}Host: a\r\nX: a\r\n b\r\n\r\n"),
        format!("{post}Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        format!("{post}Host: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("{post}Host: a\r\nX: \u{1}\r\n\r\n"),
        format!("{post}\r\n"),
        format!("{post}Host: a\r\nHost: b\r\n\r\n"),
        format!("{post}Host: a b\r\n\r\n"),
        "POST http://[ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "REFUSED /too-large HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for text in &malformed {
        let bytes = text.as_bytes();
        let (first, second) = bytes.split_at(bytes.len() - 3);
        for pieces in [&[bytes][..], &[first, second]] {
            let answer = exchange(&daemon, pieces).await;
            assert!(is_problem(&answer, "400", "malformed"), "{text:?}: {answer}");
        }
    }
    let fields = format!("{post}Host: a\r\n{}\r\n", "X: y\r\n".repeat(64));
    let long = format!("{post}Host: a\r\nX: {}\r\n\r\n", "y".repeat(33 * 1024));
    let longer = format!("{post}Host: a\r\nX: {}\r\n\r\n", "y".repeat(400 * 1024));
    for text in [&fields, &long, &longer] {
        let answer = exchange(&daemon, &[text.as_bytes()]).await;
        assert!(is_problem(&answer, "431", "headers-too-large"), "{text:.60}: {answer}");
    }
    let broken_body = "everhook_ingress_rejected_total{cause=\"malformed\",source=\"any\"}";
    let unread = "everhook_ingress_rejected_total{cause=\"malformed\",source=\"_none\"}";
    // Where the pieces came apart, the broken chunk's request was begun already, and its source is known.
    let counted = daemon.metric(unread).await + daemon.metric(broken_body).await;
    assert!((counted - 22.0).abs() < 0.1, "{counted}");
    let requests = "everhook_ingress_requests_total{code=\"431\",source=\"_none\"}";
    assert!((daemon.metric(requests).await - 3.0).abs() < 0.1);
}

#[tokio::test]
async fn a_refused_request_is_answered_after_those_before_it() {
    let (_home, daemon, mut receiver) = start("").await;
    let good = b"POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let bad = b"POST /in/any HTTP/1.1\r\nContent-Length: 3\r\n\r\ntwo";
    let answer = exchange(&daemon, &[&[&good[..], &good[..], &bad[..]].concat()]).await;
    let codes: Vec<_> =
        answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect();
    assert_eq!(codes, ["200", "200", "400"], "{answer}");
    assert_eq!(receiver.take(2).await.len(), 2);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read_all_the_same() {
    let (_home, daemon, mut receiver) = start("").await;
    let head = format!(
        "POST /in/any HTTP/1.1\r\nHost: a\r\nX: {}\r\nContent-Length: 3\r\n",
        "y".repeat(31 * 1024)
    );
    let request = [head.as_bytes(), b"Connection: close\r\n\r\none"].concat();
    let pieces: Vec<&[u8]> = request.chunks(997).collect();
    assert!(exchange(&daemon, &pieces).await.starts_with("HTTP/1.1 200 "));
    let bytewise =
        b"POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo";
    let pieces: Vec<&[u8]> = bytewise.chunks(1).collect();
    assert!(exchange(&daemon, &pieces).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(receiver.take(2).await.len(), 2);
}

#[tokio::test]
async fn a_client_that_says_it_will_send_no_more_gets_its_answer() {
    let (_home, daemon, _receiver) = start("").await;
    let mut socket = open(&daemon).await;
    let request = b"POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    socket.write_all(request).await.expect("sent");
    socket.shutdown().await.expect("half closed");
    let answer = read_to_end(&mut socket).await;
    assert!(answer.contains("\"accepted\""), "{answer}");
}

#[tokio::test]
async fn an_opening_that_ends_too_early_does_not_hold_its_connection() {
    let (_home, daemon, _receiver) = start("header_timeout = \"5m\"\n").await;
    for opening in [&b""[..], b"P", b"PRI * HT", b"PRIME", b"POST / HTTP/1.1\r\n"] {
        let mut socket = open(&daemon).await;
        socket.write_all(opening).await.expect("sent");
        socket.shutdown().await.expect("half closed");
        let ended = tokio::time::timeout(Duration::from_secs(60), read_to_end(&mut socket)).await;
        assert!(ended.is_ok(), "{:?} holds its connection", String::from_utf8_lossy(opening));
    }
}

#[tokio::test]
async fn an_opening_that_never_ends_is_cut_off() {
    let (_home, daemon, _receiver) = start("header_timeout = \"300ms\"\n").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for opening in [&b"PR"[..], b"PRI * HT", preface, b"PRIME / HTTP/1.1\r\n"] {
        let mut socket = open(&daemon).await;
        socket.write_all(opening).await.expect("sent");
        let cut = tokio::time::timeout(Duration::from_secs(10), read_to_end(&mut socket)).await;
        assert!(cut.is_ok(), "{:?} holds its connection", String::from_utf8_lossy(opening));
    }
    // What begins like HTTP/2 and is not.
    let answer =
        exchange(&daemon, &[b"PROPFIND /in/any HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
            .await;
    assert!(is_problem(&answer, "405", "method-not-allowed"), "{answer}");
}

#[tokio::test]
async fn bodies_that_are_not_complete_have_a_bound_in_all() {
    let (_home, daemon, _receiver) = start("body_timeout = \"60s\"\n").await;
    // The bound is 64 MiB; each of these leaves a byte out.
    let part = vec![b'x'; (1 << 20) - 1];
    let head = format!("POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    let mut sockets = Vec::new();
    for _ in 0..80 {
        let mut socket = open(&daemon).await;
        socket.write_all(head.as_bytes()).await.expect("sent");
        drop(socket.write_all(&part).await);
        sockets.push(socket);
    }
    daemon.metric_grows("everhook_ingress_rejected_total{cause=\"busy\",source=\"any\"}").await;
    let refused =
        daemon.metric("everhook_ingress_rejected_total{cause=\"busy\",source=\"any\"}").await;
    assert!((1.0..=40.0).contains(&refused), "{refused}");
    let mut answers = Vec::new();
    for socket in &mut sockets {
        let mut answer = [0; 4096];
        if let Ok(Ok(read)) = tokio::time::timeout(Duration::ZERO, socket.read(&mut answer)).await {
            answers.push(String::from_utf8_lossy(&answer[..read]).into_owned());
        }
    }
    assert!(
        answers
            .iter()
            .any(|answer| is_problem(answer, "503", "busy") && answer.contains("retry-after: ")),
        "{answers:?}"
    );
    // Whoever stayed below the bound is served, and so is everybody once the others are gone.
    drop(sockets);
    within("there is room again", async {
        while daemon.post("/in/any", &[], &part).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
