//! `everhook config check|show|schema|reference`.

use clap::Subcommand;
use everhook::config::{self, Config, ConfigError, Place};
use serde_json::{Value, json};

use super::{Common, EXIT_CONFIG, Failure, complain, counted, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Report every mistake and warning.
    Check,
    /// Print the configuration in effect, defaults included; secrets stay references.
    Show,
    /// Print the JSON Schema of a configuration file.
    Schema,
    /// Print the reference in Markdown: every key with what it takes, its default and its bounds.
    Reference,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    match command {
        Command::Check => check(common),
        Command::Show => {
            let effective = Config::effective(&common.load_options())?;
            if common.json {
                return print(&format!("{effective:#}"));
            }
            print(&config::toml_text(&effective).trim_end())
        }
        Command::Schema => print(&format!("{:#}", config::schema())),
        Command::Reference => print(&config::reference().trim_end()),
    }
}

fn check(common: &Common) -> Result<(), Failure> {
    let loaded = Config::load(&common.load_options());
    if common.json {
        print(&format!("{:#}", verdict(&loaded)))?;
        return loaded.map(drop).map_err(|_told| Failure::Told(EXIT_CONFIG));
    }
    let config = loaded?;
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    let sources = counted(config.sources.len(), "source");
    let targets = counted(config.targets.len(), "target");
    print(&format!("configuration is valid: {sources}, {targets}"))
}

fn verdict(loaded: &Result<Config, ConfigError>) -> Value {
    match loaded {
        Ok(config) => json!({
            "valid": true,
            "sources": config.sources.len(),
            "targets": config.targets.len(),
            "warnings": config.warnings,
            "mistakes": [],
        }),
        Err(error) => {
            let mistake = |mistake: &config::Mistake| {
                let (file, line, column) = match &mistake.place {
                    Place::File { path, line, column } => (Some(path), *line, *column),
                    Place::Variable(_) | Place::Flag(_) | Place::Nowhere => (None, None, None),
                };
                json!({
                    "place": mistake.place.to_string(),
                    "file": file,
                    "line": line,
                    "column": column,
                    "key": mistake.key,
                    "problem": mistake.problem,
                    "remedy": mistake.remedy,
                })
            };
            let mistakes: Vec<_> = error.mistakes.iter().map(mistake).collect();
            json!({ "valid": false, "warnings": [], "mistakes": mistakes })
        }
    }
}
