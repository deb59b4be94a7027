//! Against a server that counts its connections.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::connect::Route;
use super::super::lookup::Resolver;
use super::super::tls::no_tls;
use super::*;

/// A server that counts connections, and the heads of the requests on them.
struct Server {
    url: String,
    heads: mpsc::Receiver<(usize, String)>,
    /// Each connection that has ended at the server's side, because ours did.
    ended: mpsc::Receiver<usize>,
    /// Has a connection closed by the server.
    close: tokio::sync::watch::Sender<usize>,
}

impl Server {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let (head, heads) = mpsc::channel(16);
        let (end, ended) = mpsc::channel(16);
        let (close, closing) = tokio::sync::watch::channel(0);
        let tasks = Tasks::new();
        tasks.clone().spawn(async move {
            for number in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                let (head, end, mut closing) = (head.clone(), end.clone(), closing.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = serve(socket, answer, |text| drop(head.try_send((number, text)))) => {}
                        _ = closing.wait_for(|closed| *closed == number) => {}
                    }
                    if end.try_send(number).is_err() {
                        // The test is over.
                    }
                });
            }
        });
        Self { url, heads, ended, close }
    }

    /// The number of the connection that the next request came on.
    async fn connection(&mut self) -> usize {
        self.heads.recv().await.unwrap().0
    }
}

async fn serve(mut socket: TcpStream, answer: &str, head: impl Fn(String)) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(read @ 1..) = socket.read(&mut buffer).await else { return };
        head(String::from_utf8_lossy(&buffer[..read]).into_owned());
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn pool(url: &str, room: usize) -> Pool {
    let connector = Connector::new(no_tls().unwrap(), Duration::from_secs(5), Route::default());
    Pool::new(connector, url.parse().unwrap(), room, &Tasks::new())
}

fn soon() -> Instant {
    deadline(Duration::from_secs(5))
}

fn letter() -> Letter {
    let body = Outgoing::new(Bytes::new()).0;
    Letter { method: Method::POST, fields: HeaderMap::new(), body }
}

/// A request whose answer was read to its end; the connection is not yet taken back.
async fn exchange(pool: &Pool) -> Lent {
    let mut lent = None;
    let answer = pool.send(letter(), soon(), &mut lent).await.unwrap();
    let mut lent = lent.unwrap();
    let body = lent.carry(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body, "ok");
    lent
}

async fn post(pool: &Pool) {
    let lent = exchange(pool).await;
    pool.take_back(lent, soon());
}

#[tokio::test]
async fn a_request_names_its_path_and_host_and_the_next_one_takes_its_connection() {
    let mut server = Server::start(OK).await;
    let pool = pool(&server.url, 2);
    post(&pool).await;
    let (number, head) = server.heads.recv().await.unwrap();
    let host = server.url.trim_start_matches("http://").split('/').next().unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
    assert_eq!(number, 1);
    // Two at once need two connections, and no more are kept than there is room for.
    post(&pool).await;
    assert_eq!(server.connection().await, 1);
    let lent = [exchange(&pool).await, exchange(&pool).await, exchange(&pool).await];
    let used = [server.connection().await, server.connection().await, server.connection().await];
    assert_eq!(used, [1, 2, 3]);
    for lent in lent {
        pool.take_back(lent, soon());
    }
    assert_eq!(server.ended.recv().await, Some(3));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_carries_nothing() {
    let mut server = Server::start(OK).await;
    let pool = pool(&server.url, 2);
    post(&pool).await;
    assert_eq!(server.connection().await, 1);
    server.close.send(1).unwrap();
    // It takes a moment until we can know.
    while let Some(lent) = pool.inner.kept() {
        pool.take_back(lent, soon());
        tokio::task::yield_now().await;
    }
    post(&pool).await;
    assert_eq!(server.connection().await, 2);
}

#[tokio::test]
async fn a_connection_whose_answer_goes_on_or_says_so_is_not_kept() {
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\nok";
    let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    for answer in [long, last] {
        let mut server = Server::start(answer).await;
        let pool = pool(&server.url, 2);
        let mut lent = None;
        drop(pool.send(letter(), soon(), &mut lent).await.unwrap());
        pool.take_back(lent.unwrap(), soon());
        assert!(pool.inner.kept().is_none(), "{answer}");
        assert_eq!(server.ended.recv().await, Some(1));
    }
}

#[tokio::test]
async fn an_answer_that_comes_early_does_not_cut_the_request() {
    let length = 8 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let pool = pool(&url, 2);
    let head = Letter { body: Outgoing::new(vec![b'x'; length].into()).0, ..letter() };
    let answers = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut first = [0; 16];
        socket.read_exact(&mut first).await.unwrap();
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        socket
    };
    let mut lent = None;
    let (answer, mut socket) = tokio::join!(pool.send(head, soon(), &mut lent), answers);
    assert_eq!(answer.unwrap().status(), 204);
    pool.take_back(lent.unwrap(), soon());
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > length, "{} of {length} bytes", rest.len());
    assert!(rest.iter().rev().take(length).all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn a_connection_that_is_free_again_is_taken_by_whoever_waits_for_a_new_one() {
    let mut server = Server::start(OK).await;
    let there: std::net::SocketAddr =
        server.url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
    let (go_on, stalled) = std::sync::mpsc::sync_channel::<()>(1);
    let (first, stalled) = (AtomicBool::new(true), Mutex::new(stalled));
    let resolver = Resolver::asking(move |_, _| {
        if !first.swap(false, Ordering::SeqCst) {
            drop(stalled.lock().map(|stalled| stalled.recv()));
        }
        Ok(vec![there])
    });
    let connector = Connector::new(no_tls().unwrap(), Duration::from_secs(60), Route::default());
    let tasks = Tasks::new();
    let url = "http://stalls.example/".parse().unwrap();
    let pool = Pool::new(connector.asking(resolver), url, 2, &tasks);
    let busy = exchange(&pool).await;
    let mut waits = std::pin::pin!(exchange(&pool));
    let early = futures_util::FutureExt::now_or_never(&mut waits);
    assert!(early.is_none());
    pool.take_back(busy, soon());
    let lent = tokio::time::timeout(Duration::from_secs(5), waits).await.unwrap();
    assert_eq!([server.connection().await, server.connection().await], [1, 1]);
    // What was being opened for it is kept when it is there.
    go_on.send(()).unwrap();
    while lock(&pool.inner.kept).single.is_empty() {
        tokio::task::yield_now().await;
    }
    pool.take_back(lent, soon());
    assert_eq!(lock(&pool.inner.kept).single.len(), 2);
}

#[tokio::test]
async fn connections_that_are_opened_for_nobody_are_no_more_than_there_is_room_for() {
    let (go_on, stalled) = std::sync::mpsc::sync_channel::<()>(8);
    let stalled = Mutex::new(stalled);
    let resolver = Resolver::asking(move |_, _| {
        drop(stalled.lock().map(|stalled| stalled.recv()));
        Err(std::io::ErrorKind::NotFound.into())
    });
    let connector = Connector::new(no_tls().unwrap(), Duration::from_secs(60), Route::default());
    let url = "http://stalls.example/".parse().unwrap();
    let pool = Pool::new(connector.asking(resolver), url, 2, &Tasks::new());
    for _ in 0..5 {
        let mut lent = None;
        let mut sending = std::pin::pin!(pool.send(letter(), soon(), &mut lent));
        assert!(futures_util::FutureExt::now_or_never(&mut sending).is_none());
        tokio::task::yield_now().await;
    }
    let settled = async {
        // The pool's own handle, and one of each that goes on.
        while Arc::strong_count(&pool.inner) != 3 || pool.inner.aside.available_permits() != 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), settled).await.is_ok());
    drop(go_on);
}

