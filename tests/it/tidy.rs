//! The shape of the code, enforced: floors, owned words, sizes, and what must not be written at all.
//!
//! The checker is a pure function from a path and a text to violations, and proves itself on planted ones.

use std::path::{Path, PathBuf};

/// Longest file in lines, tests included.
const MAX_LINES: usize = 500;

/// A folder or file and its floor. A file imports lower floors and its own room.
const FLOORS: [(&str, u8); 24] = [
    ("src/time.rs", 0),
    ("src/model.rs", 1),
    ("src/model/", 1),
    ("src/rules/", 2),
    ("src/template/", 2),
    ("src/config/", 3),
    ("src/metrics.rs", 3),
    ("src/metrics/", 3),
    ("src/lifecycle.rs", 3),
    ("src/trace.rs", 4),
    ("src/journal/", 4),
    ("src/target/", 4),
    ("src/control.rs", 4),
    ("src/reload.rs", 4),
    ("src/ingress/", 5),
    ("src/relay/", 5),
    ("src/admin/", 5),
    ("src/otlp.rs", 5),
    ("src/app.rs", 6),
    ("src/app/", 6),
    ("src/lib.rs", 7),
    ("src/main.rs", 7),
    ("src/cli/", 7),
    ("src/build.rs", 7),
];

/// A word of code and the rooms it may be used in.
const OWNED: [(&str, &[&str]); 13] = [
    ("figment::", &["src/config/mod.rs"]),
    ("sled::", &["src/journal/sled/", "src/app.rs", "src/app/"]),
    ("prometheus::", &["src/metrics.rs", "src/metrics/"]),
    ("minijinja::", &["src/template/"]),
    ("backoff::", &["src/rules/retry.rs"]),
    ("opentelemetry::", &["src/otlp.rs"]),
    ("opentelemetry_sdk::", &["src/otlp.rs"]),
    ("opentelemetry_otlp::", &["src/otlp.rs"]),
    ("hyper::", &["src/ingress/", "src/admin/", "src/target/"]),
    ("Instant::now", &["src/time.rs"]),
    ("SystemTime::now", &["src/time.rs"]),
    ("tokio::spawn", &["src/lifecycle.rs"]),
    ("anyhow::", &["src/main.rs", "src/app.rs", "src/app/", "src/cli/"]),
];

/// What is not written anywhere in the project's code.
const FORBIDDEN: [(&str, &str); 5] = [
    ("todo!(", "finish it or leave it out"),
    ("unimplemented!(", "finish it or leave it out"),
    ("#[allow(", "use #[expect(.., reason = \"..\")]"),
    ("#![allow(", "use #![expect(.., reason = \"..\")]"),
    ("thread::sleep(", "wait for the event"),
];

/// File names that say nothing.
const VAGUE: [&str; 8] = [
    "util.rs",
    "utils.rs",
    "helper.rs",
    "helpers.rs",
    "common.rs",
    "manager.rs",
    "misc.rs",
    "types.rs",
];

/// What is wrong with one file, a sentence each.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    if !text.starts_with("//!") {
        say("begins without //!: say why the file exists".into());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        say(format!("{lines} lines; {MAX_LINES} is the wall"));
    }
    if VAGUE.iter().any(|name| path.rsplit('/').next() == Some(*name)) {
        say("its name says nothing about what is in it".into());
    }
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        let here = number + 1;
        for (word, instead) in FORBIDDEN {
            if code.contains(word) {
                say(format!("line {here}: {word} is not written here; {instead}"));
            }
        }
        if path.starts_with("tests/") && code.contains("time::sleep(") {
            say(format!("line {here}: a test waits for an event, not for time"));
        }
        for (word, rooms) in OWNED {
            let used = code.match_indices(word).any(|(at, _)| begins_path(code, at, word));
            if path.starts_with("src/") && used && !rooms.iter().any(|room| path.starts_with(room))
            {
                say(format!("line {here}: {word} belongs to {}", rooms.join(", ")));
            }
        }
        for room in imported(code) {
            if let Some(why) = misplaced(path, &room) {
                say(format!("line {here}: {why}"));
            }
        }
    }
    found
}

/// A line without its comment. Strings with `//` in them lose their end, which hides nothing we look for.
fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Whether a crate's name begins a path here, rather than being one of our own modules (`self::sled::`).
fn begins_path(code: &str, at: usize, word: &str) -> bool {
    let before = code[..at].chars().next_back();
    let inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let ours = word == "sled::" && code[..at].ends_with("::");
    !inside && !ours
}

/// The rooms a line imports from this crate: `crate::journal::..` and `everhook::journal::..`.
fn imported(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split(['}', ',']).map(str::trim).collect(),
            None => vec![rest],
        };
        let first = |name: &str| {
            name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        };
        rooms.extend(names.into_iter().map(first).filter(|room| !room.is_empty()));
    }
    rooms
}

