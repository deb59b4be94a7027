//! The system clock jumps under the running binary: deliveries neither stop nor come in a storm.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::daemon::Home;
use crate::harness::receiver::{Act, OK, Receiver};

/// Where the package `faketime` puts its library.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let library = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
    folders.filter_map(Result::ok).map(|entry| library(entry.path())).find(|path| path.exists())
}

#[tokio::test]
async fn no_jump_of_the_system_clock_stalls_deliveries_or_makes_a_storm() {
    let Some(library) = faketime() else {
        println!("skipped: there is no libfaketime; `apt install faketime` brings it");
        return;
    };
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let mut receiver = Receiver::scripted(move |_, request| {
        if request.body.starts_with(b"bad") {
            count.fetch_add(1, Ordering::SeqCst);
            return Act::Answer("500 No", "");
        }
        OK
    })
    .await;
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n\
         breaker = \"none\"\nretry = {{ initial = \"500ms\", max = \"500ms\", attempts = 1000, jitter = 0.0 }}\n",
        receiver.url()
    ));
    let folder = tempfile::tempdir().expect("a folder");
    let offset = folder.path().join("offset");
    let set = |text: &str| {
        // Replaced as a whole: the daemon may read it at any moment.
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("writable");
        std::fs::rename(&new, &offset).expect("one folder");
    };
    set("+0");
    let mut command = home.command(&["serve"]);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let daemon = Home::started(command).await;
    daemon.post("/in/any", &[], b"bad").await.ack();
    let mut number = 0;
    let jumps = ["+1h", "-1h", "+1d", "-1d", "@1970-01-02 00:00:00", "@2038-01-20 00:00:00", "+0"];
    for jump in jumps {
        set(jump);
        let before = failed.load(Ordering::SeqCst);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..15 {
            ticks.tick().await;
            number += 1;
            daemon.post("/in/any", &[], format!("good {number}").as_bytes()).await.ack();
            while receiver.next().await.body.starts_with(b"bad") {}
        }
        let attempts = failed.load(Ordering::SeqCst) - before;
        // Two or three are due in 1.4 seconds; a slow machine takes longer and sees a few more.
        assert!((1..=12).contains(&attempts), "{attempts} attempts of one delivery after {jump}");
    }
    assert_eq!(daemon.admin_get("/readyz").await.status, 200);
    assert!(!daemon.log().iter().any(|line| line.contains("panicked")));
}
