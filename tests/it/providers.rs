//! Every provider, from its own signed request to the acknowledgement, and the questions some ask before.

use everhook::config::{Config, LoadOptions};
use everhook::model::Headers;
use everhook::rules::provider::{Preset, Sample, preset, presets};
use everhook::rules::verify::PrivateKey;
use everhook::time::Clock;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::Reply;
use crate::harness::receiver::Receiver;
use crate::harness::{sign, within};

/// A key pair of our own; the private half plays Discord.
const PRIVATE_KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const PUBLIC_KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

/// A source of the provider with a secret of the right form.
fn source(preset: &Preset) -> String {
    let name = preset.name;
    let secret = match name {
        "standard-webhooks" | "svix" => "whsec_c2FtcGxlIHNhbXBsZSBzYW1wbGUgc2FtcGxl",
        "discord" => PUBLIC_KEY,
        _ => "sample-secret",
    };
    let mut text = format!("[source.{name}]\nprovider = \"{name}\"\n");
    if name == "custom" {
        text.push_str("verify = { kind = \"hmac\", header = \"x-signature\" }\n");
    }
    if name == "custom" || !preset.schemes().is_empty() {
        text += &["secret = \"plain:", secret, "\"\n"].concat();
    }
    if name == "meta" {
        text.push_str("handshake_token = \"plain:sample-verify-token\"\n");
    }
    text + "public_url = \"https://hooks.example/in\"\n"
}

/// A relay with a source for every provider.
struct Every {
    home: Home,
    daemon: Daemon,
    config: Config,
    receiver: Receiver,
}

impl Every {
    async fn start() -> Self {
        let receiver = Receiver::good().await;
        let sources: String = presets().iter().map(|preset| source(preset)).collect();
        let home = Home::new(&format!("{sources}[target.t]\nurl = {:?}\n", receiver.url()));
        let options = LoadOptions { file: Some(home.config()), flags: Vec::new() };
        let config = Config::load(&options).expect("a valid configuration");
        let daemon = home.start().await;
        Self { home, daemon, config, receiver }
    }

    /// The sample's header fields and body as the provider sends them now.
    fn signed(&self, preset: &Preset, sample: &Sample) -> (Vec<(String, String)>, Vec<u8>) {
        let source = self.config.sources.iter().find(|s| s.name.as_str() == preset.name);
        let intake = &source.expect("configured").intake;
        let now = Clock::system().wall();
        let body = sample.body_at(now).into_owned().into_bytes();
        let mut all: Vec<_> =
            sample.all_headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let plain = Headers::from_pairs(all.iter().map(|(n, v)| (&**n, v.as_bytes())));
        let private = PrivateKey::parse(PRIVATE_KEY).expect("a key");
        let private = (preset.name == "discord").then_some(&private);
        all.extend(intake.sign_sample_with(private, &plain, &body, now).expect("signed"));
        (all, body)
    }

    async fn post(&self, path: &str, headers: &[(String, String)], body: &[u8]) -> Reply {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        self.daemon.post(path, &headers, body).await
    }
}

#[tokio::test]
async fn each_sample_of_each_provider_is_accepted_and_its_repeat_known() {
    let mut every = Every::start().await;
    let (mut events, mut repeated) = (0, 0);
    for preset in presets() {
        let path = format!("/in/{}", preset.name);
        for sample in preset.samples {
            let what = format!("{} {}", preset.name, sample.event);
            let (headers, body) = every.signed(preset, sample);
            let mut forged = body.clone();
            forged[0] ^= 1;
            // A token proves who sends, not what.
            let token = ["authorization", "x-gitlab-token"];
            let binds = !headers.iter().any(|(name, _)| token.contains(&&**name));
            if binds && !preset.schemes().is_empty() {
                let reply = every.post(&path, &headers, &forged).await;
                assert_eq!(reply.status, 401, "{what}, forged");
            }
            let (id, status) = every.post(&path, &headers, &body).await.ack();
            assert_eq!(status, "accepted", "{what}");
            let (again, status) = every.post(&path, &headers, &body).await.ack();
            // These have no id of an event, or a test event that is meant to be seen each time.
            let new = ["asana", "custom", "meta", "microsoft-graph"].contains(&preset.name)
                || sample.event == "webhook.test";
            let expected = if new { ("accepted", false) } else { ("duplicate", true) };
            assert_eq!((status.as_str(), again == id), expected, "{what}");
            events += if new { 2 } else { 1 };
            repeated += usize::from(!new);
        }
    }
    assert!(events > 50 && repeated > 40, "{events} events, {repeated} repeats");
    let got = every.receiver.take(events).await;
    assert!(
        got.iter().all(|request| request.find("everhook-event").is_some_and(|e| e != "unknown"))
    );
}

