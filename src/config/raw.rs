//! The configuration file as a user writes it: every table, key, default and bound, declared once.
//!
//! A doc comment here is what `config schema` and `docs/configuration.md` say of the key.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use super::either::{Breaker, Dedup};
use super::policy::{Frequency, HeaderFields, SpreadBy};
use super::setting::{Bytes, Conditions, Named, NamedTable, Tolerance, Url, choices};
use super::table::{Shape, Table, table};
use super::{LogFormat, OnUnverified};
use crate::model::{OnDead, Secret};
use crate::rules::intake::OnConflict;
use crate::rules::limiter::RequestRate;
use crate::rules::provider::Preset;
use crate::rules::verify::{Algorithm, Encoding, Kind, Unit};
use crate::template;

table! {
    /// The configuration of everhook.
    pub Root {
        /// Where webhooks come in, and the bounds of that.
        ingress: Ingress = "{}";
        /// Metrics and health, on a listener of their own.
        admin: Admin = "{}";
        /// The durable store.
        journal: Journal = "{}";
        /// What all targets share.
        delivery: Delivery = "{}";
        /// What is logged, and how.
        log: Log = "{}";
        /// Traces for OpenTelemetry, in a build with the feature `otel`.
        otel: Otel = "{}";
        /// A source receives the webhooks of one provider.
        source: Named<Source> = "{}", size 1 to 1000;
        /// A target receives the events of the sources.
        target: Named<Target> = "{}", size 1 to 1000;
    }

    /// Where webhooks come in, and the bounds of that.
    pub Ingress {
        /// Addresses to listen on when systemd hands over no socket.
        listen: Vec<SocketAddr> = r#"["127.0.0.1:8080"]"#, size 1 to 64;
        /// An event that is not on stable storage by then is answered 503 (and may still be delivered).
        ack_timeout: Duration = r#""2s""#, from "50ms" to "60s";
        /// Largest body of a webhook.
        max_body: Bytes = r#""1MiB""#, from "1KiB" to "64MiB";
        /// Most connections at once.
        max_connections: usize = "10000", from "1" to "1000000";
        /// Longest wait for a complete request head.
        header_timeout: Duration = r#""5s""#, from "100ms" to "5m";
        /// Longest wait for a complete body.
        body_timeout: Duration = r#""10s""#, from "100ms" to "10m";
        /// Networks of the proxies whose X-Forwarded-For is believed; nobody's when it is not set.
        trusted_proxies: Vec<IpNet>, size 0 to 1000;
        /// Certificate and key, when the listener itself speaks TLS.
        tls: Tls;
    }

    /// Certificate and key, when the listener itself speaks TLS.
    #[expect(clippy::struct_field_names, reason = "these are the keys of the file")]
    pub Tls {
        /// PEM file with the certificate chain.
        cert_file: String, size 1 to 4096, required r#"write cert_file = "/path/to/chain.pem""#;
        /// PEM file with the private key.
        key_file: String, size 1 to 4096, required r#"write key_file = "/path/to/key.pem""#;
        /// PEM file with authorities; when it is set, a client must have a certificate of one of them.
        client_ca_file: String, size 1 to 4096;
    }

    /// Metrics and health, on a listener of their own.
    pub Admin {
        /// The address to listen on.
        listen: SocketAddr = r#""127.0.0.1:9464""#;
        /// Bearer token that callers must show; required when `listen` is not loopback.
        token: Secret;
        /// Bearer token with which callers may look and change nothing; needs `token`.
        read_only_token: Secret;
    }

    /// The durable store.
    pub Journal {
        /// Its directory; a relative path is below `$STATE_DIRECTORY` when systemd sets it.
        path: String = r#""everhook-data""#, size 1 to 4096;
        /// How long a repeated webhook is recognised.
        dedup_window: Duration = r#""72h""#, from "1s" to "90d";
        /// How long settled events stay visible.
        retention: Duration = r#""7d""#, from "0s" to "3650d";
        /// Most bytes on disk; a full journal answers 503.
        max_bytes: Bytes = r#""10GiB""#, from "16MiB" to "64TiB";
        /// Bytes that must stay free on its file system.
        min_free: Bytes = r#""512MiB""#, from "0B" to "64TiB";
        /// Most bytes of refused requests that are kept.
        quarantine_max_bytes: Bytes = r#""64MiB""#, from "1MiB" to "64GiB";
    }

    /// What all targets share.
    pub Delivery {
        /// Most attempts at once over all targets; each target has a part of its own, and at least one attempt.
        concurrency: usize = "1024", from "1" to "65536";
    }

    /// What is logged, and how.
    pub Log {
        /// A level (error, warn, info, debug, trace) or a filter such as "everhook=debug,info".
        level: String = r#""info""#;
        /// How lines are written; auto is journald when systemd listens, and text otherwise.
        format: LogFormat = r#""auto""#;
    }

    /// Traces for OpenTelemetry, in a build with the feature `otel`.
    pub Otel {
        /// The URL that spans are posted to (OTLP over HTTP, protobuf); nothing is exported when it is not set.
        endpoint: Url;
        /// Header fields to send with them: text, or a secret's reference.
        headers: HeaderFields, size 0 to 16;
        /// How many of the traces that begin here are recorded; about others the provider's traceparent decides.
        sample: f64 = "1.0", from "0.0" to "1.0";
        /// Most spans that wait to be exported; what does not fit is dropped and counted.
        queue: usize = "8192", from "16" to "1048576";
    }

    /// A source receives the webhooks of one provider.
    pub Source {
        /// The preset that knows the provider, or "custom".
        provider: &'static Preset, required r#"write provider = "custom", or the name of a preset"#;
        /// The URL path; /in/NAME when it is not set.
        path: String, size 2 to 256;
        /// A secret last segment of the path, for providers that do not sign.
        path_token: Secret;
        /// The secret that verifies the provider's requests.
        secret: Secret;
        /// Several secrets during a rotation; any of them verifies.
        secrets: Vec<Secret>, size 1 to 16;
        /// What a handshake must show, for the provider that asks for it: the Verify Token of Meta.
        handshake_token: Secret;
        /// How a request is verified, instead of the way of the preset.
        verify: Verify;
        /// What becomes of a request that cannot be verified: "reject", or "quarantine", answers 401 and keeps it, "accept-hold" answers 200 and holds it until it is released.
        on_unverified: OnUnverified = r#""reject""#;
        /// What makes two webhooks the same, instead of the way of the preset; "none" turns it off.
        dedup: Dedup;
        /// What a webhook is that has the key of an earlier one and another body: "duplicate" answers it as a repeat and keeps its body, "new" makes it an event of its own.
        on_conflict: OnConflict = r#""duplicate""#;
        /// Fields that group events which belong together: JSON pointers or "header:NAME".
        order_key: Vec<String>, size 0 to 16;
        /// Where the event's name stands: a JSON pointer or "header:NAME".
        event: String;
        /// Fields and the patterns their values must match; other webhooks are refused.
        r#where: Conditions, size 1 to 64;
        /// Networks that requests may come from; the others are refused.
        allow_ips: Vec<IpNet>, size 1 to 1000;
        /// Most requests in all, such as "200/s"; more are answered 429.
        rate: RequestRate;
        /// Most requests of one client address, or of one IPv6 network of 64 bits.
        client_rate: RequestRate;
        /// Watch for steps of builds that never come, where the provider's order of them is known.
        stages: Stages;
        /// How often something is expected; when nothing comes for so long, that is told once.
        expect_every: Duration, from "1s" to "90d";
        /// The URL the provider posts to, for schemes that sign it.
        public_url: Url, size 8 to 2048;
    }

    /// How a request is verified.
    pub Verify {
        /// The kind of proof.
        kind: Kind, required r#"write kind = "hmac", "ed25519", "token" or "none""#;
        /// The header field that carries the signature or the token.
        header: String = r#""""#, size 0 to 128;
        /// Text before the signature that is required and removed, such as "sha256=".
        prefix: String = r#""""#, size 0 to 128;
        /// What separates several elements in the header field.
        list: ListSeparator;
        /// What separates key and value in an element.
        kv: PairSeparator;
        /// The key whose values are signatures.
        pick: String, size 1 to 64;
        /// The digest; sha256 for hmac and ed25519 for ed25519 when it is not set.
        algorithm: Digest;
        /// How the signature is written.
        encoding: SignatureEncoding = r#""hex""#;
        /// How the secret becomes a key.
        key_encoding: KeyEncoding = r#""utf8""#;
        /// Removed from the secret if it is there, such as "whsec_".
        key_prefix: String = r#""""#, size 0 to 64;
        /// What is signed: `{body}` `{timestamp}` `{header:NAME}` `{url}` `{method}` `{form_sorted}` `{form:NAME}` and text.
        signed: String = r#""{body}""#;
        /// Where the timestamp stands: `"header:NAME"`, `"sig:KEY"` or `"json:/POINTER"`.
        timestamp: String, size 1 to 256;
        /// How the timestamp is written.
        unit: Unit = r#""s""#;
        /// How old or how far ahead a timestamp may be; when it is not set, freshness is not checked.
        tolerance: Tolerance, from "1s" to "1d";
    }

    /// Watch for steps of builds that never come, where the provider's order of them is known.
    pub Stages {
        /// How long a step may come after one that should have followed it.
        gap_after: Duration = r#""30s""#, from "1s" to "1d";
        /// How long nothing may be heard of a build that has not ended.
        stall_after: Duration = r#""30m""#, from "1s" to "30d";
        /// Events that the provider was not asked to send.
        skip: Vec<String>, size 1 to 32;
    }

    /// What makes two webhooks the same.
    pub DedupKey {
        /// Two webhooks with equal values here are one: JSON pointers, "header:NAME" or "body".
        /// The preset's own key when it is not set.
        key: Vec<String>, size 1 to 16;
        /// How long a repeat is recognised; the preset's own time, or that of `[journal]`, when it is not set.
        window: Duration, from "1s" to "90d";
    }

    /// A target receives the events of the sources.
    pub Target {
        /// Where events are posted to: http or https.
        url: Url, size 8 to 2048, required r#"write url = "https://...""#;
        /// Names it had before: deliveries that are still queued for them go to it.
        was: Vec<String>, size 1 to 16;
        /// The sources it listens to; every source when it is not set.
        from: Vec<String>, size 1 to 1000;
        /// Patterns on the event's name; every event when it is not set.
        events: Vec<String>, size 1 to 256;
        /// Fields and the patterns their values must match.
        r#where: Conditions, size 1 to 64;
        /// What the target is: what is sent to it and which limits it has.
        preset: PresetName = r#""raw""#;
        /// The method of the request.
        method: Method = r#""POST""#;
        /// Header fields to set: a text, or a secret for those that carry one.
        headers: HeaderFields, size 1 to 32;
        /// A template of the body, instead of what the preset sends.
        body: String, size 1 to 65536;
        /// The content type of a body that is not the event's own; application/json when it is not set.
        content_type: String, size 1 to 256;
        /// For one attempt, until the complete head of the answer.
        timeout: Duration = r#""15s""#, from "100ms" to "10m";
        /// For the connection, TLS included.
        connect_timeout: Duration = r#""5s""#, from "100ms" to "60s";
        /// Most attempts at once.
        concurrency: usize = "16", from "1" to "1024";
        /// The order of deliveries: "key" sends those of one order key one after the other.
        order: OrderWord = r#""none""#;
        /// With order = "key": whether a dead letter lets the next of its key go, or holds it until it is retried or discarded.
        on_dead: OnDeadWord = r#""continue""#;
        /// Whether new events go there; false keeps delivering what is queued already and takes nothing new.
        active: bool = "true";
        /// How often attempts may begin, such as "50/s", "10/m", "300/h"; as often as `concurrency` allows when it is not set.
        rate: Frequency;
        /// Most attempts in a burst under `rate`; what the rate allows in a second when it is not set.
        burst: u32, from "1" to "100000";
        /// A failed delivery that would be tried again only at this age of its event, or later, is given up and becomes a dead letter; what an operator makes due again has no age.
        expire: Duration = r#""72h""#, from "1s" to "365d";
        /// When to try again: a schedule, or growing delays; not both.
        retry: Retry = "{}";
        /// When the target is left alone until single probes find it back; "none" turns it off.
        breaker: Breaker = "{}";
        /// How each attempt is signed.
        sign: Sign;
        /// TLS toward the target, where the system's authorities will not do.
        tls: TargetTls;
        /// The proxy that connections to the target go through.
        proxy: Proxy;
        /// Whether addresses that are not of the public internet are refused, whatever the host's name resolves to.
        deny_private: bool = "false";
        /// Whether the provider's header fields that carry a token are passed on with those of preset raw.
        forward_tokens: bool = "true";
        /// Whether a reload that added the target, or changed something in its settings, sends it the event everhook.ping.
        ping: bool = "false";
    }

    /// The proxy that connections to the target go through.
    pub Proxy {
        /// Where it is: http:// for a proxy that takes CONNECT, socks5:// for SOCKS version 5.
        url: Url, size 8 to 512, required r#"write url = "http://proxy.example.com:3128""#;
        /// Who we are there.
        user: String, size 1 to 255;
        /// The password of the user.
        password: Secret;
    }

    /// TLS toward the target, where the system's authorities will not do.
    pub TargetTls {
        /// Whether the target's certificate is checked; false is warned about.
        verify: bool = "true";
        /// PEM file with the authorities that are trusted, and no others.
        ca_file: String, size 1 to 4096;
        /// PEM file with the chain of our own certificate.
        cert_file: String, size 1 to 4096;
        /// PEM file with its private key.
        key_file: String, size 1 to 4096;
    }

    /// When the target is left alone until single probes find it back.
    pub BreakerKeys {
        /// It opens after so many failures in a row.
        failures: u32 = "10", from "1" to "10000";
        /// It opens when this part of the last 64 attempts failed.
        failure_rate: f64 = "0.8", from "0.1" to "1.0";
        /// The wait for the first probe; later waits are up to twice as long.
        probe_every: Duration = r#""10s""#, from "100ms" to "1h";
    }

    /// When to try again.
    pub Retry {
        /// The delay after each failed attempt in turn; when it is used up the delivery is dead.
        schedule: Vec<Duration>, from "0s" to "30d", size 1 to 100;
        /// The first of growing delays.
        initial: Duration, from "10ms" to "30d";
        /// Each delay is the one before times this.
        factor: f64, from "1.0" to "100.0";
        /// No growing delay is longer.
        max: Duration, from "10ms" to "30d";
        /// Attempts in all with growing delays.
        attempts: u32, from "1" to "1000";
        /// Each delay is moved at random by up to this fraction in either direction; "full" takes anything from nothing to the whole delay.
        jitter: SpreadBy = "0.2", from "0.0" to "1.0";
        /// Status codes that dead-letter a delivery at once, because no further attempt can help.
        give_up: Vec<u32>, from "300" to "599", size 1 to 64;
    }

    /// How each attempt is signed.
    pub Sign {
        /// The style of the signature.
        style: Style, required r#"write style = "standard-webhooks" or "none""#;
        /// The signing secret; `everhook secret new --style STYLE` makes one.
        secret: Secret;
        /// Several during a rotation, for styles with room for them: the first signs, the others sign beside it.
        secrets: Vec<Secret>, size 1 to 16;
        /// The header field of styles that leave it open: x-webhook-signature for hmac-sha256, x-buildkite-signature for buildkite, x-webhook-token for token when it is not set.
        header: String, size 1 to 128;
        /// Text before the signature or the token: "sha256=" for hmac-sha256 and nothing for token when it is not set.
        prefix: String, size 0 to 128;
    }
}

