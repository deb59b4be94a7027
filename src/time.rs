//! Time as the rest of the program sees it. This is the only file that reads a real clock.
//!
//! Two readings exist because they answer different questions. [`Clock::now`] never jumps: it is
//! the wall clock at start plus monotonic time since, so a step of the system clock can neither
//! stall the queue nor make everything due at once. [`Clock::wall`] follows the system clock and
//! is for what the outside world compares: signature timestamps and their freshness.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;
use tokio::time::error::Elapsed;

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than every moment the program will meet.
    pub const MAX: Self = Self(i64::MAX);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the epoch, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// From seconds since the epoch, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment plus `by`, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(by)))
    }

    /// This moment minus `by`, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(by)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0))
            .map_or(Duration::ZERO, Duration::from_micros)
    }

    /// RFC 3339 in UTC to the microsecond: nothing is rounded.
    pub fn precise(self) -> String {
        jiff::Timestamp::from_microsecond(self.0)
            .map_or_else(|_out_of_range| self.to_string(), |at| format!("{at:.6}"))
    }

    /// The distance to `other` in either direction.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, for example `2026-03-29T13:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            // Outside jiff's range of years: still say something exact.
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    /// Reads RFC 3339, for example what [`Timestamp`] prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(|at| Self(at.as_microsecond()))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where "now" comes from: the machine, or a test.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { wall_at_start: Timestamp, start: Instant },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    now: Mutex<Timestamp>,
    moved: Notify,
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn system() -> Self {
        Self(Source::System { wall_at_start: wall(), start: Instant::now() })
    }

    /// A clock that stands still until it is moved by [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Manual { now: Mutex::new(start), moved: Notify::new() })))
    }

    /// The present moment; never goes back and never jumps.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { wall_at_start, start } => wall_at_start.plus(start.elapsed()),
            Source::Manual(manual) => *manual.now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// What the system clock says, jumps included.
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => wall(),
            Source::Manual(_) => self.now(),
        }
    }

    /// Resolves once [`Clock::now`] has reached `at`.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.0 {
            Source::System { .. } => tokio::time::sleep(at.since(self.now())).await,
            Source::Manual(manual) => loop {
                let moved = manual.moved.notified();
                if self.now() >= at {
                    return;
                }
                moved.await;
            },
        }
    }

    /// Moves a manual clock forward; a system clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let mut now = manual.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = now.plus(by);
            drop(now);
            manual.moved.notify_waiters();
        }
    }
}

/// Measures real time whatever clock the rest of the program follows: for what can hang.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The moment `after` from now, in the terms of the runtime's timers.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn deadline(after: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + after
}

/// Resolves with `work`, or as a timeout does. What is ready at once, as most of it is, costs no timer.
pub async fn in_time<T>(within: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => tokio::time::timeout(within, work).await,
    }
}

/// A timer that is used for one thing after the other: to put it off is cheap, to make one is not.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// What `work` resolves with, unless `until` comes first.
    pub async fn by<T>(
        &mut self,
        until: tokio::time::Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // Work that never rests uses up what a task may do at once, and the timer must be heard all the same.
            Poll::Pending => pin!(unconstrained(timer.as_mut())).poll(cx).map(|()| None),
        })
        .await
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::EPOCH.plus(since),
        Err(before) => Timestamp::EPOCH.minus(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339_with_milliseconds() {
        assert_eq!(
            Timestamp::from_millis(1_774_789_200_123).to_string(),
            "2026-03-29T13:00:00.123Z"
        );
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from_secs(-1).as_secs(), -1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_gives_each_its_whole_time() {
        let (mut timer, limit) = (Timer::default(), Duration::from_secs(10));
        let takes = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        for _ in 0..3 {
            assert!(timer.by(deadline(limit), takes(9)).await.is_some());
            assert!(timer.by(deadline(limit), takes(11)).await.is_none());
        }
        // One that is due stays so, and what is ready needs no time.
        let due = deadline(Duration::ZERO);
        assert!(timer.by(due, takes(1)).await.is_none());
        assert!(timer.by(due, takes(1)).await.is_none());
        assert!(timer.by(due, std::future::ready(())).await.is_some());
    }

    #[tokio::test]
    async fn a_timer_is_heard_beside_work_that_never_rests() {
        let restless = async {
            loop {
                tokio::task::coop::consume_budget().await;
            }
        };
        let done: Option<()> = Timer::default().by(deadline(Duration::ZERO), restless).await;
        assert!(done.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_at_once_is_in_time_and_what_takes_too_long_is_not() {
        let takes = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert!(in_time(Duration::ZERO, std::future::ready(())).await.is_ok());
        assert!(in_time(Duration::from_secs(2), takes(1)).await.is_ok());
        assert!(in_time(Duration::from_secs(1), takes(2)).await.is_err());
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_moved() {
        let clock = Clock::manual(Timestamp::from_secs(10));
        let sleeper = clock.sleep_until(Timestamp::from_secs(12));
        tokio::pin!(sleeper);
        let early = tokio::select! { biased; () = &mut sleeper => true, () = std::future::ready(()) => false };
        assert!(!early);
        clock.advance(Duration::from_secs(2));
        sleeper.await;
    }
}
