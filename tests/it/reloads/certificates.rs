//! Another certificate at the edge, while connections are open.

use std::path::Path;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{SOURCE, target};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::receiver::Receiver;
use crate::harness::within;

fn made() -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate")
}

fn write(dir: &Path, made: &CertifiedKey<rcgen::KeyPair>) {
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
}

/// A connection of a client that trusts both certificates.
async fn connect(daemon: &Daemon, trusted: [&CertificateDer<'static>; 2]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(daemon.ingress).await.expect("it listens");
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("TLS")
}

/// The certificate that the daemon shows.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// The status of one request on a connection that stays open.
async fn post(stream: &mut TlsStream<TcpStream>, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST /in/any HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = within("an answer", stream.read(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer[..length]).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_breaks_no_old_one() {
    let receiver = Receiver::good().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (old, new) = (made(), made());
    write(dir.path(), &old);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let home = Home::with_ingress(
        &format!(
            "tls = {{ cert_file = {:?}, key_file = {:?} }}\n",
            path("cert.pem"),
            path("key.pem")
        ),
        &format!("{SOURCE}{}", target("t", &receiver, "")),
    );
    let daemon = home.start().await;
    let trusted = [old.cert.der(), new.cert.der()];
    let mut before = connect(&daemon, trusted).await;
    assert_eq!(shown(&before), *old.cert.der());
    assert_eq!(post(&mut before, "1").await, "200");
    // A key that does not fit is refused, and the old pair goes on.
    std::fs::write(dir.path().join("cert.pem"), new.cert.pem()).expect("written");
    let answer = daemon.admin_post("/api/v1/reload").await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["mistakes"][0]["key"], "ingress.tls.key_file");
    assert_eq!(shown(&connect(&daemon, trusted).await), *old.cert.der());
    write(dir.path(), &new);
    let answer = daemon.admin_post("/api/v1/reload").await.json();
    let keys: Vec<_> =
        answer["changes"].as_array().expect("a list").iter().map(|c| &c["key"]).collect();
    assert_eq!(keys, ["ingress.tls.cert_file", "ingress.tls.key_file"]);
    let mut after = connect(&daemon, trusted).await;
    assert_eq!(shown(&after), *new.cert.der());
    assert_eq!(post(&mut after, "2").await, "200");
    assert_eq!(post(&mut before, "3").await, "200", "it was open before");
}
