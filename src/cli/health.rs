//! `everhook health`: whether the daemon takes requests, for a container engine or a script that has no curl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use everhook::config::Config;

use super::send::reachable;
use super::{Common, EXIT_FAILURE, Failure, complain, print};

/// For each step of asking.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of an answer: its status and a word.
const MAX_ANSWER: u64 = 16 * 1024;

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    let config = Config::load(&common.load_options())?;
    let admin = reachable(config.admin.listen);
    let answer =
        ask(admin).with_context(|| format!("asking the daemon at {admin}; is it running?"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let ready = status == "200";
    if common.json {
        print(&serde_json::json!({ "ready": ready }))?;
    } else if ready {
        print(&"ready")?;
    }
    if ready {
        return Ok(());
    }
    complain(&format!("the daemon at {admin} is not ready (status {status})"));
    Err(Failure::Told(EXIT_FAILURE))
}

/// The answer to one question, from its status line on.
fn ask(admin: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    write!(socket, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
