//! What must outlive the process and is no event: small values by topic and name, all of them in memory.

use std::collections::BTreeMap;

use super::{MAX_NOTE, MAX_NOTES, Note, NoteError};

/// Bytes that a note takes beside its texts.
const OVERHEAD: usize = 64;
/// Longest topic or name.
const MAX_WORD: usize = 255;

/// Every note.
#[derive(Debug, Default)]
pub(super) struct Notes {
    values: BTreeMap<(String, String), Vec<u8>>,
    bytes: usize,
}

impl Notes {
    /// Takes a note up in place of an earlier one of the same topic and name.
    pub(super) fn put(&mut self, note: Note) -> Result<(), NoteError> {
        let Note { topic, name, value } = note;
        if value.len() > MAX_NOTE || topic.len() > MAX_WORD || name.len() > MAX_WORD {
            return Err(NoteError::TooLarge);
        }
        let weight = |name: &str, value: &[u8]| {
            OVERHEAD
                .saturating_add(topic.len())
                .saturating_add(name.len())
                .saturating_add(value.len())
        };
        let (new, key) = (weight(&name, &value), (topic.clone(), name));
        let old = self.values.get(&key).map_or(0, |old| weight(&key.1, old));
        let bytes = self.bytes.saturating_sub(old);
        if value.is_empty() {
            self.values.remove(&key);
            self.bytes = bytes;
            return Ok(());
        }
        let bytes = bytes.saturating_add(new);
        if bytes > MAX_NOTES {
            return Err(NoteError::TooLarge);
        }
        self.bytes = bytes;
        self.values.insert(key, value);
        Ok(())
    }

    /// The notes of one topic, by name.
    pub(super) fn of(&self, topic: &str) -> Vec<(String, Vec<u8>)> {
        let from = (topic.to_owned(), String::new());
        let of_topic = self.values.range(from..).take_while(|((other, _), _)| other == topic);
        of_topic.map(|((_, name), value)| (name.clone(), value.clone())).collect()
    }

    /// Every note.
    pub(super) fn iter(&self) -> impl Iterator<Item = Note> {
        self.values.iter().map(|((topic, name), value)| Note {
            topic: topic.clone(),
            name: name.clone(),
            value: value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, length: usize) -> Note {
        Note { topic: "t".into(), name: name.into(), value: vec![1; length] }
    }

    #[test]
    fn the_latest_value_counts_an_empty_one_forgets_and_all_are_bounded() {
        let mut notes = Notes::default();
        notes.put(note("a", 3)).unwrap();
        notes.put(note("a", 2)).unwrap();
        notes.put(Note { topic: "u".into(), ..note("b", 1) }).unwrap();
        assert_eq!(notes.of("t"), [("a".to_owned(), vec![1; 2])]);
        assert_eq!(notes.put(note("a", MAX_NOTE + 1)), Err(NoteError::TooLarge));
        notes.put(note("a", 0)).unwrap();
        assert_eq!((notes.of("t"), notes.iter().count()), (Vec::new(), 1));
        let taken = (0..).take_while(|i: &usize| notes.put(note(&i.to_string(), MAX_NOTE)).is_ok());
        let taken = taken.count();
        assert!((400..=512).contains(&taken), "{taken} notes of {MAX_NOTE} bytes");
        for name in 0..taken {
            notes.put(note(&name.to_string(), 0)).unwrap();
        }
        notes.put(Note { topic: "u".into(), ..note("b", 0) }).unwrap();
        assert_eq!(notes.bytes, 0);
    }
}
