//! Every form of a destination leads to the same listener: ac(7), DESTINATIONS.

use crate::testkit::common;

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

/// A command of `home` in a mount namespace whose `/etc/hosts` says that every name in `names` is here.
fn with_hosts(home: &common::Home, names: &str, name: &str, args: &[&str]) -> Command {
    let hosts = home.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {names}\n")).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(hosts).arg(program(name)).args(args);
    home.at_home(&mut command);
    command
}

fn can_mount() -> bool {
    let unshare = || Command::new("unshare").args(["--mount", "true"]).output();
    possible(unshare().is_ok_and(|done| done.status.success()), "run as root, with unshare")
}

/// Whoever asked the system for the name would be told an address, and deliver.
#[test]
fn an_onion_name_is_never_looked_up_and_is_said_to_need_a_proxy() {
    if !can_mount() {
        return;
    }
    let meeting = Meeting::on("127.0.0.1:0");
    let port = meeting.port();
    let hosts = "abc.onion ABC.Onion abc.onion. www.abc.onion onion";
    let run_it = |name: &str, args: &[&str], code: i32| {
        let output = run(with_hosts(&meeting.alice, hosts, name, args), b"hi\n", DEADLINE);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name} {args:?}: {stderr}");
        assert!(stderr.contains("onion name needs a proxy"), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    };
    for name in ["abc.onion", "ABC.Onion", "abc.onion.", "www.abc.onion", "onion"] {
        let (to, number) = (format!("bob@{name}:{port}"), port.to_string());
        for args in [&[][..], &["-u"], &["-z"], &["-i"]] {
            run_it("ac-send", &[args, &[&to]].concat(), 4);
        }
        run_it("ac-send", &[name, &number], 4);
        run_it("ac-send", &["--plain", name, &number], 4);
        run_it("ac-send", &["--plain", "-u", name, &number], 4);
        run_it("ac-listen", &[&format!("{name}:0")], 2);
        run_it("ac-relay", &[&format!("{name}:0")], 2);
        run_it("ac-relay", &["--address", &format!("{name}:7000"), "127.0.0.1:0"], 2);
        run_it("ac-relay", &["--metrics", &format!("{name}:0"), "127.0.0.1:0"], 2);
        run_it("ac-discover", &["--announce", &format!("{name}:1234")], 2);
        run_it("ac-keygen", &["-y", "--address", &format!("{name}:1234")], 2);
    }
    // A relay.
    let relay = std::fs::read_to_string(meeting.bob.public_key_file()).unwrap();
    let relay = relay.replace("anonchat-public", "anonchat-relay");
    let file = meeting.alice.path().join("home.pub");
    std::fs::write(&file, format!("{relay}address = [\"abc.onion:{port}\"]\n")).unwrap();
    meeting.alice.keygen(&["--import", file.to_str().unwrap(), "--as", "home"]);
    for relay in ["home", &format!("home@abc.ONION:{port}")] {
        run_it("ac-send", &["--via", relay, "bob"], 4);
        run_it("ac-listen", &["--via", relay], 4);
        run_it("ac-discover", &["--via", relay], 4);
    }
}

#[test]
fn a_key_file_may_name_an_onion_address_beside_others() {
    if !can_mount() {
        return;
    }
    let mut meeting = Meeting::on("127.0.0.1:0");
    let file = meeting.alice.path().join("contacts/bob.pub");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = |addresses: &str| format!("{text}address = [{addresses}]\n");
    std::fs::write(&file, with("\"abc.onion:9\"")).unwrap();
    let sent = run(with_hosts(&meeting.alice, "abc.onion", "ac-send", &["bob"]), b"hi\n", DEADLINE);
    assert_code(&sent, 4);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(said.contains("bob: abc.onion: an .onion name needs a proxy"), "{said}");
    let here = format!("\"abc.onion:9\", \"127.0.0.1:{}\"", meeting.port());
    std::fs::write(&file, with(&here)).unwrap();
    assert_code(&run(meeting.alice.command("ac-send", &["bob"]), b"hi\n", DEADLINE), 0);
    assert!(meeting.listener.wait_exit(DEADLINE).success());
}

/// In a mount namespace whose `/etc/hosts` gives one name two addresses.
#[test]
fn every_address_of_a_host_name_is_tried_in_turn() {
    if !can_mount() {
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
