//! Deliveries through proxies that speak CONNECT and SOCKS, with credentials that nobody else gets to see.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use everhook::model::{Answer, ErrorClass};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::attempt_records::{attempt, client};
use crate::harness::daemon::Home;
use crate::harness::receiver::Receiver;
use crate::outlives_bad_receivers::{Authority, H2, h2_server, write};

const DELIVERED: Answer = Answer::Status { status: 200, retry_after: None };
/// `relay:canary-proxy` in base64.
const BASIC: &str = "cmVsYXk6Y2FuYXJ5LXByb3h5";

/// A proxy that leads everything to one place, and what it was asked for.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(socks: bool, to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&asked);
        tokio::task::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let list = Arc::clone(&list);
                tokio::task::spawn(async move {
                    drop(if socks {
                        socks5(socket, to, &list).await
                    } else {
                        connect(socket, to, &list).await
                    });
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn connect(
    mut socket: TcpStream,
    to: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let allowed =
        head.to_ascii_lowercase().contains("proxy-authorization: basic ") && head.contains(BASIC);
    asked.lock().expect("no panic").push(head);
    if !allowed {
        return socket.write_all(b"HTTP/1.1 407 Who?\r\ncontent-length: 0\r\n\r\n").await;
    }
    socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut target = TcpStream::connect(to).await?;
    copy_bidirectional(&mut socket, &mut target).await.map(drop)
}

async fn socks5(
    mut socket: TcpStream,
    to: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut greeting = [0; 3];
    socket.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 2], "one way to say who we are: user and password");
    socket.write_all(&[5, 2]).await?;
    let mut words = Vec::new();
    assert_eq!(socket.read_u8().await?, 1);
    for _ in 0..2 {
        let mut word = vec![0; usize::from(socket.read_u8().await?)];
        socket.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    socket.write_all(&[1, u8::from(words != ["relay", "canary-proxy"])]).await?;
    let mut request = [0; 5];
    socket.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 3], "a connection to a name");
    let mut name = vec![0; usize::from(request[4])];
    socket.read_exact(&mut name).await?;
    let port = socket.read_u16().await?;
    asked.lock().expect("no panic").push(format!("{}:{port}", String::from_utf8_lossy(&name)));
    socket.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await?;
    let mut target = TcpStream::connect(to).await?;
    copy_bidirectional(&mut socket, &mut target).await.map(drop)
}

fn keys(scheme: &str, proxy: &Proxy, password: &str) -> String {
    let url = format!("{scheme}://{}", proxy.address);
    format!("proxy = {{ url = {url:?}, user = \"relay\", password = \"plain:{password}\" }}")
}

#[tokio::test]
async fn a_name_that_only_the_proxy_knows_is_reached_through_it() {
    for (scheme, socks) in [("http", false), ("socks5", true)] {
        let mut receiver = Receiver::good().await;
        let proxy = Proxy::start(socks, receiver.address).await;
        let client = client("http://inside.invalid:81/hook", &keys(scheme, &proxy, "canary-proxy"));
        let exchange = attempt(&client, Bytes::from_static(b"{}")).await;
        assert_eq!(exchange.answer, DELIVERED, "{exchange:?}");
        assert_eq!(exchange.seen.remote, Some(proxy.address), "whom we spoke with");
        let got = receiver.next().await;
        assert_eq!(got.header("host"), "inside.invalid:81");
        assert_eq!(got.find("proxy-authorization"), None);
        assert!(proxy.asked()[0].contains("inside.invalid:81"), "{:?}", proxy.asked());
    }
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_to_the_target_itself() {
    let ours = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = write(&folder.path().join("ca.pem"), &ours.pem);
    let port = h2_server(ours.acceptor("inside.invalid", true, b"h2"), H2::Answer).await;
    let proxy = Proxy::start(false, ([127, 0, 0, 1], port).into()).await;
    let keys = format!("{}\ntls = {{ ca_file = {ca:?} }}", keys("http", &proxy, "canary-proxy"));
    let exchange = attempt(&client("https://inside.invalid/", &keys), Bytes::new()).await;
    assert_eq!(exchange.answer, DELIVERED, "{exchange:?}");
    assert!(exchange.seen.timing.tls.is_some());
    assert!(proxy.asked()[0].starts_with("CONNECT inside.invalid:443 "));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_the_password_is_nowhere() {
    let receiver = Receiver::good().await;
    let proxy = Proxy::start(false, receiver.address).await;
    let client = client("http://inside.invalid/", &keys("http", &proxy, "canary-wrong"));
    let exchange = attempt(&client, Bytes::new()).await;
    assert_eq!(exchange.answer, Answer::Failed(ErrorClass::Connect));
    let detail = exchange.seen.detail.expect("it says why");
    assert!(detail.contains("proxy authorization required"), "{detail}");
    assert!(!detail.contains("canary"), "{detail}");
    assert!(receiver.seen().is_empty());
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\n\
         url = \"http://inside.invalid/\"\n{}\n",
        keys("http", &proxy, "canary-proxy")
    ));
    let shown = home.command(&["config", "show"]).output().await.expect("ran");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("relay") && !shown.contains("canary"), "{shown}");
}
