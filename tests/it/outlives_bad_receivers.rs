//! Whatever a receiver does with a connection: a named outcome in bounded time and memory, the connection closed, and
//! nobody else delayed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::hostile::{Bad, Hostile};
use crate::harness::receiver::Receiver;

const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n";
/// One attempt each, and that soon over. A connection has less time than the whole attempt, or chance would name what ends.
const SHORT: &str = "timeout = \"2s\"\nconnect_timeout = \"1s\"\nretry = { schedule = [\"1h\"] }";

fn target(name: &str, url: &str, more: &str) -> String {
    format!("[target.{name}]\nurl = {url:?}\n{SHORT}\n{more}\n")
}

async fn outcome(daemon: &Daemon, target: &str, outcome: &str) {
    let series =
        format!("everhook_delivery_attempts_total{{outcome=\"{outcome}\",target=\"{target}\"}}");
    // At least once: what is tried again fails again while the others are waited for.
    daemon.metric_grows(&series).await;
}

/// Most memory the process ever had, in KiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("there");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_has_a_name_and_an_end_and_delays_nobody() {
    let cases = [
        ("hang", Bad::Hang, "timeout-head"),
        ("mute", Bad::Mute, "timeout-head"),
        ("drip-head", Bad::DripHead, "timeout-head"),
        ("drip-body", Bad::DripBody, "delivered"),
        ("reset", Bad::Reset, "reset"),
        ("half-close", Bad::HalfClose, "reset"),
        ("garbage", Bad::Garbage, "protocol"),
        ("endless-head", Bad::EndlessHead, "too-large"),
        ("endless-body", Bad::EndlessBody, "delivered"),
        ("endless-100", Bad::Endless100, "timeout-head"),
        ("bomb", Bad::Bomb, "delivered"),
        ("redirect", Bad::Redirect, "3xx"),
    ];
    let mut live = Receiver::good().await;
    let mut text = format!("{SOURCE}{}", target("live", &live.url(), ""));
    text.push_str(&target("refused", "http://127.0.0.1:9/hook", ""));
    text.push_str(
        &target("nameless", "http://nothing.invalid/hook", "connect_timeout = \"5s\"").replacen(
            "connect_timeout = \"1s\"\n",
            "",
            1,
        ),
    );
    let mut receivers = Vec::new();
    for (name, bad, _) in cases {
        let receiver = Hostile::start(bad).await;
        text.push_str(&target(name, &format!("http://{}/hook", receiver.address), ""));
        receivers.push(receiver);
    }
    let home = Home::new(&text);
    let daemon = home.start().await;
    let before = peak_memory(&daemon);
    let began = Instant::now();
    daemon.post("/in/any", &[], b"{}").await.ack();
    live.next().await;
    assert!(began.elapsed() < Duration::from_millis(1_900), "before any silent one has ended");
    for ((name, _, expected), receiver) in cases.iter().zip(&receivers) {
        outcome(&daemon, name, expected).await;
        receiver.left().await;
        assert_eq!(receiver.accepted(), 1, "{name} is attempted once");
    }
    outcome(&daemon, "refused", "connect").await;
    outcome(&daemon, "nameless", "dns").await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let grown = peak_memory(&daemon).saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB for {} attempts", cases.len());
    let panicked = daemon.log().iter().any(|line| line.contains("panicked"));
    assert!(!panicked, "{:#?}", daemon.log());
}