/// The section and the key that `EVERHOOK_SECTION_KEY`, with one underscore too few, was meant to set.
pub(super) fn misspelt_variable(name: &str) -> Option<(&'static str, &'static str)> {
    let rest = name.strip_prefix(super::ENV_PREFIX)?.to_ascii_lowercase();
    Root::TABLE.fields.iter().find_map(|section| {
        let Shape::Table(table) = section.shape else { return None };
        let key = rest.strip_prefix(section.name)?.strip_prefix('_')?;
        let field = table.fields.iter().find(|field| field.key() == key)?;
        Some((section.name, field.key()))
    })
}

/// The delays of a target that says nothing of `retry`: eleven attempts in 46 h 42 min.
pub(super) const DEFAULT_SCHEDULE: [Duration; 10] = {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    [
        Duration::from_secs(5),
        Duration::from_secs(30),
        Duration::from_secs(2 * MINUTE),
        Duration::from_secs(10 * MINUTE),
        Duration::from_secs(30 * MINUTE),
        Duration::from_secs(HOUR),
        Duration::from_secs(3 * HOUR),
        Duration::from_secs(6 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(24 * HOUR),
    ]
};
/// What growing delays are when only some of their keys are written.
pub(super) const DEFAULT_INITIAL: Duration = Duration::from_secs(1);
/// See [`DEFAULT_INITIAL`].
pub(super) const DEFAULT_FACTOR: f64 = 2.0;
/// See [`DEFAULT_INITIAL`].
pub(super) const DEFAULT_MAX: Duration = Duration::from_secs(60 * 60);
/// See [`DEFAULT_INITIAL`].
pub(super) const DEFAULT_ATTEMPTS: u32 = 30;

impl NamedTable for Source {
    const NAMED: &'static Table = &Self::TABLE;
}

impl NamedTable for Target {
    const NAMED: &'static Table = &Self::TABLE;
}

/// `verify.list`
#[derive(Clone, Copy)]
pub(super) struct ListSeparator(pub(super) char);

/// `verify.kv`
#[derive(Clone, Copy)]
pub(super) struct PairSeparator(pub(super) char);

/// `verify.encoding`: how a signature is written.
#[derive(Clone, Copy)]
pub(super) struct SignatureEncoding(pub(super) Encoding);

/// `verify.key_encoding`: how a secret becomes a key.
#[derive(Clone, Copy)]
pub(super) struct KeyEncoding(pub(super) Encoding);

/// `verify.algorithm`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    /// The digest of an HMAC.
    Hmac(Algorithm),
    /// The only one of its kind.
    Ed25519,
}