#[tokio::test]
async fn handshakes_are_answered_and_are_no_events() {
    let every = Every::start().await;
    let by = |name: &str| preset(name).expect("a preset");
    let json = "application/json";
    let callback = &[("twitch-eventsub-message-type", "webhook_callback_verification")][..];
    let validation = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"q9-_A"}}"#;
    let mac = sign::hex(&sign::hmac_sha256(b"sample-secret", b"q9-_A"));
    let validated = format!(r#"{{"plainToken":"q9-_A","encryptedToken":"{mac}"}}"#);
    let asks = [
        (
            "slack",
            &[][..],
            r#"{"challenge":"c1","type":"url_verification"}"#,
            200,
            "text/plain",
            "c1",
        ),
        ("discord", &[], r#"{"version":1,"application_id":"1","type":0}"#, 204, json, ""),
        ("discord", &[], r#"{"id":"1","type":1}"#, 200, json, r#"{"type":1}"#),
        ("twitch", callback, r#"{"challenge":"c 2","subscription":{}}"#, 200, "text/plain", "c 2"),
        ("zoom", &[], validation, 200, json, &validated),
    ];
    for (name, fields, body, status, kind, answer) in asks {
        let sample = Sample { event: "", headers: fields, body };
        let (headers, body) = every.signed(by(name), &sample);
        let path = format!("/in/{name}");
        let reply = every.post(&path, &headers, &body).await;
        assert_eq!((reply.status, &*reply.body), (status, answer.as_bytes()), "{name}");
        assert_eq!(reply.headers["content-type"], kind);
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        let unsigned = every.post(&path, &[], &body).await;
        assert_eq!(unsigned.status, 401, "{name}");
        // Discord asks like this on purpose.
        let mut forged = headers;
        let proof = &mut forged.last_mut().expect("a proof").1;
        let end = proof.pop().map(|last| if last == '0' { '1' } else { '0' });
        proof.extend(end);
        let unverified = every.post(&path, &forged, &body).await;
        assert_eq!((unverified.status, &unverified.json()["cause"]), (401, &"unverified".into()));
    }
    let query = "hub.mode=subscribe&hub.challenge=7&hub.verify_token=sample-verify-token";
    let get = async |path: String| {
        let mut connection = every.daemon.connect().await;
        within("an answer", connection.get(&path)).await.expect("an answer")
    };
    let reply = get(format!("/in/meta?{query}")).await;
    assert_eq!((reply.status, &*reply.body), (200, &b"7"[..]));
    assert_eq!(get(format!("/in/meta?{}", query.replace("sample", "other"))).await.status, 401);
    assert_eq!(get("/in/meta".to_owned()).await.status, 400);
    assert_eq!(get(format!("/in/slack?{query}")).await.status, 405);
    let reply = every.post("/in/microsoft-graph?validationToken=a%20b%2Bc", &[], b"").await;
    assert_eq!((reply.status, &*reply.body), (200, &b"a b+c"[..]));
    let said = |secret: &str| vec![("x-hook-secret".to_owned(), secret.to_owned())];
    let reply = every.post("/in/asana", &said("sample-secret"), b"").await;
    assert_eq!(
        (reply.status, &reply.headers["x-hook-secret"]),
        (200, &"sample-secret".parse().expect("text"))
    );
    assert_eq!(every.post("/in/asana", &said("another"), b"").await.status, 401);
    for name in ["slack", "discord", "twitch", "zoom", "meta", "microsoft-graph", "asana"] {
        let series = format!("everhook_events_accepted_total{{source=\"{name}\"}}");
        assert!(every.daemon.metric(&series).await < 0.5, "{name}");
    }
}

#[tokio::test]
async fn what_is_sent_for_a_trial_is_signed_as_the_provider_signs() {
    let every = Every::start().await;
    let key = every.home.journal().with_file_name("private-key");
    std::fs::write(&key, format!("{PRIVATE_KEY}\n")).expect("a writable directory");
    let key = key.display().to_string();
    let send = async |name: &str, more: &[&str]| {
        let url = format!("http://{}/in/{name}", every.daemon.ingress);
        let arguments = [&["send", name, "--json", "--url", &url], more].concat();
        let output = within("a command", every.home.command(&arguments).output()).await;
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in ["linear", "twilio", "github", "cloudevents"] {
        let (code, said) = send(name, &[]).await;
        assert_eq!(code, Some(0), "{name}: {said}");
    }
    assert_eq!(send("discord", &["--signing-key", &key]).await.0, Some(0));
    let (code, said) = send("discord", &[]).await;
    assert!(code == Some(1) && said.contains("private key"), "{said}");
    let (code, said) =
        send("discord", &["--signing-key", &every.home.config().display().to_string()]).await;
    assert!(code == Some(1) && said.contains("--signing-key"), "{said}");
}

#[tokio::test]
async fn a_step_that_never_comes_and_a_build_that_stands_still_are_counted_and_logged() {
    let receiver = Receiver::good().await;
    let home = Home::new(&format!(
        "[source.s]\nprovider = \"streampixel\"\n\
         stages = {{ gap_after = \"1s\", stall_after = \"1s\" }}\n[target.t]\nurl = {:?}\n",
        receiver.url()
    ));
    let daemon = home.start().await;
    let series = |name: &str| format!("everhook_stage_{name}_total{{source=\"s\"}}");
    for event in ["build.uploaded", "build.extracting"] {
        let body = format!(r#"{{"event":"{event}","projectId":"p1","uploadId":"u1"}}"#);
        assert_eq!(daemon.post("/in/s", &[], body.as_bytes()).await.status, 200);
    }
    daemon.metric_becomes(&series("gaps"), 1.0).await;
    daemon.metric_becomes(&series("stalls"), 1.0).await;
    let log = daemon.log().join("\n");
    for part in [
        "\"missing\":\"build.downloading\"",
        "\"last\":\"build.extracting\"",
        "\"build\":\"p1/u1\"",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[tokio::test]
async fn the_command_line_lists_the_providers_and_describes_each() {
    let home = Home::new("");
    let run = async |arguments: &[&str]| {
        let output = within("a command", home.command(arguments).output()).await.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (_, list) = run(&["providers"]).await;
    let (_, json) = run(&["providers", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.as_array().expect("a list").len(), presets().len());
    for preset in presets() {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(preset.name)));
    }
    let (code, page) = run(&["providers", "twilio"]).await;
    assert_eq!(code, Some(0));
    for part in [
        "Auth Token",
        "HMAC-SHA1 in base64 of {url}{form_sorted}",
        "public_url = ",
        "everhook send twilio",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(run(&["providers", "twillio"]).await.0, Some(1));
}
