//! A refused request once more: by the rules of today, or because an operator says so.

use super::{Admission, Decision, Inbound, Intake, Refusal, UNKNOWN};
use crate::model::DedupKey;
use crate::rules::verify::Proof;
use crate::time::Timestamp;

impl Intake {
    /// Decides a request once more that was refused when it was received: by today's secrets and rules, and as fresh
    /// as it was then. Its repeats are known for as long as those of a request that comes at `now`, because several
    /// copies of it may have been refused.
    pub fn reconsider(
        &self,
        request: &Inbound<'_>,
        received_at: Timestamp,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        match self.receive(request, received_at)? {
            Decision::Store(admission) => Ok(admission.remembered_from(received_at, now)),
            // There is nobody to be answered any more.
            Decision::Answer(_) => Err(Refusal::Malformed),
        }
    }

    /// Makes an event of a request whatever it proves and holds. What cannot be read of it is missing.
    pub fn admit_anyway(
        &self,
        request: &Inbound<'_>,
        received_at: Timestamp,
        now: Timestamp,
    ) -> Admission {
        let Inbound { headers, body, .. } = *request;
        let document = self.fields.document(headers, body);
        let read = document
            .as_ref()
            .ok()
            .and_then(|document| self.fields.extract_from(headers, body, document).ok());
        let fields = read.unwrap_or_else(|| self.fields.unread(headers, body));
        let proved = self.prove(headers, body, received_at);
        let (proof, replay_window) = match &proved {
            Some((verifier, proof)) => (proof, verifier.replay_window(self.dedup.window())),
            None => (&Proof::Sender, None),
        };
        let event = self.event.of(&fields).unwrap_or_else(|| UNKNOWN.to_owned());
        let admission = self.admission(event, &fields, body, proof, replay_window);
        admission.remembered_from(received_at, now)
    }
}

impl Admission {
    /// The journal counts windows from the receipt. This lets them end as if they began at `now`.
    fn remembered_from(mut self, received_at: Timestamp, now: Timestamp) -> Self {
        let late = now.since(received_at);
        for key in &mut self.dedup {
            let (DedupKey::Exact { window, .. } | DedupKey::Latest { window, .. }) = key;
            *window = window.saturating_add(late);
        }
        self
    }
}
