//! Providers as data: verification, event name, dedup key, order key, samples.

/// What the relay knows of one provider.
#[derive(Debug)]
pub struct Preset {
    /// The name in `provider = "..."`.
    pub name: &'static str,
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    unimplemented!("{name}")
}

/// Every preset, sorted by name.
pub fn presets() -> &'static [&'static Preset] {
    unimplemented!()
}
