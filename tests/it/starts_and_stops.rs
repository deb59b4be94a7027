//! How the daemon begins beside another one, and how soon it ends.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::daemon::Home;
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
async fn the_service_manager_is_told_what_is_relayed_in_good_grammar() {
    let receiver = Receiver::good().await;
    let home = Home::new(&relay_to(&receiver));
    let path = home.config().with_file_name("notify");
    let manager = tokio::net::UnixDatagram::bind(&path).expect("a socket");
    let mut daemon = home.command(&["serve"]).env("NOTIFY_SOCKET", &path).spawn().expect("it runs");
    let told = within("it is ready", async {
        loop {
            let mut message = [0; 1024];
            let length = manager.recv(&mut message).await.expect("a message");
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.contains("READY=1") {
                return text;
            }
        }
    });
    let told = told.await;
    assert!(told.contains("STATUS=relaying 1 source to 1 target\n"), "{told}");
    daemon.kill().await.expect("it was running");
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
