//! Opening a journal: nothing is believed that was not looked at, and nothing is lost by looking.
//!
//! sled changes its files while it opens them, also when it fails, and can open a damaged file as if less had been in
//! it. So a sealed generation is compared with its checksum before sled sees it, and any other one is copied
//! aside first. Then every record is counted against what its commit and the ledger say. If anything is missing, the
//! copy is put back, and the open is refused.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;
use std::time::Duration;

use super::OpenError;
use super::aside;
use super::diagnosis::NEXT_FORMAT;
use super::dir;
use super::disk::Ballast;
use super::files::Files;
use super::generation::Generation;
use super::generations::Generations;
use super::intake;
use super::ledger::{self, Holds, Known, Ledger, Seal};
use super::recover::{Fold, Recovered, Survey};
use super::salvage;
use super::scan::Whole;
use super::sealed::{Found, Sealed};
use super::store::{Store, StoreError};
use crate::time::Timestamp;

/// Most sealed generations that are walked through at once: each may take some memory for its records' places.
const MOST_WALKS: usize = 4;

/// What opening found, ready to be used.
pub(super) struct Ready {
    pub(super) generations: Arc<Generations>,
    pub(super) recovered: Recovered,
    /// What the generation that is written holds already.
    pub(super) holds: Holds,
}

/// Opens every generation, or says what is wrong with the journal and leaves it as it was.
pub(super) fn open(
    root: &Path,
    ballast: &Ballast,
    retention: Duration,
    now: Timestamp,
) -> Result<Ready, OpenError> {
    aside::recover(root)
        .map_err(|source| OpenError::io("putting back", &root.join("aside"), source))?;
    let listed = listed(root)?;
    let read = ledger::read(&dir::ledger(root))
        .map_err(|source| OpenError::io("reading", &dir::ledger(root), source))?;
    if read.damaged > 0 || !read.found {
        tracing::warn!(
            damaged = read.damaged,
            found = read.found,
            "the journal's ledger is damaged or missing; every generation is looked through instead"
        );
    }
    let unlisted = unlisted(root, &listed, &read.known)?;
    let mut fold = Fold::new(now, retention);
    let mut opened = Vec::new();
    let known = |number| read.known.get(&number).copied().unwrap_or_default();
    let examined = std::thread::scope(|scope| {
        let mut walks = Walks::begin(scope, root, &listed, known, walks_at_once());
        listed.iter().try_for_each(|number| {
            let examined =
                generation(root, ballast, (*number, known(*number)), &mut walks, &mut fold)?;
            opened.push(examined);
            Ok(())
        })
    });
    if let Err(error) = examined {
        drop(opened);
        // Everything is as it was found, what was opened before this one included.
        for number in &listed {
            restore(root, *number)?;
        }
        aside::clear(root)
            .map_err(|source| OpenError::io("removing", &root.join("aside"), source))?;
        return Err(match error {
            Refusal::Final(error) => error,
            Refusal::Damaged(what) => refuse(root, &what),
        });
    }
    aside::clear(root).map_err(|source| OpenError::io("removing", &root.join("aside"), source))?;
    // Only now is it certain that the list is right.
    for number in unlisted {
        let path = dir::generation(root, number);
        dir::remove_generation(root, number)
            .map_err(|source| OpenError::io("removing", &path, source))?;
    }
    start(root, opened, fold, read.given, now)
}

/// Why a generation was not opened.
enum Refusal {
    /// It is damaged in this way. What can be read is counted once everything is back in its place.
    Damaged(String),
    Final(OpenError),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self::Final(error)
    }
}

/// One generation that was opened and looked through.
type Examined = (Arc<Generation>, Survey, Known);

