//! A journal that an earlier release has written is opened by this one, with everything in it.
//!
//! `tests/fixtures/journal-1.json` is a journal of format 1 as this release writes it. It is made again with
//!
//! ```sh
//! EVERHOOK_MAKE_FIXTURE=1 cargo test --locked --test it -- stored_journal
//! ```
//!
//! which is done once for each format, never to make a test pass: what is stored there is on somebody's disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everhook::journal::sled::{Options, SledJournal};
use everhook::journal::{Appended, Journal, Note, RejectionAsk, Scope, Stage};
use everhook::metrics::JournalMetrics;
use everhook::model::{DeadReason, EventId};
use everhook::time::Clock;
use serde::{Deserialize, Serialize};

use crate::journal_contract::{
    HOUR, append, due, event, exact, options, settle_in_each_way, start,
};
use crate::journal_lookup::rejection;

/// Bytes that are left out together when all of them are zero.
const BLOCK: usize = 64;
/// Events of zeros: more than one generation of 1 MiB holds.
const LARGE: u64 = 24;

/// A file as its length and its blocks that are not zero, in hexadecimal, by their number.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    length: usize,
    blocks: BTreeMap<usize, String>,
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-1.json")
}

fn pack(folder: &Path) -> BTreeMap<String, Packed> {
    let mut all = BTreeMap::new();
    for path in crate::faults::files(folder) {
        let name = path.strip_prefix(folder).expect("inside").display().to_string();
        // What is made anew by every start, or is only a cache.
        if name == "lock" || name == "ballast" || name.contains("snap.") {
            continue;
        }
        let bytes = fs::read(&path).expect("readable");
        let blocks = bytes.chunks(BLOCK).enumerate();
        let blocks = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let blocks = blocks.map(|(number, block)| (number, hex::encode(block))).collect();
        all.insert(name, Packed { length: bytes.len(), blocks });
    }
    all
}

fn unpack(all: &BTreeMap<String, Packed>, folder: &Path) {
    for (name, Packed { length, blocks }) in all {
        let mut bytes = vec![0; *length];
        for (number, block) in blocks {
            let block = hex::decode(block).expect("hexadecimal");
            let begin = number * BLOCK;
            bytes[begin..begin + block.len()].copy_from_slice(&block);
        }
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        fs::write(path, bytes).expect("writable");
    }
}

fn open(path: &Path, clock: &Clock) -> SledJournal {
    let options = Options { max_bytes: 16 << 20, ..options(path) };
    SledJournal::open(&options, clock, JournalMetrics::detached().expect("metrics"))
        .expect("opens")
        .0
}

fn body(number: u64) -> Vec<u8> {
    if number < 10 { format!("body {number}").into() } else { vec![0; 60_000] }
}

/// The ids are the same whenever they are made: the clock stands at its start.
fn id(number: u64) -> EventId {
    event(number, b"", &start()).id
}

/// An event in each state, one that was written again, a note, refused requests, and more than one generation.
async fn fill(path: &Path) {
    let clock = start();
    let journal = open(path, &clock);
    for number in 0..6u64 {
        let append = append(event(number, &body(number), &clock), &["a"], &[exact(number.into())]);
        journal.append(append).await.expect("appended");
    }
    settle_in_each_way(&journal, "a", &clock).await;
    journal.discard(id(3), Scope::All).await.expect("discarded");
    let note = Note { topic: "pause".into(), name: "a".into(), value: b"\xff".to_vec() };
    journal.note(note).await.expect("taken");
    for number in 0..2 {
        journal.reject(rejection(number, &clock)).await.expect("kept");
    }
    for number in 10..10 + LARGE {
        let append = append(event(number, &body(number), &clock), &["a", "b"], &[]);
        journal.append(append).await.expect("appended");
    }
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_journal_is_opened_with_everything_in_it() {
    let folder = tempfile::tempdir().expect("a directory");
    if std::env::var_os("EVERHOOK_MAKE_FIXTURE").is_some() {
        fill(folder.path()).await;
        fs::create_dir_all(fixture().parent().expect("a folder")).expect("writable");
        let text = serde_json::to_string_pretty(&pack(folder.path())).expect("JSON");
        fs::write(fixture(), text + "\n").expect("writable");
    }
    let folder = tempfile::tempdir().expect("a directory");
    let text = fs::read_to_string(fixture()).expect("the fixture is there");
    let stored: BTreeMap<String, Packed> = serde_json::from_str(&text).expect("JSON");
    assert!(stored.keys().filter(|name| name.ends_with("/db")).count() > 1, "several generations");
    unpack(&stored, folder.path());
    assert!(SledJournal::diagnose(folder.path()).expect("readable").is_sound());

    let clock = start();
    clock.advance(Duration::from_secs(60));
    let journal = open(folder.path(), &clock);
    let mut states = Vec::new();
    for number in (0..6).chain(10..10 + LARGE) {
        let found = journal.find(id(number)).await.expect("readable").expect("there");
        assert_eq!(found.event.body, body(number));
        assert_eq!(found.event.headers.get("x-odd"), Some(&b"\xff\x80"[..]));
        states.push(found.deliveries[0].stage);
    }
    let expected = [
        Stage::Delivered,
        Stage::Waiting(start().now().plus(HOUR)),
        Stage::Dead(DeadReason::Gone),
        Stage::Discarded,
        Stage::Ready,
    ];
    assert_eq!(states[..5], expected);
    assert!(states[5..].iter().all(|stage| *stage == Stage::Ready));
    assert_eq!(due(&journal, "a", 99).len() as u64, 2 + LARGE);
    assert_eq!(due(&journal, "b", 99).len() as u64, LARGE);
    assert_eq!(journal.notes("pause"), [("a".to_owned(), b"\xff".to_vec())]);
    let rejections = journal.rejections(&RejectionAsk { limit: 9, ..RejectionAsk::default() });
    assert_eq!(rejections.len(), 2);
    let repeat = append(event(99, b"again", &clock), &["a"], &[exact(2)]);
    assert_eq!(journal.append(repeat).await, Ok(Appended::Duplicate(id(2))));
    journal.close().await;
}
