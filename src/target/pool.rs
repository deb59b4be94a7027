//! The open connections of one target: opened when a request needs one, kept for the next, closed when nobody needs them.
//!
//! A connection of HTTP/1 belongs to the request that it carries, and moves on with it: no task of its own, nothing handed from
//! one task to another. While it is kept nobody looks at it but `look_after`, every few seconds, and whoever takes it.
//! One of HTTP/2 is a task and carries what comes at once.

mod lent;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioTimer;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use self::lent::Lent;
use self::lent::{Shared, Single};
use super::connect::{ConnectFailed, Connector};
use super::seen::Outgoing;
use crate::lifecycle::Tasks;
use crate::time::deadline;

/// Most bytes of an answer's head.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// Most header fields of an answer.
const MAX_ANSWER_FIELDS: usize = 128;
/// How long an idle connection is kept: short enough that a moved name is looked up again within a minute.
const IDLE: Duration = Duration::from_secs(30);
/// How often kept connections are looked at: one that the server has closed is closed on our side as late as this.
const LOOK: Duration = Duration::from_secs(5);

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// There is no connection to carry the request.
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    /// The connection did not carry it to its end.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer in time")]
    Late,
}

/// What a request is made of, whatever connection carries it.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) method: Method,
    pub(super) fields: HeaderMap,
    pub(super) body: Outgoing,
}

/// The connections of one target.
pub(super) struct Pool {
    inner: Arc<Inner>,
    _close: DropGuard,
}

struct Inner {
    connector: Connector,
    url: Uri,
    /// The URL as a request of HTTP/1 names it: its path and query, and the `Host` field.
    path: Uri,
    host: HeaderValue,
    /// Most connections that are kept.
    room: usize,
    tasks: Tasks,
    kept: Mutex<Kept>,
    /// A connection was taken back.
    freed: Notify,
    /// Room for connections that no attempt waits for: being opened, or with the rest of a request.
    aside: Arc<Semaphore>,
    /// The pool is gone.
    closed: CancellationToken,
}

#[derive(Default)]
struct Kept {
    /// The last one that was used is the first to be used again, so that a target that gets less to do is left with fewer.
    single: Vec<Single>,
    shared: Option<Shared>,
    /// Whether a task looks after them.
    looked_after: bool,
}

/// A connection, and whether it was open before.
type Found = (Lent, bool);

impl Pool {
    /// Without a connection. Keeps as many as `room` of those that are not needed; tasks run as `tasks`.
    pub(super) fn new(connector: Connector, url: Uri, room: usize, tasks: &Tasks) -> Self {
        let closed = CancellationToken::new();
        let close = closed.clone().drop_guard();
        let inner = Inner {
            connector,
            path: path_of(&url),
            host: host_of(&url),
            url,
            room,
            tasks: tasks.clone(),
            kept: Mutex::default(),
            freed: Notify::new(),
            aside: Arc::new(Semaphore::new(room)),
            closed,
        };
        Self { inner: Arc::new(inner), _close: close }
    }

    /// Sends a request and waits for the head of its answer, until `by`. `lent` is the connection that carries it, from the
    /// moment on that there is one: it also carries the answer's body, and is closed by dropping it.
    pub(super) async fn send(
        &self,
        mut letter: Letter,
        by: Instant,
        lent: &mut Option<Lent>,
    ) -> Result<Response<Incoming>, SendError> {
        loop {
            let (connection, was_kept) = match self.inner.kept() {
                Some(kept) => (kept, true),
                None => match tokio::time::timeout_at(by, self.inner.next()).await {
                    Ok(found) => found?,
                    Err(_elapsed) => return Err(SendError::Late),
                },
            };
            let request = self.inner.request(letter, &connection);
            let connection = lent.insert(connection);
            let mut failed = match connection.send(request, by).await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(failed)) => failed,
                None => return Err(SendError::Late),
            };
            // It ended before the request was on its way: nobody has seen it, and a new connection may carry it.
            let (true, Some(unsent)) = (was_kept, failed.take_message()) else {
                return Err(failed.into_error().into());
            };
            lent.take().into_iter().for_each(Lent::give_up);
            let (head, body) = unsent.into_parts();
            letter = Letter { method: head.method, fields: head.headers, body };
        }
    }

    /// Keeps a connection for the next request, if it can carry one. One that has the answer and still sends the request goes
    /// on with that until `by`, and is closed then.
    pub(super) fn take_back(&self, lent: Lent, by: Instant) {
        self.inner.take_back(lent, by);
    }
}

