//! How many requests a source takes, in all and from one client. No clock, bounded memory.
//!
//! The generic cell rate algorithm: one moment per bucket, the one at which it would be full again. A whole period's
//! worth may come at once; after that they are spaced evenly.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Timestamp;

/// Most clients of one source that are told apart. Those that come when as many are busy share one bucket.
const MAX_CLIENTS: usize = 4096;

/// So many requests in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    count: u32,
    per: Duration,
}

impl RequestRate {
    /// Most requests in a period.
    pub const MAX: u32 = 1_000_000;

    /// Reads `"200/s"`, `"100/m"` or `"1000/h"`.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let per = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        let count = digits.then(|| count.parse().ok()).flatten()?;
        (1..=Self::MAX).contains(&count).then_some(Self { count, per: Duration::from_secs(per) })
    }

    /// How many requests that are in a minute, at least one.
    pub fn per_minute(self) -> u64 {
        let minutes = u64::from(self.count).saturating_mul(60) / self.per.as_secs().max(1);
        minutes.max(1)
    }
}

/// The buckets of one source.
#[derive(Debug)]
pub struct Limiter {
    all: Option<(RequestRate, Bucket)>,
    each: Option<Clients>,
}

#[derive(Debug)]
struct Clients {
    rate: RequestRate,
    /// What needs no bucket is not there: a client whose bucket is full.
    known: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// When it is worth looking for buckets that are full again.
    sweep_at: Timestamp,
}

/// The moment at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(Timestamp);

impl Limiter {
    /// Limits for the source and for each of its clients.
    pub fn new(all: Option<RequestRate>, each: Option<RequestRate>) -> Self {
        let clients = |rate| Clients {
            rate,
            known: HashMap::new(),
            others: Bucket::default(),
            sweep_at: Timestamp::EPOCH,
        };
        Self { all: all.map(|rate| (rate, Bucket::default())), each: each.map(clients) }
    }

    /// Takes one request of a client; the error is how long it should wait.
    ///
    /// The client's own limit comes first, so that what it refuses costs the others nothing.
    pub fn take(&mut self, client: IpAddr, now: Timestamp) -> Result<(), Duration> {
        if let Some(each) = &mut self.each {
            each.take(client, now)?;
        }
        match &mut self.all {
            Some((rate, bucket)) => bucket.take(*rate, now),
            None => Ok(()),
        }
    }
}

impl Clients {
    fn take(&mut self, client: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let client = network(client);
        if !self.known.contains_key(&client) && self.known.len() >= MAX_CLIENTS {
            // A look at all of them costs too much to be had for each request of a flood.
            if now >= self.sweep_at {
                self.known.retain(|_, bucket| bucket.0 > now);
                self.sweep_at = now.plus(self.rate.per);
            }
            if self.known.len() >= MAX_CLIENTS {
                return self.others.take(self.rate, now);
            }
        }
        self.known.entry(client).or_default().take(self.rate, now)
    }
}

impl Bucket {
    fn take(&mut self, rate: RequestRate, now: Timestamp) -> Result<(), Duration> {
        let full_at = self.0.max(now).plus(rate.per / rate.count);
        let ahead = full_at.since(now);
        if ahead > rate.per {
            return Err(ahead.saturating_sub(rate.per));
        }
        self.0 = full_at;
        Ok(())
    }
}

/// One client: an IPv4 address, or the /64 that one IPv6 host may choose its addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_775_000_000);

    fn limiter(all: Option<&str>, each: Option<&str>) -> Limiter {
        let rate = |text: &str| RequestRate::parse(text).unwrap();
        Limiter::new(all.map(rate), each.map(rate))
    }

    fn host(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn rates_are_written_per_second_minute_or_hour() {
        for (text, minute) in [("1/s", 60), ("200/s", 12_000), ("100/m", 100), ("30/h", 1)] {
            assert_eq!(RequestRate::parse(text).unwrap().per_minute(), minute, "{text}");
        }
        for bad in ["", "1", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "1/d", "1/ s", "1000001/s"] {
            assert_eq!(RequestRate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_periods_worth_may_come_at_once_and_then_evenly() {
        let mut limiter = limiter(Some("4/s"), None);
        for _ in 0..4 {
            assert_eq!(limiter.take(host(1), NOW), Ok(()));
        }
        assert_eq!(limiter.take(host(2), NOW), Err(Duration::from_millis(250)));
        let later = NOW.plus(Duration::from_millis(250));
        assert_eq!(limiter.take(host(2), later), Ok(()));
        assert!(limiter.take(host(2), later).is_err());
        let idle = later.plus(Duration::from_secs(3600));
        assert_eq!((0..9).filter(|_| limiter.take(host(1), idle).is_ok()).count(), 4);
    }

    #[test]
    fn one_client_over_its_limit_costs_the_others_nothing() {
        let mut limiter = limiter(Some("4/s"), Some("2/s"));
        let taken = |limiter: &mut Limiter, client| {
            (0..100).filter(|_| limiter.take(client, NOW).is_ok()).count()
        };
        assert_eq!(taken(&mut limiter, host(1)), 2);
        assert_eq!(taken(&mut limiter, host(2)), 2);
        assert_eq!(taken(&mut limiter, host(3)), 0, "the source's own limit");
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_client() {
        let mut limiter = limiter(None, Some("1/s"));
        let mut take = |text: &str| limiter.take(text.parse().unwrap(), NOW).is_ok();
        assert!(take("2001:db8::1"));
        assert!(!take("2001:db8::2"));
        assert!(take("2001:db8:0:1::1"));
        assert!(take("192.0.2.1"));
        assert!(!take("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_flood_of_clients_shares_one_bucket_and_passes() {
        let mut limiter = limiter(None, Some("2/s"));
        let most = u32::try_from(MAX_CLIENTS).unwrap();
        let passed = (0..most + 1000).filter(|n| limiter.take(host(*n), NOW).is_ok()).count();
        assert_eq!(passed, MAX_CLIENTS + 2);
        assert_eq!(limiter.each.as_ref().unwrap().known.len(), MAX_CLIENTS);
        let later = NOW.plus(Duration::from_secs(2));
        assert!(limiter.take(host(most + 1), later).is_ok());
        assert_eq!(limiter.each.as_ref().unwrap().known.len(), 1, "the idle ones are forgotten");
    }

    proptest! {
        #[test]
        fn never_more_than_two_periods_worth_in_a_period(
            count in 1_u32..20,
            gaps in prop::collection::vec(0_u64..400_000, 1..200),
        ) {
            let mut limiter = limiter(Some(&format!("{count}/s")), None);
            let (mut now, mut taken) = (NOW, Vec::new());
            for gap in gaps {
                now = now.plus(Duration::from_micros(gap));
                if limiter.take(host(1), now).is_ok() {
                    taken.push(now);
                }
            }
            for (index, start) in taken.iter().enumerate() {
                let end = start.plus(Duration::from_secs(1));
                let within = taken[index..].iter().take_while(|at| **at < end).count();
                prop_assert!(within <= 2 * usize::try_from(count).unwrap(), "{within}");
            }
        }

        #[test]
        fn who_waits_as_told_is_served(count in 1_u32..50) {
            let mut limiter = limiter(Some(&format!("{count}/m")), None);
            let mut now = NOW;
            for _ in 0..200 {
                if let Err(wait) = limiter.take(host(1), now) {
                    now = now.plus(wait).plus(Duration::from_micros(1));
                    prop_assert!(limiter.take(host(1), now).is_ok());
                }
            }
        }
    }
}
