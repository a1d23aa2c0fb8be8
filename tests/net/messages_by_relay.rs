//! What ac-send says of a message that goes by a relay is so: delivered when the recipient has
//! acknowledged it, queued when the relay holds it, and neither when it does not.

use crate::testkit::{
    common,
    keys::{group, identity, public},
    proxy,
    random::bytes,
    relay_client, relay_reader,
};

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{FRAGMENT_LEN, Kind, MAX_MESSAGE};
use anonchat::proto::relay::mailbox::epoch;
use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, run, said, send, unix_ms};
use proxy::Proxy;
use relay_client::Relay;
use relay_reader::{Recipient, Scene, key_file, know};

impl Scene {
    /// bob, who reads what alice writes to a contact.
    fn recipient(&self) -> Recipient {
        Recipient::of(identity(&self.bob), &public(&self.alice), &self.relay)
    }

    /// alice's ac-send, under way.
    fn sending(&self, args: &[&str], stdin: &[u8]) -> Running {
        let mut sending = Running::start(self.alice.command("ac-send", args));
        sending.feed(stdin.to_vec());
        sending
    }

    fn send(&self, args: &[&str], stdin: &[u8]) -> Output {
        send(&self.alice, args, stdin)
    }
}

#[test]
fn a_message_is_delivered_when_the_recipient_says_so() {
    let scene = Scene::new();
    let mut bob = scene.recipient();
    for len in [0, 3, FRAGMENT_LEN, FRAGMENT_LEN + 1, MAX_MESSAGE] {
        let mut sending = scene.sending(&["--via", "home", "bob"], &bytes(len));
        let message = bob.message();
        assert_eq!(message.kind, Kind::Message);
        assert!(message.body == bytes(len), "{len} bytes");
        assert_eq!(message.sender, public(&scene.alice));
        assert!(sending.poll_exit().is_none(), "nobody has acknowledged it yet");
        bob.answer(&message, Status::Delivered);
        assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
        assert_eq!(sending.stderr(), "");
    }
}

#[test]
fn nobody_there_means_queued_which_is_code_7_or_what_queue_asked_for() {
    let scene = Scene::new();
    let sent = scene.send(&["--via", "home", "-w", "1s", "bob"], b"one\n");
    assert_code(&sent, 7);
    let words = said(&sent);
    assert!(words.starts_with("ac-send: bob: queued at relay home: not acknowledged yet\nhint: "));
    assert!(words.contains("when they listen there within 1 d; with --queue "), "{words}");
    let sent = scene.send(&["--via", "home", "-w", "1s", "--queue", "bob"], b"two\n");
    assert_code(&sent, 0);
    assert_eq!(said(&sent), "ac-send: bob: queued at relay home: not acknowledged yet\n");
    let sent = scene.send(&["--via", "home", "-w", "1s", "--queue", "-q", "bob"], b"three\n");
    assert_code(&sent, 0);
    assert_eq!(said(&sent), "");
    let mut bob = scene.recipient();
    let found: Vec<_> = (0..3).map(|_| bob.message().body).collect();
    assert_eq!(found, [&b"one\n"[..], b"two\n", b"three\n"]);
}

#[test]
fn a_recipient_that_hears_no_contacts_of_that_key_finds_it_in_public() {
    let scene = Scene::new();
    let mut bob = Recipient::public(identity(&scene.bob), &scene.relay);
    let mut sending = scene.sending(&["--via", "home", "bob"], b"it is me\n");
    let message = bob.deliver();
    assert_eq!((&message.body[..], message.sender), (&b"it is me\n"[..], public(&scene.alice)));
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

#[test]
fn an_anonymous_message_goes_to_the_public_mailbox_under_another_key() {
    let scene = Scene::new();
    let mut bob = Recipient::public(identity(&scene.bob), &scene.relay);
    let began = Instant::now();
    let mut sending = scene.sending(&["--via", "home", "-a", "bob"], b"guess\n");
    let message = bob.deliver();
    assert!(message.sender != public(&scene.alice));
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
    assert!(began.elapsed() < Duration::from_millis(1500) || cfg!(debug_assertions));
}

#[test]
fn a_message_that_is_held_is_waited_for_and_one_that_is_declined_is_code_8() {
    let scene = Scene::new();
    let mut bob = scene.recipient();
    let args = ["--via", "home", "-w", "4s", "bob"];
    let mut sending = scene.sending(&args, b"later\n");
    let message = bob.message();
    // Each one says that bob is there still, for longer than without.
    for _ in 0..3 {
        bob.answer(&message, Status::Received);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            assert!(sending.poll_exit().is_none(), "{}", sending.stderr());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
    bob.answer(&message, Status::Declined);
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(8));
    assert!(sending.stderr().contains("bob: declined"));
}

#[test]
fn what_does_not_fit_goes_by_circuit_and_nobody_there_is_code_4() {
    let scene = Scene::new();
    let sent = scene.send(&["--via", "home", "-w", "1s", "bob"], &bytes(MAX_MESSAGE + 1));
    assert_code(&sent, 4);
    assert!(said(&sent).contains("bob: nobody is there, at relay home"), "{}", said(&sent));
    // Input that flows slowly does not wait for its end.
    let mut sending =
        Running::start(scene.alice.command("ac-send", &["--via", "home", "-w", "1s", "bob"]));
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(4), "{}", sending.stderr());
}

