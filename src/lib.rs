//! everhook: a durable webhook relay.
#![forbid(unsafe_code)]

pub mod time;
pub mod model;
pub mod rules;
pub mod config;
pub mod metrics;
pub mod lifecycle;
pub mod journal;
pub mod target;
pub mod relay;
pub mod ingress;
pub mod admin;
pub mod app;