/// Why a file may not import a room, if it may not.
fn misplaced(path: &str, room: &str) -> Option<String> {
    let own = floor(path)?;
    let (place, theirs) = FLOORS.into_iter().find(|(place, _)| {
        let name = place.trim_start_matches("src/").trim_end_matches('/').trim_end_matches(".rs");
        name == room
    })?;
    let at_home = path.starts_with(place);
    (theirs >= own && !at_home).then(|| format!("imports {room} (floor {theirs}) from floor {own}"))
}

fn floor(path: &str) -> Option<u8> {
    FLOORS.into_iter().find(|(place, _)| path.starts_with(place)).map(|(_, floor)| floor)
}

fn rust_files(root: &Path, folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn the_code_keeps_its_shape() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut seen = 0;
    for folder in ["src", "tests", "benches"] {
        for file in rust_files(root, folder) {
            let path = file.strip_prefix(root).expect("inside").display().to_string();
            // This file names what it forbids.
            if path != "tests/it/tidy.rs" {
                let text = std::fs::read_to_string(&file).expect("readable");
                found.extend(violations(&path, &text));
                seen += 1;
            }
            if path.starts_with("src/") {
                assert!(floor(&path).is_some(), "{path} stands on no floor");
            }
        }
    }
    assert!(seen > 50, "only {seen} files were looked at");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_belongs_to_the_project_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "config.example.toml",
        "deny.toml",
        "docs/configuration.md",
        "docs/durability.md",
        "docs/out-of-scope.md",
        "systemd/everhook.service",
        "systemd/everhook.socket",
        ".ci/run",
    ] {
        assert!(root.join(path).is_file(), "{path} is missing");
    }
}

#[test]
fn every_planted_violation_is_found() {
    let long = format!("//! x\n{}", "x\n".repeat(MAX_LINES));
    let planted = [
        ("src/model.rs", "use std::fmt;"),
        ("src/rules/x.rs", long.as_str()),
        ("src/rules/util.rs", "//! x"),
        ("src/rules/x.rs", "//! x\nuse crate::journal::Journal;"),
        ("src/rules/x.rs", "//! x\nuse crate::{model, config};"),
        ("src/ingress/x.rs", "//! x\nuse crate::relay::Relay;"),
        ("src/journal/x.rs", "//! x\nuse crate::target::post;"),
        ("src/time.rs", "//! x\nfn f() -> crate::model::Name {}"),
        ("src/config/raw.rs", "//! x\nuse figment::Figment;"),
        ("src/ingress/x.rs", "//! x\nuse sled::Db;"),
        ("src/relay/x.rs", "//! x\nuse prometheus::IntCounter;"),
        ("src/relay/x.rs", "//! x\nuse hyper::Request;"),
        ("src/relay/x.rs", "//! x\nuse minijinja::Environment;"),
        ("src/relay/x.rs", "//! x\nuse opentelemetry::KeyValue;"),
        ("src/rules/x.rs", "//! x\nuse backoff::backoff::Backoff;"),
        ("src/relay/x.rs", "//! x\nlet t = Instant::now();"),
        ("src/relay/x.rs", "//! x\nlet t = SystemTime::now();"),
        ("src/relay/x.rs", "//! x\ntokio::spawn(f);"),
        ("src/relay/x.rs", "//! x\nanyhow::bail!();"),
        ("src/relay/x.rs", "//! x\ntodo!();"),
        ("src/relay/x.rs", "//! x\n#[allow(dead_code)]"),
        ("src/relay/x.rs", "//! x\nstd::thread::sleep(d);"),
        ("tests/it/x.rs", "//! x\ntokio::time::sleep(d).await;"),
    ];
    for (path, text) in planted {
        assert_eq!(violations(path, text).len(), 1, "{path}: {text:.60}");
    }
}

#[test]
fn what_is_in_order_is_left_alone() {
    for (path, text) in [
        ("src/rules/x.rs", "//! x\nuse crate::model::Name;\nuse crate::rules::retry::judge;"),
        ("src/journal/sled/mod.rs", "//! x\nuse sled::Db;\nuse crate::config::Journal;"),
        ("src/app.rs", "//! x\nuse crate::journal::sled::SledJournal;\nuse anyhow::Context as _;"),
        ("src/journal/mod.rs", "//! x\nuse self::sled::SledJournal; // hyper::Request is not used"),
        ("src/target/mod.rs", "//! x\nuse hyper_util::rt::TokioIo;\nuse hyper::Request;"),
        ("src/cli/x.rs", "//! x\nuse everhook::app::Daemon;"),
    ] {
        assert_eq!(violations(path, text), Vec::<String>::new());
    }
}
