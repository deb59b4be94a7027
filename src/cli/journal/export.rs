//! `everhook journal export`.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use everhook::journal::sled::{Archived, Options, SledJournal};
use everhook::time::Clock;
use serde_json::json;

use super::super::terminal::Lines;
use super::super::{Common, EXIT_JOURNAL, Failure, complain};
use super::lines::{FORMAT, Line};
use super::{Progress, unusable};

/// Where to.
#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// Write here instead of to stdout; the file must not be there yet.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What was written.
#[derive(Default)]
struct Counts {
    events: u64,
    keys: u64,
    notes: u64,
    rejections: u64,
    lost: u64,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &Options,
    common: &Common,
) -> Result<(), Failure> {
    let mut counts = Counts::default();
    let written = match &arguments.output {
        Some(path) => {
            let failed = || format!("writing {}", path.display());
            // Headers may hold a provider's token: nobody else reads it.
            let mut create = OpenOptions::new();
            let file = create.write(true).create_new(true).mode(0o600).open(path);
            let file = file.with_context(failed)?;
            let mut out = BufWriter::new(file);
            export(&mut out, options, &mut counts)?;
            out.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .with_context(failed)
        }
        None if io::stdout().is_terminal() => {
            export(&mut Lines::new(io::stdout().lock()), options, &mut counts).map(|()| Ok(()))?
        }
        None => export(&mut BufWriter::new(io::stdout().lock()), options, &mut counts)
            .map(|()| Ok(()))?,
    };
    written?;
    let Counts { events, keys, notes, rejections, lost } = counts;
    if common.json {
        let report = json!({
            "events": events,
            "dedup_keys": keys,
            "notes": notes,
            "rejections": rejections,
            "lost": lost,
        });
        // Data may go to stdout: what is said about it goes to stderr.
        drop(writeln!(io::stderr(), "{report}"));
    } else {
        complain(&format!(
            "{events} events, {keys} dedup keys, {notes} notes and {rejections} rejections were written"
        ));
    }
    if lost == 0 {
        return Ok(());
    }
    complain(&format!("the journal is damaged: {lost} events or rejections could not be written"));
    Err(Failure::Told(EXIT_JOURNAL))
}

fn export(out: &mut impl Write, options: &Options, counts: &mut Counts) -> Result<(), Failure> {
    let archive = SledJournal::archive(&options.path).map_err(|error| unusable(&error))?;
    let now = Clock::system().now();
    let total = u64::try_from(archive.len()).unwrap_or(u64::MAX);
    let progress = Progress::new("written", Some(total));
    let reading = || format!("reading {}", options.path.display());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    put(out, &Line::Begin { format: FORMAT, version, at: now.precise() })?;
    for archived in archive.events() {
        match archived.with_context(reading)? {
            Archived::Whole { event, deliveries, dedup, attempts } => {
                put(out, &Line::event(&event, &deliveries, &dedup, &attempts))?;
                counts.events = counts.events.saturating_add(1);
            }
            Archived::Astray(event) => {
                put(out, &Line::event(&event, &[], &[], &[]))?;
                counts.events = counts.events.saturating_add(1);
                complain(&format!("where {} was to go cannot be read", event.id));
            }
            Archived::Lost { id, .. } => {
                counts.lost = counts.lost.saturating_add(1);
                complain(&format!("the content of {id} cannot be read"));
            }
        }
        progress.at(counts.events);
    }
    for (id, at, key) in archive.keys(now) {
        put(out, &Line::key(id, at, &key))?;
        counts.keys = counts.keys.saturating_add(1);
    }
    for note in archive.notes() {
        put(out, &Line::note(&note))?;
        counts.notes = counts.notes.saturating_add(1);
    }
    for rejection in archive.rejections() {
        match rejection.with_context(reading)? {
            Ok(rejection) => {
                put(out, &Line::rejection(&rejection))?;
                counts.rejections = counts.rejections.saturating_add(1);
            }
            Err(id) => {
                counts.lost = counts.lost.saturating_add(1);
                complain(&format!("the content of {id} cannot be read"));
            }
        }
    }
    let Counts { events, keys, notes, rejections, .. } = *counts;
    put(out, &Line::End { events, keys, notes, rejections })?;
    out.flush().context("writing the export")?;
    Ok(())
}

fn put(out: &mut impl Write, line: &Line) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, line).context("writing the export")?;
    out.write_all(b"\n").context("writing the export")?;
    Ok(())
}