impl Inner {
    fn take_back(self: &Arc<Self>, lent: Lent, by: Instant) {
        // One of HTTP/2 is still kept.
        let Lent::Single(mut single) = lent else { return };
        let now = deadline(Duration::ZERO);
        single.until = single.carried.old_at.min(now + IDLE);
        if !single.is_usable(now) {
            let place = Arc::clone(&self.aside).try_acquire_owned();
            if let (Some(rest), Ok(place)) = (single.rest(), place) {
                let rest = tokio::time::timeout_at(by, rest);
                drop(self.tasks.spawn(async move {
                    drop(rest.await);
                    drop(place);
                }));
            }
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.single.len() >= self.room {
            kept.single.retain_mut(|single| single.is_usable(now));
        }
        if kept.single.len() < self.room {
            kept.single.push(single);
            self.look_after(&mut kept);
        }
        drop(kept);
        self.freed.notify_one();
    }

    /// A kept connection that can carry a request.
    fn kept(&self) -> Option<Lent> {
        let now = deadline(Duration::ZERO);
        let mut kept = lock(&self.kept);
        if let Some(shared) = &mut kept.shared {
            if shared.is_usable(now) {
                shared.until = shared.carried.old_at.min(now + IDLE);
                return Some(Lent::Shared(shared.clone()));
            }
            kept.shared = None;
        }
        while let Some(mut single) = kept.single.pop() {
            if single.is_usable(now) {
                return Some(Lent::Single(single));
            }
        }
        None
    }

    /// A new connection, or one that another request no longer needs, whichever is there first: a server may serve no more
    /// than it does. The new one is kept then.
    async fn next(self: &Arc<Self>) -> Result<Found, SendError> {
        let (answer, mut opened) = oneshot::channel();
        let (this, closed) = (Arc::clone(self), self.closed.clone());
        drop(self.tasks.spawn(async move {
            closed.run_until_cancelled(this.open_for(answer)).await;
        }));
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(kept) = self.kept() {
                return Ok((kept, true));
            }
            tokio::select! {
                biased;
                // It is told unless the pool is gone.
                opened = &mut opened => return match opened.unwrap_or(Err(SendError::Late)) {
                    Ok(found) => Ok(found),
                    Err(error) => self.kept().map(|kept| (kept, true)).ok_or(error),
                },
                () = freed => {}
            }
        }
    }

    /// Opens a connection for whoever waits for the answer. When nobody does any more, it is kept for the next, if not too
    /// many are being opened like that.
    async fn open_for(self: &Arc<Self>, mut answer: oneshot::Sender<Result<Found, SendError>>) {
        let mut opening = pin!(self.open());
        let opened = tokio::select! {
            biased;
            opened = &mut opening => opened,
            () = answer.closed() => {
                let Ok(_place) = self.aside.try_acquire() else { return };
                opening.await
            }
        };
        if let Err(Ok((unclaimed, _))) = answer.send(opened) {
            unclaimed.carried().is_no_news();
            self.take_back(unclaimed, deadline(Duration::ZERO));
        }
    }

    async fn open(self: &Arc<Self>) -> Result<Found, SendError> {
        let wire = self.connector.open(&self.url).await?;
        let carried = wire.carried().clone();
        let until = carried.old_at.min(deadline(IDLE));
        if !wire.speaks_http2() {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_ANSWER_HEAD)
                .max_headers(MAX_ANSWER_FIELDS)
                .handshake(wire)
                .await?;
            let single = Single::new(sender, Box::new(connection), carried, until);
            return Ok((Lent::Single(single), false));
        }
        let (sender, connection) = http2::Builder::new(Spawner(self.tasks.clone()))
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(MAX_ANSWER_HEAD).unwrap_or(u32::MAX))
            .handshake(wire)
            .await?;
        // How it ends is told to the requests on it.
        drop(self.tasks.spawn(async move { drop(connection.await) }));
        let opened = Shared { sender, carried, until, spent: Arc::default() };
        let mut kept = lock(&self.kept);
        // Requests that came at once have each opened one, and one is enough for all.
        let (shared, was_open) = match &kept.shared {
            Some(first) if first.is_usable(deadline(Duration::ZERO)) => (first.clone(), true),
            Some(_) | None => {
                kept.shared = Some(opened.clone());
                self.look_after(&mut kept);
                (opened, false)
            }
        };
        drop(kept);
        self.freed.notify_waiters();
        Ok((Lent::Shared(shared), was_open))
    }

    fn request(&self, letter: Letter, connection: &Lent) -> Request<Outgoing> {
        let Letter { method, fields, body } = letter;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = fields;
        match connection {
            Lent::Single(_) => {
                *request.uri_mut() = self.path.clone();
                request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
            }
            Lent::Shared(_) => *request.uri_mut() = self.url.clone(),
        }
        request
    }

    /// From now on a task closes what has ended or nobody needs, until nothing is kept any more.
    fn look_after(self: &Arc<Self>, kept: &mut Kept) {
        if std::mem::replace(&mut kept.looked_after, true) {
            return;
        }
        let (this, closed) = (Arc::downgrade(self), self.closed.clone());
        drop(self.tasks.spawn(async move {
            closed.run_until_cancelled(look_after(this)).await;
        }));
    }
}

async fn look_after(pool: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = lock(&pool.kept);
        let now = deadline(Duration::ZERO);
        kept.single.retain_mut(|single| single.is_usable(now));
        kept.shared.take_if(|shared| !shared.is_usable(now));
        if kept.single.is_empty() && kept.shared.is_none() {
            kept.looked_after = false;
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a token.
        f.debug_struct("Pool").field("room", &self.inner.room).finish_non_exhaustive()
    }
}

/// Lets the HTTP library's tasks belong to the pool's.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(self.0.spawn(task));
    }
}

/// The origin form (RFC 9112, section 3.2.1).
fn path_of(url: &Uri) -> Uri {
    url.path_and_query().cloned().map(Uri::from).unwrap_or_default()
}

/// The authority without what is in it by default: whose credentials, and the scheme's own port.
fn host_of(url: &Uri) -> HeaderValue {
    let host = url.host().unwrap_or_default();
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let text = match url.port_u16() {
        Some(port) if port != usual => format!("{host}:{port}"),
        Some(_) | None => host.to_owned(),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
