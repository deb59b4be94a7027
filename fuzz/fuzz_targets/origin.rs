//! The list that proxies append to.
#![no_main]

use std::net::IpAddr;

use everhook::model::Headers;
use everhook::rules::origin::{client, contains};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: Vec<Vec<u8>>| {
    let headers = Headers::from_pairs(lines.iter().map(|line| ("x-forwarded-for", &**line)));
    let peer = IpAddr::from([10, 0, 0, 1]);
    assert_eq!(client(peer, &headers, &[]), peer);
    let trusted = ["10.0.0.0/8".parse().expect("a network"), "::/0".parse().expect("a network")];
    let found = client(peer, &headers, &trusted);
    let last = lines.last().and_then(|line| line.rsplit(|&b| b == b',').next());
    let last: Option<IpAddr> =
        last.and_then(|hop| std::str::from_utf8(hop.trim_ascii()).ok()?.parse().ok());
    if let Some(last) = last.map(|last| last.to_canonical())
        && !contains(&trusted, last)
    {
        assert_eq!(found, last, "the nearest address that is not trusted");
    }
});
