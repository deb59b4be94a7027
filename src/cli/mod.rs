//! The command line. Data goes to stdout, everything else to stderr.
//!
//! Exit codes: 0, 1 failure, 2 usage (clap's own), 74 journal damaged or unusable, 78 configuration.

mod allocator;
mod bulk;
mod config;
mod dead_letters;
mod demo;
mod health;
mod event;
mod events;
mod filters;
mod journal;
mod logs;
mod overview;
mod providers;
mod reach;
mod receive;
mod receiver;
mod rejections;
mod reload;
mod secret;
mod send;
mod serve;
mod shell;
mod table;
mod tail;
mod targets;
mod terminal;

use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};
use everhook::config::{ConfigError, Flag, LoadOptions};

/// Something did not work.
const EXIT_FAILURE: u8 = 1;

/// What was asked for cannot be meant.
const EXIT_USAGE: u8 = 2;

/// `EX_CONFIG` of sysexits: something in the configuration is wrong.
const EXIT_CONFIG: u8 = 78;

/// `EX_IOERR` of sysexits: the journal is damaged, in use, or of a newer format.
const EXIT_JOURNAL: u8 = 74;

/// A durable webhook relay: acknowledges after stable storage, delivers until the target has it.
#[derive(Parser)]
#[command(name = "everhook", version = VERSION.as_str(), arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes, before or after its name.
#[derive(Args)]
struct Common {
    /// The configuration file; files in conf.d beside it are read too.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Sets `log.level`: error, warn, info, debug, trace, or a filter such as everhook=debug,info.
    #[arg(long, global = true, value_name = "FILTER")]
    log_level: Option<String>,
    /// Sets log.format.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// The values of `--log-format`.
#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Auto,
    Text,
    Json,
    Journald,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    Serve,
    /// Say whether the daemon takes requests: exit code 0 when it does.
    Health(health::Arguments),
    /// Show it at work: one process on loopback, sample builds, a failing receiver, a hard stop. Needs no
    /// configuration.
    Demo,
    /// Post a correctly signed sample, or a file, to one of the configured sources.
    Send(send::Arguments),
    /// Be a target to try things with: answer every request and show it. Needs no configuration.
    Receive(receive::Arguments),
    /// Events of the running daemon: list, show, tail, replay, resend.
    #[command(subcommand)]
    Events(events::Command),
    /// Dead letters of the running daemon: list, retry, discard.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Targets of the running daemon: list, pause, resume, test.
    #[command(subcommand)]
    Targets(targets::Command),
    /// Refused requests that the running daemon keeps: list, show, release, discard.
    #[command(subcommand)]
    Rejections(rejections::Command),
    /// Replays, retries and discards under way in the running daemon: list, cancel.
    #[command(subcommand)]
    Jobs(overview::Jobs),
    /// Sources of the running daemon.
    #[command(subcommand)]
    Sources(overview::Sources),
    /// Builds that sources of the running daemon watch, with their steps, gaps and stalls.
    #[command(subcommand)]
    Stages(overview::Stages),
    /// Figures of the running daemon.
    Stats(overview::Arguments),
    /// Have the running daemon read its configuration again.
    Reload(reload::Arguments),
    /// The providers that are known, and how each is set up. Needs no configuration.
    Providers(providers::Arguments),
    /// Make a new secret for signing.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Look at the configuration without running anything.
    #[command(subcommand)]
    Config(config::Command),
    /// Look at the journal without running anything.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Print a script with which a shell completes these commands.
    Completions(shell::Completions),
    /// Print the man page.
    Man(shell::Man),
}

/// Why a command failed, by exit code.
enum Failure {
    Config(ConfigError),
    /// The command has said already what is wrong.
    Told(u8),
    Other(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Parses the command line and runs it. clap ends the process itself on a usage error.
pub(crate) fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let done = match command {
        Command::Serve => serve::run(&common),
        Command::Health(arguments) => health::run(&arguments, &common),
        Command::Demo => demo::run(&common),
        Command::Send(arguments) => send::run(&arguments, &common),
        Command::Receive(arguments) => receive::run(&arguments, &common),
        Command::Events(command) => events::run(&command, &common),
        Command::DeadLetters(command) => dead_letters::run(&command, &common),
        Command::Targets(command) => targets::run(&command, &common),
        Command::Rejections(command) => rejections::run(&command, &common),
        Command::Jobs(command) => overview::jobs(&command, &common),
        Command::Sources(command) => overview::sources(&command, &common),
        Command::Stages(command) => overview::stages(&command, &common),
        Command::Reload(arguments) => reload::run(&arguments, &common),
        Command::Stats(arguments) => overview::stats(&arguments, &common),
        Command::Providers(arguments) => providers::run(&arguments, &common),
        Command::Secret(command) => secret::run(&command, &common),
        Command::Config(command) => config::run(&command, &common),
        Command::Journal(command) => journal::run(&command, &common),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told(code)) => ExitCode::from(code),
        Err(Failure::Config(error)) => {
            complain(&error);
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Other(error)) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Common {
    /// Where the configuration is read from.
    fn load_options(&self) -> LoadOptions {
        let format = self.log_format.and_then(|format| format.to_possible_value());
        let format = format.map(|format| format.get_name().to_owned());
        let flag = |name, key| move |value| Flag { name, key, value };
        let level = self.log_level.clone().map(flag("--log-level", "log.level"));
        let format = format.map(flag("--log-format", "log.format"));
        LoadOptions { file: self.config.clone(), flags: level.into_iter().chain(format).collect() }
    }
}

/// Prints data, of which nothing steers a terminal. A closed pipe (`everhook ... | head`) is the reader's decision, not a
/// failure.
fn print(data: &impl Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", terminal::inert(&data.to_string())) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The version, and the revision it was built from when the build says so.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    everhook::app::REVISION.map_or_else(|| version.to_owned(), |it| format!("{version} ({it})"))
});

/// A number and what is counted, "1 source" or "3 sources".
fn counted(count: usize, noun: &str) -> String {
    many(u64::try_from(count).unwrap_or(u64::MAX), noun)
}

/// The same for a number of the daemon's: "1 delivery" or "3 deliveries".
fn many(count: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("{count} {noun}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {noun}s"),
    }
}

/// What was asked for cannot be meant: says why.
fn misused(why: &impl Display) -> Failure {
    complain(why);
    Failure::Told(EXIT_USAGE)
}

/// Tells the person at the terminal. When even stderr is gone there is nobody to tell.
fn complain(message: &impl Display) {
    drop(writeln!(std::io::stderr(), "everhook: {}", terminal::safe_lines(&message.to_string())));
}
