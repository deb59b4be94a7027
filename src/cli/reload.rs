//! `everhook reload`: has the running daemon read its configuration again, and says what came of it.

use clap::Args;
use serde_json::{Value, json};

use super::bulk::text;
use super::reach::{Operator, Reach};
use super::terminal::safe;
use super::{Common, EXIT_CONFIG, Failure, complain, print};

/// The status of an answer that refuses a configuration.
const REFUSED: u16 = 422;

/// Where the daemon is.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let (status, told) = Operator::of(&arguments.reach, common)?.try_post("reload", &json!({}))?;
    let is_refused = status == REFUSED;
    if common.json {
        print(&told)?;
    } else if is_refused {
        complain(&refusal(&told));
    } else {
        print(&lines(&told).join("\n"))?;
    }
    if is_refused { Err(Failure::Told(EXIT_CONFIG)) } else { Ok(()) }
}

/// What a reload changed, and what it could not.
fn lines(told: &Value) -> Vec<String> {
    let all = |name: &str| told.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut lines = vec!["the configuration was read again".to_owned()];
    for change in all("changes") {
        let (key, how) = (safe(text(&change, "key")), safe(text(&change, "what")));
        lines.push(format!("  {key} {how}").trim_end().to_owned());
    }
    let texts =
        |name: &str| all(name).iter().filter_map(Value::as_str).map(safe).collect::<Vec<_>>();
    lines.extend(
        texts("needs_restart").iter().map(|key| format!("  {key} takes effect at the next start")),
    );
    lines.extend(texts("warnings").iter().map(|warning| format!("  warning: {warning}")));
    if all("changes").is_empty() && lines.len() == 1 {
        lines.push("  nothing differs".to_owned());
    }
    lines
}

/// Everything that is wrong with a configuration.
fn refusal(told: &Value) -> String {
    let mut lines = vec![safe(text(told, "detail"))];
    for mistake in told.get("mistakes").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| safe(text(mistake, name));
        lines.push(format!("  {}: {}: {}", of("place"), of("key"), of("problem")));
        lines.push(format!("      {}", of("remedy")));
    }
    lines.join("\n")
}
