//! What a journal holds, summed up without opening it.

use std::io;
use std::path::Path;

use super::diagnosis;
use super::dir;
use super::files::Files;
use super::ledger;
use super::recover::Fold;
use super::sealed::Sealed;
use super::store::StoreError;
use super::{OpenError, Options};
use crate::journal::Depth;
use crate::time::Timestamp;

/// A journal in numbers.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Bytes that it occupies on the disk, everything in its directory included.
    pub bytes: u64,
    /// Each generation, oldest first.
    pub generations: Vec<GenerationStats>,
    /// The queue of each target.
    pub targets: Vec<Depth>,
    /// Dedup keys whose window is not over.
    pub dedup_keys: u64,
    /// When the oldest event with something pending was received.
    pub oldest: Option<Timestamp>,
    /// The generation that would be drained next, and about how many bytes that gives back.
    pub drain: Option<(u32, u64)>,
}

/// One generation in numbers.
#[derive(Clone, Debug)]
pub struct GenerationStats {
    /// Its number.
    pub number: u32,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Events that were written to it.
    pub events: u64,
    /// Whether it is not written any more.
    pub sealed: bool,
}

impl Stats {
    pub(super) fn of(options: &Options, now: Timestamp) -> Result<Self, OpenError> {
        let root = &options.path;
        let path = dir::ledger(root);
        let read = ledger::read(&path).map_err(|source| OpenError::io("reading", &path, source))?;
        let mut fold = Fold::new(now, options.retention);
        let mut stats = Self::default();
        let mut in_generations = 0u64;
        for number in diagnosis::counted(root, &read)? {
            let known = read.known.get(&number).copied().unwrap_or_default();
            let folder = dir::generation(root, number);
            let failed = |source| OpenError::io("reading", &folder, source);
            let bytes = dir::occupied(&folder).map_err(failed)?;
            in_generations = in_generations.saturating_add(bytes);
            let files = match Files::all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                files => files.map_err(failed)?,
            };
            let found = Sealed::open(files, known.last_if_sealed()).map_err(failed)?;
            let survey = fold.sealed(number, &found, known).map_err(|error| match error {
                StoreError::Sync(source) => failed(source),
                error @ (StoreError::Sled(_)
                | StoreError::Damaged(_)
                | StoreError::Missing
                | StoreError::Closed) => OpenError::damaged(root, error.to_string()),
            })?;
            let sealed = known.seal.is_some();
            stats.generations.push(GenerationStats {
                number,
                bytes,
                events: survey.events,
                sealed,
            });
        }
        let first = fold.first_commit(read.given);
        let mut recovered = fold.finish(first);
        recovered.dedup.prune(now, usize::MAX);
        stats.targets = recovered.index.depth(now);
        stats.oldest = stats.targets.iter().filter_map(|depth| depth.oldest).min();
        stats.dedup_keys = u64::try_from(recovered.dedup.len()).unwrap_or(u64::MAX);
        let pressed = in_generations >= options.max_bytes / 10 * 9;
        let next = recovered.usage.to_drain(now, options.retention, pressed, |_| true);
        stats.drain = next.map(|share| {
            let of = stats.generations.iter().find(|it| it.number == share.number);
            let bytes = of.map_or(0, |it| it.bytes);
            (share.number, bytes.saturating_sub(share.needed(now)))
        });
        stats.bytes = whole(root).map_err(|source| OpenError::io("reading", root, source))?;
        Ok(stats)
    }
}

/// Bytes that everything in a directory occupies.
fn whole(path: &Path) -> std::io::Result<u64> {
    let mut bytes = dir::occupied(path)?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes = bytes.saturating_add(whole(&entry.path())?);
        }
    }
    Ok(bytes)
}
