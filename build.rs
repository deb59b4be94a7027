//! Tells a release build the commit it is made from, for `--version`: what `EVERHOOK_REVISION` says, or what git does.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=EVERHOOK_REVISION");
    // A build for the day's work is not made anew for each commit.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || env::var_os("EVERHOOK_REVISION").is_some() {
        return;
    }
    // The file that git adds a line to whenever the commit changes.
    let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) else { return };
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    // Only if this folder is the checkout's own: a source package may lie inside another one.
    let is_ours = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_ours) {
        println!("cargo::rustc-env=EVERHOOK_REVISION={commit}");
    }
}

/// What git answers, if there is git and a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| answer.trim().to_owned())
}
