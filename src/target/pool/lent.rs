//! An open connection, and how it moves on while a request uses it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::super::connect::{Carried, Wire};
use super::super::seen::Outgoing;
use crate::time::Timer;

/// What comes of a request: the head of its answer, or why there is none, and the request if it was never sent.
type Answered = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;
/// What moves a connection of HTTP/1 on.
pub(super) type Moving = Box<http1::Connection<Wire, Outgoing>>;

/// An open connection that may carry a request now.
pub(in crate::target) enum Lent {
    /// HTTP/1: one request at a time.
    Single(Single),
    /// HTTP/2: many.
    Shared(Shared),
}

/// A connection of HTTP/1.
pub(in crate::target) struct Single {
    /// `None` when no further request is to come.
    sender: Option<http1::SendRequest<Outgoing>>,
    /// `None` when it has ended.
    connection: Option<Moving>,
    pub(super) carried: Carried,
    /// For the answers to the requests that it carries.
    timer: Timer,
    /// When it is closed if nobody needs it.
    pub(super) until: Instant,
}

/// A connection of HTTP/2.
#[derive(Clone)]
pub(in crate::target) struct Shared {
    pub(super) sender: http2::SendRequest<Outgoing>,
    pub(super) carried: Carried,
    pub(super) until: Instant,
    /// No further request should go here.
    pub(super) spent: Arc<AtomicBool>,
}

impl Lent {
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
        by: Instant,
    ) -> Option<Answered> {
        match self {
            Self::Single(Single { sender: Some(sender), connection, timer, .. }) => {
                timer.by(by, carry(connection, sender.try_send_request(request))).await
            }
            // It is lent only while a request can come.
            Self::Single(_) => None,
            Self::Shared(shared) => {
                let sent = shared.sender.try_send_request(request);
                tokio::time::timeout_at(by, sent).await.ok()
            }
        }
    }

    /// Resolves with `work`, which reads what this connection brings.
    pub(in crate::target) async fn carry<T>(&mut self, work: impl Future<Output = T>) -> T {
        match self {
            Self::Single(single) => carry(&mut single.connection, work).await,
            Self::Shared(_) => work.await,
        }
    }

    /// What the connection tells of itself.
    pub(in crate::target) fn carried(&self) -> &Carried {
        match self {
            Self::Single(single) => &single.carried,
            Self::Shared(shared) => &shared.carried,
        }
    }

    /// Nothing came over the connection in time, so no further request goes there: one that died without a word would
    /// take every attempt with it that HTTP/2 leads over it.
    pub(in crate::target) fn give_up(self) {
        if let Self::Shared(shared) = self {
            shared.spent.store(true, Ordering::Relaxed);
        }
    }
}

/// Resolves with `work` and lets the connection move on meanwhile. One that has ended is dropped, so that whoever waits
/// for it is told.
async fn carry<T>(connection: &mut Option<Moving>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if let Some(moving) = connection {
            // Its error, if it has one, reaches whoever waits for the answer or its body.
            if Pin::new(moving).poll(cx).is_ready() {
                *connection = None;
            }
            return work.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

impl Single {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        connection: Moving,
        carried: Carried,
        until: Instant,
    ) -> Self {
        let (sender, connection) = (Some(sender), Some(connection));
        Self { sender, connection, carried, timer: Timer::default(), until }
    }

    /// Whether it can carry a request, as far as is known by now. An answer may be there before its request was sent to
    /// the end; then it cannot.
    pub(super) fn is_usable(&mut self, now: Instant) -> bool {
        self.look();
        let is_ready = self.sender.as_ref().is_some_and(http1::SendRequest::is_ready);
        self.connection.is_some() && is_ready && !self.carried.has_unsent() && now < self.until
    }

    /// What still has to be done for the request that it carries, if there is anything: no further one will come.
    pub(super) fn rest(mut self) -> Option<Moving> {
        self.sender = None;
        self.look();
        self.connection.take()
    }

    /// Lets it take note of what has happened meanwhile. Whoever sends is woken by its own look.
    fn look(&mut self) {
        let mut unheard = Context::from_waker(Waker::noop());
        // Whatever the task that looks has done before.
        let mut has_ended = |it: &mut Moving| {
            let looking = pin!(unconstrained(it));
            looking.poll(&mut unheard).is_ready()
        };
        self.connection.take_if(|it| has_ended(it));
    }
}

impl Drop for Single {
    /// Says goodbye: TLS has a word for it, and a server that does not hear it reports an error.
    fn drop(&mut self) {
        self.sender = None;
        self.look();
    }
}

impl Shared {
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.sender.is_ready() && !self.spent.load(Ordering::Relaxed) && now < self.until
    }
}
