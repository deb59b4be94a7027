//! An attempt as bytes: what a settlement records of how it came about.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{put_text, take_text, take_time};
use crate::model::{
    Answer, Attempt, ErrorClass, Headers, MAX_SEEN_BODY, MAX_SEEN_HEADERS, Seen, Timing,
};

/// Bits that say which parts follow.
const REMOTE: u8 = 1;
const DETAIL: u8 = 1 << 1;
const HEADERS: u8 = 1 << 2;
const BODY: u8 = 1 << 3;
const BODY_CUT: u8 = 1 << 4;
const V6: u8 = 1 << 5;
const REQUEST: u8 = 1 << 6;

pub(super) fn put_attempt(out: &mut BytesMut, attempt: Option<&Attempt>) {
    let Some(Attempt { number, started_at, duration, answer, seen }) = attempt else {
        out.put_u8(0);
        return;
    };
    out.put_u8(1);
    out.put_u32(*number);
    out.put_i64(started_at.as_micros());
    put_duration(out, *duration);
    let (status, class) = match answer {
        Answer::Status { status, .. } => (*status, 0),
        Answer::Failed(class) => (0, error_class(*class)),
        Answer::Interrupted => (0, 0),
    };
    out.put_u16(status);
    out.put_u8(class);
    put_seen(out, seen);
}

pub(super) fn take_attempt(bytes: &mut &[u8]) -> Option<Attempt> {
    let number = bytes.try_get_u32().ok()?;
    let started_at = take_time(bytes)?;
    let duration = Duration::from_micros(bytes.try_get_u64().ok()?);
    let (status, class) = (bytes.try_get_u16().ok()?, bytes.try_get_u8().ok()?);
    let answer = match (status, class) {
        (0, 0) => Answer::Interrupted,
        (0, class) => {
            Answer::Failed(ErrorClass::ALL.into_iter().find(|c| error_class(*c) == class)?)
        }
        (status, _) => Answer::Status { status, retry_after: None },
    };
    Some(Attempt { number, started_at, duration, answer, seen: Box::new(take_seen(bytes)?) })
}

fn put_seen(out: &mut BytesMut, seen: &Seen) {
    let Seen { remote, timing, request, headers, body, body_cut, detail } = seen;
    let set = |present: bool, bit: u8| if present { bit } else { 0 };
    let (request, headers) = (whole(request), whole(headers));
    let body = body.get(..MAX_SEEN_BODY).unwrap_or(body);
    let parts = set(remote.is_some(), REMOTE)
        | set(remote.is_some_and(|address| address.is_ipv6()), V6)
        | set(detail.is_some(), DETAIL)
        | set(!request.is_empty(), REQUEST)
        | set(!headers.is_empty(), HEADERS)
        | set(!body.is_empty(), BODY)
        | set(*body_cut, BODY_CUT);
    out.put_u8(parts);
    put_timing(out, *timing);
    if let Some(address) = remote {
        match address.ip() {
            IpAddr::V4(ip) => out.put_slice(&ip.octets()),
            IpAddr::V6(ip) => out.put_slice(&ip.octets()),
        }
        out.put_u16(address.port());
    }
    if let Some(detail) = detail {
        put_text(out, detail);
    }
    for part in [&request[..], &headers[..], body].into_iter().filter(|part| !part.is_empty()) {
        out.put_u16(u16::try_from(part.len()).unwrap_or(0));
        out.put_slice(part);
    }
}

/// Fields are kept whole or not at all: half a packed list could not be read.
fn whole(headers: &Headers) -> Bytes {
    let packed = headers.packed();
    if packed.len() <= MAX_SEEN_HEADERS { packed.clone() } else { Bytes::new() }
}

fn take_seen(bytes: &mut &[u8]) -> Option<Seen> {
    let parts = bytes.try_get_u8().ok()?;
    let has = |bit: u8| parts & bit != 0;
    let timing = take_timing(bytes)?;
    let remote = if has(REMOTE) { Some(take_address(bytes, has(V6))?) } else { None };
    let detail = if has(DETAIL) { Some(take_text(bytes)?) } else { None };
    let request = if has(REQUEST) { take_part(bytes)? } else { Bytes::new() };
    let headers = if has(HEADERS) { take_part(bytes)? } else { Bytes::new() };
    let body = if has(BODY) { take_part(bytes)? } else { Bytes::new() };
    let (request, headers) = (Headers::from_packed(request)?, Headers::from_packed(headers)?);
    Some(Seen { remote, timing, request, headers, body, body_cut: has(BODY_CUT), detail })
}

fn take_address(bytes: &mut &[u8], v6: bool) -> Option<SocketAddr> {
    let ip: IpAddr = if v6 {
        bytes.try_get_u128().ok()?.to_be_bytes().into()
    } else {
        bytes.try_get_u32().ok()?.to_be_bytes().into()
    };
    Some(SocketAddr::new(ip, bytes.try_get_u16().ok()?))
}

fn take_part(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(part))
}

/// The steps in microseconds, `u32::MAX` for one that was not made.
fn put_timing(out: &mut BytesMut, timing: Timing) {
    let Timing { dns, connect, tls, first_byte } = timing;
    for step in [dns, connect, tls, first_byte] {
        let micros = step.map_or(u32::MAX, |step| {
            u32::try_from(step.as_micros()).unwrap_or(u32::MAX).min(u32::MAX - 1)
        });
        out.put_u32(micros);
    }
}

fn take_timing(bytes: &mut &[u8]) -> Option<Timing> {
    let mut step = || {
        let micros = bytes.try_get_u32().ok()?;
        Some((micros != u32::MAX).then(|| Duration::from_micros(u64::from(micros))))
    };
    Some(Timing { dns: step()?, connect: step()?, tls: step()?, first_byte: step()? })
}

fn put_duration(out: &mut BytesMut, duration: Duration) {
    out.put_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

fn error_class(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Dns => 1,
        ErrorClass::Connect => 2,
        ErrorClass::Tls => 3,
        ErrorClass::Reset => 4,
        ErrorClass::Timeout => 5,
        ErrorClass::Protocol => 6,
        ErrorClass::TooLarge => 7,
        ErrorClass::TimeoutBody => 8,
        ErrorClass::Template => 9,
    }
}
