//! A target to try things with: a receiver that can be made to fail, and that tells what it got.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use everhook::lifecycle::Tasks;

/// Requests that may wait to be shown.
const SHOWN_LATER: usize = 1024;
/// Largest body that is taken: the largest that can be configured for a source.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Largest head.
const MAX_HEAD: usize = 64 * 1024;
/// What it answers when it was told to fail.
const FAILURE: u16 = 503;

/// One request as the receiver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// The request line and the header fields.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// The status it was answered with.
    pub(super) status: u16,
}

impl Received {
    /// The value of one header field; empty when it is not there.
    pub(super) fn field(&self, name: &str) -> &str {
        field(&self.head, name)
    }
}

/// A receiver on an address of its own.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    pub(super) received: mpsc::Receiver<Received>,
    failures: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Receiver {
    /// Answers `status` to every request, but for those that were told to fail.
    pub(super) async fn start(listen: SocketAddr, status: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (tell, received) = mpsc::channel(SHOWN_LATER);
        let failures = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::new();
        let answers = Answers { status, failures: Arc::clone(&failures) };
        let accept = accept(listener, answers, tell, tasks.clone());
        let stop = tasks.stop_token().clone();
        tasks.spawn(async move { stop.run_until_cancelled(accept).await });
        Ok(Self { address, received, failures, tasks })
    }

    /// The next `count` requests are answered 503.
    pub(super) fn fail_next(&self, count: usize) {
        self.failures.store(count, Ordering::SeqCst);
    }

    pub(super) async fn stop(self) {
        self.tasks.stop();
        self.tasks.ended().await;
    }
}

/// What is answered.
#[derive(Clone)]
struct Answers {
    status: u16,
    /// How many of the next requests are to fail.
    failures: Arc<AtomicUsize>,
}

impl Answers {
    fn next(&self) -> u16 {
        let fail =
            self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fail.is_ok() { FAILURE } else { self.status }
    }
}

async fn accept(
    listener: TcpListener,
    answers: Answers,
    tell: mpsc::Sender<Received>,
    tasks: Tasks,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (answers, tell) = (answers.clone(), tell.clone());
        let stop = tasks.stop_token().clone();
        tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(serve(socket, &answers, &tell)).await
            {
                tracing::debug!(%error, "a connection to the receiver ended");
            }
        });
    }
}

/// Answers the requests of one connection until it closes.
async fn serve(
    mut socket: TcpStream,
    answers: &Answers,
    tell: &mpsc::Sender<Received>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some((head, body)) = request(&mut socket, &mut buffer).await? {
        let status = answers.next();
        // A status without its phrase is complete: RFC 9112 leaves the phrase out.
        let answer = format!("HTTP/1.1 {status} \r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await?;
        if tell.send(Received { head, body, status }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads one request off the connection and gives its head and its body; `None` when the client has closed.
async fn request(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut known: Option<(String, usize, usize)> = None;
    loop {
        if known.is_none() {
            known = head(buffer)?;
        }
        if let Some((head, begin, end)) = known.take_if(|(_, _, end)| buffer.len() >= *end) {
            let mut request: Vec<_> = buffer.drain(..end).collect();
            request.drain(..begin);
            return Ok(Some((head, request)));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The head, if it is complete, and where the body begins and ends.
fn head(buffer: &[u8]) -> io::Result<Option<(String, usize, usize)>> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let Some(length) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        if buffer.len() > MAX_HEAD {
            return Err(refused("the head is too large"));
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    if !field(&head, "transfer-encoding").is_empty() {
        return Err(refused("only requests with a content-length are taken"));
    }
    let body: usize = field(&head, "content-length").parse().unwrap_or(0);
    if body > MAX_BODY {
        return Err(refused("the body is too large"));
    }
    let begin = length.saturating_add(4);
    Ok(Some((head, begin, begin.saturating_add(body))))
}

/// The value of one field of a head; empty when it is not there.
fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value.trim())
}
