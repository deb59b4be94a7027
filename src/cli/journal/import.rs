//! `everhook journal import`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use everhook::journal::sled::{MAX_RESTORED, Options, Repeats, Restored, SledJournal};
use everhook::journal::{AppendError, Appended, Journal as _, Note};
use everhook::metrics::JournalMetrics;
use everhook::model::{EventId, RejectionId};
use everhook::time::Clock;
use serde_json::json;

use super::super::{Common, EXIT_FAILURE, EXIT_JOURNAL, Failure, complain, print};
use super::lines::{Item, Line};
use super::{Progress, unusable};

/// Longest line: 256 MiB, far above what a body may have.
const MAX_LINE: u64 = 256 * 1024 * 1024;
/// Broken lines that are shown.
const SHOWN: usize = 20;
/// Most bytes that are taken up at once.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What to read.
#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// What `journal export` wrote.
    file: PathBuf,
    /// Pass over lines that cannot be read, instead of changing nothing because of them.
    #[arg(long)]
    skip_bad: bool,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    events: u64,
    keys: u64,
    notes: u64,
    rejections: u64,
    duplicates: u64,
    bad: u64,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &Options,
    common: &Common,
) -> Result<(), Failure> {
    let (total, bad) = check(&arguments.file)?;
    for (line, cause) in bad.iter().take(SHOWN) {
        complain(&format!("{}:{line}: {cause}", arguments.file.display()));
    }
    if bad.len() > SHOWN {
        complain(&format!("and {} more lines", bad.len().saturating_sub(SHOWN)));
    }
    if !bad.is_empty() && !arguments.skip_bad {
        complain(&format!(
            "{} lines cannot be read; nothing was changed. --skip-bad imports the others",
            bad.len()
        ));
        return Err(Failure::Told(EXIT_FAILURE));
    }
    let bad = u64::try_from(bad.len()).unwrap_or(u64::MAX);
    let mut counts = Counts { bad, ..Counts::default() };
    let imported = import(arguments, options, total, &mut counts);
    let Counts { events, keys, notes, rejections, duplicates, bad } = counts;
    if common.json {
        print(&json!({
            "path": options.path,
            "events": events,
            "dedup_keys": keys,
            "notes": notes,
            "rejections": rejections,
            "duplicates": duplicates,
            "bad_lines": bad,
            "complete": imported.is_ok(),
        }))?;
    } else {
        print(&format!(
            "{events} events, {keys} dedup keys, {notes} notes and {rejections} rejections were imported; {duplicates} were there already, \
             {bad} lines could not be read"
        ))?;
    }
    imported
}

/// Reads every line, and says how many items there are and which lines are broken.
fn check(file: &Path) -> Result<(u64, Vec<(u64, String)>), Failure> {
    let (mut items, mut bad) = (0u64, Vec::new());
    let mut begun = false;
    let mut ended = None;
    let mut last = 0;
    each_line(file, |number, line| {
        last = number;
        match line.and_then(Line::parse) {
            Ok(Item::Begin) => begun = true,
            Ok(_) if !begun => {
                bad.push((number, "the file does not begin as an export does".into()));
                begun = true;
            }
            Ok(Item::End { items: stated }) => ended = Some(stated),
            Ok(Item::Event { .. } | Item::Key(..) | Item::Note(_) | Item::Rejection(_)) => {
                items = items.saturating_add(1);
            }
            Err(cause) => {
                bad.push((number, cause));
                begun = true;
            }
        }
        Ok(())
    })?;
    match ended {
        None => {
            bad.push((last, "the last line is not the end of an export: it was cut off".into()));
        }
        Some(stated) if stated != items && bad.is_empty() => {
            bad.push((last, format!("{stated} lines were exported and {items} are here")));
        }
        Some(_) => {}
    }
    Ok((items, bad))
}

