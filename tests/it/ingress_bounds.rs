//! What a hostile or broken client can send, byte by byte over raw sockets, and what it gets.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::within;

/// A relay with small limits, and the receiver of whatever it accepts.
struct Bounded {
    _home: Home,
    daemon: Daemon,
    receiver: Receiver,
}

impl Bounded {
    async fn start() -> Self {
        let receiver = Receiver::good().await;
        let home = Home::with_ingress(
            "max_body = \"64KiB\"\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"\n",
            &format!(
                "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n\
                 [target.t]\nurl = {:?}\n",
                receiver.url()
            ),
        );
        let daemon = home.start().await;
        Self { _home: home, daemon, receiver }
    }

    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.daemon.ingress).await.expect("it listens")
    }

    /// Sends bytes and reads until the daemon closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut socket = self.open().await;
        // A refusal may come before everything is sent.
        drop(socket.write_all(bytes).await);
        read_to_end(&mut socket).await
    }

    /// How many events there are, and that each made exactly one request at the target.
    async fn accepted(&mut self, count: usize) {
        let got = self.receiver.take(count).await;
        assert_eq!(got.len(), count);
        let series = "everhook_events_accepted_total{source=\"any\"}";
        let expected = u32::try_from(count).expect("few");
        assert!((self.daemon.metric(series).await - f64::from(expected)).abs() < 0.1);
        let panicked = self.daemon.log().iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "{:#?}", self.daemon.log());
    }
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    within("the connection is closed", async {
        // A reset after the answer is as good an end as a close.
        drop(socket.read_to_end(&mut answer).await);
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes of the answers in a stream.
fn codes(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /in/any HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn what_could_be_read_as_two_requests_is_refused_and_makes_no_event() {
    let mut bounded = Bounded::start().await;
    let smuggled = "POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let refused: Vec<Vec<u8>> = vec![
        post(&format!("Content-Length: 6\r\n{chunked}"), &format!("0\r\n\r\n{smuggled}")),
        post(&format!("{chunked}Content-Length: 6\r\n"), &format!("0\r\n\r\n{smuggled}")),
        post(&format!("{chunked}Transfer-Encoding: identity\r\n"), smuggled),
        post("Transfer-Encoding: xchunked\r\n", smuggled),
        post("Transfer-Encoding : chunked\r\n", smuggled),
        post("Content-Length: 1\r\nContent-Length: 5\r\n", smuggled),
        post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
        post("Content-Length: +1\r\n", "x"),
        post("Content-Length: 1\r\nX: a\r\n b\r\n", "x"),
        post("X: a\nContent-Length: 1\r\n", "x"),
        post(chunked, "1\nx\n0\n\n"),
        post(chunked, "zz\r\nx\r\n0\r\n\r\n"),
        post(chunked, "1\r\nxy\r\n0\r\n\r\n"),
        b"POST /in/any HTTP/1.1\nHost: a\nContent-Length: 1\n\nx".to_vec(),
        b"POST /in/any HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"POST /in/any HTTP/1.1\r\nHost: a\0b\r\n\r\n".to_vec(),
    ];
    for bytes in &refused {
        let answer = bounded.exchange(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(codes(&answer), ["400"], "{shown:?} got {answer:?}");
    }
    let answer = bounded.exchange(&post("Content-Length: 1\r\nConnection: close\r\n", "x")).await;
    assert_eq!(codes(&answer), ["200"]);
    bounded.accepted(1).await;
}

#[tokio::test]
async fn unusual_requests_that_leave_no_doubt_are_served_one_by_one() {
    let mut bounded = Bounded::start().await;
    let last = "Connection: close\r\n";
    let two = [
        post("Content-Length: 3\r\n", "one"),
        post(&format!("Content-Length: 3\r\n{last}"), "two"),
    ];
    assert_eq!(codes(&bounded.exchange(&two.concat()).await), ["200", "200"], "pipelined");
    let chunks = "3;ext=\"1\"\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n";
    let chunked = post(&format!("Transfer-Encoding: chunked\r\n{last}"), chunks);
    assert_eq!(codes(&bounded.exchange(&chunked).await), ["200"]);
    let absolute = b"POST http://elsewhere/in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    assert_eq!(codes(&bounded.exchange(absolute).await), ["200"]);
    let old = b"POST /in/any HTTP/1.0\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(bounded.exchange(old).await.matches("200 OK").count(), 1);
    let bodies: Vec<_> = bounded.receiver.take(5).await.into_iter().map(|r| r.body).collect();
    for body in ["one", "two", "abcde"] {
        assert!(bodies.iter().any(|b| b == body), "{body}: {bodies:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_early_and_the_answer_is_read() {
    let mut bounded = Bounded::start().await;
    // It says so: refused without reading, though the client sends everything first.
    let large = post(&format!("Content-Length: {}\r\n", 8 << 20), &"x".repeat(8 << 20));
    let mut socket = bounded.open().await;
    within("everything is sent", socket.write_all(&large)).await.expect("not reset while sending");
    assert_eq!(codes(&read_to_end(&mut socket).await), ["413"]);
    // It does not say so: cut off at the limit.
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let answer = bounded.exchange(&post("Transfer-Encoding: chunked\r\n", &chunk.repeat(3))).await;
    assert_eq!(codes(&answer), ["413"]);
    // It waits to be asked: it never is.
    let asking = post("Content-Length: 70000\r\nExpect: 100-continue\r\n", "");
    assert_eq!(codes(&bounded.exchange(&asking).await), ["413"]);
    // Exactly at the limit is fine.
    let most = "x".repeat(64 * 1024);
    let fields = format!("Content-Length: {}\r\nConnection: close\r\n", most.len());
    assert_eq!(codes(&bounded.exchange(&post(&fields, &most)).await), ["200"]);
    bounded.accepted(1).await;
}

#[tokio::test]
async fn slow_and_broken_clients_are_cut_off_and_make_no_event() {
    let mut bounded = Bounded::start().await;
    for silent in [&b""[..], b"P", b"POST /in/any HTTP/1.1\r\nHost: a\r\nX: "] {
        assert_eq!(bounded.exchange(silent).await, "", "nothing to answer: {silent:?}");
    }
    let slow = bounded.exchange(&post("Content-Length: 10\r\n", "part")).await;
    assert_eq!(codes(&slow), ["408"]);
    // It promises more than it sends, and leaves.
    let mut socket = bounded.open().await;
    socket.write_all(&post("Content-Length: 10\r\n", "part")).await.expect("sent");
    socket.shutdown().await.expect("closed");
    let answer = read_to_end(&mut socket).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    bounded.accepted(0).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let mut bounded = Bounded::start().await;
    let many = "X: y\r\n".repeat(101);
    assert_eq!(codes(&bounded.exchange(&post(&many, "")).await), ["431"]);
    let long = format!("X: {}\r\n", "y".repeat(400 * 1024));
    let answer = bounded.exchange(&post(&long, "")).await;
    assert!(matches!(codes(&answer)[..], [] | ["431" | "400"]), "{answer}");
    bounded.accepted(0).await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_is_used_again() {
    let mut bounded = Bounded::start().await;
    let mut connection = bounded.daemon.connect().await;
    assert_eq!(connection.post("/in/any", &[], "one").await.expect("answered").status, 200);
    // Longer than the header timeout, with nothing sent.
    drop(tokio::time::timeout(Duration::from_millis(700), std::future::pending::<()>()).await);
    assert_eq!(connection.post("/in/any", &[], "two").await.expect("still open").status, 200);
    bounded.accepted(2).await;
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let mut bounded = Bounded::start().await;
    let io = hyper_util::rt::TokioIo::new(bounded.open().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::task::spawn(connection);
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"two"));
    let request = hyper::Request::post("http://relay/in/any").body(body).expect("a request");
    let answer = within("an answer", sender.send_request(request)).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    bounded.accepted(1).await;
}

#[tokio::test]
async fn methods_and_the_cloudevents_handshake() {
    let mut bounded = Bounded::start().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "CONNECT"] {
        let bytes = format!("{method} /in/any HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = bounded.exchange(bytes.as_bytes()).await;
        assert!(matches!(codes(&answer)[..], ["404" | "405"]), "{method}: {answer}");
    }
    let asking =
        b"OPTIONS /in/any HTTP/1.1\r\nHost: a\r\nWebHook-Request-Origin: events.example.com\r\n\
                   WebHook-Request-Rate: 120\r\nConnection: close\r\n\r\n";
    let answer = bounded.exchange(asking).await.to_ascii_lowercase();
    assert!(answer.contains("webhook-allowed-origin: events.example.com"), "{answer}");
    assert!(answer.contains("webhook-allowed-rate: 120"), "{answer}");
    assert!(answer.contains("allow: post\r\n"), "{answer}");
    bounded.accepted(0).await;
}

#[tokio::test]
async fn tls_is_spoken_when_it_is_configured() {
    let receiver = Receiver::good().await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let home = Home::with_ingress(
        &format!(
            "header_timeout = \"2s\"\ntls = {{ cert_file = {:?}, key_file = {:?} }}\n",
            cert.display().to_string(),
            key.display().to_string()
        ),
        &format!(
            "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
            receiver.url()
        ),
    );
    let daemon = home.start().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async |config: &rustls::ClientConfig| {
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.clone()));
        let socket = TcpStream::connect(daemon.ingress).await.expect("it listens");
        let name = "localhost".try_into().expect("a name");
        connector.connect(name, socket).await.expect("TLS")
    };
    let mut stream = connect(&config).await;
    let request = post("Content-Length: 1\r\nConnection: close\r\n", "x");
    stream.write_all(&request).await.expect("sent");
    let mut answer = Vec::new();
    within("an answer", async { drop(stream.read_to_end(&mut answer).await) }).await;
    assert_eq!(codes(&String::from_utf8_lossy(&answer)), ["200"]);
    // Who agrees on HTTP/2 and never begins it is cut off.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = connect(&config).await;
    stream.write_all(b"PRI * HT").await.expect("sent");
    let silent = async { drop(stream.read_to_end(&mut Vec::new()).await) };
    let cut = tokio::time::timeout(Duration::from_secs(20), silent).await;
    assert!(cut.is_ok(), "it holds its connection");
}