/// Sorts what was opened: what holds something, the one that is written on, and a spare.
fn start(
    root: &Path,
    opened: Vec<Examined>,
    mut fold: Fold,
    given: Option<u64>,
    now: Timestamp,
) -> Result<Ready, OpenError> {
    let failed = |source| OpenError::io("writing", &dir::ledger(root), source);
    let known = opened.iter().map(|(generation, _, known)| (generation.number, *known)).collect();
    let first_commit = fold.first_commit(given);
    // Durable before the first of them is begun.
    let ledger = Ledger::create(&dir::ledger(root), known, first_commit).map_err(failed)?;
    let newest = opened.last().map_or(0, |(generation, _, _)| generation.number);
    let (mut members, mut unsealed, mut empty) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut written = None;
    for (generation, survey, known) in opened {
        let Some(first) = survey.first else {
            empty.push(generation);
            continue;
        };
        // Empty ones before one that holds something were never written and will not be.
        empty.clear();
        written = known.seal.is_none().then(|| survey.holds.unwrap_or_default());
        if known.seal.is_none() {
            unsealed.push(Arc::clone(&generation));
        }
        members.insert(first, generation);
    }
    let mut empty = empty.into_iter();
    if written.is_some() {
        unsealed.pop();
    } else {
        let next = match empty.next() {
            Some(next) => next,
            None => new_generation(root, newest.saturating_add(1), &members)?,
        };
        fold.usage().begin(next.number, first_commit, now);
        members.insert(first_commit, next);
    }
    let generations = Generations::start(root, members, empty.next(), unsealed, ledger)
        .map_err(|source| OpenError::io("starting the housekeeper of", root, source))?;
    let holds = written.unwrap_or_default();
    Ok(Ready { generations, recovered: fold.finish(first_commit), holds })
}

/// Every generation is sealed: makes one to write to.
fn new_generation(
    root: &Path,
    number: u32,
    members: &BTreeMap<u64, Arc<Generation>>,
) -> Result<Arc<Generation>, OpenError> {
    let made = dir::make_generation(root, number, Store::create)
        .and_then(|path| Store::open(&path))
        .map_err(|error| not_made(root, error))?;
    let numbers: Vec<_> = members.values().map(|it| it.number).chain([number]).collect();
    dir::write_manifest(root, &numbers)
        .map_err(|source| OpenError::io("writing", &root.join("MANIFEST"), source))?;
    Ok(Generation::written(number, made))
}

fn not_made(root: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Sled(sled::Error::Io(source)) | StoreError::Sync(source) => {
            OpenError::io("creating", root, source)
        }
        error @ (StoreError::Sled(_)
        | StoreError::Damaged(_)
        | StoreError::Missing
        | StoreError::Closed) => OpenError::damaged(root, error.to_string()),
    }
}

/// The generations that count; a journal that never held anything is made.
fn listed(root: &Path) -> Result<Vec<u32>, OpenError> {
    match dir::manifest(root) {
        Ok(Some(listed)) => return Ok(listed),
        Ok(None) => {}
        Err(OpenError::Damaged { what, .. }) => return Err(refuse(root, &what)),
        Err(error) => return Err(error),
    }
    let known = ledger::read(&dir::ledger(root))
        .map_err(|source| OpenError::io("reading", &dir::ledger(root), source))?;
    let found = dir::found_generations(root)
        .map_err(|source| OpenError::io("reading", &root.join("generations"), source))?;
    // A crash while the journal was made leaves at most an empty generation and a ledger without entries.
    let used = known.known.values().any(|known| known.holds.is_some()) || found.len() > 1;
    if used {
        let what = format!(
            "{} is missing, though generations {found:?} have been in use",
            root.join("MANIFEST").display()
        );
        return Err(refuse(root, &what));
    }
    let failed = |source| OpenError::io("creating", root, source);
    dir::make_generation(root, 1, Store::create).map_err(|error| not_made(root, error))?;
    drop(Ledger::create(&dir::ledger(root), BTreeMap::new(), 0).map_err(failed)?);
    dir::write_manifest(root, &[1]).map_err(failed)?;
    Ok(vec![1])
}

/// What a crash left of generations that were being made or removed. One that the ledger still counts on is neither:
/// the manifest is wrong.
fn unlisted(
    root: &Path,
    listed: &[u32],
    known: &BTreeMap<u32, Known>,
) -> Result<Vec<u32>, OpenError> {
    let failed = |source| OpenError::io("reading", &root.join("generations"), source);
    let mut unlisted = dir::found_generations(root).map_err(failed)?;
    unlisted.retain(|number| !listed.contains(number));
    for number in &unlisted {
        if let Some(holds) = known.get(number).and_then(|known| known.holds) {
            let what = format!(
                "{} does not list generation {number}, though the ledger says it holds {} records",
                root.join("MANIFEST").display(),
                holds.records
            );
            return Err(refuse(root, &what));
        }
    }
    if let Some((number, _)) =
        known.iter().find(|(number, known)| known.holds.is_some() && !listed.contains(number))
    {
        let what = format!("generation {number} is gone, though the ledger says it holds events");
        return Err(refuse(root, &what));
    }
    Ok(unlisted)
}

