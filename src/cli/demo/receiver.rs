//! The demo's target: a receiver that can be made to fail, and that tells what it got.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::lifecycle::Tasks;

/// Requests that may wait to be shown.
const SHOWN_LATER: usize = 1024;
/// Largest request the demo sends itself, head included.
const MAX_REQUEST: usize = 64 * 1024;

/// One request as the receiver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) id: String,
    pub(super) event: String,
    pub(super) attempt: String,
    /// The status it was answered with.
    pub(super) status: u16,
}

/// A receiver on a loopback port of its own.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    pub(super) received: mpsc::Receiver<Received>,
    failures: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Receiver {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (tell, received) = mpsc::channel(SHOWN_LATER);
        let failures = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::new();
        let accept = accept(listener, Arc::clone(&failures), tell, tasks.clone());
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

async fn accept(
    listener: TcpListener,
    failures: Arc<AtomicUsize>,
    tell: mpsc::Sender<Received>,
    tasks: Tasks,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (failures, tell) = (Arc::clone(&failures), tell.clone());
        let stop = tasks.stop_token().clone();
        tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(serve(socket, &failures, &tell)).await
            {
                tracing::debug!(%error, "a connection to the demo's receiver ended");
            }
        });
    }
}

/// Answers the requests of one connection until it closes.
async fn serve(
    mut socket: TcpStream,
    failures: &AtomicUsize,
    tell: &mpsc::Sender<Received>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = request(&mut socket, &mut buffer).await? {
        let fail = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let (status, reason) = if fail.is_ok() { (503, "Restarting") } else { (200, "OK") };
        let received = Received {
            id: field(&head, "webhook-id"),
            event: field(&head, "everhook-event"),
            attempt: field(&head, "everhook-attempt"),
            status,
        };
        let answer = format!("HTTP/1.1 {status} {reason}\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await?;
        if tell.send(received).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads one request off the connection and gives its head; `None` when the client has closed.
async fn request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        let head_end = buffer.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head_end) = head_end {
            let head = String::from_utf8_lossy(buffer.get(..head_end).unwrap_or_default());
            let body: usize = field(&head, "content-length").parse().unwrap_or(0);
            let end = head_end.saturating_add(4).saturating_add(body);
            if buffer.len() >= end {
                let head = head.into_owned();
                buffer.drain(..end);
                return Ok(Some(head));
            }
        }
        if buffer.len() > MAX_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than the demo sends"));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The value of one field of a head; empty when it is not there.
fn field(head: &str, name: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}
