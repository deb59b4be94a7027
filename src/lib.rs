//! everhook: a durable webhook relay.
//!
//! # The way of one webhook
//!
//! 1. [`config`] has compiled each source into an [`rules::intake::Intake`] and each target into its policies,
//!    before anything runs.
//! 2. [`ingress`] accepts the connection, guards its framing, limits what it may cost, finds the source by its path and
//!    reads the raw body.
//! 3. [`rules::intake`] decides: verified on the raw bytes, read once, admitted, named, given its dedup and order keys,
//!    routed to the targets that want it.
//! 4. [`journal`] takes event, deliveries and dedup keys as one atomic commit. When that is on stable storage, and not
//!    before, ingress answers 2xx.
//! 5. [`relay`] asks the journal for what is due, in the measure that [`rules::dispatch`] allows, and starts an attempt
//!    for each delivery it is given.
//! 6. [`template`] makes the body, where it is not the event's own; [`target`] makes one HTTP attempt and says what came back.
//! 7. [`rules::retry`] judges the answer: delivered, again later, or dead. The journal records it.
//!
//! Ingress and relay never speak with each other: they meet in the journal, so a restart takes the same path as normal
//! running. [`admin`] shows what there is and acts on it, through the journal and [`control`]; [`app`] wires everything, stops it in order, and
//! puts another configuration into effect when it is told to [`reload`].
//!
//! # The floors
//!
//! A module imports lower floors and its own folder, never sideways, never up; `tests/it/tidy.rs` enforces it.
//!
//! | floor | modules | what is absent there |
//! |---|---|---|
//! | 0 | [`time`] | everything else: it alone reads the clock |
//! | 1 | [`model`] | decisions |
//! | 2 | [`rules`], [`template`] | effects: no runtime, no clock, no randomness of its own |
//! | 3 | [`config`], [`metrics`], [`lifecycle`] | requests |
//! | 4 | [`journal`], [`target`], [`control`], [`reload`], [`trace`] | policies |
//! | 5 | [`ingress`], [`relay`], [`admin`], and with the feature `otel` the export of spans | each other |
//! | 6 | [`app`] | logic |
//! | 7 | the binary and its command line | |
#![forbid(unsafe_code)]

// F0
pub mod time;
// F1
pub mod model;
// F2
pub mod rules;
pub mod template;
// F3
pub mod config;
pub mod metrics;
pub mod lifecycle;
// F4
pub mod journal;
pub mod target;
pub mod control;
pub mod reload;
pub mod trace;
// F5
pub mod ingress;
pub mod relay;
pub mod admin;
#[cfg(feature = "otel")]
pub mod otlp;
// F6
pub mod app;
