//! Where a request comes from, as far as it can be believed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Headers;

/// The field in which each proxy notes whom it received a request from.
const FORWARDED: &str = "x-forwarded-for";

/// The client's address: the peer's own, or, through trusted proxies, the nearest one that is not trusted.
///
/// The list is read from its end, because each proxy appends and only what a trusted one appended is known. What
/// cannot be read ends the search at the proxy that passed it on, which no allow-list should name.
pub fn client(peer: IpAddr, headers: &Headers, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !contains(trusted, client) {
        return client;
    }
    let lines: Vec<&[u8]> = headers.get_all(FORWARDED).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|&b| b == b','));
    for hop in hops {
        let Some(address) = address(hop) else { break };
        client = address;
        if !contains(trusted, client) {
            break;
        }
    }
    client
}

/// Whether an address is in one of the networks.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An address, with or without a port, as proxies write it.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let plain = || text.parse::<IpAddr>().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    plain().or_else(bracketed).or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn seen(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let headers = Headers::from_pairs(lines.iter().map(|line| (FORWARDED, line.as_bytes())));
        client(peer.parse().unwrap(), &headers, &networks(trusted)).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let proxies = ["10.0.0.0/8", "2001:db8::/32"];
        for (peer, lines, client) in [
            ("203.0.113.7", &["198.51.100.1"][..], "203.0.113.7"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.1", "198.51.100.1,10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["10.1.1.1, 10.9.9.9"], "10.1.1.1"),
            ("10.0.0.1", &["198.51.100.1:443"], "198.51.100.1"),
            ("2001:db8::1", &["[2001:db9::7]:443"], "2001:db9::7"),
            ("2001:db8::1", &["[2001:db9::7]"], "2001:db9::7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, , 10.9.9.9"], "10.9.9.9"),
        ] {
            assert_eq!(seen(peer, lines, &proxies), client, "{peer} {lines:?}");
        }
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"], &[]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn nothing_in_front_of_the_nearest_untrusted_address_changes_it(forged in "[ -~]{0,40}") {
            let line = format!("{forged},198.51.100.1, 10.2.3.4");
            prop_assert_eq!(seen("10.0.0.1", &[&line], &["10.0.0.0/8"]), "198.51.100.1");
            prop_assert_eq!(seen("203.0.113.7", &[&line], &["10.0.0.0/8"]), "203.0.113.7");
        }

        #[test]
        fn no_header_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let headers = Headers::from_pairs([(FORWARDED, &*line)]);
            client(IpAddr::from([10, 0, 0, 1]), &headers, &networks(&["0.0.0.0/0", "::/0"]));
        }
    }
}
