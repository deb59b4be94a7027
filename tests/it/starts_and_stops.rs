//! How the daemon begins beside another one, and how soon it ends.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::daemon::Home;
use crate::harness::notified::Manager;
use crate::harness::receiver::{Act, Receiver};
use crate::harness::within;

fn relay_to(receiver: &Receiver) -> String {
    format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
        receiver.url()
    )
}

#[tokio::test]
async fn a_connection_amid_a_request_does_not_prolong_the_end() {
    let receiver = Receiver::scripted(|_, _| Act::Hang).await;
    let limits = "header_timeout = \"60s\"\nbody_timeout = \"60s\"\n";
    let home = Home::with_ingress(limits, &relay_to(&receiver));
    let daemon = home.start().await;
    daemon.post("/in/any", &[], b"hangs at the target").await.ack();
    let mut half_head = TcpStream::connect(daemon.ingress).await.expect("it listens");
    half_head.write_all(b"POST /in/any HTTP/1.1\r\nHost: a\r\n").await.expect("sent");
    let mut half_body = TcpStream::connect(daemon.ingress).await.expect("it listens");
    let begun = b"POST /in/any HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    half_body.write_all(begun).await.expect("sent");
    // It was taken up: a later connection was served.
    daemon.metric_grows("everhook_deliveries{state=\"in_flight\",target=\"t\"}").await;
    daemon.terminate();
    // Five seconds for what is in flight, and a little.
    let status = tokio::time::timeout(Duration::from_millis(7_500), daemon.ended()).await;
    assert!(status.expect("it ends in time").success());
}

#[tokio::test]
async fn a_second_daemon_with_the_same_configuration_names_the_first() {
    let receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let daemon = home.start().await;
    let listen = format!("EVERHOOK_INGRESS__LISTEN={}", daemon.ingress);
    for variable in [listen.as_str(), "EVERHOOK_INGRESS__LISTEN=127.0.0.1:0"] {
        let (name, value) = variable.split_once('=').expect("a variable");
        let second = home.command(&["serve"]).env(name, value).output();
        let output = within("the second one ends", second).await.expect("it ran");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(said.contains(&format!("in use by process {}", daemon.pid())), "{said}");
    }
    // Whoever else has the address is no journal's owner.
    let elsewhere = Home::new(&relay_to(&receiver));
    let mut other = elsewhere.command(&["serve"]);
    let output = other.env("EVERHOOK_INGRESS__LISTEN", daemon.ingress.to_string()).output();
    let output = within("it ends", output).await.expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.post("/in/any", &[], b"still there").await.status, 200);
}

#[tokio::test]
async fn the_service_manager_is_told_what_is_relayed_that_the_daemon_lives_and_that_it_stops() {
    let receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let manager = Manager::of(&home);
    let mut command = manager.serve(&home);
    command.env("WATCHDOG_USEC", "200000");
    let daemon = Home::started(command).await;
    let told = manager.hears("READY=1").await;
    assert!(told.contains("STATUS=relaying 1 source to 1 target\n"), "{told}");
    manager.hears("WATCHDOG=1").await;
    daemon.terminate();
    manager.hears("STOPPING=1").await;
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn health_is_asked_by_the_binary_itself_and_told_by_its_exit_code() {
    let receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let daemon = home.start().await;
    let ask = async |address: &str| {
        let mut command = home.command(&["health"]);
        let output = command.env("EVERHOOK_ADMIN__LISTEN", address).output();
        within("it answers", output).await.expect("it ran")
    };
    let well = ask(&daemon.admin.to_string()).await;
    assert_eq!((well.status.code(), &*well.stdout), (Some(0), &b"ready\n"[..]));
    let unwell = ask("127.0.0.1:1").await;
    let said = String::from_utf8_lossy(&unwell.stderr).into_owned();
    assert!(unwell.status.code() == Some(1) && said.contains("is it running?"), "{said}");
}

#[tokio::test]
async fn a_target_to_try_things_with_shows_what_it_answered() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let home = Home::new(&format!(
        "[source.any]\nprovider = \"streampixel\"\n[target.t]\nurl = \"http://{address}/\"\n\
         retry = {{ schedule = [\"100ms\", \"100ms\", \"100ms\", \"100ms\"], jitter = 0.0 }}\n"
    ));
    let listen = address.to_string();
    let receive = ["receive", "--listen", &listen, "--status", "503", "--count", "2", "--json"];
    let mut receiver = home.command(&receive).spawn().expect("it runs");
    let mut said = BufReader::new(receiver.stderr.take().expect("piped")).lines();
    let line = within("it listens", said.next_line()).await.expect("readable").expect("a line");
    assert!(line.contains(&format!("answering 503 on http://{address}/")), "{line}");
    let daemon = home.start().await;
    let url = format!("http://{}/in/any", daemon.ingress);
    let sent = home.command(&["send", "any", "--url", &url]).output();
    assert!(within("it is sent", sent).await.expect("it ran").status.success());
    let output = within("two attempts come", receiver.wait_with_output()).await.expect("it ran");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let attempts: Vec<_> = lines
        .iter()
        .flat_map(|line| line["headers"].as_array().expect("a list"))
        .filter(|field| field[0] == "everhook-attempt")
        .map(|field| field[1].as_str().expect("a text"))
        .collect();
    assert!(output.status.success() && lines.iter().all(|it| it["status"] == 503), "{said}");
    assert_eq!(attempts, ["1", "2"], "{said}");
    assert!(lines[0]["body"]["data"].as_str().expect("a text").contains("uploadId"), "{said}");
}