/// `preset`
#[derive(Clone, Copy)]
pub(super) struct PresetName(pub(super) template::Preset);

/// `method`: those with a body.
#[derive(Clone, Copy)]
pub(super) struct Method(pub(super) &'static str);

/// `order`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderWord {
    None,
    Key,
}

/// `on_dead`
#[derive(Clone, Copy)]
pub(super) struct OnDeadWord(pub(super) OnDead);

/// `sign.style`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    StandardWebhooks,
    Ed25519,
    HmacSha256,
    Buildkite,
    Token,
    None,
}

choices!(LogFormat {
    "auto" => Self::Auto,
    "text" => Self::Text,
    "json" => Self::Json,
    "journald" => Self::Journald,
});
choices!(Kind {
    "hmac" => Self::Hmac,
    "ed25519" => Self::Ed25519,
    "token" => Self::Token,
    "none" => Self::None,
});
choices!(OnUnverified { "reject" => Self::Reject, "quarantine" => Self::Reject, "accept-hold" => Self::Hold });
choices!(OnConflict { "duplicate" => Self::Duplicate, "new" => Self::New });
choices!(ListSeparator { "," => Self(','), ";" => Self(';'), " " => Self(' ') });
choices!(PairSeparator { "=" => Self('='), "," => Self(',') });
choices!(Digest {
    "sha256" => Self::Hmac(Algorithm::Sha256),
    "sha1" => Self::Hmac(Algorithm::Sha1),
    "sha512" => Self::Hmac(Algorithm::Sha512),
    "ed25519" => Self::Ed25519,
});
choices!(SignatureEncoding {
    "hex" => Self(Encoding::Hex),
    "base64" => Self(Encoding::Base64),
    "base64url" => Self(Encoding::Base64Url),
});
choices!(KeyEncoding {
    "utf8" => Self(Encoding::Utf8),
    "base64" => Self(Encoding::Base64),
    "hex" => Self(Encoding::Hex),
});
choices!(Unit { "s" => Self::Seconds, "ms" => Self::Millis, "rfc3339" => Self::Rfc3339 });
choices!(PresetName {
    "raw" => Self(template::Preset::Raw),
    "slack" => Self(template::Preset::Slack),
    "discord" => Self(template::Preset::Discord),
    "teams" => Self(template::Preset::Teams),
    "github-dispatch" => Self(template::Preset::GithubDispatch),
    "buildkite-trigger" => Self(template::Preset::BuildkiteTrigger),
});
choices!(Method { "POST" => Self("POST"), "PUT" => Self("PUT"), "PATCH" => Self("PATCH") });
choices!(OrderWord { "none" => Self::None, "key" => Self::Key });
choices!(OnDeadWord {
    "continue" => Self(OnDead::Continue),
    "hold" => Self(OnDead::Hold),
});
choices!(Style {
    "standard-webhooks" => Self::StandardWebhooks,
    "ed25519" => Self::Ed25519,
    "hmac-sha256" => Self::HmacSha256,
    "buildkite" => Self::Buildkite,
    "token" => Self::Token,
    "none" => Self::None,
});