#[test]
fn a_relay_that_is_not_there_is_code_4_and_one_with_another_key_code_5() {
    let scene = Scene::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sent = scene.send(&["--via", &format!("home@127.0.0.1:{free}"), "bob"], b"x");
    assert_code(&sent, 4);
    assert!(said(&sent).contains("bob: relay home: 127.0.0.1:"), "{}", said(&sent));
    let other = Relay::spawn(&["127.0.0.1:0"]);
    let there = format!("home@127.0.0.1:{}", other.port);
    let sent = scene.send(&["--via", &there, "-w", "2s", "bob"], b"x");
    assert_code(&sent, 5);
    assert!(said(&sent).contains("bob: relay home: "), "{}", said(&sent));
    // The next relay is as good.
    let sent = scene.send(&["--via", &there, "--via", "home", "-w", "2s", "bob"], b"x");
    assert_code(&sent, 7);
}

#[test]
fn a_full_mailbox_is_an_error_until_there_is_room() {
    let args = ["--via", "home", "-w", "2s", "bob"];
    // Each day has a mailbox of its own, and the next one's is empty.
    let sent = loop {
        let day = epoch(unix_ms());
        let scene = Scene::with(&["--mailbox-cells", "3"]);
        assert_code(&scene.send(&args, &bytes(3 * FRAGMENT_LEN)), 7);
        let sent = scene.send(&args, b"one more\n");
        if day == epoch(unix_ms()) {
            break sent;
        }
    };
    assert_code(&sent, 4);
    let said = said(&sent);
    assert!(said.contains("bob: relay home holds as much for them as it may"), "{said}");
}

#[test]
fn a_link_that_is_cut_midway_costs_nothing() {
    let scene = Scene::new();
    let proxy = Proxy::narrow(scene.relay.port);
    let via = proxy.destination("home");
    let mut bob = scene.recipient();
    let content = bytes(MAX_MESSAGE);
    let mut sending = scene.sending(&["--via", &via, "bob"], &content);
    for passed in [12_000, 30_000, 60_000] {
        proxy.wait_passed(passed);
        proxy.interrupt();
    }
    let message = bob.message();
    assert!(message.body == content);
    // What was confirmed before a cut is not posted again.
    assert!(message.packets < 64 + 3 * 40, "{} packets", message.packets);
    // The RECEIPT is held until the sender is back.
    proxy.interrupt();
    bob.answer(&message, Status::Delivered);
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

#[test]
fn when_one_relay_goes_down_the_next_has_all_of_it() {
    let scene = Scene::new();
    let proxy = Proxy::narrow(scene.relay.port);
    let other = Relay::spawn(&["127.0.0.1:0"]);
    know(&scene.alice, &other, "spare", other.port);
    let mut bob = Recipient::of(identity(&scene.bob), &public(&scene.alice), &other);
    let content = bytes(MAX_MESSAGE);
    let via = proxy.destination("home");
    let mut sending = scene.sending(&["--via", &via, "--via", "spare", "bob"], &content);
    proxy.wait_passed(20_000);
    proxy.cut();
    assert!(bob.deliver().body == content);
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

#[test]
fn a_relay_that_is_restarted_holds_nothing_and_the_sender_was_not_told_0() {
    let mut scene = Scene::new();
    let proxy = Proxy::to(scene.relay.port);
    let via = proxy.destination("home");
    let mut sending = scene.sending(&["--via", &via, "-w", "3s", "-vv", "bob"], b"gone\n");
    sending.wait_stderr("ACK: the relay holds a packet");
    scene.relay.kill();
    proxy.interrupt();
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(7), "{}", sending.stderr());
}

#[test]
fn several_destinations_have_a_line_each_and_each_its_relay() {
    let scene = Scene::new();
    let carol = Home::with_identity();
    befriend(&scene.alice, "alice", &carol, "carol");
    // carol's own key file says where she is.
    let hinted = Relay::spawn(&["127.0.0.1:0"]);
    know(&scene.alice, &hinted, "hers", hinted.port);
    hint(&scene.alice, "carol", "relay = \"hers\"\n");
    hint(&scene.alice, "bob", "relay = \"home\"\n");
    let mut reader = Recipient::of(identity(&carol), &public(&scene.alice), &hinted);
    let args = ["-w", "3s", "--json", "bob", "carol"];
    let mut sending = scene.sending(&args, b"to both\n");
    assert_eq!(reader.deliver().body, b"to both\n");
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(7), "{}", sending.stderr());
    let lines = String::from_utf8(sending.stdout()).unwrap();
    let mut lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["to"].as_str().unwrap().to_owned());
    assert_eq!((&lines[0]["to"], &lines[0]["status"]), (&"bob".into(), &"queued".into()));
    assert_eq!((&lines[0]["code"], &lines[1]["code"]), (&7.into(), &0.into()));
    assert_eq!(lines[1]["status"], "delivered");
    let mut bob = scene.recipient();
    assert_eq!(bob.message().body, b"to both\n");
}

