//! `everhook receive`: a target to try things with, where nothing else listens yet.

use std::net::SocketAddr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use everhook::lifecycle::{Asked, Signals};
use serde_json::{Value, json};

use super::receiver::{Received, Receiver};
use super::terminal::safe;
use super::{Common, Failure, complain, print};

/// Where, and what is answered.
#[derive(Args)]
pub(super) struct Arguments {
    /// The address to listen on.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The status to answer with: 503 shows how the daemon tries again.
    #[arg(long, value_name = "CODE", default_value_t = 200,
          value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// End after so many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(receive(arguments, common.json))
}

async fn receive(arguments: &Arguments, as_json: bool) -> Result<(), Failure> {
    let mut signals = Signals::install().context("listening to signals")?;
    let started = Receiver::start(arguments.listen, arguments.status).await;
    let mut receiver = started.with_context(|| format!("listening on {}", arguments.listen))?;
    let status = arguments.status;
    complain(&format!("answering {status} on http://{}/, until Ctrl-C", receiver.address));
    let mut left = arguments.count;
    while left != Some(0) {
        let came = tokio::select! {
            came = receiver.received.recv() => came,
            asked = signals.next() => match asked {
                Asked::Stop(_) => break,
                Asked::Reload => continue,
            },
        };
        let Some(request) = came else { break };
        if as_json {
            print(&told(&request))?;
        } else {
            print(&line(&request))?;
        }
        left = left.map(|left| left.saturating_sub(1));
    }
    receiver.stop().await;
    Ok(())
}

/// One request in a line for a person.
fn line(received: &Received) -> String {
    let field = |name: &str| match received.field(name) {
        "" => "-".to_owned(),
        value => safe(value),
    };
    format!(
        "{} {} attempt {}, {} bytes, answered {}",
        field("webhook-id"),
        field("everhook-event"),
        field("everhook-attempt"),
        received.body.len(),
        received.status
    )
}

/// One request as it came, for a program.
fn told(received: &Received) -> Value {
    let mut lines = received.head.lines();
    let request = lines.next().unwrap_or_default();
    let fields = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = fields.map(|(name, value)| json!([name, value.trim()])).collect();
    let body = match std::str::from_utf8(&received.body) {
        Ok(text) => json!({ "encoding": "utf-8", "data": text }),
        Err(_binary) => json!({ "encoding": "base64", "data": STANDARD.encode(&received.body) }),
    };
    json!({ "request": request, "headers": headers, "body": body, "status": received.status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_whole_and_steers_no_terminal() {
        let head = "POST /x HTTP/1.1\r\nWebhook-Id: evt_1\r\neverhook-event: a\u{1b}[2J\r\neverhook-attempt: 2";
        let mut received = Received { head: head.to_owned(), body: b"{}".to_vec(), status: 503 };
        assert_eq!(line(&received), "evt_1 a\\u{1b}[2J attempt 2, 2 bytes, answered 503");
        assert_eq!(told(&received)["body"], json!({ "encoding": "utf-8", "data": "{}" }));
        assert_eq!(told(&received)["headers"][0], json!(["Webhook-Id", "evt_1"]));
        assert_eq!(told(&received)["request"], "POST /x HTTP/1.1");
        received.body = b"\xff".to_vec();
        assert_eq!(told(&received)["body"], json!({ "encoding": "base64", "data": "/w==" }));
    }
}
