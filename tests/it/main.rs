//! One test binary; each module is a set of stories or a contract.

#![expect(
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod config_mistakes;
mod harness;
mod ingress_bounds;
mod ingress_refusals;
mod journal_contract;
mod journal_on_disk;
mod journal_space;
mod relay_stories;
mod simulation;
mod starts_and_stops;
mod survives_a_crash;
mod tidy;
