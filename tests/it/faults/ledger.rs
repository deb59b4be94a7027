//! The sender's side: posts webhooks, keeps what was acknowledged, and finds out whether it is still known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::harness::daemon::Daemon;
use crate::harness::http::{Connection, Reply};
use crate::harness::receiver::Received;
use crate::harness::within;

/// Connections that post at once.
pub const CLIENTS: u64 = 16;

/// The source that [`Ledger`] posts to. Its dedup key is the number of the webhook.
pub const SOURCE: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n\
     dedup = { key = [\"header:number\"] }\n";

/// What was acknowledged, by the number of the webhook.
#[derive(Default)]
pub struct Ledger {
    next: AtomicU64,
    acknowledged: Mutex<BTreeMap<u64, String>>,
    refused: Mutex<BTreeMap<u64, Reply>>,
}

/// The body of a webhook, of very different sizes: up to 1 KiB, some over several pages, a few of 60 KB.
pub fn body(number: u64) -> Bytes {
    let size = match number % 64 {
        0 => 60_000,
        n if n % 8 == 0 => 9_000,
        n => n * 16,
    };
    let mut body = format!("webhook {number} ");
    while body.len() < usize::try_from(size).expect("small") {
        write!(body, "{:x} ", body.len() * 31 + usize::try_from(number).expect("small"))
            .expect("memory");
    }
    body.into()
}

async fn post(connection: &mut Connection, number: u64) -> Option<Reply> {
    let text = number.to_string();
    let headers = [("number", text.as_str())];
    within("an answer or the end of the connection", async {
        connection.post("/in/any", &headers, body(number)).await.ok()
    })
    .await
}

impl Ledger {
    pub fn acknowledged(&self) -> BTreeMap<u64, String> {
        self.acknowledged.lock().expect("no panic").clone()
    }

    /// The refusals since the last call.
    pub fn refused(&self) -> BTreeMap<u64, Reply> {
        std::mem::take(&mut *self.refused.lock().expect("no panic"))
    }

    /// A ledger that begins where this one stands.
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicU64::new(self.next()),
            acknowledged: Mutex::new(self.acknowledged()),
            refused: Mutex::default(),
        })
    }

    /// Posts one webhook that was never posted before and notes the answer.
    pub async fn post_one(&self, connection: &mut Connection) -> Option<u16> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let reply = post(connection, number).await?;
        let status = reply.status;
        if status == 200 {
            let (id, _) = reply.ack();
            self.acknowledged.lock().expect("no panic").insert(number, id);
        } else {
            self.refused.lock().expect("no panic").insert(number, reply);
        }
        Some(status)
    }

    /// Posts from many connections, at most `each` from one, until the daemon is gone.
    pub async fn load(self: &Arc<Self>, daemon: &Daemon, clients: u64, each: u64) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let Ok(mut connection) = Connection::open(daemon.ingress).await else { break };
            let ledger = Arc::clone(self);
            tasks.spawn(async move {
                for _ in 0..each {
                    match ledger.post_one(&mut connection).await {
                        Some(200 | 503) => {}
                        Some(status) => panic!("answered {status}"),
                        None => return,
                    }
                }
            });
        }
        tasks
    }

    /// Repeats what was acknowledged from the number `from` on: each must be recognised, under its id. What is not
    /// is lost.
    pub async fn lost(&self, daemon: &Daemon, from: u64) -> Vec<String> {
        let mut acknowledged = self.acknowledged();
        let recent: Vec<_> = acknowledged.split_off(&from).into_iter().collect();
        let mut tasks = JoinSet::new();
        for part in recent.chunks(recent.len().div_ceil(8).max(1)) {
            let part = part.to_vec();
            let mut connection = daemon.connect().await;
            tasks.spawn(async move {
                let mut lost = Vec::new();
                for (number, id) in part {
                    let reply = post(&mut connection, number).await.expect("the daemon answers");
                    let (known, status) = reply.ack();
                    if known != id || status != "duplicate" {
                        lost.push(format!("{number} was {id}, its repeat is {status} as {known}"));
                    }
                }
                lost
            });
        }
        within("every repeat is answered", tasks.join_all()).await.concat()
    }

    /// The number the next webhook will have.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// What a target should have got and has not, or got wrong.
    pub fn undelivered(&self, requests: &[Received]) -> Vec<String> {
        let mut bodies: BTreeMap<&str, &Bytes> = BTreeMap::new();
        let mut wrong = Vec::new();
        for request in requests {
            let first = bodies.entry(request.id()).or_insert(&request.body);
            if **first != request.body {
                wrong.push(format!("{} came with two bodies", request.id()));
            }
        }
        for (number, id) in &self.acknowledged() {
            match bodies.get(id.as_str()) {
                None => wrong.push(format!("{number}, {id}, was not delivered")),
                Some(got) if **got != body(*number) => {
                    wrong.push(format!("{number}, {id}, was delivered with another body"));
                }
                Some(_) => {}
            }
        }
        wrong
    }
}