#[tokio::test]
async fn what_takes_too_long_is_late_and_its_connection_is_closed() {
    let mut server = Server::start("HTTP/1.1 200").await;
    let pool = pool(&server.url, 2);
    let mut lent = None;
    {
        let mut sending = std::pin::pin!(pool.send(letter(), soon(), &mut lent));
        tokio::select! {
            answer = &mut sending => panic!("{answer:?}"),
            number = server.connection() => assert_eq!(number, 1),
        }
        tokio::time::pause();
        assert!(matches!(sending.await, Err(SendError::Late)));
    }
    lent.unwrap().give_up();
    assert_eq!(server.ended.recv().await, Some(1));
    assert!(pool.inner.kept().is_none());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_half_a_minute_and_nothing_looks_on() {
    let mut server = Server::start(OK).await;
    let pool = pool(&server.url, 2);
    post(&pool).await;
    tokio::time::pause();
    tokio::time::sleep(IDLE.saturating_sub(Duration::from_secs(1))).await;
    assert!(server.ended.try_recv().is_err() && lock(&pool.inner.kept).looked_after);
    post(&pool).await;
    assert_eq!([server.connection().await, server.connection().await], [1, 1]);
    assert_eq!(server.ended.recv().await, Some(1));
    assert!(!lock(&pool.inner.kept).looked_after);
    // The next one is looked after again.
    post(&pool).await;
    assert_eq!(server.connection().await, 2);
    assert_eq!(server.ended.recv().await, Some(2));
}

#[tokio::test]
async fn a_busy_connection_is_left_before_a_minute_is_over() {
    let mut server = Server::start(OK).await;
    let pool = pool(&server.url, 2);
    let mut used = Vec::new();
    for _ in 0..4 {
        post(&pool).await;
        used.push(server.connection().await);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::time::resume();
    }
    assert_eq!(used, [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_pool_that_is_gone_closes_what_it_kept_and_ends_its_task() {
    let mut server = Server::start(OK).await;
    let tasks = Tasks::new();
    let connector = Connector::new(no_tls().unwrap(), Duration::from_secs(5), Route::default());
    let pool = Pool::new(connector, server.url.parse().unwrap(), 2, &tasks);
    post(&pool).await;
    drop(pool);
    assert_eq!(server.ended.recv().await, Some(1));
    tasks.ended().await;
}

#[test]
fn the_host_is_named_without_credentials_and_without_the_port_of_the_scheme() {
    for (url, path, host) in [
        ("http://h/", "/", "h"),
        ("http://h", "/", "h"),
        ("http://h?a=b", "/?a=b", "h"),
        ("http://h:80/a/b?c", "/a/b?c", "h"),
        ("https://h:443", "/", "h"),
        ("https://h:80", "/", "h:80"),
        ("https://u:p@h:8443/x", "/x", "h:8443"),
        ("http://[::1]:9000/", "/", "[::1]:9000"),
    ] {
        let parsed = url.parse().unwrap();
        assert_eq!(path_of(&parsed).to_string(), path, "{url}");
        assert_eq!(host_of(&parsed), host, "{url}");
    }
}
