//! Who may come to a source, and how often: asked before anything of a request is read.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderMap;
use ipnet::IpNet;

use super::answer::Cause;
use crate::config;
use crate::journal::QUARANTINE_AMPLE;
use crate::model::Headers;
use crate::rules::limiter::{Limiter, RequestRate};
use crate::rules::origin::{self, contains};
use crate::rules::rate::Bucket;
use crate::time::Timestamp;

/// Of all clients together, and of one of them.
type Rates = (Option<RequestRate>, Option<RequestRate>);

/// The gate of one source.
pub(super) struct Gate {
    allowed: Vec<IpNet>,
    /// Absent when nothing is limited.
    limiter: Option<Arc<Mutex<Limiter>>>,
    rates: Rates,
    /// How many requests from other addresses are still worth reading. Absent when every address is allowed.
    strangers: Option<Arc<Mutex<Bucket>>>,
}

impl Gate {
    /// The gate of a source, which counts on where the one before it stopped.
    pub(super) fn new(source: &config::Source, before: Option<&Self>, now: Timestamp) -> Self {
        let rates = (source.rate, source.client_rate);
        let limited = source.rate.is_some() || source.client_rate.is_some();
        let buckets = || match before.filter(|before| before.rates == rates) {
            Some(Self { limiter: Some(same), .. }) => Arc::clone(same),
            Some(Self { limiter: None, .. }) | None => {
                Arc::new(Mutex::new(Limiter::new(source.rate, source.client_rate)))
            }
        };
        let strangers = || match before.and_then(|before| before.strangers.clone()) {
            Some(same) => same,
            None => Arc::new(Mutex::new(Bucket::full(QUARANTINE_AMPLE, now))),
        };
        Self {
            allowed: source.allow_ips.clone(),
            limiter: limited.then(buckets),
            rates,
            strangers: (!source.allow_ips.is_empty()).then(strangers),
        }
    }

    /// Whether requests may come from an address.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        self.allowed.is_empty() || contains(&self.allowed, client)
    }

    /// Whether one more request from an address that is not allowed is worth reading: no more come in a second than are
    /// kept of them at most.
    pub(super) fn hears_stranger(&self, now: Timestamp) -> bool {
        let Some(bucket) = &self.strangers else { return false };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let hears = bucket.room(now) > 0;
        if hears {
            bucket.take(now);
        }
        hears
    }

    /// Lets one request of a client in.
    pub(super) fn pass(&self, client: IpAddr, now: Timestamp) -> Result<(), Cause> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let taken = limiter.lock().unwrap_or_else(PoisonError::into_inner).take(client, now);
        taken.map_err(|wait| {
            let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
            Cause::RateLimited(u32::try_from(seconds).unwrap_or(u32::MAX))
        })
    }

    /// What the source takes in a minute, if it is limited.
    pub(super) fn per_minute(&self) -> Option<u64> {
        self.rates.0.map(RequestRate::per_minute)
    }
}

/// The address a request comes from. Without trusted proxies its header fields are not looked at.
pub(super) fn client(peer: IpAddr, fields: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !contains(trusted, peer.to_canonical()) {
        return peer.to_canonical();
    }
    let lines = fields.get_all("x-forwarded-for").iter();
    let headers = Headers::from_pairs(lines.map(|line| ("x-forwarded-for", line.as_bytes())));
    origin::client(peer, &headers, trusted)
}
