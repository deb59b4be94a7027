//! How a command reaches the running daemon: over its admin listener, as any program may.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use everhook::config::Config;
use everhook::rules::likeness::instead;
use everhook::target::{Asking, Posted, ask, follow};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::send::{plain, reachable};
use super::{Common, EXIT_FAILURE, Failure, complain, misused};

/// For one request, its connection included: a dry run counts for 5 s at most.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For a question that is answered from memory.
const SOON: Duration = Duration::from_secs(3);
/// For a request that works through as much as there is.
const LONG: Duration = Duration::from_secs(3600);
/// Most bytes of an answer: an event's body may be a mebibyte, and more when it is escaped.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// A stream that says nothing for so long is broken: a comment comes every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// The source of events that everhook makes itself.
const OWN: &str = "everhook";

/// Where the daemon is.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
    /// The daemon's admin listener; the configured one when not given.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with the admin token; the configured one when not given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Speaks with the daemon.
pub(super) struct Operator {
    base: String,
    fields: Vec<(String, String)>,
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    /// Finds the daemon. The configuration is read unless everything is said.
    pub(super) fn of(reach: &Reach, common: &Common) -> Result<Self, Failure> {
        let needs_config = reach.admin.is_none() || common.config.is_some();
        let load = || {
            Config::load(&common.load_options()).inspect_err(|_mistakes| {
                if common.config.is_none() {
                    complain(
                        &"without a configuration (-c FILE), --admin URL says where the daemon is",
                    );
                }
            })
        };
        let config = needs_config.then(load).transpose()?;
        let configured =
            config.as_ref().map(|config| format!("http://{}", reachable(config.admin.listen)));
        let said = reach.admin.as_deref().map(address).transpose()?;
        let base = said.or(configured).unwrap_or_default();
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let given = reach.token_file.as_ref().map(read).transpose()?;
        let of_config = config.as_ref().and_then(|config| config.admin.token.as_ref());
        let of_config = of_config.map(|it| String::from_utf8_lossy(it.expose()).into_owned());
        let mut fields = Vec::new();
        if let Some(token) = given.or(of_config) {
            fields.push(("authorization".to_owned(), format!("Bearer {}", token.trim_end())));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), fields, runtime })
    }

    /// Looks something up.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json("GET", path, None, TIMEOUT)
    }

    /// Whether the daemon takes requests: the status of its answer, and the answer.
    pub(super) fn ready(&self) -> Result<(u16, String), Failure> {
        let url = format!("{}/readyz", self.base);
        let posted = self.runtime.block_on(ask(self.asking("GET", &url, Bytes::new(), SOON)));
        let posted = posted.with_context(|| self.not_there())?;
        Ok((posted.status, plain(&posted.body)))
    }

    /// Where it is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The bytes of something.
    pub(super) fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let posted = self.send("GET", path, None, TIMEOUT)?;
        if (200..300).contains(&posted.status) { Ok(posted.body) } else { Err(refused(&posted)) }
    }

    /// Changes something.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json("POST", path, Some(body), TIMEOUT)
    }

    /// The same for what may be refused with more than a sentence: the status, and what was answered.
    pub(super) fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value), Failure> {
        let posted = self.send("POST", path, Some(body), TIMEOUT)?;
        let is_known = (200..300).contains(&posted.status) || posted.status == 422;
        if !is_known {
            return Err(refused(&posted));
        }
        Ok((posted.status, self.read(&posted)?))
    }

    /// The same for what takes as long as it takes.
    pub(super) fn post_long(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json("POST", path, Some(body), LONG)
    }

    /// Ends something.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.json("DELETE", path, None, TIMEOUT)
    }

    /// Every page of a list until `visit` has seen enough; each item once.
    pub(super) fn pages(
        &self,
        path: &str,
        query: &[(String, String)],
        mut visit: impl FnMut(Value) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor".to_owned(), cursor)));
            let page = self.get(&with_query(path, &query))?;
            let items = page.get("items").and_then(Value::as_array).cloned();
            for item in items.unwrap_or_default() {
                if visit(item)?.is_break() {
                    return Ok(());
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    /// What happens from now on, chunk by chunk, until `visit` has seen enough or the daemon ends the stream.
    pub(super) fn follow(
        &self,
        path: &str,
        visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let url = self.url(path);
        let asking = self.asking("GET", &url, Bytes::new(), SILENCE);
        let followed = self.runtime.block_on(follow(asking, visit));
        let status = followed.with_context(|| self.not_there())?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        complain(&match status {
            401 => "the daemon refused (status 401): it needs its token; --token-file names a file with it".to_owned(),
            429 => "the daemon refused (status 429): as many read along as it lets".to_owned(),
            _ => format!("the daemon refused (status {status})"),
        });
        Err(Failure::Told(EXIT_FAILURE))
    }

    /// Waits.
    pub(super) fn wait(&self, time: Duration) {
        // The timer is made where a runtime is.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Fails when nothing of a list has this name, with the one that was probably meant.
    pub(super) fn known(&self, list: &str, field: &str, name: &str) -> Result<(), Failure> {
        match self.stranger(list, field, name)? {
            None => Ok(()),
            Some(sentence) => Err(anyhow!(sentence).into()),
        }
    }

    /// A sentence about a name that nothing of a list has.
    fn stranger(&self, list: &str, field: &str, name: &str) -> Result<Option<String>, Failure> {
        let page = self.get(list)?;
        let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = items.iter().filter_map(|item| item.get(field).and_then(Value::as_str));
        if names.clone().any(|known| known == name) || name == OWN && field == "source" {
            return Ok(None);
        }
        Ok(Some(format!("there is no {field} {name:?}; {}", instead(name, names))))
    }

    /// Tells of the names that a filter asks for and nothing has: what fits nothing may be misspelt. A source that left the
    /// configuration has events all the same, so that this is no mistake.
    pub(super) fn hint(&self, asked: &[(String, String)]) -> Result<(), Failure> {
        for (field, name) in asked {
            let list = match field.as_str() {
                "source" => "sources",
                "target" => "targets",
                _ => continue,
            };
            if let Some(sentence) = self.stranger(list, field, name)? {
                complain(&sentence);
            }
        }
        Ok(())
    }

    fn json(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let posted = self.send(method, path, body, timeout)?;
        if !(200..300).contains(&posted.status) {
            return Err(refused(&posted));
        }
        self.read(&posted)
    }

    fn read(&self, posted: &Posted) -> Result<Value, Failure> {
        let json = serde_json::from_slice(&posted.body);
        Ok(json.with_context(|| format!("the daemon at {} answered no JSON", self.base))?)
    }

    fn send(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Posted, Failure> {
        let url = self.url(path);
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut fields = self.fields.clone();
        if !body.is_empty() {
            fields.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let asking = Asking { fields: &fields, ..self.asking(method, &url, body.into(), timeout) };
        let posted = self.runtime.block_on(ask(asking));
        Ok(posted.with_context(|| self.not_there())?)
    }

    fn asking<'a>(
        &'a self,
        method: &'static str,
        url: &'a str,
        body: Bytes,
        timeout: Duration,
    ) -> Asking<'a> {
        let fields = &self.fields;
        Asking { method, url, fields, body, roots: None, timeout, most: MAX_ANSWER }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    fn not_there(&self) -> String {
        format!("asking the daemon at {}; is it running?", self.base)
    }
}

/// A URL as `--admin` takes it: of an address alone, the scheme is http.
fn address(said: &str) -> Result<String, Failure> {
    let url = if said.contains("://") { said.to_owned() } else { format!("http://{said}") };
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() => Ok(url),
        _ => Err(misused(&format!(
            "--admin takes a URL such as http://127.0.0.1:9464, not {said:?}"
        ))),
    }
}

/// Says why the daemon refused, in its own words.
fn refused(posted: &Posted) -> Failure {
    let problem: Value = serde_json::from_slice(&posted.body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str);
    let detail = plain(detail.map_or(&posted.body[..], str::as_bytes));
    let hint = if posted.status == 401 { "; --token-file names a file with it" } else { "" };
    complain(&format!("the daemon refused (status {}): {detail}{hint}", posted.status));
    Failure::Told(EXIT_FAILURE)
}

/// A path with parameters.
pub(super) fn with_query(path: &str, query: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| {
        format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
    };
    let pairs: Vec<_> = query.iter().map(pair).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// A word of the command line as one part of a path: it can lead nowhere else.
pub(super) fn part(word: &str) -> String {
    utf8_percent_encode(word, NON_ALPHANUMERIC).to_string().replace("%2D", "-").replace("%5F", "_")
}
