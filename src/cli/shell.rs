//! `everhook completions` and `everhook man`: what a package installs beside the binary, made from the same declarations
//! as the command line itself.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure};

/// Which shell.
#[derive(Args)]
pub(super) struct Completions {
    /// The shell that is to complete everhook's commands.
    shell: Shell,
}

/// Where to.
#[derive(Args)]
pub(super) struct Man {
    /// Write a page for every command into this directory, instead of the first page to stdout.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(super) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "everhook", &mut script);
    written(&script)
}

pub(super) fn man(arguments: &Man) -> Result<(), Failure> {
    // The version of the page says which binary it describes.
    let command = Cli::command();
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory))
            .with_context(|| format!("writing man pages into {}", directory.display()))?;
        return Ok(());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("making the man page")?;
    written(&page)
}

/// Data for a pipe: whoever closes it has enough.
fn written(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
