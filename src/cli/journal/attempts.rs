//! An attempt in a line of an export.

use std::net::SocketAddr;
use std::time::Duration;

use everhook::journal::PastAttempt;
use everhook::model::{Answer, Attempt, ErrorClass, Seen, Timing};
use everhook::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::lines::{Data, fields, headers, name, time};

/// One attempt. Of `status` and `error` one is there, or none when it was interrupted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttemptLine {
    target: String,
    number: u32,
    started_at: String,
    duration_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    request: Vec<(String, Data)>,
    headers: Vec<(String, Data)>,
    body: Data,
    body_cut: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl AttemptLine {
    pub(super) fn of((target, attempt, due): &PastAttempt) -> Self {
        let Attempt { number, started_at, duration, answer, seen } = attempt;
        let Seen { remote, timing, request, headers, body, body_cut, detail } = &**seen;
        let (status, error) = match answer {
            Answer::Status { status, .. } => (Some(*status), None),
            Answer::Failed(class) => (None, Some(class.as_str().to_owned())),
            Answer::Interrupted => (None, None),
        };
        Self {
            target: target.to_string(),
            number: *number,
            started_at: started_at.precise(),
            duration_us: micros(*duration),
            status,
            error,
            next_attempt_at: due.map(Timestamp::precise),
            remote: *remote,
            dns_us: timing.dns.map(micros),
            connect_us: timing.connect.map(micros),
            tls_us: timing.tls.map(micros),
            first_byte_us: timing.first_byte.map(micros),
            request: fields(request),
            headers: fields(headers),
            body: Data::of(body),
            body_cut: *body_cut,
            detail: detail.clone(),
        }
    }

    pub(super) fn attempt(self) -> Result<PastAttempt, String> {
        let answer = match (self.status, self.error) {
            (Some(status), _) => Answer::Status { status, retry_after: None },
            (None, Some(word)) => {
                let class = ErrorClass::parse(&word);
                Answer::Failed(class.ok_or_else(|| format!("{word:?} is no class of errors"))?)
            }
            (None, None) => Answer::Interrupted,
        };
        let seen = Seen {
            remote: self.remote,
            timing: Timing {
                dns: self.dns_us.map(Duration::from_micros),
                connect: self.connect_us.map(Duration::from_micros),
                tls: self.tls_us.map(Duration::from_micros),
                first_byte: self.first_byte_us.map(Duration::from_micros),
            },
            request: headers(self.request)?,
            headers: headers(self.headers)?,
            body: self.body.bytes()?,
            body_cut: self.body_cut,
            detail: self.detail,
        };
        let attempt = Attempt {
            number: self.number,
            started_at: time(&self.started_at)?,
            duration: Duration::from_micros(self.duration_us),
            answer,
            seen: Box::new(seen),
        };
        let due = self.next_attempt_at.as_deref().map(time).transpose()?;
        Ok((name(&self.target)?, attempt, due))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use everhook::model::{Headers, Name};

    use super::*;

    /// One of each kind of answer, the first with all there can be.
    pub(in super::super) fn some() -> Vec<PastAttempt> {
        let at = Timestamp::from_micros(1_774_789_200_123_456);
        let some = Some(Duration::from_micros(1_001));
        let pairs: [(&str, &[u8]); 2] = [("a", b"text"), ("b", b"\xff")];
        let seen = Seen {
            remote: Some("[2001:db8::1]:443".parse().unwrap()),
            timing: Timing { dns: some, connect: some, tls: some, first_byte: some },
            request: Headers::from_pairs([("webhook-id", &b"evt_1"[..]), ("x-own", &b"\0"[..])]),
            headers: Headers::from_pairs(pairs),
            body: Bytes::from_static(b"\xff\x00"),
            body_cut: true,
            detail: Some("a \"word\"".into()),
        };
        let answers = [
            (Answer::Status { status: 503, retry_after: None }, Box::new(seen)),
            (Answer::Failed(ErrorClass::TimeoutBody), Box::default()),
            (Answer::Interrupted, Box::default()),
        ];
        let attempt = |(number, (answer, seen))| {
            let duration = Duration::from_micros(7);
            let attempt = Attempt { number, started_at: at, duration, answer, seen };
            (Name::parse("t").unwrap(), attempt, (number == 1).then_some(at))
        };
        (1..).zip(answers).map(attempt).collect()
    }
}
