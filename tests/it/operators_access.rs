//! Who may look and act on the admin listener, and who may not.

use crate::harness::api::{Api, nothing};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::http::{Connection, Reply};
use crate::harness::within;

const BODY: &str = "[source.any]\nprovider = \"custom\"\nverify = { kind = \"none\" }\n\
                    [target.t]\nurl = \"http://127.0.0.1:1/\"\n";

async fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut connection = Connection::open(daemon.admin).await.expect("the admin side listens");
    within("an answer", connection.ask(method, path, headers, "")).await.expect("an answer")
}

#[tokio::test]
async fn a_page_of_another_site_and_a_foreign_name_are_refused() {
    let home = Home::new(BODY);
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    let status = async |method, path, headers: &[(&str, &str)]| {
        ask(&daemon, method, path, headers).await.status
    };
    let figures = "/api/v1/stats";
    assert_eq!(status("GET", figures, &[]).await, 200);
    assert_eq!(status("GET", figures, &[("host", "evil.example")]).await, 403);
    assert_eq!(status("GET", figures, &[("host", "localhost:1")]).await, 200);
    assert_eq!(status("GET", figures, &[("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(status("GET", figures, &[("sec-fetch-site", "same-origin")]).await, 200);
    let pause = "/api/v1/targets/t/pause";
    assert_eq!(status("POST", pause, &[("origin", "http://evil.example")]).await, 403);
    assert_eq!(status("POST", pause, &[("origin", "null")]).await, 403);
    let own = format!("http://{}", daemon.admin);
    assert_eq!(status("POST", pause, &[("origin", &own)]).await, 200);
    // What a form of any site could send without being asked.
    let form = [("content-type", "text/plain")];
    assert_eq!(api.raw("POST", "/api/v1/replay", &form, "{}").await.status, 415);
    // A page may be opened from anywhere; it holds nothing.
    assert_eq!(status("GET", "/", &[("sec-fetch-site", "cross-site")]).await, 200);
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_configured_and_one_for_looking_changes_nothing() {
    let home = Home::new(BODY);
    let mut command = home.command(&["serve"]);
    command.env("EVERHOOK_ADMIN__TOKEN", "plain:canary-all");
    command.env("EVERHOOK_ADMIN__READ_ONLY_TOKEN", "plain:canary-look");
    let daemon = Home::started(command).await;
    for path in ["/api/v1/stats", "/api/v1/openapi.json", "/metrics"] {
        for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "x")]] {
            let answer = ask(&daemon, "GET", path, headers).await;
            assert_eq!(
                (answer.status, answer.headers.get("www-authenticate").is_some()),
                (401, true)
            );
        }
    }
    for path in ["/", "/livez", "/readyz"] {
        assert_eq!(ask(&daemon, "GET", path, &[]).await.status, 200, "{path}");
    }
    let lower = [("authorization", "bearer canary-look")];
    assert_eq!(ask(&daemon, "GET", "/api/v1/stats", &lower).await.status, 200);
    let looking = Api::with(daemon.admin, Some("canary-look")).await;
    looking.get("stats").await;
    assert_eq!(looking.post("targets/t/pause", nothing()).await.0, 403);
    let all = Api::with(daemon.admin, Some("canary-all")).await;
    assert_eq!(all.post("targets/t/pause", nothing()).await.0, 200);
    let log = daemon.log().join("\n");
    assert!(log.contains("an operator paused the target") && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn every_answer_keeps_a_browser_from_doing_anything_with_it() {
    let home = Home::new(BODY);
    let daemon = home.start().await;
    for path in ["/", "/api/v1/stats", "/api/v1/nothing", "/metrics", "/livez"] {
        let reply = ask(&daemon, "GET", path, &[]).await;
        let field = |name: &str| reply.headers[name].to_str().expect("text").to_owned();
        assert_eq!(field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(field("x-frame-options"), "DENY", "{path}");
        let policy = field("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!reply.headers.contains_key("set-cookie"), "{path}");
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    let preflight = [("origin", "http://evil.example"), ("access-control-request-method", "POST")];
    assert_eq!(ask(&daemon, "OPTIONS", "/api/v1/replay", &preflight).await.status, 405);
}

#[tokio::test]
async fn a_path_a_method_or_a_body_that_is_wrong_is_answered_with_a_problem() {
    let home = Home::new(BODY);
    let daemon = home.start().await;
    let api = Api::of(daemon.admin).await;
    for path in ["/api/v1/nothing", "/api/v1/events/", "/assets/../x", "/favicon.ico"] {
        assert_eq!(ask(&daemon, "GET", path, &[]).await.status, 404, "{path}");
    }
    let answer = ask(&daemon, "DELETE", "/api/v1/events", &[]).await;
    assert_eq!((answer.status, answer.headers["allow"].as_bytes()), (405, &b"GET, HEAD"[..]));
    let unknown = format!("events/evt_{}", "0".repeat(32));
    assert_eq!(api.ask("GET", &unknown, None).await.0, 404);
    assert_eq!(api.post(&format!("{unknown}/replay"), nothing()).await.0, 404);
    assert_eq!(api.ask("GET", "events?limit=0", None).await.0, 400);
    assert_eq!(api.ask("GET", "events?sorce=a", None).await.0, 400);
    let (status, problem) = api.post("targets/none/pause", nothing()).await;
    assert_eq!((status, problem["cause"].as_str()), (404, Some("not-found")));
    let json = [("content-type", "application/json")];
    let long = "x".repeat(70_000);
    let reply = api.raw("POST", &format!("/api/v1/{unknown}/replay"), &json, &long).await;
    assert_eq!(reply.status, 413);
    let reply = api.raw("POST", &format!("/api/v1/{unknown}/replay"), &json, "{").await;
    assert_eq!(reply.status, 400);
}