#[tokio::test]
async fn a_machine_without_authorities_serves_the_targets_that_need_none() {
    let mut receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let (none, nowhere) =
        (home.config().with_file_name("none"), home.config().with_file_name("no"));
    std::fs::write(&none, "").expect("written");
    let mut command = home.command(&["serve"]);
    let daemon = Home::started({
        command.env("SSL_CERT_FILE", &none).env("SSL_CERT_DIR", &nowhere);
        command
    });
    let daemon = daemon.await;
    daemon.post("/in/any", &[], b"plain").await.ack();
    assert_eq!(receiver.next().await.body, "plain");
    let secure = relay_to(&receiver).replace("http://", "https://");
    home.configure(&secure);
    let refused = daemon.admin_post("/api/v1/reload").await;
    let said = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        refused.status >= 400 && said.contains("target.t") && said.contains("ca-certificates"),
        "{said}"
    );
    // It needs none of the system's when it checks by its own, or not at all.
    home.configure(&format!("{secure}tls = {{ verify = false }}\n"));
    assert_eq!(daemon.admin_post("/api/v1/reload").await.status, 200);
}

#[tokio::test]
async fn completions_and_man_pages_come_from_the_binary() {
    let home = Home::new("");
    let out = home.config().with_file_name("man").display().to_string();
    for (arguments, expected) in [
        (&["completions", "bash"][..], "complete -F _everhook"),
        (&["completions", "zsh"], "#compdef everhook"),
        (&["completions", "fish"], "complete -c everhook"),
        (&["man"], ".TH everhook 1"),
        (&["man", "--out", &out], ""),
    ] {
        let output = within("it ends", home.command(arguments).output()).await.expect("it ran");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(expected), "{arguments:?}: {said:.300}");
    }
    let page = home.config().with_file_name("man").join("everhook-serve.1");
    assert!(std::fs::read_to_string(page).expect("a page").contains("everhook\\-serve"));
}

/// The settings of the allocator that a process was begun with.
fn allocator_settings(pid: u32) -> Vec<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("Linux");
    let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.filter(|it| it.starts_with("_RJEM_MALLOC_CONF=")).map(String::from).collect()
}

#[tokio::test]
async fn it_begins_again_in_place_with_the_allocators_settings_unless_some_are_set() {
    let receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let mut bare = home.command(&["serve"]);
    bare.env_remove("_RJEM_MALLOC_CONF");
    // The process that was started is the one that has them, and it works.
    let daemon = Home::started(bare).await;
    let [settings] = &allocator_settings(daemon.pid())[..] else { panic!("set once") };
    assert!(settings.contains("narenas:1,"), "{settings}");
    assert_eq!(daemon.post("/in/any", &[], b"taken").await.status, 200);
    daemon.terminate();
    assert!(daemon.ended().await.success());
    let mut own = home.command(&["serve"]);
    own.env("_RJEM_MALLOC_CONF", "narenas:3");
    let daemon = Home::started(own).await;
    assert_eq!(allocator_settings(daemon.pid()), ["_RJEM_MALLOC_CONF=narenas:3"], "left as it is");
    daemon.terminate();
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn the_engines_own_threads_wake_with_others_and_nobody_else_is_late() {
    let receiver = Receiver::good().await;
    for _fresh in 0..3 {
        let home = Home::new(&relay_to(&receiver));
        let daemon = home.start().await;
        daemon.post("/in/any", &[], b"1").await.ack();
        let pid = daemon.pid();
        let read = |path: String| std::fs::read_to_string(path).expect("the test runs as root");
        let punctual = read(format!("/proc/{pid}/timerslack_ns"));
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        let threads =
            threads.map(|it| it.expect("one").file_name().into_string().expect("a number"));
        let late = threads.filter_map(|thread| {
            let name = read(format!("/proc/{thread}/comm")).trim().to_owned();
            let slack = read(format!("/proc/{thread}/timerslack_ns"));
            // The housekeeper may be opening a store at this moment.
            let late = ["sled-io", "log flusher", "journal-houseke"];
            let may_be_late = late.iter().any(|it| name.starts_with(it));
            assert!(may_be_late || slack == punctual, "{name}: {slack}");
            name.starts_with("sled-io").then_some(slack)
        });
        let late: Vec<_> = late.collect();
        assert!(late.len() >= 7 && late.iter().all(|it| it.trim() == "60000000000"), "{late:?}");
    }
}

#[test]
fn the_unit_leaves_the_allocator_what_it_asks_the_system() {
    let unit = include_str!("../../systemd/everhook.service");
    // Without /proc/sys it takes the system for one that never overcommits, and holds on to more memory.
    assert!(unit.lines().all(|line| line.trim() != "ProcSubset=pid"));
}
