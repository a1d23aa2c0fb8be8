//! Whatever strangers send who hold a listener's public key file and are heard, its contacts are
//! heard as well: no memory that strangers fill, and no stamp of theirs, touches a contact.
//!
//! `AC_TEST_STRANGERS`: packets of strangers over UDP (4400). `AC_TEST_RELAY_STRANGERS`: those by a
//! relay (2000; full: 76,000). `AC_TEST_DISCOVERY_STRANGERS`: those on the local network (1000; full:
//! 2200), of which `AC_TEST_DISCOVERY_PACE` are sent a second (1000; full: 16).

use crate::testkit::{
    common,
    keys::{contact, identity},
    machines,
    measure::alone,
    relay_client, relay_people, udp,
};

use anonchat::crypto::sodium::{OsRandom, random};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{Kind, PACKET_LEN, Sealer as Seal, Way};
use anonchat::proto::datagram::presence::ProbeBody;
use anonchat::proto::datagram::probe::{Prober, Question};
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::time::Now;
use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, run, send, unix_ms};
use machines::Lan;
use relay_people::{Box, Sender, listen, name_of, relay};
use udp::{Stranger, packet};

/// How far ahead strangers stamp what they send, in milliseconds.
const AHEAD: u64 = 298_000;
/// Packets that any socket buffer holds.
const BATCH: usize = 40;

fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |n| n.parse().unwrap())
}

/// Alice and dave are contacts of bob, eve has his public key file.
fn people() -> [Home; 4] {
    let [alice, bob, dave, eve] = [(); 4].map(|()| Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    befriend(&dave, "dave", &bob, "bob");
    eve.import(&bob, "bob");
    [alice, bob, dave, eve]
}

/// Sends as many packets of strangers as are to be sent, and makes sure that all were read.
fn flood(listener: &Listener, dave: &Home, bob: &Home, mut one: impl FnMut(usize) -> udp::Packet) {
    let (stranger, friend) = (Stranger::to(listener.port()), Stranger::to(listener.port()));
    let (dave, bob) = (identity(dave), contact(bob));
    let numbers: Vec<usize> = (0..count("AC_TEST_STRANGERS", 4400)).collect();
    for batch in numbers.chunks(BATCH) {
        batch.iter().for_each(|n| stranger.send(&one(*n)));
        friend.wait_until_read(&dave, &bob);
    }
}

fn listen_to_all(bob: &Home, more: &[&str]) -> Listener {
    Listener::spawn(bob, &[&["-u", "--accept-unknown"], more, &["127.0.0.1:0"]].concat())
}

fn assert_heard(from: &Home, listener: &Listener, text: &str) {
    assert_code(&send(from, &["-u", &listener.destination("bob")], text.as_bytes()), 0);
    let text = text.to_owned();
    listener.wait_stdout("what the contact said", move |bytes| {
        String::from_utf8_lossy(bytes).contains(&text)
    });
    let asked = send(from, &["-u", "-z", &listener.destination("bob")], b"");
    assert_code(&asked, 0);
}

#[test]
fn probes_of_strangers_shut_no_contact_out() {
    let _alone = alone();
    let [alice, bob, dave, eve] = people();
    let listener = listen_to_all(&bob, &[]);
    let (eve_key, bob_key) = (identity(&eve), contact(&bob));
    flood(&listener, &dave, &bob, |_| {
        let (to, access) = (&bob_key.public, bob_key.access.as_bytes());
        let prober = Prober::new(&eve_key.pair, to, access, &mut OsRandom);
        let now = Now { mono: std::time::Duration::ZERO, unix_ms: unix_ms() + AHEAD };
        let mut probe = [0; PACKET_LEN];
        prober.packet(now, &mut OsRandom, &mut probe);
        probe
    });
    assert_heard(&alice, &listener, "heard all the same\n");
}

#[test]
fn messages_of_strangers_shut_no_contact_out_nor_do_they_after_a_restart() {
    let _alone = alone();
    let [alice, bob, dave, eve] = people();
    let state = bob.path().join("state");
    let args = ["--state", state.to_str().unwrap()];
    let listener = listen_to_all(&bob, &args);
    let (eve_key, bob_key) = (identity(&eve), contact(&bob));
    flood(&listener, &dave, &bob, |n| {
        let body = format!("spam {n}\n");
        packet(&eve_key, &bob_key, Way::Network, unix_ms() + AHEAD, body.as_bytes())
    });
    assert_heard(&alice, &listener, "heard all the same\n");
    drop(listener);
    let listener = listen_to_all(&bob, &args);
    assert_heard(&alice, &listener, "heard after a restart\n");
    // Nor is who was a stranger until now.
    bob.import(&eve, "eve");
    assert_heard(&eve, &listener, "a friend at last\n");
}

/// Posts volatile PROBEs of eve's to bob's public mailbox, and makes sure that all were read.
fn ask_often(relay: &relay_client::Relay, eve: &Sender, dave: &Sender) {
    let (mut client, address) = (relay.client(), eve.mailbox(Box::Public, unix_ms()));
    for n in 0..count("AC_TEST_RELAY_STRANGERS", 2000) as u64 {
        let stamp = unix_ms() + AHEAD;
        let probe = eve.seal_as(Kind::Probe, &[0xa0], random(), stamp, random());
        client.say(&Cell::post(n + 1, address, &probe.packets[0]).volatile());
        if n % 64 == 63 {
            client.heard_nothing();
            assert_eq!(dave.send(&mut relay.client(), b"x"), Status::Delivered);
        }
    }
}

fn wait_printed(listener: &Running, text: &'static str) {
    listener.wait_stdout(text, |bytes| String::from_utf8_lossy(bytes).contains(text));
}

#[test]
fn by_a_relay_a_contacts_message_is_printed_whatever_strangers_have_asked() {
    let [alice, bob, dave, eve] = people();
    let relay = relay();
    let listener = listen(&bob, &relay, &["--accept-unknown"]);
    ask_often(&relay, &Sender::new(&eve, &bob), &Sender::new(&dave, &bob));
    let via = name_of(&relay, &alice);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"printed\n"), 0);
    wait_printed(&listener, "printed\n");
    assert_code(&send(&alice, &["--via", &via, "-z", "bob"], b""), 0);
}

