//! `everhook secret new`: a key for one style of signing, to be kept in a file that `secret` refers to.

use clap::{Args, Subcommand, ValueEnum};
use everhook::rules::sign::{
    NEW_KEY_BYTES, NewKey, new_ed25519_key, new_standard_key, new_text_key,
};
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::{Common, Failure, complain, print};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a new secret and print it, alone, on stdout.
    New(Arguments),
}

#[derive(Args)]
pub(super) struct Arguments {
    /// The style of signing it is for.
    #[arg(long, value_name = "STYLE", default_value = "standard-webhooks")]
    style: Style,
}

/// The values of `--style`, those of `sign.style`.
#[derive(Clone, Copy, ValueEnum)]
enum Style {
    StandardWebhooks,
    Ed25519,
    HmacSha256,
    Buildkite,
    Token,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<(), Failure> {
    let Command::New(Arguments { style }) = command;
    let mut random = [0; NEW_KEY_BYTES];
    let filled = SysRng.try_fill_bytes(&mut random);
    filled
        .map_err(|error| anyhow::Error::new(error).context("asking the system for randomness"))?;
    let key = match style {
        Style::StandardWebhooks => Some(new_standard_key(random)),
        Style::Ed25519 => new_ed25519_key(random),
        Style::HmacSha256 | Style::Buildkite | Style::Token => Some(new_text_key(random)),
    };
    let NewKey { secret, public } = key.ok_or_else(|| anyhow::anyhow!("the key was refused"))?;
    if common.json {
        return print(&serde_json::json!({ "secret": secret, "public": public }));
    }
    print(&secret)?;
    // On stderr, so that `everhook secret new > file` writes the secret and nothing else.
    if let Some(public) = public {
        complain(&format!("the receiver verifies with {public}"));
    }
    Ok(())
}
