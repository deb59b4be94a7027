//! `everhook health`: whether the daemon takes requests, for a container engine or a script that has no curl.

use clap::Args;
use serde_json::json;

use super::reach::{Operator, Reach};
use super::{Common, EXIT_FAILURE, Failure, complain, print};

/// Where the daemon is.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let operator = Operator::of(&arguments.reach, common)?;
    let (status, why) = operator.ready()?;
    let ready = status == 200;
    if common.json {
        print(&json!({ "ready": ready }))?;
    } else if ready {
        print(&"ready")?;
    }
    if ready {
        return Ok(());
    }
    let at = operator.base();
    complain(&format!("the daemon at {at} is not ready (status {status}): {}", why.trim_end()));
    Err(Failure::Told(EXIT_FAILURE))
}
