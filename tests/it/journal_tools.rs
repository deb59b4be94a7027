//! `everhook journal`: what is exported and imported is the same journal, a damaged one is carried over with everything
//! that can be read, and nothing of it happens beside a running daemon.

use std::fs;
use std::path::Path;

use everhook::journal::{Journal, Note, PastAttempt, RejectionAsk};
use everhook::model::EventId;
use everhook::time::Clock;
use serde_json::Value;

use crate::harness::daemon::Home;
use crate::harness::receiver::Receiver;
use crate::journal_contract::{append, event, exact, open_at, settle_in_each_way};
use crate::journal_lookup::rejection;

/// `EX_IOERR`: the journal is damaged or in use.
const EXIT_JOURNAL: i32 = 74;

fn home(journal: &Path, receiver: &Receiver) -> Home {
    let body = format!(
        "[source.source]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.a]\nurl = {:?}\n",
        receiver.url()
    );
    Home::with_journal(journal, &body)
}

/// One event of each kind, a note and two refused requests. The ids of the events.
async fn fill(path: &Path) -> Vec<EventId> {
    let clock = Clock::system();
    let (journal, _) = open_at(path, &clock).expect("opens");
    let mut ids = Vec::new();
    for number in 0..6u64 {
        let body =
            if number == 5 { vec![0xfe; 40_000] } else { format!("body {number} is here").into() };
        let event = event(number, &body, &clock);
        ids.push(event.id);
        journal.append(append(event, &["a"], &[exact(number.into())])).await.expect("appended");
    }
    settle_in_each_way(&journal, "a", &clock).await;
    let note = Note { topic: "pause".into(), name: "a".into(), value: b"\x00\xff".to_vec() };
    journal.note(note).await.expect("taken");
    for number in 0..2 {
        journal.reject(rejection(number, &clock)).await.expect("kept");
    }
    journal.close().await;
    ids
}

/// The lines of an export without the first one, which says when it was.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("readable");
    text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn exported(home: &Home, file: &Path) -> Vec<Value> {
    let file_name = file.to_str().expect("text");
    let said = home.tool(&["journal", "export", "--output", file_name]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    lines(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_and_imported_is_the_same_journal() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut receiver = Receiver::good().await;
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    fill(&first).await;
    let (from, to) = (home(&first, &receiver), home(&second, &receiver));
    let file = folder.path().join("export");
    let lines = exported(&from, &file).await;
    assert_eq!(lines.len(), 6 + 1 + 2 + 1, "{lines:#?}");
    let states: Vec<_> =
        lines.iter().filter_map(|line| line["deliveries"][0]["state"].as_str()).collect();
    assert_eq!(states, ["delivered", "waiting", "dead", "ready", "ready", "ready"]);
    assert_eq!(lines[2]["deliveries"][0]["reason"], "gone");
    let attempts: Vec<_> = lines.iter().take(6).map(|line| line["attempts"][0].clone()).collect();
    assert!(attempts[..3].iter().all(|made| made["status"].is_u64()), "{attempts:#?}");
    assert!(attempts[3..].iter().all(Value::is_null), "{attempts:#?}");
    assert_eq!(attempts[1]["next_attempt_at"], lines[1]["deliveries"][0]["due"]);

    let import = ["journal", "import", file.to_str().expect("text")];
    let said = to.tool(&import).await;
    assert_eq!((said.code, said.report["events"].as_u64()), (Some(0), Some(6)), "{said:?}");
    assert_eq!(exported(&to, &folder.path().join("again")).await, lines);
    let said = to.tool(&import).await;
    assert_eq!(said.report["duplicates"], 6 + 1 + 2, "{said:?}");
    assert_eq!(exported(&to, &folder.path().join("once more")).await, lines);

    let sums = to.tool(&["journal", "stats"]).await.report;
    assert_eq!((&sums["events"], &sums["dedup_keys"]), (&6.into(), &6.into()), "{sums}");
    assert_eq!(
        (&sums["targets"][0]["pending"], &sums["targets"][0]["dead"]),
        (&4.into(), &1.into())
    );

    let daemon = to.start().await;
    receiver.take(3).await;
    let refused = to.tool(&["journal", "export"]).await;
    assert_eq!(refused.code, Some(EXIT_JOURNAL));
    let pid = format!("process {}", daemon.pid());
    for command in ["export", "stats", "repair"] {
        let refused = to.tool(&["journal", command]).await;
        assert_eq!(refused.code, Some(EXIT_JOURNAL), "{refused:?}");
        assert!(refused.complaints.contains(&pid), "{refused:?}");
    }
    let beside = to.tool(&["journal", "verify"]).await;
    assert_eq!((beside.code, &beside.report["sound"]), (Some(0), &true.into()), "{beside:?}");
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_line_is_named_and_nothing_is_changed_unless_it_may_be_passed_over() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let first = folder.path().join("first");
    fill(&first).await;
    let file = folder.path().join("export");
    exported(&home(&first, &receiver), &file).await;
    let text = fs::read_to_string(&file).expect("readable");
    let broken = folder.path().join("broken");
    let damaged = |line: usize, by: &str| {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(number, text)| if number == line { by } else { text });
        fs::write(&broken, lines.collect::<Vec<_>>().join("\n") + "\n").expect("writable");
    };
    let second = folder.path().join("second");
    let to = home(&second, &receiver);
    let import = ["journal", "import", broken.to_str().expect("text")];
    damaged(3, "{\"type\":\"event\"}");
    let refused = to.tool(&import).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.complaints.contains(":4: missing field"), "{refused:?}");
    assert!(!second.exists(), "nothing was changed");
    fs::write(&broken, text.rsplit_once("{\"type\":\"end\"").expect("an end").0).expect("writable");
    let refused = to.tool(&import).await;
    assert!(refused.complaints.contains("cut off"), "{refused:?}");
    damaged(3, "{\"type\":\"event\"}");
    let taken = to.tool(&[&import[..], &["--skip-bad"]].concat()).await;
    assert_eq!(
        (taken.code, &taken.report["events"], &taken.report["bad_lines"]),
        (Some(0), &5.into(), &1.into()),
        "{taken:?}"
    );
}