#[test]
fn what_strangers_have_piled_up_at_a_relay_holds_up_no_contact() {
    let _alone = alone();
    let [alice, bob, _, eve] = people();
    let relay = relay();
    let inbox = bob.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    // Nobody says more than one message a minute: what strangers say waits, and fills their memory.
    let args = ["--accept-unknown", "--rate", "1/m", "-d", inbox.to_str().unwrap()];
    let listener = listen(&bob, &relay, &args);
    let (eve, mut client) = (Sender::new(&eve, &bob), relay.client());
    // More than may be under way of all of them together.
    for id in 1..=1100 {
        let letter = eve.seal(b"spam\n");
        let address = eve.mailbox(Box::Public, letter.time_ms);
        client.say(&Cell::post(id, address, &letter.packets[0]));
        assert_eq!(client.next_cell().command, Command::Ack);
    }
    let via = name_of(&relay, &alice);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"printed\n"), 0);
    wait_printed(&listener, "printed\n");
    let file = alice.path().join("file");
    std::fs::write(&file, b"a file").unwrap();
    assert_code(&send(&alice, &["--via", &via, "-f", file.to_str().unwrap(), "bob"], b""), 0);
}

/// Sends what stdin says, a packet a line, from port 5555, so many a second.
const ASK: &str = r#"
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5555))
began = time.monotonic()
for n, line in enumerate(sys.stdin):
    s.sendto(bytes.fromhex(line), (sys.argv[1], 6000))
    wait = began + n / int(sys.argv[2]) - time.monotonic()
    if wait > 0:
        time.sleep(wait)
"#;

#[test]
fn on_the_local_network_a_contact_is_found_whatever_strangers_have_asked() {
    let Some(lan) = Lan::new(3) else { return };
    let [alice, bob, _, eve] = people();
    let args = ["--announce", "1000", "--accept-unknown"];
    let announcer = Running::start(lan.hosts[1].command(&bob, "ac-discover", &args));
    announcer.wait_stderr("announcing ");
    let (eve, bob) = (identity(&eve), contact(&bob));
    let seal = Seal::new(&eve.pair, &bob.public, bob.access.as_bytes());
    let body =
        ProbeBody { addresses: vec!["10.0.0.3".parse().unwrap()], port: 5555, introduce: None };
    let probes: String = (0..count("AC_TEST_DISCOVERY_STRANGERS", 1000))
        .map(|_| {
            let question = Question::new(eve.pair.public(), &mut OsRandom);
            let now = Now { mono: std::time::Duration::ZERO, unix_ms: unix_ms() + AHEAD };
            let (mut probe, body) = ([0; PACKET_LEN], body.encode());
            question.packet(&seal, Way::Network, body.as_bytes(), now, &mut OsRandom, &mut probe);
            probe.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
        })
        .collect();
    let pace = count("AC_TEST_DISCOVERY_PACE", 1000).to_string();
    let flood = lan.hosts[2].python(ASK, &["10.0.0.2", &pace]);
    assert_code(&run(flood, probes.as_bytes(), 10 * DEADLINE), 0);
    let found = run(lan.hosts[0].command(&alice, "ac-discover", &["bob"]), b"", DEADLINE);
    assert_code(&found, 0);
}
