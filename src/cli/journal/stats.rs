//! `everhook journal stats`.

use everhook::journal::sled::{Options, SledJournal};
use everhook::time::{Clock, Timestamp};
use serde_json::json;

use super::super::{Common, Failure, print};
use super::unusable;

pub(super) fn run(options: &Options, common: &Common) -> Result<(), Failure> {
    let now = Clock::system().now();
    let stats = SledJournal::stats(options, now).map_err(|error| unusable(&error))?;
    let events = stats.generations.iter().map(|it| it.events).fold(0, u64::saturating_add);
    if common.json {
        let generation = |it: &everhook::journal::sled::GenerationStats| json!({ "number": it.number, "bytes": it.bytes, "events": it.events, "sealed": it.sealed });
        let target = |depth: &everhook::journal::Depth| {
            json!({
                "target": depth.target.as_str(),
                "pending": depth.ready.saturating_add(depth.waiting),
                "ready": depth.ready,
                "waiting": depth.waiting,
                "dead": depth.dead,
                "oldest": depth.oldest.map(Timestamp::precise),
            })
        };
        return print(&json!({
            "path": options.path,
            "bytes": stats.bytes,
            "max_bytes": options.max_bytes,
            "events": events,
            "generations": stats.generations.iter().map(generation).collect::<Vec<_>>(),
            "targets": stats.targets.iter().map(target).collect::<Vec<_>>(),
            "dedup_keys": stats.dedup_keys,
            "oldest": stats.oldest.map(Timestamp::precise),
            "next_drain": stats.drain.map(|(number, bytes)| {
                json!({ "generation": number, "bytes": bytes })
            }),
        }));
    }
    print(&format!("{}: {} bytes of {}", options.path.display(), stats.bytes, options.max_bytes))?;
    print(&format!("{events} events stored, {} dedup keys remembered", stats.dedup_keys))?;
    for it in &stats.generations {
        let how = if it.sealed { "sealed" } else { "written" };
        print(&format!(
            "generation {}: {} bytes, {} events, {how}",
            it.number, it.bytes, it.events
        ))?;
    }
    for depth in &stats.targets {
        let pending = depth.ready.saturating_add(depth.waiting);
        let since = depth.oldest.map(|at| format!(", the oldest from {at}")).unwrap_or_default();
        print(&format!("{}: {pending} pending, {} dead{since}", depth.target, depth.dead))?;
    }
    print(&stats.drain.map_or_else(
        || "nothing would be given back now".to_owned(),
        |(number, bytes)| {
            format!("the next drain removes generation {number} and gives back about {bytes} bytes")
        },
    ))
}
