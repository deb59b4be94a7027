//! What happens from now on, as server-sent events.
//!
//! Each reader has a small queue of its own. One that is too slow misses some and is told how many; it holds nobody up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::answer::{Answer, Problem, of_body};
use super::shown;
use crate::journal::{Happening, What};
use crate::lifecycle::Tasks;

/// Most readers at once: others need connections, too.
const MAX_READERS: usize = 24;
/// Events on their way to one reader.
const QUEUE: usize = 64;
/// Silence after which a comment shows both ends that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who reads along.
pub(super) struct Readers {
    permits: Arc<Semaphore>,
    tasks: Tasks,
}

impl Readers {
    /// Their streams run in `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_READERS)), tasks }
    }
}

impl Shared {
    /// A stream of what happens.
    pub(super) fn live(&self) -> Result<Answer, Problem> {
        let watch = self.journal()?.watch();
        let permit = Arc::clone(&self.readers.permits).try_acquire_owned();
        let permit = permit.map_err(|_none| {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let detail = format!("{MAX_READERS} streams are open already");
            Problem::new(status, "too-many", detail)
        })?;
        let (sender, body) = Channel::new(QUEUE);
        let stop = self.readers.tasks.stop_token().clone();
        self.readers.tasks.spawn(async move {
            // The stream ends with an end of its body, which a reader can tell from a broken connection.
            stop.run_until_cancelled(tell(watch, sender, permit)).await;
        });
        Ok(of_body(StatusCode::OK, "text/event-stream", Either::Right(body)))
    }
}

/// Passes on what happens until the reader is gone.
async fn tell(
    mut watch: Receiver<Happening>,
    mut sender: Sender<Bytes, Infallible>,
    permit: OwnedSemaphorePermit,
) {
    let mut lines = String::from(": what happens from now on\n\n");
    loop {
        let sent = tokio::time::timeout(PATIENCE, sender.send_data(lines.into())).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
        lines = match tokio::time::timeout(KEEP_ALIVE, watch.recv()).await {
            Err(_quiet) => ":\n\n".to_owned(),
            Ok(Ok(happening)) => line(&happening),
            Ok(Err(RecvError::Lagged(missed))) => written("missed", &json!({ "missed": missed })),
            Ok(Err(RecvError::Closed)) => break,
        };
    }
    drop(permit);
}

fn line(Happening { id, what }: &Happening) -> String {
    let id = id.to_string();
    match what {
        What::Accepted { source, name, received_at } => {
            let data = json!({
                "id": id, "source": source.as_str(), "event": name, "received_at": received_at,
            });
            written("accepted", &data)
        }
        What::Delivery(state) => {
            let mut data = json!({ "id": id });
            shown::merge(&mut data, shown::delivery(state));
            written("delivery", &data)
        }
    }
}

/// JSON has no line break of its own, so one line holds it whatever a sender named its event.
fn written(event: &str, data: &Value) -> String {
    format!("event: {event}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, Name};
    use crate::time::Timestamp;

    #[test]
    fn a_name_with_line_breaks_stays_in_its_line() {
        let at = Timestamp::from_secs(1);
        let what = What::Accepted {
            source: Name::parse("ci").unwrap(),
            name: "a\n\nevent: delivery\ndata: {}\r\n".into(),
            received_at: at,
        };
        let text = line(&Happening { id: EventId::new(at, [0; 10]), what });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("event: accepted\ndata: {") && text.ends_with("}\n\n"), "{text}");
        assert!(!text.contains('\r'));
    }
}
