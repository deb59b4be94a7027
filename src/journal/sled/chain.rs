//! Which commits of a generation were finished.
//!
//! A commit that a crash tore was never acknowledged, and its engine forgets it; its frames may still stand in the file.
//! Every commit's closing record names the commit before it, so that what stands between two of them is known to be such
//! a remnant, and a commit that is missing is known to be missing.

use std::collections::BTreeMap;

use crate::journal::record::frame::{Frame, KIND_COMMIT};
use crate::journal::record::{self, Record};

/// What the closing records of one generation say.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    closed: BTreeMap<u64, Closing>,
}

/// What one closing record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// The commit before it.
    pub(super) after: u64,
    /// Small records and content frames.
    pub(super) records: u32,
    pub(super) contents: u32,
}

impl Chain {
    /// Takes note of a frame if it closes a commit.
    pub(super) fn see(&mut self, frame: &Frame<'_>) {
        if frame.kind != KIND_COMMIT {
            return;
        }
        if let Ok(Record::Commit { after, records, contents, .. }) = record::record(frame) {
            self.closed.insert(frame.mark.commit, Closing { after, records, contents });
        }
    }

    /// Takes up what another walk saw.
    pub(super) fn join(&mut self, other: Self) {
        self.closed.extend(other.closed);
    }

    /// Every commit whose closing record was seen.
    pub(super) fn closed(&self) -> impl Iterator<Item = (u64, Closing)> {
        self.closed.iter().map(|(commit, closing)| (*commit, *closing))
    }

    /// Whether a commit's closing record was seen.
    pub(super) fn is_closed(&self, commit: u64) -> bool {
        self.closed.contains_key(&commit)
    }

    /// Whether a commit was never finished: the chain passes it by, or it is beyond the newest one.
    pub(super) fn is_unfinished(&self, commit: u64, newest: Option<u64>) -> bool {
        if self.closed.contains_key(&commit) {
            return false;
        }
        match self.closed.range(commit..).next() {
            Some((_, next)) => next.after < commit,
            None => newest.is_some_and(|newest| commit > newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::journal::record::frame::{self, Mark};
    use crate::time::Timestamp;

    fn chain(links: &[(u64, u64)]) -> Chain {
        let mut chain = Chain::default();
        for (commit, after) in links {
            let mut bytes = BytesMut::new();
            let mark = Mark { commit: *commit, ordinal: 0 };
            let closing =
                Record::Commit { at: Timestamp::EPOCH, after: *after, records: 1, contents: 0 };
            record::put_record(&mut bytes, mark, &closing);
            chain.see(&frame::take(&mut &bytes[..]).unwrap());
        }
        chain
    }

    #[test]
    fn what_the_chain_passes_by_was_never_finished() {
        let chain = chain(&[(3, 2), (5, 3), (8, 7)]);
        assert!(!chain.is_unfinished(3, None));
        assert!(chain.is_unfinished(4, None), "5 came after 3");
        assert!(!chain.is_unfinished(7, None), "8 came after 7: its closing record is lost");
        assert!(!chain.is_unfinished(6, None), "nobody knows what came before 7");
    }

    #[test]
    fn what_is_beyond_the_newest_commit_was_never_finished_if_that_is_known() {
        let chain = chain(&[(3, 2)]);
        assert!(chain.is_unfinished(4, Some(3)));
        assert!(!chain.is_unfinished(4, Some(4)));
        assert!(!chain.is_unfinished(4, None));
    }
}
