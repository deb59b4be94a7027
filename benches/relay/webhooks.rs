//! The requests: what the providers send, each with ids of its own, so that none is a duplicate.

use ring::hmac;

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 230 bytes, not signed.
    Streampixel,
    /// 1 KiB, signed.
    Buildpixel,
    /// 8 KiB, signed.
    Buildkite,
}

/// The secrets of the configuration that the bench writes.
pub const BUILDPIXEL_SECRET: &str = "bench-buildpixel-secret";
pub const BUILDKITE_TOKEN: &str = "bench-buildkite-token";
pub const STREAMPIXEL_TOKEN: &str = "bench-path-token-1";

impl Kind {
    pub const ALL: [Self; 3] = [Self::Streampixel, Self::Buildpixel, Self::Buildkite];

    pub fn name(self) -> &'static str {
        match self {
            Self::Streampixel => "streampixel 230 B",
            Self::Buildpixel => "buildpixel signed 1 KiB",
            Self::Buildkite => "buildkite signed 8 KiB",
        }
    }

    pub fn body_bytes(self) -> usize {
        match self {
            Self::Streampixel => 230,
            Self::Buildpixel => 1024,
            Self::Buildkite => 8 * 1024,
        }
    }

    fn path(self) -> String {
        match self {
            Self::Streampixel => format!("/in/streampixel/{STREAMPIXEL_TOKEN}"),
            Self::Buildpixel => "/in/buildpixel".to_owned(),
            Self::Buildkite => "/in/buildkite".to_owned(),
        }
    }
}

/// Makes one request after the other.
#[derive(Clone)]
pub struct Maker {
    kind: Kind,
    /// Sets this maker's ids apart from those of every other one.
    series: u64,
    number: u64,
    head: String,
    key: hmac::Key,
    body: Vec<u8>,
}

impl Maker {
    pub fn new(kind: Kind, series: u64) -> Self {
        let secret = if kind == Kind::Buildkite { BUILDKITE_TOKEN } else { BUILDPIXEL_SECRET };
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench/1\r\naccept: */*\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            kind.path(),
            kind.body_bytes()
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self { kind, series, number: 0, head, key, body: Vec::new() }
    }

    /// Writes the next request over what `buffer` held.
    pub fn next(&mut self, buffer: &mut Vec<u8>) {
        self.number += 1;
        let id = format!("{:016x}{:08x}", self.series, self.number);
        self.body.clear();
        self.body.extend_from_slice(self.text(&id).as_bytes());
        buffer.clear();
        buffer.extend_from_slice(self.head.as_bytes());
        match self.kind {
            Kind::Streampixel => {}
            Kind::Buildpixel => {
                let tag = hex::encode(hmac::sign(&self.key, &self.body));
                buffer.extend_from_slice(
                    format!("x-buildpixel-signature: sha256={tag}\r\n").as_bytes(),
                );
            }
            Kind::Buildkite => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.map_or(0, |it| it.as_secs());
                let mut signed = hmac::Context::with_key(&self.key);
                signed.update(format!("{now}.").as_bytes());
                signed.update(&self.body);
                let tag = hex::encode(signed.sign());
                buffer.extend_from_slice(
                    format!(
                        "x-buildkite-event: job.finished\r\nx-buildkite-signature: \
                         timestamp={now},signature={tag}\r\n"
                    )
                    .as_bytes(),
                );
            }
        }
        buffer.extend_from_slice(b"\r\n");
        buffer.extend_from_slice(&self.body);
    }

    /// The body, filled up to its length.
    fn text(&self, id: &str) -> String {
        let (begin, end) = match self.kind {
            Kind::Streampixel => (
                format!(
                    "{{\"event\":\"build.uploaded\",\"projectId\":\"664f1a2b3c4d5e6f7a8b9c0d\",\
                     \"uploadId\":\"{id}\",\"fileUrl\":null,\"status\":\"pending\",\
                     \"objection\":null,\"timestamp\":\"2026-03-29T13:00:00.000Z"
                ),
                "\"}",
            ),
            Kind::Buildpixel => (
                format!(
                    "{{\"type\":\"build.complete\",\"createdAt\":\"2026-03-29T14:30:00.000Z\",\
                     \"organizationId\":\"org_01HZX\",\"data\":{{\"build\":{{\"id\":\"{id}\",\
                     \"status\":\"complete\",\"platform\":\"Win64\",\"buildType\":\"Development\",\
                     \"branch\":\"main\",\"commit\":\"9c1e4f0b6a2d\",\"durationMs\":763000,\
                     \"artifactUrl\":\"https://artifacts.example/mygame.zip?"
                ),
                "\"},\"project\":{\"id\":\"prj_22\",\"name\":\"MyGame\"}}}",
            ),
            Kind::Buildkite => (
                format!(
                    "{{\"event\":\"job.finished\",\"sender\":{{\"id\":\"s1\",\"name\":\"bench\"}},\
                     \"job\":{{\"id\":\"{id}\",\"type\":\"script\",\"state\":\"passed\",\
                     \"command\":\"make "
                ),
                "\"},\"build\":{\"id\":\"b1\",\"number\":1,\"branch\":\"main\",\"state\":\
                 \"running\"},\"pipeline\":{\"id\":\"p1\",\"slug\":\"bench\"}}",
            ),
        };
        let fill = self.kind.body_bytes().saturating_sub(begin.len() + end.len());
        format!("{begin}{}{end}", "x".repeat(fill))
    }
}

/// Every body has the length that its head says, and no two requests are alike.
pub fn check() {
    for kind in Kind::ALL {
        let mut maker = Maker::new(kind, 7);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        maker.next(&mut one);
        maker.next(&mut two);
        let head = one.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(one.len() - head, kind.body_bytes(), "{}", kind.name());
        assert!(serde_json::from_slice::<serde_json::Value>(&one[head..]).is_ok());
        assert_ne!(one, two);
    }
}
