//! Over UDP a stranger draws nothing: not garbage, not a replay, not a wrong `access`, not a clock
//! that is off, not even a holder of the public key file who is no contact. And no answer is larger
//! than what it answers. After each of them a contact is still heard.

use crate::testkit::{
    common,
    keys::{contact, identity},
    udp,
};

use anonchat::crypto::sodium::random_into;
use anonchat::keys::fingerprint;
use anonchat::keys::{Access, Contact};
use anonchat::proto::datagram::packet::{Way, mac1, mac1_key};
use common::{Home, Listener, assert_code, befriend, send, unix_ms};
use udp::{Going, Proxy, Record, Stranger, packet};

/// Packets that any socket buffer holds.
const BATCH: usize = 40;

/// Bob listens; Alice is his contact, Carol only has his public key file.
struct Scene {
    alice: Home,
    bob: Home,
    carol: Home,
    listener: Listener,
    expected: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let [alice, bob, carol] = [(); 3].map(|()| Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        carol.import(&bob, "bob");
        let listener = Listener::spawn(&bob, &["-u", "127.0.0.1:0"]);
        Self { alice, bob, carol, listener, expected: Vec::new() }
    }

    /// Sends all of `packets` as a stranger, and asserts that they drew nothing and that nothing
    /// came out. Alice's probes in between make sure that none is lost in a full buffer.
    fn assert_ignored(&mut self, packets: &[Vec<u8>]) {
        let (stranger, friend) =
            (Stranger::to(self.listener.port()), Stranger::to(self.listener.port()));
        let (alice, bob) = (identity(&self.alice), contact(&self.bob));
        for batch in packets.chunks(BATCH) {
            batch.iter().for_each(|packet| stranger.send(packet));
            friend.wait_until_read(&alice, &bob);
        }
        stranger.assert_nothing_came();
        self.assert_alice_is_heard();
        stranger.assert_nothing_came();
    }

    fn assert_alice_is_heard(&mut self) {
        let line = format!("still here {}\n", self.expected.len());
        let sent = send(&self.alice, &["-u", &self.listener.destination("bob")], line.as_bytes());
        assert_code(&sent, 0);
        self.expected.extend(line.bytes());
        self.assert_output();
    }

    fn assert_output(&self) {
        let len = self.expected.len();
        self.listener.wait_stdout("what alice said", |bytes| bytes.len() >= len);
        assert_eq!(self.listener.stdout(), self.expected);
    }
}

#[test]
fn garbage_of_every_length_draws_nothing() {
    let mut scene = Scene::new();
    let garbage = (0..=2000).map(|len| {
        let mut bytes = vec![0; len];
        random_into(&mut bytes);
        bytes
    });
    scene.assert_ignored(&garbage.collect::<Vec<_>>());
    assert!(!scene.listener.stderr().contains("turned away"));
}

