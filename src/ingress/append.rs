//! An append that is counted when it is durable, also when its sender has left by then or was told to try again.
//!
//! The HTTP library drops a request whose connection breaks. Its event may be stored all the same, will be delivered,
//! and has to be seen in the metrics: so an append that is dropped before its end goes on in a task of its own.
//! One that is waited for needs no task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::journal::{AppendError, Appended};
use crate::lifecycle::Tasks;
use crate::metrics::{Counter, Metrics};
use crate::model::Name;

/// What becomes of one source's requests that are durable.
#[derive(Debug)]
pub(super) struct Outcomes {
    accepted: Counter,
    duplicate: Counter,
    answered: Counter,
}

impl Outcomes {
    /// The counters of a source.
    pub(super) fn of(metrics: &Metrics, source: &Name) -> Self {
        let source = source.as_str();
        Self {
            accepted: metrics.events_accepted.with_label_values(&[source]),
            duplicate: metrics.events_duplicate.with_label_values(&[source]),
            answered: metrics.ingress_requests.with_label_values(&[source, "200"]),
        }
    }

    /// Counts a request that is answered 200.
    pub(super) fn answered(&self) {
        self.answered.inc();
    }

    /// Counts what is durable.
    pub(super) fn count(&self, appended: &Appended) {
        match appended {
            Appended::New(_) => self.accepted.inc(),
            Appended::Duplicate(_) => self.duplicate.inc(),
        }
    }
}

type Pending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// An append under way.
pub(super) struct Counted<'a> {
    pending: Option<Pending>,
    outcomes: &'a Arc<Outcomes>,
    /// Whether the sender was answered otherwise.
    given_up: bool,
    tasks: &'a Tasks,
}

impl<'a> Counted<'a> {
    pub(super) fn new(
        append: impl Future<Output = Result<Appended, AppendError>> + Send + 'static,
        outcomes: &'a Arc<Outcomes>,
        tasks: &'a Tasks,
    ) -> Self {
        Self { pending: Some(Box::pin(append)), outcomes, given_up: false, tasks }
    }

    /// Resolves with the append. Dropping this before loses nothing, so it can be tried with a timeout.
    pub(super) async fn wait(&mut self) -> Result<Appended, AppendError> {
        let Some(pending) = &mut self.pending else { return Err(AppendError::Closed) };
        let appended = pending.await;
        self.pending = None;
        if let Ok(appended) = &appended {
            self.outcomes.count(appended);
        }
        appended
    }

    /// The sender is not waited for any longer and is told so: what becomes durable is counted, the request is not.
    pub(super) fn give_up(mut self) {
        self.given_up = true;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        // Without a runtime the process is ending, and its metrics with it.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (outcomes, given_up) = (Arc::clone(self.outcomes), self.given_up);
        drop(self.tasks.spawn(async move {
            if let Ok(appended) = pending.await {
                outcomes.count(&appended);
                if !given_up {
                    outcomes.answered();
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::EventId;
    use crate::time::Timestamp;

    /// Drops an append in the middle, or gives it up, and lets it become durable then.
    async fn counts(given_up: bool) -> [u64; 3] {
        let (metrics, tasks) = (Metrics::new("1", "r").unwrap(), Tasks::new());
        let outcomes = Arc::new(Outcomes::of(&metrics, &Name::parse("a").unwrap()));
        let (durable, append) = oneshot::channel();
        let append = async { append.await.map_err(|_gone| AppendError::Closed) };
        let mut counted = Counted::new(append, &outcomes, &tasks);
        {
            let mut waiting = std::pin::pin!(counted.wait());
            assert!(
                std::future::poll_fn(|cx| std::task::Poll::Ready(
                    waiting.as_mut().poll(cx).is_pending()
                ))
                .await
            );
        }
        if given_up {
            counted.give_up();
        } else {
            drop(counted);
        }
        let event = EventId::new(Timestamp::EPOCH, [0; 10]);
        assert!(durable.send(Appended::New(event)).is_ok(), "nobody carries it on");
        tasks.ended().await;
        [&outcomes.accepted, &outcomes.duplicate, &outcomes.answered].map(Counter::get)
    }

    #[tokio::test]
    async fn an_event_whose_sender_has_left_is_counted_when_it_is_durable() {
        assert_eq!(counts(false).await, [1, 0, 1]);
    }

    #[tokio::test]
    async fn an_event_that_was_durable_too_late_is_counted_and_its_request_is_not() {
        assert_eq!(counts(true).await, [1, 0, 0]);
    }
}