/// Adds a line to the key file of a contact.
fn hint(home: &Home, contact: &str, line: &str) {
    let path = home.path().join(format!("contacts/{contact}.pub"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + line).unwrap();
}

#[test]
fn who_has_an_address_too_is_called_there_first() {
    let scene = Scene::new();
    let mut listener = Listener::spawn(&scene.bob, &["-1", "127.0.0.1:0"]);
    let address = format!("address = [\"127.0.0.1:{}\"]\nrelay = \"home\"\n", listener.port());
    hint(&scene.alice, "bob", &address);
    assert_code(&scene.send(&["bob"], b"direct\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"direct\n");
    // Nobody listens there any more.
    let mut bob = scene.recipient();
    let mut sending = scene.sending(&["bob"], b"by the relay\n");
    assert_eq!(bob.deliver().body, b"by the relay\n");
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

#[test]
fn a_group_has_a_mailbox_of_its_own() {
    let scene = Scene::new();
    assert_code(&scene.bob.keygen(&["--group", "team"]), 0);
    let key = std::fs::read(scene.bob.path().join("groups/team.key")).unwrap();
    let copy = scene.alice.path().join("team.key");
    std::fs::write(&copy, key).unwrap();
    set_private(&copy);
    assert_code(&scene.alice.keygen(&["--import", copy.to_str().unwrap(), "--as", "team"]), 0);
    let mut member = Recipient::public(group(&scene.bob, "team"), &scene.relay);
    let mut sending = scene.sending(&["--via", "home", "team"], b"all of you\n");
    let message = member.deliver();
    assert_eq!((&message.body[..], message.sender), (&b"all of you\n"[..], public(&scene.alice)));
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

fn set_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_history_says_of_a_queued_message_that_nobody_acknowledged_it() {
    let scene = Scene::new();
    let history = scene.alice.path().join("history");
    let path = history.to_str().unwrap();
    let args = ["--via", "home", "-w", "1s", "--history", path, "bob"];
    assert_code(&scene.send(&args, b"for later\n"), 7);
    let replayed =
        run(scene.alice.command("ac-listen", &["--json", "--replay", path]), b"", DEADLINE);
    assert_code(&replayed, 0);
    let line: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!((&line["text"], &line["status"]), (&"for later\n".into(), &"sent".into()));
    assert_eq!(line["transport"], "relay");
}

#[test]
fn what_makes_no_sense_with_queue_is_refused() {
    let scene = Scene::new();
    for args in [&["-u"][..], &["-z"], &["-o", "x"], &["-b"], &["-i"]] {
        let args = [args, &["--queue", "bob"]].concat();
        assert_code(&scene.send(&args, b""), 2);
    }
    let file: PathBuf = scene.alice.path().join("by-path.pub");
    std::fs::write(&file, key_file(&scene.relay, scene.relay.port)).unwrap();
    let args = ["--via", file.to_str().unwrap(), "-w", "1s", "bob"];
    assert_code(&scene.send(&args, b"a path names a relay too\n"), 7);
}
