//! Why a journal is not opened, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal was not opened. Each leaves what is there untouched, and the process with exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the journal at {} is in use by {}; one journal serves one daemon: stop that one first, or give this one its own journal.path", path.display(), owner(*pid))]
    Locked {
        /// The journal.
        path: PathBuf,
        /// Who has it, if it said so.
        pid: Option<u32>,
    },
    /// It was written by a later release.
    #[error("{} says format {format}, which is newer than this release reads; run the release that wrote it{}", path.display(), unless_damaged(path))]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format it names.
        format: u32,
    },
    /// A repair was broken off.
    #[error("a repair of the journal at {} did not come to its end; run `everhook journal repair` once more, with the same configuration", path.display())]
    Repairing {
        /// The journal.
        path: PathBuf,
    },
    /// Something that must be there is not, or cannot be read.
    #[error("the journal at {} is damaged: {what}. It was left as it was found: the untouched files are in {}. To go on with everything that can be read, run `{}` with the same configuration; it keeps the damaged files. `everhook journal verify` shows the counts and changes nothing", path.display(), path.join("generations").display(), remedy(*lost))]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What was found.
        what: String,
        /// Records and contents that cannot be read any more, if they could be counted.
        lost: Option<u64>,
    },
    /// The file system refused.
    #[error("{doing} {}: {source}; check that the directory exists, is writable for this user and not full (journal.path)", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What goes on with a damaged journal.
fn remedy(lost: Option<u64>) -> String {
    match lost {
        None | Some(0) => "everhook journal repair".to_owned(),
        Some(lost) => format!("everhook journal repair --accept-loss {lost}"),
    }
}

/// The list of generations has no checksum, which a newer release could define anew. Every record has one.
fn unless_damaged(path: &Path) -> &'static str {
    if !path.ends_with("MANIFEST") {
        return "";
    }
    "; if no later release ever ran here, that file is damaged: rename it and run `everhook journal repair` with the same configuration"
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl OpenError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    pub(super) fn damaged(root: &Path, what: String) -> Self {
        Self::Damaged { path: root.to_owned(), what, lost: None }
    }

    /// The same, knowing how much cannot be read any more.
    pub(super) fn losing(self, count: u64) -> Self {
        match self {
            Self::Damaged { path, what, .. } => Self::Damaged { path, what, lost: Some(count) },
            Self::Locked { .. } | Self::Newer { .. } | Self::Repairing { .. } | Self::Io { .. } => {
                self
            }
        }
    }
}
