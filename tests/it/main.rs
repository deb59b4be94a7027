//! One test binary; each module is a set of stories or a contract.

mod config_mistakes;
mod harness;
mod journal_contract;
mod relay_stories;
mod simulation;
mod survives_a_crash;
