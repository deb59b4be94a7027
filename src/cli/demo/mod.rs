//! `everhook demo`: a newcomer's first minute. One process on loopback sends itself the builds of three providers,
//! lets its receiver fail, repeats a webhook, forges one, stops hard and recovers, and counts at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use everhook::app::{Daemon, Sockets};
use everhook::config::{Config, LoadOptions};
use everhook::target::post;
use everhook::time::Clock;

use super::receiver::{Received, Receiver};
use super::send::{Webhook, webhook};
use super::{Common, EXIT_FAILURE, Failure, print};

/// For one request to ourselves.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For everything that was acknowledged to be delivered.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many of the receiver's first answers are failures.
const FAILURES: usize = 4;
/// A port of the receiver's own.
const ANYWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// Where the path token goes in an URL.
const TOKEN: &str = "demo-path-token-1";

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let home = Home::new()?;
    let summary = runtime.block_on(Demo::run(&home, common.json))?;
    if common.json {
        print(&summary.json())?;
    } else {
        print(&summary.text())?;
    }
    if summary.lost.is_empty() && summary.acknowledged > 0 {
        Ok(())
    } else {
        Err(Failure::Told(EXIT_FAILURE))
    }
}

/// A directory of the demo's own, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("everhook-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Writes the demo's configuration for a receiver at `target` and reads it as any other.
    fn configure(&self, target: SocketAddr) -> Result<Config, Failure> {
        let journal = self.0.join("journal").display().to_string();
        let text = format!(
            "[ingress]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [journal]\npath = {journal:?}\nmin_free = \"1MiB\"\n\
             [source.streampixel]\nprovider = \"streampixel\"\npath_token = \"plain:{TOKEN}\"\n\
             [source.buildpixel]\nprovider = \"buildpixel\"\nsecret = \"plain:demo-buildpixel\"\n\
             [source.buildkite]\nprovider = \"buildkite\"\nsecret = \"plain:demo-buildkite\"\n\
             [target.receiver]\nurl = \"http://{target}/builds\"\n\
             retry = {{ schedule = [\"300ms\", \"600ms\", \"1s\", \"1s\", \"1s\"], jitter = 0.0 }}\n"
        );
        let file = self.0.join("everhook.toml");
        write(&file, &text)?;
        Ok(Config::load(&LoadOptions { file: Some(file), flags: Vec::new() })?)
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

impl Drop for Home {
    fn drop(&mut self) {
        // Left behind, it does no harm: it is in the directory for temporary files.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What the demo has seen so far.
struct Demo<'a> {
    home: &'a Home,
    quiet: bool,
    clock: Clock,
    receiver: Receiver,
    daemon: Option<(Daemon, SocketAddr)>,
    /// Acknowledged ids and how often the receiver answered 2xx for them.
    delivered: BTreeMap<String, usize>,
    attempts: usize,
    duplicates: usize,
}

/// What came of it.
struct Summary {
    acknowledged: usize,
    delivered: usize,
    duplicates: usize,
    attempts: usize,
    repeats: usize,
    lost: Vec<String>,
}

impl<'a> Demo<'a> {
    async fn run(home: &'a Home, quiet: bool) -> Result<Summary, Failure> {
        let receiver =
            Receiver::start(ANYWHERE, 200).await.context("starting the demo's receiver")?;
        let mut demo = Self {
            home,
            quiet,
            clock: Clock::system(),
            receiver,
            daemon: None,
            delivered: BTreeMap::new(),
            attempts: 0,
            duplicates: 0,
        };
        demo.story().await?;
        let summary = demo.summary();
        demo.receiver.stop().await;
        Ok(summary)
    }

    async fn story(&mut self) -> Result<(), Failure> {
        self.say("1. The relay starts, with a journal in a temporary directory; its receiver fails at first.")?;
        self.receiver.fail_next(FAILURES);
        self.start().await?;

        self.say("2. Three providers send builds. Each 200 means: on stable storage.")?;
        self.send_all(|position| position % 2 == 0).await?;

        self.say("3. A provider repeats one, and somebody forges one.")?;
        self.send("streampixel", 0).await?;
        self.forge().await?;

        self.say(
            "4. The receiver comes back: what failed is tried again, with the same webhook-id.",
        )?;
        self.deliveries().await?;

        self.say("5. More builds, then the relay stops hard, with deliveries under way and nothing flushed.")?;
        self.receiver.fail_next(usize::MAX);
        self.send_all(|position| position % 2 == 1).await?;
        if let Some((daemon, _)) = self.daemon.take() {
            daemon.crash().await;
        }
        self.receiver.fail_next(0);

        self.say("6. It starts again on the same journal and delivers what it had acknowledged.")?;
        self.start().await?;
        self.deliveries().await?;
        if let Some((daemon, _)) = self.daemon.take() {
            daemon.stop().await;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let config = self.home.configure(self.receiver.address)?;
        let sockets = Sockets::open(&config).context("opening the demo's sockets")?;
        let address = sockets.ingress_addresses().first().copied().context("no socket is open")?;
        let daemon = Daemon::start(config, sockets).await.map_err(anyhow::Error::new)?;
        self.daemon = Some((daemon, address));
        Ok(())
    }

    /// Sends every sample of every provider whose position in its provider's list is chosen.
    async fn send_all(&mut self, chosen: impl Fn(usize) -> bool) -> Result<(), Failure> {
        for source in ["streampixel", "buildpixel", "buildkite"] {
            let preset = everhook::rules::provider::preset(source).context("a known provider")?;
            for position in (0..preset.samples.len().min(6)).filter(|p| chosen(*p)) {
                self.send(source, position).await?;
            }
        }
        Ok(())
    }

    /// Sends one sample as its provider would.
    async fn send(&mut self, source: &str, position: usize) -> Result<(), Failure> {
        let webhook = self.webhook(source, position)?;
        let event = webhook.1;
        let begun = self.clock.now();
        let posted = self.post(&webhook.0).await?;
        let took = self.clock.now().since(begun);
        let answer: serde_json::Value = serde_json::from_slice(&posted.1).unwrap_or_default();
        let field =
            |name: &str| answer.get(name).and_then(|v| v.as_str()).unwrap_or("?").to_owned();
        let (id, status) = (field("id"), field("status"));
        self.say(&format!(
            "   -> {source:<12} {event:<20} {} {status:<9} {id} after {:.1} ms",
            posted.0,
            took.as_secs_f64() * 1_000.0
        ))?;
        match (posted.0, status.as_str()) {
            (200, "accepted") => {
                self.delivered.entry(id).or_insert(0);
            }
            (200, _) => self.duplicates = self.duplicates.saturating_add(1),
            (_, _) => return Err(anyhow::anyhow!("the relay refused its own sample").into()),
        }
        while let Ok(received) = self.receiver.received.try_recv() {
            self.received(&received)?;
        }
        Ok(())
    }

    async fn forge(&mut self) -> Result<(), Failure> {
        let (mut webhook, event) = self.webhook("buildpixel", 0)?;
        webhook.body = webhook.body.iter().chain(b" ").copied().collect();
        let posted = self.post(&webhook).await?;
        self.say(&format!(
            "   -> buildpixel   {event:<20} {} refused: its signature does not fit",
            posted.0
        ))?;
        if posted.0 == 401 { Ok(()) } else { Err(anyhow::anyhow!("a forgery was accepted").into()) }
    }

    fn webhook(&self, source: &str, position: usize) -> Result<(Webhook, &'static str), Failure> {
        let Some((_, address)) = &self.daemon else {
            return Err(anyhow::anyhow!("the relay is not running").into());
        };
        let config = self.home.configure(self.receiver.address)?;
        let found = config.sources.iter().find(|s| s.name.as_str() == source);
        let source = found.context("a configured source")?;
        let sample = source.intake.provider().samples.get(position).context("a sample")?;
        let mut webhook = webhook(source, Some(sample.event), None, None)?;
        webhook.url = format!("http://{address}{}", source.path);
        if source.path_token.is_some() {
            write!(webhook.url, "/{TOKEN}").context("writing to a string")?;
        }
        Ok((webhook, sample.event))
    }

    async fn post(&self, webhook: &Webhook) -> anyhow::Result<(u16, bytes::Bytes)> {
        let posted =
            post(&webhook.url, &webhook.headers, webhook.body.clone(), None, TIMEOUT).await;
        let posted = posted.context("posting to the relay")?;
        Ok((posted.status, posted.body))
    }

    /// Shows what the receiver gets until everything acknowledged has been delivered.
    async fn deliveries(&mut self) -> Result<(), Failure> {
        let deadline = self.clock.now().plus(PATIENCE);
        while self.delivered.values().any(|count| *count == 0) {
            let received = tokio::select! {
                received = self.receiver.received.recv() => received,
                () = self.clock.sleep_until(deadline) => return Ok(()),
            };
            let Some(received) = received else { return Ok(()) };
            self.received(&received)?;
        }
        Ok(())
    }

    fn received(&mut self, received: &Received) -> Result<(), Failure> {
        self.attempts = self.attempts.saturating_add(1);
        let (id, event) = (received.field("webhook-id"), received.field("everhook-event"));
        let (status, attempt) = (received.status, received.field("everhook-attempt"));
        self.say(&format!("   <- receiver     {event:<20} {status} attempt {attempt} {id}"))?;
        if status == 200 {
            let count = self.delivered.entry(id.to_owned()).or_insert(0);
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    fn say(&self, line: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { print(&line) }
    }

    fn summary(&self) -> Summary {
        let lost = self.delivered.iter().filter(|(_, count)| **count == 0);
        let lost: Vec<_> = lost.map(|(id, _)| id.clone()).collect();
        Summary {
            acknowledged: self.delivered.len(),
            delivered: self.delivered.len().saturating_sub(lost.len()),
            duplicates: self.duplicates,
            attempts: self.attempts,
            repeats: self.delivered.values().map(|count| count.saturating_sub(1)).sum(),
            lost,
        }
    }
}

impl Summary {
    fn text(&self) -> String {
        let Self { acknowledged, delivered, duplicates, attempts, repeats, lost } = self;
        let verdict = if lost.is_empty() { "Nothing was lost." } else { "SOMETHING WAS LOST." };
        format!(
            "{verdict} {acknowledged} events acknowledged, {delivered} delivered in {attempts} attempts, \
             {duplicates} duplicate recognised, {repeats} delivered twice."
        )
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "acknowledged": self.acknowledged, "delivered": self.delivered,
            "duplicates": self.duplicates, "attempts": self.attempts,
            "repeats": self.repeats, "lost": self.lost,
        })
    }
}
