//! Networks and rates as settings: who may come, and how often.

use ipnet::IpNet;

use super::mistake::Findings;
use super::setting::{Setting, text, wrong_type};
use super::table::{Field, Shape};
use super::tree::{KeyPath, Node};
use crate::rules::limiter::RequestRate;

impl Setting for IpNet {
    const SHAPE: Shape = Shape::Network;

    /// One address is a network of one.
    fn read(node: &Node, at: &KeyPath, _field: &Field, findings: &mut Findings) -> Option<Self> {
        let remedy = r#"write an address or a network, such as "203.0.113.7" or "203.0.113.0/24""#;
        let Some(text) = text(node) else {
            return wrong_type(node, at, "a network in quotes", remedy, findings);
        };
        let one = || text.parse::<std::net::IpAddr>().map(Self::from).ok();
        let network = text.parse().ok().or_else(one);
        if network.is_none() {
            findings.mistake(at, "this is not a network", remedy);
        }
        network
    }
}

impl Setting for RequestRate {
    const SHAPE: Shape = Shape::RequestRate;

    fn read(node: &Node, at: &KeyPath, _field: &Field, findings: &mut Findings) -> Option<Self> {
        let remedy = r#"write requests per s, m or h, such as "200/s", from 1 to 1000000"#;
        let Some(text) = text(node) else {
            return wrong_type(node, at, "a rate in quotes", remedy, findings);
        };
        let rate = Self::parse(&text);
        if rate.is_none() {
            findings.mistake(at, "this is not a rate", remedy);
        }
        rate
    }
}