/// Opens one generation and folds its records.
fn generation(
    root: &Path,
    ballast: &Ballast,
    (number, known): (u32, Known),
    walks: &mut Walks,
    fold: &mut Fold,
) -> Result<Examined, Refusal> {
    let path = dir::generation(root, number);
    for file in ["db", "conf"] {
        let file = path.join(file);
        let present = std::fs::metadata(&file).is_ok_and(|it| it.is_file() && it.len() > 0);
        if !present {
            let what = format!("{} is missing or empty", file.display());
            return Err(Refusal::Damaged(what));
        }
    }
    match known.seal {
        Some(seal) => {
            let found = walks.next(&path);
            let examined = sealed(root, number, seal, known, (found, fold))?;
            // A crash may have left it when the generation was sealed.
            intake::remove(&path).map_err(|source| OpenError::io("removing", &path, source))?;
            Ok(examined)
        }
        None => match unsealed(root, ballast, number, known, fold) {
            Err(Refusal::Damaged(what)) => by_frames(root, number, known, fold, what),
            other => other,
        },
    }
}

/// sled does not find everything in its own file: every record that must be there may stand in it all the same. Then the
/// generation is read by its frames from now on, and not written any more.
fn by_frames(
    root: &Path,
    number: u32,
    mut known: Known,
    fold: &mut Fold,
    what: String,
) -> Result<Examined, Refusal> {
    restore(root, number)?;
    let path = dir::generation(root, number);
    let failed = |source| Refusal::Final(OpenError::io("reading", &path, source));
    let found = Files::all(&path).and_then(|files| Sealed::open(files, None)).map_err(failed)?;
    if found.whole.newer > 0 {
        return Err(newer(&path.join("db")));
    }
    match fold.sealed(number, &found, known) {
        Ok(survey) if survey.is_whole() && survey.first.is_some() && !found.ambiguous => {
            tracing::warn!(generation = number, what, "a generation is read by its records");
            // One file from now on, which the engine does not touch any more.
            intake::append_to_store(&path)
                .map_err(|source| OpenError::io("writing", &path, source))?;
            let newest = survey.holds.map(|holds| holds.commit);
            let found = Files::store(&path).and_then(|files| Sealed::open(files, newest));
            let found = found.map_err(failed)?;
            known.holds = survey.holds;
            let Whole { length, checksum, .. } = found.whole;
            known.seal = Some(Seal { length, checksum });
            Ok((Generation::sealed(number, found.sealed), survey, known))
        }
        Ok(_) | Err(_) => Err(Refusal::Damaged(what)),
    }
}

/// Walks through sealed generations, ahead of whoever folds what was found: a few at a time, each on a thread.
struct Walks {
    lanes: Vec<Receiver<std::io::Result<Found>>>,
    taken: usize,
}

impl Walks {
    fn begin<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        root: &'env Path,
        listed: &[u32],
        known: impl Fn(u32) -> Known,
        at_once: usize,
    ) -> Self {
        let sealed = listed.iter().map(|number| (*number, known(*number)));
        let sealed: Vec<_> = sealed.filter(|(_, known)| known.seal.is_some()).collect();
        let count = at_once.min(sealed.len());
        let lane = |first: usize| {
            let mine: Vec<_> = sealed.iter().skip(first).step_by(count).copied().collect();
            let (sender, found) = sync_channel(1);
            scope.spawn(move || {
                for (number, known) in mine {
                    // Nobody takes it when the open has failed already.
                    if sender.send(walk(&dir::generation(root, number), known)).is_err() {
                        return;
                    }
                }
            });
            found
        };
        Self { lanes: (0..count).map(lane).collect(), taken: 0 }
    }

    /// What was found in the next one.
    fn next(&mut self, path: &Path) -> std::io::Result<Found> {
        let lane = self.lanes.get(self.taken.checked_rem(self.lanes.len()).unwrap_or(0));
        self.taken = self.taken.saturating_add(1);
        let gone = || std::io::Error::other(format!("the walk through {} ended", path.display()));
        lane.and_then(|lane| lane.recv().ok()).unwrap_or_else(|| Err(gone()))
    }
}

fn walks_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.clamp(1, MOST_WALKS)
}

fn walk(path: &Path, known: Known) -> std::io::Result<Found> {
    Sealed::open(Files::store(path)?, known.last_if_sealed())
}

