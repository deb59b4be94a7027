//! Reading a journal without its engine: every frame that is still whole, wherever in the files it stands.
//!
//! Each record says by itself which one it is, so a scan over the raw bytes finds all that are readable, whatever
//! happened between them, and changes nothing. Records that the engine has rewritten are found more than once; they
//! are the same, and one counts.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use super::chain::Chain;
use super::dir;
use super::files::Files;
use super::ledger::{self, Holds};
use super::scan::{self, Whole};
use super::yielding::Yielding;
use crate::journal::record::frame::{KIND_CHUNK, KIND_CONTENT, Mark};

/// Which frames of a generation can be read.
#[derive(Debug, Default)]
pub(super) struct Readable {
    pub(super) records: BTreeSet<Mark>,
    pub(super) contents: BTreeSet<Mark>,
    pub(super) chain: Chain,
    /// The store's file; `None` when it is not there.
    pub(super) whole: Option<Whole>,
}

/// How much of a journal can be read, counted against what it must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// Small records: events, settlements and what belongs to them.
    pub records_expected: u64,
    /// Those of them that can be read.
    pub records_readable: u64,
    /// Content frames: an event's body and headers have one, or one for each 8 KiB.
    pub contents_expected: u64,
    /// Those of them that can be read.
    pub contents_readable: u64,
}

impl Assessment {
    /// Frames of both kinds that are there no more.
    pub fn lost(&self) -> u64 {
        let records = self.records_expected.saturating_sub(self.records_readable);
        records.saturating_add(self.contents_expected.saturating_sub(self.contents_readable))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.records_expected = self.records_expected.saturating_add(other.records_expected);
        self.records_readable = self.records_readable.saturating_add(other.records_readable);
        self.contents_expected = self.contents_expected.saturating_add(other.contents_expected);
        self.contents_readable = self.contents_readable.saturating_add(other.contents_readable);
    }
}

impl fmt::Display for Assessment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} records and {} of {} contents can be read, {} are lost",
            self.records_readable,
            self.records_expected,
            self.contents_readable,
            self.contents_expected,
            self.lost()
        )
    }
}

/// Assesses every generation of a journal.
pub(super) fn assess(root: &Path) -> io::Result<Assessment> {
    let known = ledger::read(&dir::ledger(root))?.known;
    let mut numbers: BTreeSet<_> = dir::found_generations(root)?.into_iter().collect();
    numbers.extend(known.keys());
    let mut whole = Assessment::default();
    for number in numbers {
        let holds = known.get(&number).and_then(|known| known.holds);
        let readable = scan(&dir::generation(root, number))?;
        whole.add(&readable.against(holds));
    }
    Ok(whole)
}

/// Finds every readable frame of one generation; a file that is not there has none.
pub(super) fn scan(generation: &Path) -> io::Result<Readable> {
    let mut readable = Readable::default();
    let files = match Files::all(generation) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(readable),
        files => files?,
    };
    let whole = scan::frames(&files, &Yielding::start(), |_, frame| {
        readable.chain.see(&frame);
        match frame.kind {
            KIND_CONTENT | KIND_CHUNK => readable.contents.insert(frame.mark),
            _ => readable.records.insert(frame.mark),
        };
    })?;
    let whole = files.of_store().map(|_| whole);
    Ok(Readable { whole, ..readable })
}

impl Readable {
    /// What was found at another time counts, too: a file that is written changes while it is read.
    pub(super) fn join(&mut self, later: Self) {
        self.records.extend(later.records);
        self.contents.extend(later.contents);
        self.chain.join(later.chain);
        self.whole = later.whole;
    }

    /// Counts what is readable against what the ledger and the commits themselves say there must be.
    pub(super) fn against(&self, known: Option<Holds>) -> Assessment {
        let up_to = known.map(|known| known.commit);
        let within = |mark: &&Mark| {
            up_to.is_some_and(|commit| mark.commit <= commit)
                && !self.chain.is_unfinished(mark.commit, up_to)
        };
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        // Commits that the ledger does not know of yet: each says itself what it holds. One whose closing record is
        // not readable was either never finished, and then never acknowledged, or is counted by what is left of it.
        let later =
            self.chain.closed().filter(|(commit, _)| up_to.is_none_or(|known| *commit > known));
        let (mut later_records, mut later_contents) = (0u64, 0u64);
        let (mut read_records, mut read_contents) = (0u64, 0u64);
        for (commit, closing) in later {
            later_records = later_records.saturating_add(u64::from(closing.records));
            later_contents = later_contents.saturating_add(u64::from(closing.contents));
            read_records = read_records.saturating_add(of_commit(&self.records, commit));
            read_contents = read_contents.saturating_add(of_commit(&self.contents, commit));
        }
        let known = known.unwrap_or_default();
        Assessment {
            records_expected: known.records.saturating_add(later_records),
            records_readable: count(self.records.iter().filter(within).count())
                .saturating_add(read_records),
            contents_expected: known.contents.saturating_add(later_contents),
            contents_readable: count(self.contents.iter().filter(within).count())
                .saturating_add(read_contents),
        }
    }
}

fn of_commit(marks: &BTreeSet<Mark>, commit: u64) -> u64 {
    let from = Mark { commit, ordinal: 0 };
    let to = Mark { commit, ordinal: u32::MAX };
    u64::try_from(marks.range(from..=to).count()).unwrap_or(u64::MAX)
}
