//! The load: keep-alive connections that post one request after the other, as lean as they can be, because they share
//! the machine with what they measure.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::webhooks::{Kind, Maker};

/// What one turn measured.
pub struct Turn {
    /// Requests that were answered 2xx.
    pub requests: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Nanoseconds from a request to its answer.
    pub nanos: Histogram<u64>,
}

impl Turn {
    pub fn rate(&self) -> f64 {
        float(self.requests) / self.elapsed.as_secs_f64()
    }

    /// Microseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        float(self.nanos.value_at_quantile(quantile)) / 1e3
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts of one short run")]
pub fn float(count: u64) -> f64 {
    count as f64
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram")
}

pub fn record(nanos: &mut Histogram<u64>, took: Duration) {
    nanos.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1)).expect("within range");
}

/// When a client posts, and until when.
#[derive(Clone, Copy)]
pub enum Plan {
    /// One after the other, until then.
    Closed(Duration),
    /// So many a second over all connections, whether the answers keep up or not.
    Paced(Duration, f64),
    /// So many requests over all connections.
    Count(u64),
}

/// Posts from so many connections at once; `series` makes the ids of this turn its own.
pub async fn post(
    address: SocketAddr,
    kind: Kind,
    connections: u64,
    plan: Plan,
    series: u64,
) -> Turn {
    let mut ready = Vec::new();
    for number in 0..connections {
        let maker = Maker::new(kind, series * 65_536 + number);
        ready.push((number, Connection::open(address).await.expect("listening"), maker));
    }
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for (number, connection, maker) in ready {
        clients.spawn(async move {
            let client = Client { number, connections, connection, maker, begun };
            client.run(plan).await.expect("answered")
        });
    }
    let mut nanos = histogram();
    while let Some(client) = clients.join_next().await {
        nanos.add(client.expect("no panic")).expect("one range");
    }
    Turn { requests: nanos.len(), elapsed: begun.elapsed(), nanos }
}

struct Client {
    number: u64,
    connections: u64,
    connection: Connection,
    maker: Maker,
    begun: Instant,
}

impl Client {
    async fn run(mut self, plan: Plan) -> io::Result<Histogram<u64>> {
        let mut nanos = histogram();
        let mut request = Vec::new();
        match plan {
            Plan::Closed(length) => {
                while self.begun.elapsed() < length {
                    self.once(&mut request, &mut nanos, None).await?;
                }
            }
            Plan::Paced(length, rate) => {
                let pause = Duration::from_secs_f64(float(self.connections) / rate);
                let mut next =
                    self.begun + pause.mul_f64(float(self.number) / float(self.connections));
                while next < self.begun + length {
                    // The timer wakes up to 1 ms late, which is not the server's doing; being late because
                    // the answer before was late is.
                    let late = Instant::now() >= next;
                    tokio::time::sleep_until(next.into()).await;
                    self.once(&mut request, &mut nanos, late.then_some(next)).await?;
                    next += pause;
                }
            }
            Plan::Count(count) => {
                for _ in
                    (self.number..count).step_by(usize::try_from(self.connections).unwrap_or(1))
                {
                    self.once(&mut request, &mut nanos, None).await?;
                }
            }
        }
        Ok(nanos)
    }

    async fn once(
        &mut self,
        request: &mut Vec<u8>,
        nanos: &mut Histogram<u64>,
        since: Option<Instant>,
    ) -> io::Result<()> {
        self.maker.next(request);
        let sent = since.unwrap_or_else(Instant::now);
        let status = self.connection.exchange(request).await?;
        record(nanos, sent.elapsed());
        if status / 100 == 2 {
            return Ok(());
        }
        let said = String::from_utf8_lossy(self.connection.answer()).into_owned();
        Err(io::Error::other(said))
    }
}

/// One keep-alive connection.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; 16 * 1024], filled: 0 })
    }

    /// Sends a request and reads its answer, whose status is returned.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.socket.write_all(request).await?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.filled * 2, 0);
            }
            let read = self.socket.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += read;
            if let Some((status, length)) = whole(&self.buffer[..self.filled]) {
                self.filled = length;
                return Ok(status);
            }
        }
    }

    /// The answer that was read last.
    pub fn answer(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The body of that answer.
    pub fn body(&self) -> &[u8] {
        let head = memchr::memmem::find(self.answer(), b"\r\n\r\n").map_or(0, |it| it + 4);
        &self.answer()[head..]
    }
}

/// Status and length of an answer that is there whole.
fn whole(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    let field = b"content-length: ";
    let at = memchr::memmem::find(&bytes[..head], field)? + field.len();
    let digits = bytes[at..head].iter().take_while(|it| it.is_ascii_digit());
    let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    (bytes.len() >= head + body).then_some((status, head + body))
}