/// Compares a sealed generation with what it was when it was sealed. Nothing writes to it.
fn sealed(
    root: &Path,
    number: u32,
    seal: Seal,
    known: Known,
    (found, fold): (std::io::Result<Found>, &mut Fold),
) -> Result<Examined, Refusal> {
    let db = dir::generation(root, number).join("db");
    let failed = |source| OpenError::io("reading", &db, source);
    let found = found.map_err(failed)?;
    let Whole { length, checksum, newer: unread } = found.whole;
    if unread > 0 {
        return Err(newer(&db));
    }
    if (length, checksum) != (seal.length, seal.checksum) {
        let what = format!(
            "{} is not as it was sealed: {} bytes were sealed, {length} are there",
            db.display(),
            seal.length
        );
        return Err(Refusal::Damaged(what));
    }
    match fold.sealed(number, &found, known) {
        Ok(survey) if survey.is_whole() => {
            Ok((Generation::sealed(number, found.sealed), survey, known))
        }
        Ok(survey) => Err(Refusal::Damaged(format!("generation {number}: {}", missing(&survey)))),
        Err(StoreError::Sync(source)) => Err(failed(source).into()),
        Err(error) => Err(Refusal::Damaged(format!("generation {number}: {error}"))),
    }
}

/// Lets sled open a generation that was being written, with a copy put aside before it may change anything.
fn unsealed(
    root: &Path,
    ballast: &Ballast,
    number: u32,
    mut known: Known,
    fold: &mut Fold,
) -> Result<Examined, Refusal> {
    let path = dir::generation(root, number);
    dir::read_anew(&path).map_err(|source| OpenError::io("syncing", &path, source))?;
    copy_aside(root, ballast, number)?;
    let opened = catch_unwind(AssertUnwindSafe(|| {
        dir::remove_snapshots(&path)?;
        let store = Store::open(&path)?;
        let survey = fold.store(number, &store, known)?;
        Ok::<_, StoreError>((store, survey))
    }));
    let what = match opened {
        Ok(Ok((store, survey))) if survey.is_whole() => {
            if dir::has_blobs(&path) {
                tracing::error!(path = %path.display(), "the store holds files that it does not sync");
            }
            known.holds = survey.holds.filter(|_| survey.first.is_some());
            return Ok((Generation::written(number, store), survey, known));
        }
        Ok(Ok((_, survey))) if survey.newer => return Err(newer(&path.join("db"))),
        Ok(Ok((store, survey))) => {
            drop(store);
            missing(&survey)
        }
        Ok(Err(StoreError::Sync(source) | StoreError::Sled(sled::Error::Io(source))))
            if is_about_the_system(&source) =>
        {
            return Err(OpenError::io("opening", &path, source).into());
        }
        Ok(Err(error)) => format!("the storage engine cannot read it: {error}"),
        Err(_panic) => "the storage engine cannot read it".to_owned(),
    };
    Err(Refusal::Damaged(format!("generation {number}: {what}")))
}

/// A record says that a later release has written here.
fn newer(db: &Path) -> Refusal {
    OpenError::Newer { path: db.to_owned(), format: NEXT_FORMAT }.into()
}

/// Whether an error is the file system's refusal rather than what was found in the file.
fn is_about_the_system(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
        || error.raw_os_error().is_some()
}

fn missing(survey: &Survey) -> String {
    match survey.short_of {
        Some(known) => format!(
            "the ledger says it holds {} records and {} contents up to commit {}, and fewer were found",
            known.records, known.contents, known.commit
        ),
        None => format!("{} of its records are missing or fail their check", survey.damaged),
    }
}

fn copy_aside(root: &Path, ballast: &Ballast, number: u32) -> Result<(), OpenError> {
    let copied = aside::copy(root, number).or_else(|error| {
        if error.kind() != std::io::ErrorKind::StorageFull {
            return Err(error);
        }
        // On a full disk the ballast makes room for the copy.
        aside::clear_part(root, number)?;
        ballast.release()?;
        aside::copy(root, number)
    });
    copied.map_err(|source| OpenError::io("copying aside", &dir::generation(root, number), source))
}

/// Puts the untouched copy of a generation back, if there is one.
fn restore(root: &Path, number: u32) -> Result<(), OpenError> {
    if !aside::of(root, number).exists() {
        return Ok(());
    }
    let path = dir::generation(root, number);
    aside::restore(root, number).map_err(|source| OpenError::io("restoring", &path, source))
}

/// Counts what can still be read, so that the operator knows what is at stake.
fn refuse(root: &Path, what: &str) -> OpenError {
    match salvage::assess(root) {
        Ok(found) => OpenError::damaged(root, format!("{what}; {found}")).losing(found.lost()),
        Err(error) => {
            tracing::error!(%error, "what can be read of the journal could not be counted");
            OpenError::damaged(root, what.to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
