//! How the daemon begins beside another one, and how soon it ends.

use crate::harness::daemon::Home;
use crate::harness::receiver::Receiver;
use crate::harness::within;

fn relay_to(receiver: &Receiver) -> String {
    format!(
        "[source.any]\nprovider = \"custom\"\nverify = {{ kind = \"none\" }}\n[target.t]\nurl = {:?}\n",
        receiver.url()
    )
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
