//! Targets that do with a connection what no server should, and know when it has been closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::within;

/// What is done with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Reads the request and never answers.
    Hang,
    /// Does not even read.
    Mute,
    /// Sends a head that never ends, a byte now and then.
    DripHead,
    /// Answers 200 and then drips its body.
    DripBody,
    /// Resets the connection.
    Reset,
    /// Reads the request and closes its side without an answer.
    HalfClose,
    /// Sends what is not HTTP.
    Garbage,
    /// Sends header fields without end.
    EndlessHead,
    /// Answers 200 with 10 GiB.
    EndlessBody,
    /// Answers 100 without end.
    Endless100,
    /// Answers 200 with a small body that claims to unfold to much more: too long to be read to its end along the way,
    /// which would leave a connection that may be kept.
    Bomb,
    /// Sends the client to itself.
    Redirect,
}

/// A listening target that misbehaves.
pub struct Hostile {
    pub address: SocketAddr,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    accept: tokio::task::JoinHandle<()>,
}

impl Hostile {
    pub async fn start(bad: Bad) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (open, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&open), Arc::clone(&accepted));
        let accept = tokio::task::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let open = Arc::clone(&counts.0);
                open.fetch_add(1, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
                tokio::task::spawn(async move {
                    drop(serve(socket, bad).await);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, open, accepted, accept }
    }

    /// Waits until the other side has closed every connection.
    pub async fn left(&self) {
        within("every connection is closed", async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Ends when the client has closed the connection, or a write has failed because of that.
async fn serve(mut socket: TcpStream, bad: Bad) -> std::io::Result<()> {
    if bad == Bad::Mute {
        return gone(&socket).await;
    }
    read_head(&mut socket).await?;
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    match bad {
        Bad::Hang | Bad::Mute => {}
        Bad::DripHead => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nx-drip: ").await?;
            drip(&mut socket).await?;
        }
        Bad::DripBody => {
            socket.write_all(head("content-length: 1000000\r\n").as_bytes()).await?;
            drip(&mut socket).await?;
        }
        Bad::Reset => {
            socket.set_zero_linger()?;
            return Ok(());
        }
        Bad::HalfClose => socket.shutdown().await?,
        Bad::Garbage => socket.write_all(b"\x16\x03\x01 220 smtp ready\r\n\r\n").await?,
        Bad::EndlessHead => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            for_ever(
                &mut socket,
                &b"x-endless: 0123456789012345678901234567890123456789\r\n".repeat(50),
            )
            .await?;
        }
        Bad::EndlessBody => {
            socket.write_all(head("content-length: 10737418240\r\n").as_bytes()).await?;
            for_ever(&mut socket, &b"x".repeat(65_536)).await?;
        }
        Bad::Endless100 => for_ever(&mut socket, b"HTTP/1.1 100 Continue\r\n\r\n").await?,
        Bad::Bomb => {
            let fields = "content-encoding: gzip\r\ncontent-length: 1000000\r\n";
            socket.write_all(head(fields).as_bytes()).await?;
            socket.write_all(&[0x1f].repeat(1_000_000)).await?;
        }
        Bad::Redirect => {
            let to = "HTTP/1.1 302 Found\r\nlocation: /hook\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            socket.write_all(to.as_bytes()).await?;
            socket.shutdown().await?;
        }
    }
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.map(drop)
}

async fn read_head(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// A byte every so often, which is what this receiver is about.
async fn drip(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        socket.write_all(b"x").await?;
    }
}

async fn for_ever(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        socket.write_all(bytes).await?;
    }
}

/// Resolves when the client has closed, without reading what it sent.
async fn gone(socket: &TcpStream) -> std::io::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        // What was sent stays unread, so the socket is always ready; the ticks keep this from spinning.
        ticks.tick().await;
        let interest = tokio::io::Interest::READABLE | tokio::io::Interest::ERROR;
        let ready = socket.ready(interest).await?;
        if ready.is_read_closed() || ready.is_error() {
            return Ok(());
        }
    }
}
