//! What is wrong with a journal, found out without opening it and without changing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::OpenError;
use super::dir;
use super::ledger::{self, Known, Read};
use super::salvage::{self, Assessment, Readable};
use super::scan::Whole;

/// The format that a record of a newer version stands for, in what is said about it.
pub(super) const NEXT_FORMAT: u32 = 2;
/// A journal that is in use changes while it is read: how often it is looked at again, and after how long.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What can be read, counted against what must be there.
    pub counts: Assessment,
    /// Everything that is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Generations that were looked at.
    pub generations: usize,
}

impl Diagnosis {
    /// Whether nothing is wrong that can be told from here.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks at a journal, also at one that is in use.
pub(super) fn diagnose(root: &Path) -> Result<Diagnosis, OpenError> {
    let mut seen = BTreeMap::new();
    let mut found = look(root, &mut seen)?;
    for _ in 1..LOOKS {
        if found.is_sound() || dir::owner(root).is_none() {
            break;
        }
        std::thread::park_timeout(LOOK_AGAIN);
        found = look(root, &mut seen)?;
    }
    Ok(found)
}

fn look(root: &Path, seen: &mut BTreeMap<u32, Readable>) -> Result<Diagnosis, OpenError> {
    let ledger = dir::ledger(root);
    let read = ledger::read(&ledger).map_err(|source| OpenError::io("reading", &ledger, source))?;
    let mut found = Diagnosis::default();
    let listed = match dir::manifest(root) {
        Ok(listed) => listed,
        Err(OpenError::Damaged { what, .. }) => {
            found.problems.push(what);
            None
        }
        Err(
            error @ (OpenError::Newer { .. } | OpenError::Locked { .. } | OpenError::Io { .. }),
        ) => {
            return Err(error);
        }
        Err(error @ OpenError::Repairing { .. }) => return Err(error),
    };
    let numbers = counted(root, &read)?;
    let used = read.known.values().any(|known| known.holds.is_some()) || numbers.len() > 1;
    if listed.is_none() && found.problems.is_empty() && used {
        found.problems.push(format!("{} is missing", root.join("MANIFEST").display()));
    }
    if read.damaged > 0 || (!read.found && used) {
        // The next start writes it anew.
        tracing::warn!(
            damaged = read.damaged,
            found = read.found,
            "the ledger is damaged or missing"
        );
    }
    found.generations = numbers.len();
    for number in numbers {
        let known = read.known.get(&number).copied().unwrap_or_default();
        generation(root, number, known, seen, &mut found)?;
        if listed.as_ref().is_some_and(|listed| !listed.contains(&number)) {
            found.problems.push(format!(
                "generation {number} is in use, and {} does not list it",
                root.join("MANIFEST").display()
            ));
        }
    }
    if dir::repairing(root).exists() {
        found.problems.push("a repair was interrupted".to_owned());
    }
    Ok(found)
}

fn generation(
    root: &Path,
    number: u32,
    known: Known,
    seen: &mut BTreeMap<u32, Readable>,
    found: &mut Diagnosis,
) -> Result<(), OpenError> {
    let path = dir::generation(root, number);
    let mut say = |what: String| found.problems.push(format!("generation {number}: {what}"));
    for name in ["db", "conf"] {
        let there = std::fs::metadata(path.join(name)).is_ok_and(|it| it.is_file() && it.len() > 0);
        if !there {
            say(format!("{} is missing or empty", path.join(name).display()));
        }
    }
    let db = path.join("db");
    let scanned = salvage::scan(&path).map_err(|source| OpenError::io("reading", &path, source))?;
    let readable = seen.entry(number).or_default();
    readable.join(scanned);
    if let Some(whole) = readable.whole {
        if whole.newer > 0 {
            return Err(OpenError::Newer { path: db, format: NEXT_FORMAT });
        }
        if let Some(seal) = known.seal {
            let Whole { length, checksum, .. } = whole;
            if (length, checksum) != (seal.length, seal.checksum) {
                say(format!(
                    "{} is not as it was sealed: {} bytes were sealed, {length} are there",
                    db.display(),
                    seal.length
                ));
            }
        }
    }
    let counts = readable.against(known.holds);
    if counts.lost() > 0 {
        say(format!("{counts}"));
    }
    found.counts.add(&counts);
    Ok(())
}

/// The generations that count, as far as manifest and ledger can still say.
pub(super) fn counted(root: &Path, read: &Read) -> Result<BTreeSet<u32>, OpenError> {
    let folder = root.join("generations");
    let there =
        dir::found_generations(root).map_err(|source| OpenError::io("reading", &folder, source))?;
    let used = read.known.iter().filter(|(_, known)| known.holds.is_some());
    let used: BTreeSet<u32> = used.map(|(number, _)| *number).collect();
    match dir::manifest(root) {
        Ok(Some(listed)) => Ok(listed.into_iter().chain(used).collect()),
        Err(error @ OpenError::Newer { .. }) => Err(error),
        Ok(None) | Err(_) => {
            // What is older than all that the ledger knows was drained, and its removal did not come to its end.
            let oldest = used.first().copied().unwrap_or(0);
            Ok(there.into_iter().filter(|number| *number >= oldest).chain(used).collect())
        }
    }
}
