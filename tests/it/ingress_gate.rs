//! Who may come, and how often: addresses through proxies, rates, and certificates of clients.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Reply;
use crate::harness::receiver::Receiver;
use crate::harness::within;

const OPEN: &str = "provider = \"custom\"\nverify = { kind = \"none\" }\n";

async fn start(ingress: &str, source: &str) -> (Home, Daemon, Receiver) {
    let receiver = Receiver::good().await;
    let target = format!("[target.t]\nurl = {:?}\n", receiver.url());
    let home = Home::with_ingress(ingress, &format!("[source.a]\n{OPEN}{source}\n{target}"));
    let daemon = home.start().await;
    (home, daemon, receiver)
}

async fn from(daemon: &Daemon, forwarded: &str) -> Reply {
    daemon.post("/in/a", &[("x-forwarded-for", forwarded)], b"{}").await
}

#[tokio::test]
async fn only_allowed_addresses_are_let_in_and_only_a_trusted_proxy_says_them() {
    let networks = "allow_ips = [\"203.0.113.0/24\", \"2001:db8::7\"]";
    let (_home, daemon, _receiver) = start("trusted_proxies = \"127.0.0.1\"\n", networks).await;
    for (forwarded, status) in [
        ("203.0.113.9", 200),
        ("2001:db8::7", 200),
        ("2001:db8::8", 403),
        ("198.51.100.1", 403),
        ("203.0.113.9, 198.51.100.1", 403),
        ("198.51.100.1, 203.0.113.9", 200),
        ("198.51.100.1, 203.0.113.9, 127.0.0.1", 200),
        ("nonsense", 403),
    ] {
        assert_eq!(from(&daemon, forwarded).await.status, status, "{forwarded}");
    }
    let refused = daemon.post("/in/a", &[], b"{}").await;
    assert_eq!((refused.status, refused.json()["cause"].as_str()), (403, Some("not-allowed")));
    let (_home, daemon, _receiver) = start("", networks).await;
    assert_eq!(from(&daemon, "203.0.113.9").await.status, 403, "nobody vouches for it");
}

#[tokio::test]
async fn more_requests_than_the_rate_are_told_when_to_come_again() {
    let (_home, daemon, _receiver) = start(
        "trusted_proxies = \"127.0.0.1\"\n",
        "path_token = \"plain:sample-path-token\"\nrate = \"5/h\"\nclient_rate = \"2/h\"",
    )
    .await;
    let post = async |path: &str, forwarded: &str| {
        daemon.post(path, &[("x-forwarded-for", forwarded)], b"{}").await
    };
    let open = "/in/a/sample-path-token";
    assert_eq!(post(open, "192.0.2.1").await.status, 200);
    assert_eq!(post(open, "192.0.2.1").await.status, 200);
    let limited = post(open, "192.0.2.1").await;
    assert_eq!((limited.status, limited.json()["cause"].as_str()), (429, Some("rate-limited")));
    let wait: u32 =
        limited.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=1800).contains(&wait), "{wait}");
    for status in [401, 401, 429] {
        assert_eq!(post("/in/a/guessed-path-token", "192.0.2.2").await.status, status);
    }
    assert_eq!(post(open, "192.0.2.3").await.status, 200);
    assert_eq!(post(open, "192.0.2.4").await.status, 429, "the source's own limit");
    let rejected = "everhook_ingress_rejected_total{cause=\"rate-limited\",source=\"a\"}";
    assert!(daemon.metric(rejected).await > 2.5);
}

#[tokio::test]
async fn a_sender_that_asks_for_a_rate_is_told_the_sources() {
    for (asked, allowed) in
        [("WebHook-Request-Rate: 120\r\n", "60"), ("", "60"), ("WebHook-Request-Rate: 7\r\n", "7")]
    {
        // A handshake counts against the rate itself, so each has a daemon of its own.
        let (_home, daemon, _receiver) = start("", "rate = \"1/s\"").await;
        let mut socket = TcpStream::connect(daemon.ingress).await.expect("it listens");
        let request = format!(
            "OPTIONS /in/a HTTP/1.1\r\nHost: a\r\nWebHook-Request-Origin: x.example\r\n{asked}Connection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        within("an answer", socket.read_to_string(&mut answer)).await.expect("text");
        assert!(answer.contains(&format!("webhook-allowed-rate: {allowed}\r\n")), "{answer}");
    }
}

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let (certificate, pem) = (made.der().clone(), made.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    fn sign(&self, name: &str) -> (CertificateDer<'static>, KeyPair, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        (made.der().clone(), key, made.pem())
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_not_heard() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (_, key, pem) = servers.sign("localhost");
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let tls = format!(
        "tls = {{ cert_file = {:?}, key_file = {:?}, client_ca_file = {:?} }}\n",
        file("cert.pem", &pem),
        file("key.pem", &key.serialize_pem()),
        file("clients.pem", &clients.pem),
    );
    let (_home, daemon, _receiver) = start(&tls, "").await;
    let post = async |identity: Option<(CertificateDer<'static>, KeyPair, String)>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(servers.certificate.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key, _)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let socket = TcpStream::connect(daemon.ingress).await.expect("it listens");
        let name = "localhost".try_into().expect("a name");
        let mut stream = connector.connect(name, socket).await.expect("the server's part");
        let request =
            "POST /in/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        // A client learns that its certificate is not taken when it writes or reads.
        drop(stream.write_all(request.as_bytes()).await);
        let mut answer = Vec::new();
        within("an answer", async { drop(stream.read_to_end(&mut answer).await) }).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(post(Some(clients.sign("provider"))).await.starts_with("HTTP/1.1 200"));
    assert_eq!(post(Some(strangers.sign("provider"))).await, "");
    assert_eq!(post(None).await, "");
}