#[test]
fn the_beginning_of_a_real_packet_of_every_length_draws_nothing() {
    let mut scene = Scene::new();
    let whole =
        packet(&identity(&scene.alice), &contact(&scene.bob), Way::Network, unix_ms(), b"x");
    let mut longer = whole.to_vec();
    longer.extend([0; 800]);
    let lengths = (0..=2000).filter(|len| *len != whole.len());
    scene.assert_ignored(&lengths.map(|len| longer[..len].to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_draws_nothing() {
    let mut scene = Scene::new();
    let whole =
        packet(&identity(&scene.alice), &contact(&scene.bob), Way::Network, unix_ms(), b"x");
    let flipped = (0..whole.len()).map(|at| {
        let mut packet = whole.to_vec();
        packet[at] ^= 1 << (at % 8);
        packet
    });
    scene.assert_ignored(&flipped.collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_under_a_right_mac1_draws_nothing() {
    let mut scene = Scene::new();
    let bob = contact(&scene.bob);
    let whole = packet(&identity(&scene.alice), &bob, Way::Network, unix_ms(), b"x");
    let key = mac1_key(bob.access.as_bytes(), &bob.public);
    let flipped = (16..whole.len()).map(|at| {
        let mut packet = whole.to_vec();
        packet[at] ^= 1 << (at % 8);
        let mac1 = mac1(&key, &packet[16..]);
        packet[..16].copy_from_slice(&mac1);
        packet
    });
    scene.assert_ignored(&flipped.collect::<Vec<_>>());
}

#[test]
fn a_wrong_access_or_a_wrong_key_draws_nothing() {
    let mut scene = Scene::new();
    let (alice, bob) = (identity(&scene.alice), contact(&scene.bob));
    let wrong_access = Contact { access: Access::random(), ..bob.clone() };
    let wrong_key = Contact { public: contact(&scene.carol).public, ..bob.clone() };
    let mut packets = vec![];
    for peer in [&wrong_access, &wrong_key, &contact(&scene.carol)] {
        packets.push(packet(&alice, peer, Way::Network, unix_ms(), b"x").to_vec());
    }
    // mac1 as it should be, and what it protects is for somebody else.
    let mut misdirected = packets[1].clone();
    let right = mac1(&mac1_key(bob.access.as_bytes(), &bob.public), &misdirected[16..]);
    misdirected[..16].copy_from_slice(&right);
    packets.push(misdirected);
    scene.assert_ignored(&packets);
}

#[test]
fn a_packet_sealed_for_a_file_draws_nothing() {
    let mut scene = Scene::new();
    let packet = packet(&identity(&scene.alice), &contact(&scene.bob), Way::File, unix_ms(), b"x");
    scene.assert_ignored(&[packet.to_vec()]);
}

#[test]
fn a_clock_that_is_6_minutes_off_draws_nothing() {
    let mut scene = Scene::new();
    let (alice, bob) = (identity(&scene.alice), contact(&scene.bob));
    let off = [unix_ms() - 360_000, unix_ms() + 360_000, 0, u64::MAX];
    let packets = off.map(|time_ms| packet(&alice, &bob, Way::Network, time_ms, b"x").to_vec());
    scene.assert_ignored(&packets);
}

#[test]
fn a_clock_that_is_4_minutes_off_is_heard() {
    let mut scene = Scene::new();
    let (alice, bob) = (identity(&scene.alice), contact(&scene.bob));
    let friend = Stranger::to(scene.listener.port());
    for (time_ms, line) in [(unix_ms() - 240_000, "slow\n"), (unix_ms() + 240_000, "fast\n")] {
        friend.send(&packet(&alice, &bob, Way::Network, time_ms, line.as_bytes()));
        assert_eq!(friend.answer().len(), 32);
        scene.expected.extend(line.bytes());
        scene.assert_output();
        friend.answer();
    }
}

#[test]
fn a_replay_draws_nothing_and_is_not_delivered_again() {
    let mut scene = Scene::new();
    let record = Record::default();
    let proxy = Proxy::before(scene.listener.port(), record.policy());
    let body = b"0123456789\n".repeat(10_000);
    let sent = send(&scene.alice, &["-u", &proxy.destination("bob")], &body);
    assert_code(&sent, 0);
    scene.expected.extend(body);
    scene.assert_output();
    let packets = record.going(Going::ToListener);
    assert!(packets.len() > 100);
    scene.assert_ignored(&packets);
    let backwards: Vec<_> = packets.into_iter().rev().collect();
    scene.assert_ignored(&backwards);
}

#[test]
fn a_holder_of_the_public_key_file_who_is_no_contact_draws_nothing_and_the_user_is_told_once() {
    let mut scene = Scene::new();
    let record = Record::default();
    let proxy = Proxy::before(scene.listener.port(), record.policy());
    let to = proxy.destination("bob");
    for args in [vec!["-u", "-w", "1s", &to], vec!["-u", "-z", "-w", "1s", &to]] {
        let sent = send(&scene.carol, &args, b"let me in\n");
        assert_code(&sent, 5);
        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
        assert!(said.contains("\nhint: ") && said.contains("not among their contacts"), "{said}");
        assert!(!record.going(Going::ToListener).is_empty());
        assert_eq!(record.going(Going::Back), Vec::<Vec<u8>>::new());
    }
    scene.assert_alice_is_heard();
    let said = scene.listener.stderr();
    let digits = fingerprint(&contact(&scene.carol).public);
    let line = format!(
        "ac-listen: turned away somebody who is not among your contacts (fingerprint {digits})"
    );
    assert_eq!(said.matches("turned away").count(), 1, "{said}");
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("\nhint: ") && said.contains("ac-keygen --import"), "{said}");
}

#[test]
fn an_anonymous_sender_draws_nothing() {
    let mut scene = Scene::new();
    let record = Record::default();
    let proxy = Proxy::before(scene.listener.port(), record.policy());
    let to = proxy.destination("bob");
    assert_code(&send(&scene.alice, &["-u", "-a", "-w", "500ms", &to], b"x"), 5);
    assert_code(&send(&scene.alice, &["-u", "-a", "-z", "-w", "500ms", &to], b"x"), 5);
    assert_eq!(record.going(Going::Back), Vec::<Vec<u8>>::new());
    scene.assert_alice_is_heard();
}

#[test]
fn a_contact_who_is_not_among_those_to_be_heard_draws_nothing() {
    let mut scene = Scene::new();
    scene.bob.import(&scene.carol, "carol");
    scene.listener = Listener::spawn(&scene.bob, &["-u", "--from", "alice", "127.0.0.1:0"]);
    let record = Record::default();
    let proxy = Proxy::before(scene.listener.port(), record.policy());
    let to = proxy.destination("bob");
    assert_code(&send(&scene.carol, &["-u", "-w", "500ms", &to], b"x"), 5);
    assert_code(&send(&scene.carol, &["-u", "-z", "-w", "500ms", &to], b"x"), 5);
    assert_eq!(record.going(Going::Back), Vec::<Vec<u8>>::new());
    scene.assert_alice_is_heard();
}

#[test]
fn no_answer_is_larger_than_what_it_answers() {
    let scene = Scene::new();
    let record = Record::default();
    let proxy = Proxy::before(scene.listener.port(), record.policy());
    let to = proxy.destination("bob");
    assert_code(&send(&scene.alice, &["-u", "-z", &to], b""), 0);
    assert_code(&send(&scene.alice, &["-u", &to], &vec![b'x'; 200_000]), 0);
    let mut unanswered = 0;
    for (going, packet) in record.all() {
        match going {
            Going::ToListener => unanswered += packet.len(),
            Going::Back => {
                assert!(packet.len() <= 1200 && packet.len() <= unanswered);
                unanswered -= packet.len();
            }
        }
    }
    assert!(!record.going(Going::Back).is_empty());
}
