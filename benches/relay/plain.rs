//! The yardstick for the journal: everhook's own front before a plain append-only file, one write and one fdatasync for
//! whatever waits. It has no dedup, no index and no delivery, and nothing can be read back from it but with an
//! editor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use everhook::config::Config;
use everhook::ingress::Ingress;
use everhook::journal::{
    Append, AppendError, Appended, Ask, BoxFuture, Changed, Claimed, Depth, Found, Happening,
    Health, Journal, Latest, Lease, LoadError, Note, NoteError, OperateError, Page, RejectionAsk,
    Repeat, Scope, SettleError, Tally,
};
use everhook::lifecycle::Tasks;
use everhook::metrics::Metrics;
use everhook::model::{
    Attempt, Event, EventId, Name, Rejection, RejectionId, RejectionOutline, Settlement, Wanted,
};
use everhook::time::Clock;
use everhook::trace::Spans;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    answers: Vec<(oneshot::Sender<EventId>, EventId)>,
}

/// The journal.
struct PlainFile {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    happenings: broadcast::Sender<Happening>,
}

impl PlainFile {
    fn create(path: &Path) -> Arc<Self> {
        let mut file = File::create(path).expect("writable");
        let journal = Arc::new(Self {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            happenings: broadcast::channel(1).0,
        });
        let writer = Arc::clone(&journal);
        std::thread::spawn(move || {
            loop {
                let Waiting { bytes, answers } = writer.take();
                file.write_all(&bytes).expect("written");
                file.sync_data().expect("synced");
                for (answer, id) in answers {
                    let _sent = answer.send(id);
                }
            }
        });
        journal
    }

    fn take(&self) -> Waiting {
        let mut waiting = self.waiting.lock().expect("no panic");
        while waiting.answers.is_empty() {
            waiting = self.arrived.wait(waiting).expect("no panic");
        }
        std::mem::take(&mut *waiting)
    }
}

impl Journal for PlainFile {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let Event { id, headers, body, .. } = append.event;
        let mut waiting = self.waiting.lock().expect("no panic");
        waiting.bytes.extend_from_slice(headers.packed());
        waiting.bytes.extend_from_slice(&body);
        waiting.answers.push((answer, id));
        let first = waiting.answers.len() == 1;
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
        Box::pin(
            async move { answered.await.map(Appended::New).map_err(|_ended| AppendError::Closed) },
        )
    }

    fn repeated(&self, _event: EventId, _repeat: Repeat) {}

    fn demand(&self, _wanted: Vec<Wanted>) {}

    fn claim(&self) -> BoxFuture<'_, Vec<Claimed>> {
        Box::pin(std::future::pending())
    }

    fn load(&self, _lease: Lease) -> BoxFuture<'_, Result<Event, LoadError>> {
        Box::pin(std::future::pending())
    }

    fn settle(
        &self,
        _lease: Lease,
        _settlement: Settlement,
        _attempt: Option<Attempt>,
    ) -> BoxFuture<'_, Result<(), SettleError>> {
        Box::pin(async { Err(SettleError::Closed) })
    }

    fn find(&self, _id: EventId) -> BoxFuture<'_, Result<Option<Found>, LoadError>> {
        Box::pin(async { Ok(None) })
    }

    fn list(&self, _ask: Ask) -> BoxFuture<'_, Result<Page, LoadError>> {
        Box::pin(std::future::pending())
    }

    fn tally(&self, _ask: Ask) -> BoxFuture<'_, Result<Tally, LoadError>> {
        Box::pin(std::future::pending())
    }

    fn hasten(&self, _id: EventId, _scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(std::future::pending())
    }

    fn replay(&self, _id: EventId, _scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(std::future::pending())
    }

    fn discard(&self, _id: EventId, _scope: Scope) -> BoxFuture<'_, Result<Changed, OperateError>> {
        Box::pin(std::future::pending())
    }

    fn watch(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    fn latest(&self) -> BTreeMap<Name, Latest> {
        BTreeMap::new()
    }

    fn reject(&self, _rejection: Rejection) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async { Err(AppendError::Full) })
    }

    fn rejections(&self, _ask: &RejectionAsk) -> Vec<RejectionOutline> {
        Vec::new()
    }

    fn rejection(&self, _id: RejectionId) -> BoxFuture<'_, Result<Option<Rejection>, LoadError>> {
        Box::pin(async { Ok(None) })
    }

    fn release(
        &self,
        _id: RejectionId,
        _append: Append,
    ) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async { Err(AppendError::NotKept) })
    }

    fn drop_rejections(&self, _ids: Vec<RejectionId>) -> BoxFuture<'_, Result<usize, AppendError>> {
        Box::pin(async { Ok(0) })
    }

    fn quarantined(&self) -> BTreeMap<Name, u64> {
        BTreeMap::new()
    }

    fn note(&self, _note: Note) -> BoxFuture<'_, Result<(), NoteError>> {
        Box::pin(async { Ok(()) })
    }

    fn notes(&self, _topic: &str) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    fn depth(&self) -> Vec<Depth> {
        Vec::new()
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Serves the configured sources on the journal until the process is killed.
pub async fn serve(config: Config, listener: TcpListener) {
    let journal = PlainFile::create(&config.journal.path.with_extension("plain"));
    let metrics = Metrics::new("bench", "bench").expect("metrics");
    let tasks = Tasks::new();
    let ingress = Ingress::new(
        &config.ingress,
        &config.sources,
        journal,
        Clock::system(),
        (&metrics, Spans::default()),
        1,
        &tasks,
    );
    tasks.spawn(ingress.clone().watch(tasks.clone()));
    ingress.run(listener, tasks).await;
}
