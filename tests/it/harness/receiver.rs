//! A target that does what its script says and remembers every request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::within;

/// One request as the target saw it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method, path and version.
    pub line: String,
    /// Lower-case names, values as text.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// What the target does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status line's code and reason, and extra header lines.
    Answer(&'static str, &'static str),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

/// Answers 200.
pub const OK: Act = Act::Answer("200 OK", "");

type Script = dyn Fn(usize, &Received) -> Act + Send + Sync;

/// A listening target.
pub struct Receiver {
    pub address: SocketAddr,
    requests: mpsc::Receiver<Received>,
    seen: Arc<Mutex<Vec<Received>>>,
    accept: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Answers everything with 200.
    pub async fn good() -> Self {
        Self::scripted(|_, _| OK).await
    }

    /// The script gets the number of the request, from 0, and the request.
    pub async fn scripted(
        script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, script)
    }

    /// The same on a socket the caller made.
    pub fn on(
        listener: TcpListener,
        script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let (sender, requests) = mpsc::channel(100_000);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let script: Arc<Script> = Arc::new(script);
        let accept = tokio::task::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (script, sender) = (Arc::clone(&script), sender.clone());
                let seen = Arc::clone(&shared);
                tokio::task::spawn(async move {
                    drop(serve(socket, &*script, &sender, &seen).await);
                });
            }
        });
        Self { address, requests, seen, accept }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next request.
    pub async fn next(&mut self) -> Received {
        within("the target is sent a request", self.requests.recv()).await.expect("open")
    }

    /// The next `count` requests.
    pub async fn take(&mut self, count: usize) -> Vec<Received> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            all.push(self.next().await);
        }
        all
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Received> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    script: &Script,
    sender: &mpsc::Sender<Received>,
    seen: &Mutex<Vec<Received>>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut buffer).await? {
        let number = {
            let mut seen = seen.lock().expect("no panic");
            seen.push(request.clone());
            seen.len() - 1
        };
        let act = script(number, &request);
        // A test that only looks at what was seen does not read these: what does not fit is left out.
        drop(sender.try_send(request));
        match act {
            Act::Answer(status, headers) => {
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n{headers}\r\nok");
                socket.write_all(head.as_bytes()).await?;
            }
            Act::Hang => std::future::pending().await,
            Act::Close => return Ok(()),
        }
    }
    Ok(())
}

/// One request with a Content-Length; `None` when the client has closed.
async fn read_request(
    socket: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Received>> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Vec<_> =
        fields.map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    let end = head_end + 4 + length;
    while buffer.len() < end {
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = Bytes::copy_from_slice(&buffer[head_end + 4..end]);
    buffer.drain(..end);
    Ok(Some(Received { line, headers, body }))
}