/// Changes every copy of a text in a journal's files.
fn damage(journal: &Path, text: &[u8]) {
    for generation in fs::read_dir(journal.join("generations")).expect("a folder") {
        let db = generation.expect("an entry").path().join("db");
        let mut bytes = fs::read(&db).expect("readable");
        let places: Vec<_> = bytes
            .windows(text.len())
            .enumerate()
            .filter(|(_, it)| *it == text)
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at] ^= 1;
        }
        fs::write(&db, bytes).expect("writable");
    }
}

/// The attempts of each event; there is one at least.
async fn attempts(path: &Path, ids: &[EventId]) -> Vec<Vec<PastAttempt>> {
    let (journal, _) = open_at(path, &Clock::system()).expect("opens");
    let mut all = Vec::new();
    for id in ids {
        let found = journal.find(*id).await.expect("readable").expect("there");
        assert!(!found.attempts.is_empty(), "{found:?}");
        all.push(found.attempts);
    }
    journal.close().await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_carried_over_with_everything_that_can_be_read() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    let ids = fill(&path).await;
    let home = home(&path, &receiver);
    let before = attempts(&path, &ids[..3]).await;
    let sound = home.repair(0).await;
    assert_eq!((sound.code, &sound.report["sound"]), (Some(0), &true.into()), "{sound:?}");
    damage(&path, b"body 3 is here");
    let refused = home.try_start().await.err().expect("refused");
    let told = refused.log.join("\n");
    assert!(told.contains("`everhook journal repair --accept-loss 1`"), "{told}");
    assert!(!path.join("aside").exists(), "nothing is left of looking at it");
    assert_eq!(home.tool(&["journal", "verify"]).await.report["lost"], 1);

    let dry = home.tool(&["journal", "repair", "--dry-run"]).await;
    let lost = dry.report["events_without_content"][0]["id"].clone();
    assert_eq!((dry.code, lost), (Some(EXIT_JOURNAL), ids[3].to_string().into()), "{dry:?}");
    let not_asked = home.tool(&["journal", "repair", "--accept-loss", "1"]).await;
    assert_eq!(not_asked.code, Some(2), "nobody could be asked: {not_asked:?}");
    assert_eq!(home.repair(2).await.code, Some(EXIT_JOURNAL), "another loss was accepted");
    let done = home.repair(1).await;
    assert_eq!((done.code, &done.report["events"]), (Some(0), &5.into()), "{done:?}");
    let originals = done.report["originals"].as_str().expect("a path");
    assert!(Path::new(originals).join("generations/00000001/db").exists());
    assert!(Path::new(originals).starts_with(&path));

    assert_eq!(attempts(&path, &ids[..3]).await, before, "the attempts are carried over");
    let clock = Clock::system();
    let (journal, opened) = open_at(&path, &clock).expect("opens");
    assert_eq!((opened.pending, opened.dead), (3, 1));
    assert_eq!(journal.notes("pause"), [("a".to_owned(), b"\x00\xff".to_vec())]);
    let ask = RejectionAsk { limit: 9, ..RejectionAsk::default() };
    let rejections = journal.rejections(&ask);
    assert_eq!(rejections.len(), 2);
    let whole = journal.rejection(rejections[0].id).await.expect("readable").expect("there");
    assert_eq!(whole.body.len(), 20_000);
    let found = journal.find(ids[5]).await.expect("readable").expect("there");
    assert_eq!(found.event.body, vec![0xfe; 40_000]);
    // What was accepted before is known, what is lost can be sent again.
    let repeat = |number: u64| {
        append(event(number + 100, b"again", &clock), &["a"], &[exact(number.into())])
    };
    let known = journal.append(repeat(0)).await.expect("answered");
    assert_eq!(known, everhook::journal::Appended::Duplicate(ids[0]));
    let again = journal.append(repeat(3)).await.expect("answered");
    assert!(matches!(again, everhook::journal::Appended::New(_)));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_manifest_or_folder_is_refused_with_counts_and_no_other_loss_is_accepted() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    fill(&path).await;
    let home = home(&path, &receiver);
    let (manifest, generations) = (path.join("MANIFEST"), path.join("generations"));
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&generations, &elsewhere).expect("movable");
    let verified = home.tool(&["journal", "verify"]).await;
    assert_eq!(verified.code, Some(EXIT_JOURNAL), "{verified:?}");
    let expected = &verified.report["records"]["expected"];
    assert!(expected.as_u64() > Some(6), "what must be there is known: {verified:?}");
    assert_eq!(verified.report["records"]["readable"], 0, "{verified:?}");
    fs::rename(&elsewhere, &generations).expect("movable");
    fs::write(&manifest, "{").expect("writable");
    let refused = home.try_start().await.err().expect("refused");
    let told = refused.log.join("\n");
    let counted = format!("{expected} of {expected} records");
    assert!(told.contains(&counted) && told.contains("0 are lost"), "{told}");
    let other = home.repair(1).await;
    assert_eq!(other.code, Some(EXIT_JOURNAL), "nothing is lost: {other:?}");
    assert_eq!(fs::read(&manifest).expect("readable"), b"{", "nothing was changed");
    let done = home.repair(0).await;
    assert_eq!((done.code, &done.report["events"]), (Some(0), &6.into()), "{done:?}");
    let (journal, opened) = open_at(&path, &Clock::system()).expect("opens");
    assert_eq!((opened.pending, opened.dead), (4, 1));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_copy_of_a_targets_name_costs_no_delivery() {
    const EVENTS: u64 = 70;
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    let clock = Clock::system();
    let (journal, _) = open_at(&path, &clock).expect("opens");
    let target = "the-name-of-a-target";
    for number in 0..EVENTS {
        let event = event(number, b"a body", &clock);
        journal.append(append(event, &[target], &[])).await.expect("appended");
    }
    journal.close().await;
    // The one that came with the first event, wherever it stands.
    let db = path.join("generations/00000001/db");
    let mut bytes = fs::read(&db).expect("readable");
    let mut commits = std::collections::BTreeSet::new();
    for at in 0..bytes.len() - target.len() {
        if &bytes[at..at + target.len()] != target.as_bytes() {
            continue;
        }
        let begin = (0..at).rev().find(|begin| whole(&bytes[*begin..])).expect("a frame");
        let commit = &bytes[begin + 10..begin + 18];
        let commit = u64::from_be_bytes(commit.try_into().expect("eight"));
        commits.insert(commit);
        if commit == 1 {
            bytes[at] ^= 1;
        }
    }
    assert!(commits.len() > 1, "it is written anew now and then: {commits:?}");
    fs::write(&db, &bytes).expect("writable");
    let home = home(&path, &receiver);
    assert_eq!(home.tool(&["journal", "verify"]).await.report["lost"], 1);
    let done = home.repair(1).await;
    assert_eq!((done.code, &done.report["pending"]), (Some(0), &EVENTS.into()), "{done:?}");
    let (journal, _) = open_at(&path, &clock).expect("opens");
    let depth = journal.depth();
    assert_eq!((depth.len(), depth[0].ready), (1, EVENTS), "{depth:?}");
    assert_eq!(depth[0].target.as_str(), target);
    journal.close().await;
}

