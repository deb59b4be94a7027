//! What the relay remembers of its targets from one run to the next, as notes of the journal.

use serde::{Deserialize, Serialize};

use crate::journal::{Journal, Note};
use crate::model::Name;
use crate::rules::dispatch::{PauseReason, Remembered};

/// The notes' topic.
const TOPIC: &str = "target";

/// One target's note.
#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    /// Which address it is about: a digest, since an address may hold a token.
    address: String,
    #[serde(flatten)]
    state: Remembered,
}

/// How the targets stood when the last run ended.
pub(super) fn recall(
    journal: &dyn Journal,
    address_of: impl Fn(&Name) -> Option<String>,
) -> Vec<(Name, Remembered)> {
    let read = |(name, value): (String, Vec<u8>)| {
        let name = Name::parse(&name)?;
        let memo: Memo = serde_json::from_slice(&value).ok()?;
        let moved = memo.address != digest(&address_of(&name)?);
        Some((name, still_true(memo.state, moved)))
    };
    journal.notes(TOPIC).into_iter().filter_map(read).collect()
}

/// Another address has not answered 410, has asked for nothing, and says nothing by having failed.
fn still_true(state: Remembered, moved: bool) -> Remembered {
    if !moved {
        return state;
    }
    let paused = state.paused.filter(|pause| pause.reason == PauseReason::Operator);
    Remembered { paused, ..Remembered::default() }
}

/// Keeps how a target stands for the next run.
pub(super) async fn keep(journal: &dyn Journal, target: &Name, address: &str, state: Remembered) {
    let memo = Memo { address: digest(address), state };
    let value =
        if state == Remembered::default() { Ok(Vec::new()) } else { serde_json::to_vec(&memo) };
    let (topic, name) = (TOPIC.to_owned(), target.to_string());
    let kept = match value {
        Ok(value) => journal.note(Note { topic, name, value }).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = kept {
        tracing::warn!(target_name = %target, error,
            "how the target stands could not be kept; after a restart it is not paused");
    }
}

fn digest(address: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, address.as_bytes());
    hex::encode(digest.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::memory::MemoryJournal;
    use crate::rules::dispatch::Pause;
    use crate::time::{Clock, Timestamp};

    #[tokio::test]
    async fn a_pause_is_remembered_and_one_for_a_410_only_for_its_address() {
        let journal = MemoryJournal::new(Clock::manual(Timestamp::EPOCH));
        let name = |text| Name::parse(text).unwrap();
        let since = Timestamp::from_secs(5);
        let paused = |reason| Remembered {
            paused: Some(Pause { reason, since }),
            open_since: Some(since),
            held_until: Some(since),
        };
        keep(&journal, &name("a"), "http://one/", paused(PauseReason::Gone)).await;
        keep(&journal, &name("b"), "http://one/", paused(PauseReason::Operator)).await;
        let there = |address: &'static str| move |_: &Name| Some(address.to_owned());
        let same = recall(&journal, there("http://one/"));
        assert_eq!(same[0], (name("a"), paused(PauseReason::Gone)));
        let moved = recall(&journal, there("http://two/"));
        assert_eq!(moved[0].1, Remembered::default());
        assert_eq!(moved[1].1.paused.map(|pause| pause.reason), Some(PauseReason::Operator));
        assert_eq!((moved[1].1.open_since, moved[1].1.held_until), (None, None));
        keep(&journal, &name("a"), "http://one/", Remembered::default()).await;
        assert_eq!(recall(&journal, there("http://one/")).len(), 1, "nothing to remember");
    }
}
