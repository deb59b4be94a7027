//! One test binary; each module is a set of stories or a contract.

#![expect(
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod attempt_records;
mod bad_neighbours;
mod clock_jumps;
mod config_mistakes;
mod costs;
mod faultfs;
mod faults;
mod harness;
mod ingress_bounds;
mod ingress_gate;
mod ingress_refusals;
mod journal_contract;
mod journal_counts;
mod journal_lookup;
mod journal_on_disk;
mod journal_space;
mod journal_tools;
mod keeps_order;
mod large_backlog;
mod monitoring;
mod never_came;
mod operators_access;
mod operators_at_scale;
mod operators_bulk;
mod operators_commands;
mod operators_lists;
mod operators_stages;
mod outlives_bad_receivers;
mod providers;
mod quarantine;
mod relay_stories;
mod reloads;
mod restarts;
mod repeats;
mod shapes_bodies;
mod signatures;
mod signing_styles;
mod simulation;
mod starts_and_stops;
mod stored_journal;
mod strangers;
mod survives_a_crash;
mod target_mistakes;
mod target_policies;
mod through_a_proxy;
mod tidy;
mod wrong_secret;