/// The daemon, or a command about the journal, refuses and says all of this.
async fn refused(home: &Home, command: &str, words: &[&str]) {
    let arguments = if command == "serve" { vec!["serve"] } else { vec!["journal", command] };
    let said = home.tool(&arguments).await;
    assert_eq!(said.code, Some(EXIT_JOURNAL), "{command}: {said:?}");
    for word in words {
        assert!(said.complaints.contains(word), "{command}: {word}: {said:?}");
    }
}

#[tokio::test]
async fn a_journal_of_a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    fill(&path).await;
    let home = home(&path, &receiver);
    let before = crate::faults::contents(&path);
    // One record says version 2, with a checksum that fits, in every copy.
    let db = path.join("generations/00000001/db");
    let mut bytes = fs::read(&db).expect("readable");
    let body = b"body 3 is here";
    let places: Vec<_> = bytes
        .windows(body.len())
        .enumerate()
        .filter(|(_, it)| it == body)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        let begin = (0..at).rev().find(|begin| whole(&bytes[*begin..])).expect("a frame");
        let length = u32::from_be_bytes(bytes[begin..begin + 4].try_into().expect("four"));
        let length = usize::try_from(length).expect("small");
        bytes[begin + 8] = 2;
        let checksum = crc32c::crc32c(&bytes[begin + 8..begin + 8 + length]);
        bytes[begin + 4..begin + 8].copy_from_slice(&checksum.to_be_bytes());
    }
    fs::write(&db, &bytes).expect("writable");
    let changed = crate::faults::contents(&path);
    for command in ["serve", "verify", "export", "repair"] {
        refused(&home, command, &["newer"]).await;
        assert_eq!(changed.difference(&crate::faults::contents(&path)).count(), 0, "{command}");
    }
    // So says the whole journal.
    let manifest = path.join("MANIFEST");
    let text = fs::read_to_string(&manifest).expect("readable");
    fs::write(&manifest, text.replace("\"format\":1", "\"format\":2")).expect("writable");
    for command in ["serve", "verify", "export", "repair", "stats"] {
        refused(&home, command, &["newer"]).await;
    }
    assert!(
        before.difference(&crate::faults::contents(&path)).count() <= 2,
        "only what we changed"
    );
}

