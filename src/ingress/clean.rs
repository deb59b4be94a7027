//! What the last run remembered, and whether it had the time to remember everything.

use super::{quiet, watch};
use crate::journal::{Journal, Note};
use crate::model::Name;

/// The topic of the note that says so, and its name.
const TOPIC: &str = "ingress";
const WHOLE: &str = "stopped";

/// The notes of the last run.
pub(super) struct Before {
    notes: Vec<(&'static str, String, Vec<u8>)>,
    /// Whether nothing happened after they were written: it ended in order.
    pub(super) is_whole: bool,
}

impl Before {
    /// Reads the notes, and forgets those of sources that are not watched any more: `watched` says which are, for a topic.
    pub(super) fn read(journal: &dyn Journal, watched: impl Fn(&str, &str) -> bool) -> Self {
        let mut notes = Vec::new();
        for topic in [watch::TOPIC, quiet::TOPIC] {
            for (name, value) in journal.notes(topic) {
                let source = name.split('/').next().unwrap_or_default();
                if watched(topic, source) {
                    notes.push((topic, name, value));
                } else {
                    put(journal, topic, name, Vec::new());
                }
            }
        }
        let is_whole = !journal.notes(TOPIC).is_empty();
        put(journal, TOPIC, WHOLE.to_owned(), Vec::new());
        Self { notes, is_whole }
    }

    /// The notes of one source.
    pub(super) fn of<'a>(
        &'a self,
        topic: &'a str,
        source: &'a Name,
    ) -> impl Iterator<Item = &'a [u8]> {
        let is_of = move |name: &str| name.split('/').next() == Some(source.as_str());
        let fits =
            move |(other, name, _): &&(&str, String, Vec<u8>)| *other == topic && is_of(name);
        self.notes.iter().filter(fits).map(|(_, _, value)| &**value)
    }
}

/// The notes are whole from here on.
pub(super) fn note_stop(journal: &dyn Journal) {
    put(journal, TOPIC, WHOLE.to_owned(), b"1".to_vec());
}

fn put(journal: &dyn Journal, topic: &str, name: String, value: Vec<u8>) {
    // It is taken at once, if it is taken.
    drop(journal.note(Note { topic: topic.to_owned(), name, value }));
}
