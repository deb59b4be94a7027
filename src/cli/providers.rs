//! `everhook providers`: what is known of each provider, and how one is set up.

use anyhow::anyhow;
use clap::Args;
use everhook::rules::provider::{Preset, preset, presets};
use serde_json::{Value, json};

use super::{Common, Failure, print};

/// Which provider.
#[derive(Args)]
pub(super) struct Arguments {
    /// Everything about this one; a list of all when not given.
    name: Option<String>,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<(), Failure> {
    let Some(name) = &arguments.name else {
        return if common.json {
            let all: Vec<_> = presets().iter().map(|preset| facts(preset)).collect();
            print(&Value::Array(all))
        } else {
            print(&list())
        };
    };
    let Some(preset) = preset(name) else {
        let known: Vec<_> = presets().iter().map(|preset| preset.name).collect();
        return Err(
            anyhow!("there is no provider {name:?}; there are: {}", known.join(", ")).into()
        );
    };
    if common.json { print(&facts(preset)) } else { print(&page(preset)) }
}

/// One line for each.
fn list() -> String {
    let wide = presets().iter().map(|preset| preset.name.len()).max().unwrap_or_default();
    let line = |preset: &&Preset| format!("{:<wide$}  {}", preset.name, preset.title);
    let lines: Vec<_> = presets().iter().map(line).collect();
    format!("{}\n\neverhook providers NAME says how one is set up.", lines.join("\n"))
}

/// Everything about one, for reading.
fn page(preset: &Preset) -> String {
    let facts = preset.facts();
    let wide = facts.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        facts.iter().map(|(label, value)| format!("{label:<wide$}  {value}")).collect();
    let (name, title) = (preset.name, preset.title);
    let example = preset.example();
    format!("{title}\n\n{}\n\n{example}\nTry it: everhook send {name}", lines.join("\n"))
}

/// The same for programs.
fn facts(preset: &Preset) -> Value {
    let facts =
        preset.facts().into_iter().map(|(label, value)| (label.replace(' ', "_"), value.into()));
    let facts: serde_json::Map<String, Value> = facts.collect();
    let samples: Vec<_> = preset.samples.iter().map(|sample| sample.event).collect();
    json!({
        "name": preset.name,
        "title": preset.title,
        "facts": facts,
        "samples": samples,
        "example": preset.example(),
    })
}
