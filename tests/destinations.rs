//! Every form of a destination leads to the same listener: ac(7), DESTINATIONS.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::process::Command;

use common::*;

/// Bob listens on `bind` for one message; Alice, whom `prepare` sets up, sends it to `to`.
struct Meeting {
    bob: Home,
    alice: Home,
    listener: Listener,
}

impl Meeting {
    fn on(bind: &str) -> Self {
        let (bob, alice) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let listener = Listener::spawn(&bob, &["-1", bind]);
        Self { bob, alice, listener }
    }

    fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Adds a hint to Alice's file of `name`.
    fn hint(&self, name: &str, addresses: &[&str]) {
        let path = self.alice.path().join(format!("contacts/{name}.pub"));
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "address = {addresses:?}").unwrap();
    }

    /// Alice gets one more contact.
    fn also_knows(&self, name: &str) {
        self.alice.import(&Home::with_identity(), name);
    }

    fn delivers_to(mut self, operands: &[&str]) {
        assert_code(&send(&self.alice, operands, b"hi\n"), 0);
        assert!(self.listener.wait_exit(DEADLINE).success());
        assert_eq!(self.listener.stdout(), b"hi\n");
    }
}

fn ipv6() -> bool {
    let there = std::net::TcpListener::bind("[::1]:0").is_ok();
    possible(there, "give the loopback device its IPv6 address")
}

#[test]
fn a_name_is_reached_at_the_address_in_its_key_file() {
    let meeting = Meeting::on("127.0.0.1:0");
    meeting.hint("bob", &[&format!("127.0.0.1:{}", meeting.port())]);
    meeting.delivers_to(&["bob"]);
}

#[test]
fn addresses_in_a_key_file_are_tried_in_turn() {
    let meeting = Meeting::on("127.0.0.1:0");
    // Nobody listens at 127.0.0.2, where this port is refused.
    let port = meeting.port();
    meeting.hint("bob", &[&format!("127.0.0.2:{port}"), &format!("127.0.0.1:{port}")]);
    meeting.delivers_to(&["bob"]);
}

#[test]
fn a_name_without_an_address_is_unreachable_and_the_hint_says_what_to_do() {
    let meeting = Meeting::on("127.0.0.1:0");
    let sent = send(&meeting.alice, &["bob"], b"");
    assert_code(&sent, 4);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(said.contains("bob: no address is known") && said.contains("bob@HOST:PORT"), "{said}");
}

#[test]
fn a_name_and_an_address_together() {
    let meeting = Meeting::on("127.0.0.1:0");
    meeting.also_knows("carol");
    let to = meeting.listener.destination("bob");
    meeting.delivers_to(&[&to]);
}

#[test]
fn an_address_alone_means_the_only_contact() {
    let meeting = Meeting::on("127.0.0.1:0");
    let to = format!("127.0.0.1:{}", meeting.port());
    meeting.delivers_to(&[&to]);
}

#[test]
fn an_address_alone_means_the_contact_whose_address_says_so() {
    let meeting = Meeting::on("127.0.0.1:0");
    meeting.also_knows("carol");
    let to = format!("127.0.0.1:{}", meeting.port());
    meeting.hint("bob", &["10.9.8.7:6", &to]);
    meeting.hint("carol", &["10.9.8.7:7"]);
    meeting.delivers_to(&[&to]);
}

#[test]
fn an_address_that_could_be_several_contacts_is_an_error_that_lists_them() {
    let meeting = Meeting::on("127.0.0.1:0");
    meeting.also_knows("carol");
    let sent = send(&meeting.alice, &["127.0.0.1:9"], b"");
    assert_code(&sent, 2);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(said.contains("NAME@127.0.0.1:9") && said.contains("bob, carol"), "{said}");
}

#[test]
fn a_host_and_a_port_as_with_nc() {
    let meeting = Meeting::on("127.0.0.1:0");
    let port = meeting.port().to_string();
    meeting.delivers_to(&["127.0.0.1", &port]);
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    if !ipv6() {
        return;
    }
    let meeting = Meeting::on("[::1]:0");
    let to = format!("bob@[::1]:{}", meeting.port());
    meeting.delivers_to(&[&to]);
    let meeting = Meeting::on("[::1]:0");
    let to = format!("[::1]:{}", meeting.port());
    meeting.delivers_to(&[&to]);
    let meeting = Meeting::on("[::1]:0");
    let port = meeting.port().to_string();
    meeting.delivers_to(&["::1", &port]);
}

#[test]
fn a_bare_port_hears_both_families() {
    let meeting = Meeting::on("0");
    let to = format!("bob@127.0.0.1:{}", meeting.port());
    meeting.delivers_to(&[&to]);
    if !ipv6() {
        return;
    }
    let meeting = Meeting::on("0");
    let to = format!("bob@[::1]:{}", meeting.port());
    meeting.delivers_to(&[&to]);
}

#[test]
fn a_host_name_is_looked_up() {
    let meeting = Meeting::on("127.0.0.1:0");
    let to = format!("bob@localhost:{}", meeting.port());
    meeting.delivers_to(&[&to]);
    let meeting = Meeting::on("localhost:0");
    let port = meeting.port().to_string();
    meeting.delivers_to(&["localhost", &port]);
}

/// In a mount namespace whose `/etc/hosts` gives one name two addresses.
#[test]
fn every_address_of_a_host_name_is_tried_in_turn() {
    let unshare = || Command::new("unshare").args(["--mount", "true"]).output();
    let can = unshare().is_ok_and(|done| done.status.success());
    if !possible(can, "run as root, with unshare") {
        return;
    }
    // One of the two addresses is refused, whichever the system's resolver puts first.
    for bind in ["127.0.0.1:0", "127.0.0.2:0"] {
        let mut meeting = Meeting::on(bind);
        let hosts = meeting.alice.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.2 many.example\n127.0.0.1 many.example\n").unwrap();
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\" \"$3\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(hosts).arg(program("ac-send"));
        command.arg(format!("bob@many.example:{}", meeting.port()));
        meeting.alice.at_home(&mut command);
        assert_code(&run(command, b"hi\n", DEADLINE), 0);
        assert!(meeting.listener.wait_exit(DEADLINE).success());
        assert_eq!(meeting.listener.stdout(), b"hi\n");
    }
}

#[test]
fn a_name_with_a_slash_is_the_path_of_a_key_file() {
    let meeting = Meeting::on("127.0.0.1:0");
    let to = format!("{}@127.0.0.1:{}", meeting.bob.public_key_file().display(), meeting.port());
    meeting.delivers_to(&[&to]);
}

#[test]
fn a_path_may_contain_what_means_something_elsewhere() {
    let meeting = Meeting::on("127.0.0.1:0");
    let folder = meeting.alice.path().join("bob@work: x");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("bob.pub");
    std::fs::copy(meeting.alice.path().join("contacts/bob.pub"), &file).unwrap();
    let hint = format!("address = [\"127.0.0.1:{}\"]\n", meeting.port());
    std::fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .unwrap()
        .write_all(hint.as_bytes())
        .unwrap();
    meeting.delivers_to(&[file.to_str().unwrap()]);
}
