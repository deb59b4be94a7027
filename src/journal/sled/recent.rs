//! What was written last, in memory: an event that is delivered at once is not read back from the store.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::journal::record::content::Place;

/// Bytes that are kept.
const MOST: usize = 2 * 1024 * 1024;

/// The contents of the latest commits, bounded in bytes: a part with the commit and the ordinal of its first frame.
#[derive(Debug, Default)]
pub(super) struct Recent {
    parts: BTreeMap<(u64, u32), Bytes>,
    bytes: usize,
}

impl Recent {
    /// Keeps the parts of a commit, and as many of those before it as there is room for.
    pub(super) fn put<'a>(&mut self, commit: u64, parts: impl Iterator<Item = (u32, &'a Bytes)>) {
        for (first, part) in parts {
            self.bytes = self.bytes.saturating_add(part.len());
            self.parts.insert((commit, first), part.clone());
        }
        while self.bytes > MOST {
            let Some((_, part)) = self.parts.pop_first() else { break };
            self.bytes = self.bytes.saturating_sub(part.len());
        }
    }

    /// The part that each frame of a content stands in, if they are all here.
    pub(super) fn parts_of(&self, place: Place) -> Option<Vec<Bytes>> {
        let Place { commit, .. } = place;
        let part = |ordinal| self.parts.range((commit, 0)..=(commit, ordinal)).next_back();
        place.ordinals().map(|ordinal| part(ordinal).map(|(_, part)| part.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(commit: u64, ordinal: u32, length: usize) -> Place {
        Place { commit, ordinal, length: u32::try_from(length).unwrap() }
    }

    #[test]
    fn a_content_is_found_in_the_part_that_begins_with_it_or_before_it() {
        let mut recent = Recent::default();
        let parts = [b"zero", b"two.", b"five"].map(|part| Bytes::from_static(part));
        recent.put(7, [0, 2, 5].into_iter().zip(&parts));
        let found = |place| recent.parts_of(place);
        for (ordinal, part) in [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (9, 2)] {
            assert_eq!(found(place(7, ordinal, 10)), Some(vec![parts[part].clone()]));
        }
        let chain = place(7, 4, 2 * crate::journal::record::content::FRAME);
        assert_eq!(found(chain), Some(vec![parts[1].clone(), parts[2].clone()]));
        assert_eq!((found(place(6, 0, 10)), found(place(8, 0, 10))), (None, None));
    }

    #[test]
    fn the_latest_are_kept_and_no_more_than_there_is_room_for() {
        let mut recent = Recent::default();
        let part = Bytes::from(vec![1; MOST / 4]);
        for commit in 1..=9 {
            recent.put(commit, [(0, &part)].into_iter());
        }
        let has = |commit| recent.parts_of(place(commit, 0, 10)).is_some();
        assert!((1..=5).all(|commit| !has(commit)) && (6..=9).all(has));
        let large = Bytes::from(vec![1; MOST + 1]);
        recent.put(10, [(0, &large)].into_iter());
        assert!((recent.parts.is_empty(), recent.bytes) == (true, 0), "too large to be kept");
    }
}