/// An authority and what it says of servers.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate of this name, valid or long over, and its key.
    fn issue(&self, name: &str, valid: bool) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        if !valid {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// TLS for a server of this name, valid or long over, with HTTP/2 or without.
    pub fn acceptor(&self, name: &str, valid: bool, alpn: &[u8]) -> TlsAcceptor {
        self.asking(name, valid, alpn, None)
    }

    /// The same for a server that lets only clients of an authority in.
    fn asking(
        &self,
        name: &str,
        valid: bool,
        alpn: &[u8],
        clients: Option<&Authority>,
    ) -> TlsAcceptor {
        let (certificate, key) = self.issue(name, valid);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = clients.map(|clients| {
            let mut roots = rustls::RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(clients.pem.as_bytes()).expect("PEM");
            roots.add(root).expect("an authority");
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .expect("a verifier")
        });
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(vec![certificate.der().clone()], key).expect("a pair");
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What an HTTP/2 server does with each request.
#[derive(Clone, Copy)]
pub enum H2 {
    Answer,
    /// Answers, and says with GOAWAY that this connection is at its end.
    GoAway,
    /// Resets the stream.
    ResetStream,
    /// Says of the first request on each connection that it was one too many.
    RefusesFirst,
    /// Its first connection falls silent.
    SilentAtFirst,
    /// Its first connection is at its end when a request comes, which is not looked at.
    EndsAtFirst,
}

/// A server of HTTP/2 over TLS; gives its port.
pub async fn h2_server(acceptor: TlsAcceptor, act: H2) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::task::spawn(async move {
        let mut connections = 0_usize;
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections += 1;
            let is_first = connections == 1;
            tokio::task::spawn(async move {
                let stream = match acceptor.accept(socket).into_fallible().await {
                    Ok(stream) => stream,
                    Err((_, mut socket)) => {
                        // What is unread would turn the refusal into a reset.
                        drop(socket.shutdown().await);
                        drop(tokio::io::copy(&mut socket, &mut tokio::io::sink()).await);
                        return;
                    }
                };
                if is_first && matches!(act, H2::EndsAtFirst) {
                    drop(leave(stream).await);
                    return;
                }
                let asked = Arc::new(tokio::sync::Notify::new());
                let said = Arc::clone(&asked);
                let refused = AtomicBool::new(false);
                let service = hyper::service::service_fn(move |_| {
                    said.notify_one();
                    let again = refused.swap(true, Ordering::SeqCst);
                    async move {
                        let ok = Full::new(bytes::Bytes::from_static(b"ok"));
                        match act {
                            H2::ResetStream => Err(h2::Error::from(h2::Reason::INTERNAL_ERROR)),
                            H2::RefusesFirst if !again => {
                                Err(h2::Error::from(h2::Reason::REFUSED_STREAM))
                            }
                            H2::SilentAtFirst if is_first => std::future::pending().await,
                            H2::Answer
                            | H2::GoAway
                            | H2::RefusesFirst
                            | H2::SilentAtFirst
                            | H2::EndsAtFirst => Ok(hyper::Response::new(ok)),
                        }
                    }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut served =
                    std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    _ = served.as_mut() => return,
                    () = asked.notified(), if matches!(act, H2::GoAway) => {}
                }
                served.as_mut().graceful_shutdown();
                drop(served.await);
            });
        }
    });
    port
}

/// Waits for a request, and says with GOAWAY that no request was looked at.
async fn leave(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    stream.read_exact(&mut [0; 24]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
        if head[3] == HEADERS {
            break;
        }
    }
    let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    goaway.extend([0; 8]);
    stream.write_all(&goaway).await?;
    stream.flush().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

pub fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("writable");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_believed_or_the_attempt_is_named_tls() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let ca = write(&folder.path().join("ca.pem"), &ours.pem);
    let trusting = format!("tls = {{ ca_file = {ca:?} }}");
    let h2 = b"h2".as_slice();
    let stalled = Hostile::start(Bad::Mute).await;
    let plain = Receiver::good().await;
    let mut text = SOURCE.to_owned();
    let cases = [
        ("good", ours.acceptor("localhost", true, h2), trusting.as_str(), "delivered"),
        (
            "unchecked",
            foreign.acceptor("elsewhere", false, h2),
            "tls = { verify = false }",
            "delivered",
        ),
        ("unknown-ca", foreign.acceptor("localhost", true, h2), trusting.as_str(), "tls"),
        ("system", ours.acceptor("localhost", true, h2), "", "tls"),
        ("expired", ours.acceptor("localhost", false, h2), trusting.as_str(), "tls"),
        ("wrong-host", ours.acceptor("elsewhere", true, h2), trusting.as_str(), "tls"),
    ];
    for (name, acceptor, keys, _) in &cases {
        let port = h2_server(acceptor.clone(), H2::Answer).await;
        text.push_str(&target(name, &format!("https://localhost:{port}/hook"), keys));
    }
    text.push_str(&target("stalled", &format!("https://{}/hook", stalled.address), ""));
    text.push_str(&target("plain", &format!("https://{}/hook", plain.address), ""));
    let home = Home::new(&text);
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"{}").await.ack();
    for (name, _, _, expected) in &cases {
        outcome(&daemon, name, expected).await;
    }
    outcome(&daemon, "stalled", "tls").await;
    outcome(&daemon, "plain", "tls").await;
    stalled.left().await;
    let unverified = |name| format!("everhook_target_tls_unverified{{target=\"{name}\"}}");
    assert!((daemon.metric(&unverified("unchecked")).await - 1.0).abs() < 0.1);
    assert!(daemon.metric(&unverified("good")).await.abs() < 0.1);
    assert!(daemon.log().join("\n").contains("certificate is not checked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_with_goaway_loses_nothing_and_a_reset_stream_is_named() {
    let ours = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = write(&folder.path().join("ca.pem"), &ours.pem);
    let going = h2_server(ours.acceptor("localhost", true, b"h2"), H2::GoAway).await;
    let resetting = h2_server(ours.acceptor("localhost", true, b"h2"), H2::ResetStream).await;
    let tls = format!("tls = {{ ca_file = {ca:?} }}");
    let home = Home::new(&format!(
        "{SOURCE}[target.going]\nurl = \"https://localhost:{going}/hook\"\n{tls}\n\
         retry = {{ schedule = [\"10ms\", \"10ms\", \"10ms\", \"10ms\", \"10ms\"] }}\nbreaker = \"none\"\n{}",
        target("resetting", &format!("https://localhost:{resetting}/hook"), &tls),
    ));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"0").await.ack();
    outcome(&daemon, "resetting", "reset").await;
    for number in 1..30 {
        daemon.post("/in/any", &[], format!("{number}").as_bytes()).await.ack();
    }
    let delivered = "everhook_delivery_attempts_total{outcome=\"delivered\",target=\"going\"}";
    daemon.metric_becomes(delivered, 30.0).await;
    let page = daemon.admin_get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).expect("text");
    for line in
        page.lines().filter(|line| line.contains("attempts_total") && line.contains("going"))
    {
        let named = line.contains("delivered") || line.contains("reset");
        assert!(named, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_has_not_looked_at_is_sent_again_at_once_and_a_silent_connection_is_left() {
    let ours = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = write(&folder.path().join("ca.pem"), &ours.pem);
    let tls = format!("tls = {{ ca_file = {ca:?} }}");
    let mut text = SOURCE.to_owned();
    for (name, act) in [("refusing", H2::RefusesFirst), ("ending", H2::EndsAtFirst)] {
        let port = h2_server(ours.acceptor("localhost", true, b"h2"), act).await;
        text.push_str(&target(name, &format!("https://localhost:{port}/hook"), &tls));
    }
    let silent = h2_server(ours.acceptor("localhost", true, b"h2"), H2::SilentAtFirst).await;
    let url = format!("https://localhost:{silent}/hook");
    let more = format!("{tls}\nretry = {{ schedule = [\"10ms\"] }}\ntimeout = \"1s\"");
    let home = Home::new(&format!("{text}[target.silent]\nurl = {url:?}\n{more}\n"));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"{}").await.ack();
    for name in ["refusing", "ending", "silent"] {
        outcome(&daemon, name, "delivered").await;
    }
    outcome(&daemon, "silent", "timeout-head").await;
    let page = daemon.admin_get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).expect("text");
    let is_reset = |line: &&str| line.contains("attempts_total") && line.contains("\"reset\"");
    for line in page.lines().filter(is_reset) {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_a_certificate_gets_ours_and_its_refusal_is_named_tls() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| write(&folder.path().join(name), text);
    let ca = file("ca.pem", &ours.pem);
    let pair = |authority: &Authority, name: &str| {
        let (certificate, key) = authority.issue("everhook", true);
        let chain = file(&format!("{name}.pem"), &certificate.pem());
        let key = file(&format!("{name}.key"), &key.serialize_pem());
        format!("tls = {{ ca_file = {ca:?}, cert_file = {chain:?}, key_file = {key:?} }}")
    };
    let cases = [
        ("known", pair(&ours, "known"), "delivered"),
        ("unknown", pair(&foreign, "unknown"), "tls"),
        ("none", format!("tls = {{ ca_file = {ca:?} }}"), "tls"),
    ];
    let demanding = ours.asking("localhost", true, b"h2", Some(&ours));
    let port = h2_server(demanding, H2::Answer).await;
    let mut text = SOURCE.to_owned();
    for (name, keys, _) in &cases {
        text.push_str(&target(name, &format!("https://localhost:{port}/hook"), keys));
    }
    let home = Home::new(&text);
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"{}").await.ack();
    for (name, _, expected) in &cases {
        outcome(&daemon, name, expected).await;
    }
}
