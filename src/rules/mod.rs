//! Every decision, and no effect: data in, data out.
//!
//! Nothing here is async, reads a clock or makes its own randomness; `now` and `rng` are handed in. Declared
//! in dependency order: a rule uses only those above it.

pub mod likeness;
pub mod payload;
pub mod origin;
pub mod limiter;
pub mod verify;
pub mod filter;
pub mod provider;
pub mod stages;
pub mod silence;
pub mod dedup;
pub mod notice;
pub mod intake;
pub mod outbound;
pub mod trace;
pub mod reach;
pub mod sign;
pub mod breaker;
pub mod rate;
pub mod pace;
pub mod pool;
pub mod retry;
pub mod dispatch;
pub mod moment;
pub mod query;
pub mod jobs;