/// Shows every line with its number, or why it is not one.
fn each_line(
    path: &Path,
    mut visit: impl FnMut(u64, Result<&[u8], String>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let reading = || format!("reading {}", path.display());
    let mut input = BufReader::new(File::open(path).with_context(reading)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.with_context(reading)?;
        if read == 0 {
            break;
        }
        if line.last() == Some(&b'\n') || u64::try_from(read).unwrap_or(0) < MAX_LINE {
            visit(number, Ok(line.trim_ascii()))?;
        } else {
            return Err(anyhow!("{}:{number}: the line is too long", path.display()).into());
        }
    }
    Ok(())
}

fn import(
    arguments: &Arguments,
    options: &Options,
    total: u64,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let (known, rejections) = SledJournal::ids(&options.path).map_err(|error| unusable(&error))?;
    let metrics = JournalMetrics::detached().context("metrics")?;
    let opened = SledJournal::open(options, &Clock::system(), metrics);
    let (journal, _) = opened.map_err(|error| unusable(&error))?;
    let progress = Progress::new("imported", Some(total));
    let mut desk =
        Desk { journal: &journal, known, rejections, waiting: Vec::new(), bytes: 0, counts };
    let done = each_line(&arguments.file, |_, line| {
        let Ok(item) = line.and_then(Line::parse) else { return Ok(()) };
        desk.take(item)?;
        progress.at(desk.counts.events);
        Ok(())
    });
    let done = done.and_then(|()| desk.write());
    journal.end_well();
    done
}

/// What is counted apart.
enum Kind {
    Event,
    Key,
    Rejection,
}

/// Takes items up in batches.
struct Desk<'a> {
    journal: &'a SledJournal,
    /// Every id that is there.
    known: HashSet<EventId>,
    rejections: HashSet<RejectionId>,
    waiting: Vec<Restored>,
    bytes: usize,
    counts: &'a mut Counts,
}

impl Desk<'_> {
    fn take(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::Begin | Item::End { .. } => Ok(()),
            Item::Event { event, deliveries, dedup, attempts } => {
                if !self.known.insert(event.id) {
                    self.counts.duplicates = self.counts.duplicates.saturating_add(1);
                    return Ok(());
                }
                let repeats = Repeats::Skip;
                self.put(Restored::Event { event, deliveries, dedup, attempts, repeats })
            }
            Item::Key(event, at, key) => self.put(Restored::Keys(vec![(event, at, key)])),
            Item::Note(note) => self.note(note),
            Item::Rejection(rejection) if self.rejections.insert(rejection.id) => {
                self.put(Restored::Rejection(rejection))
            }
            Item::Rejection(_) => {
                self.counts.duplicates = self.counts.duplicates.saturating_add(1);
                Ok(())
            }
        }
    }

    fn put(&mut self, restored: Restored) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(restored.weight());
        self.waiting.push(restored);
        if self.waiting.len() >= MAX_RESTORED || self.bytes >= BATCH_BYTES {
            return self.write();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let counted = waiting.iter().map(|one| match one {
            Restored::Event { .. } => Kind::Event,
            Restored::Keys(_) => Kind::Key,
            Restored::Rejection(_) => Kind::Rejection,
        });
        let kinds: Vec<_> = counted.collect();
        let answers = self.journal.restore(waiting).map_err(refused)?;
        for (kind, answer) in kinds.into_iter().zip(answers) {
            let count = match (answer, kind) {
                (Appended::Duplicate(_), _) => &mut self.counts.duplicates,
                (Appended::New(_), Kind::Event) => &mut self.counts.events,
                (Appended::New(_), Kind::Key) => &mut self.counts.keys,
                (Appended::New(_), Kind::Rejection) => &mut self.counts.rejections,
            };
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// What this journal's operator noted counts.
    fn note(&mut self, note: Note) -> Result<(), Failure> {
        if self.journal.notes(&note.topic).iter().any(|(name, _)| *name == note.name) {
            self.counts.duplicates = self.counts.duplicates.saturating_add(1);
            return Ok(());
        }
        self.journal.take_note(note).context("taking a note up")?;
        self.counts.notes = self.counts.notes.saturating_add(1);
        Ok(())
    }
}

fn refused(error: AppendError) -> Failure {
    match error {
        AppendError::Full => complain(
            &"the journal is full: raise journal.max_bytes or make room, and import the file once more; what is there \
              already is passed over",
        ),
        AppendError::TooLarge
        | AppendError::NotKept
        | AppendError::Closed
        | AppendError::Failed => {
            complain(&format!(
                "importing: {error}; import the file once more, what is there already is passed over"
            ));
        }
    }
    Failure::Told(EXIT_JOURNAL)
}
