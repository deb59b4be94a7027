//! What is wrong with a configuration: every mistake at once, each with its place and its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use super::locate::Document;
use super::tree::{Datum, KeyPath, Node, Origin};

/// Every mistake of a configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ConfigError {
    /// In the order of the files' lines; never empty.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn one(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake] }
    }

    fn text(&self) -> String {
        let lines: Vec<_> = self.mistakes.iter().map(Mistake::to_string).collect();
        let count = match lines.len() {
            1 => "1 mistake".to_owned(),
            more => format!("{more} mistakes"),
        };
        format!("the configuration has {count}\n{}", lines.join("\n"))
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was written.
    pub place: Place,
    /// The key path, `source.x.secret`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong. Never shows a value that could be a secret.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    {}", self.problem, self.remedy)
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file; the line and the column count from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line, when one line is to blame.
        line: Option<usize>,
        /// The column, for text that is not TOML.
        column: Option<usize>,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
    /// Nowhere: there is no file that could say it.
    Nowhere,
}

impl Place {
    pub(super) fn file(path: &Path) -> Self {
        Self::File { path: path.to_owned(), line: None, column: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => {
                write!(f, "{}", path.display())?;
                line.iter().chain(column).try_for_each(|number| write!(f, ":{number}"))
            }
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Nowhere => write!(f, "no configuration file, not even {}", super::DEFAULT_FILE),
        }
    }
}

/// Mistakes and warnings while they are found; the places are looked up at the end.
#[derive(Default)]
pub(super) struct Findings {
    mistakes: Vec<(KeyPath, String, String)>,
    placed: Vec<Mistake>,
    warnings: Vec<(KeyPath, String)>,
}

impl Findings {
    /// Notes a mistake at a key.
    pub(super) fn mistake(
        &mut self,
        at: &KeyPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.mistakes.push((at.clone(), problem.into(), remedy.into()));
    }

    /// Notes a mistake whose place is known.
    pub(super) fn placed(&mut self, mistake: Mistake) {
        self.placed.push(mistake);
    }

    /// Notes something allowed but unwise.
    pub(super) fn warning(&mut self, at: &KeyPath, sentence: impl Into<String>) {
        self.warnings.push((at.clone(), sentence.into()));
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty() && self.placed.is_empty()
    }

    /// Whether something at or below a key is wrong already; what depends on it is then not worth checking.
    pub(super) fn is_wrong_below(&self, at: &KeyPath) -> bool {
        self.mistakes.iter().any(|(path, _, _)| path.0.starts_with(&at.0))
    }

    /// The mistakes, sorted by place.
    pub(super) fn located(self, root: &Node, documents: &[Document]) -> ConfigError {
        let mut mistakes: Vec<_> = self
            .mistakes
            .into_iter()
            .map(|(at, problem, remedy)| Mistake {
                place: place(&at, root, documents),
                key: at.to_string(),
                problem,
                remedy,
            })
            .chain(self.placed)
            .collect();
        mistakes.sort_by(|a, b| a.place.cmp(&b.place));
        ConfigError { mistakes }
    }

    /// The warnings as sentences, in the order they were found.
    pub(super) fn warnings(self, root: &Node, documents: &[Document]) -> Vec<String> {
        let sentence = |(at, text): (KeyPath, String)| {
            format!("{}: {at}: {text}", place(&at, root, documents))
        };
        self.warnings.into_iter().map(sentence).collect()
    }
}

/// Where the value at a path was written or, when it is missing, the table it is missing from.
fn place(at: &KeyPath, root: &Node, documents: &[Document]) -> Place {
    let node = root.deepest(at);
    match &node.origin {
        // A table is merged from several places, and the file that says most of the path is meant.
        Origin::File(_) | Origin::Default | Origin::Environment
            if matches!(node.datum, Datum::Table(_)) =>
        {
            let found = documents.iter().filter_map(|d| Some((d.line(at)?, d.path())));
            let Some(((_, line), path)) = found.max_by_key(|((depth, _), _)| *depth) else {
                return nowhere(&node.origin, at, documents);
            };
            Place::File { path: path.to_owned(), line: Some(line), column: None }
        }
        Origin::File(path) => {
            let document = documents.iter().find(|d| d.path() == path);
            let line = document.and_then(|d| d.line(at)).map(|(_, line)| line);
            Place::File { path: path.clone(), line, column: None }
        }
        Origin::Flag(flag) => Place::Flag(flag.clone()),
        origin @ (Origin::Environment | Origin::Default) => nowhere(origin, at, documents),
    }
}

/// The place of what no file says a word of: a variable, or the file that should have.
fn nowhere(origin: &Origin, at: &KeyPath, documents: &[Document]) -> Place {
    if *origin == Origin::Environment {
        return Place::Variable(at.variable());
    }
    documents.first().map_or(Place::Nowhere, |document| Place::file(document.path()))
}
