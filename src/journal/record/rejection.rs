//! A refused request as a small record: what is decided with; its bytes are a content like an event's.

use std::net::IpAddr;

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::content::Place;
use super::{Record, put_text, take_id, take_text, take_time};
use crate::journal::quarantine::Kept;
use crate::model::{Name, Refusal, RejectionId};

pub(super) fn put(out: &mut BytesMut, kept: &Kept<Place>) {
    let Kept { source, cause, received_at, client, held, bytes, place } = kept;
    out.put_i64(received_at.as_micros());
    put_text(out, source.as_str());
    put_text(out, cause.as_str());
    put_text(out, &client.to_string());
    out.put_u8(u8::from(*held));
    out.put_u64(*bytes);
    out.put_u32(place.ordinal);
    out.put_u32(place.length);
}

pub(super) fn take(bytes: &mut &[u8], commit: u64) -> Option<Record> {
    let id = RejectionId::from_bytes(take_id(bytes)?.to_bytes());
    let received_at = take_time(bytes)?;
    let source = Name::parse(&take_text(bytes)?)?;
    let cause = Refusal::parse(&take_text(bytes)?)?;
    let client: IpAddr = take_text(bytes)?.parse().ok()?;
    let held = bytes.try_get_u8().ok()? != 0;
    let length = bytes.try_get_u64().ok()?;
    let place =
        Place { commit, ordinal: bytes.try_get_u32().ok()?, length: bytes.try_get_u32().ok()? };
    let kept = Kept { source, cause, received_at, client, held, bytes: length, place };
    Some(Record::Rejected { id, kept })
}