#[tokio::test]
async fn a_list_of_generations_that_only_seems_newer_is_told_how_to_go_on_without_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    fill(&path).await;
    let home = home(&path, &receiver);
    let manifest = path.join("MANIFEST");
    let text = fs::read_to_string(&manifest).expect("readable");
    fs::write(&manifest, text.replace("\"format\":1", "\"format\":5")).expect("writable");
    let words = [&*manifest.to_string_lossy(), "rename it", "`everhook journal repair`"];
    for command in ["serve", "repair"] {
        refused(&home, command, &words).await;
    }
    fs::rename(&manifest, path.join("MANIFEST.damaged")).expect("renamed");
    let said = home.repair(0).await;
    assert_eq!((said.code, said.report["lost"].as_u64()), (Some(0), Some(0)), "{said:?}");
    assert_eq!(home.tool(&["journal", "verify"]).await.code, Some(0));
}

#[tokio::test]
async fn a_list_that_names_another_generation_is_refused_and_everything_is_left() {
    let folder = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::good().await;
    let path = folder.path().join("journal");
    fill(&path).await;
    let manifest = path.join("MANIFEST");
    let text = fs::read_to_string(&manifest).expect("readable");
    assert!(text.contains("[1,2]"), "a spare is listed, too: {text}");
    fs::write(&manifest, text.replace("[1,2]", "[1,3]")).expect("writable");
    let before = crate::faults::contents(&path);
    refused(&home(&path, &receiver), "serve", &["generations/00000003"]).await;
    assert_eq!(before.difference(&crate::faults::contents(&path)).count(), 0, "nothing is gone");
}

/// Whether a frame begins here: its length, its checksum, and what they cover.
fn whole(bytes: &[u8]) -> bool {
    let length = u32::from_be_bytes(bytes[..4].try_into().expect("four"));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let stated = u32::from_be_bytes(bytes[4..8].try_into().expect("four"));
    let counted = bytes.get(8..).and_then(|rest| rest.get(..length.min(8_192)));
    counted.is_some_and(|counted| counted.len() == length && crc32c::crc32c(counted) == stated)
}
