//! Refused requests on their way into the quarantine.

use std::net::IpAddr;

use bytes::Bytes;

use super::answer::{Answer, Cause};
use super::{Shared, SourceState};
use crate::model::{Headers, Refusal, Rejection, RejectionId};
use crate::time::Timestamp;

/// A request that was read completely and refused.
pub(super) struct Whole<'a> {
    pub(super) cause: Refusal,
    pub(super) received_at: Timestamp,
    pub(super) client: IpAddr,
    pub(super) query: Option<&'a str>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// Hands a refused request to the journal. It is taken at once, and its sender does not wait for more.
pub(super) fn keep(
    shared: &Shared,
    source: &SourceState,
    refused: Whole<'_>,
) -> Result<Answer, Cause> {
    let Whole { cause, received_at, client, query, headers, body } = refused;
    let rejection = Rejection {
        id: RejectionId::new(received_at, shared.entropy()),
        source: source.name.clone(),
        cause,
        received_at,
        client,
        held: false,
        query: query.map(str::to_owned),
        headers,
        body,
    };
    drop(shared.journal.reject(rejection));
    Err(cause.into())
}
