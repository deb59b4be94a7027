//! One test binary; each module is a set of stories or a contract.

mod config_mistakes;
mod journal_contract;
mod simulation;
