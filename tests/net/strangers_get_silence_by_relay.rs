//! Into the mailboxes of a listener at a relay anybody can write who holds its public key file. What
//! they draw: who is heard gets answers, and everybody else nothing at all. PROTOCOL.md, 5.4 and 5.7.

use crate::testkit::{common, relay_client, relay_people};

use anonchat::crypto::sodium::{KeyPair, OsRandom, random};
use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::meet::Meet;
use anonchat::proto::datagram::packet::{Kind, PACKET_LEN, Sealer, Way};
use anonchat::proto::datagram::probe::Question;
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::mailbox::{Channel, epoch};
use anonchat::proto::time::Now;
use common::*;
use relay_client::{Client, Relay};
use relay_people::*;

type Packet = [u8; PACKET_LEN];

/// Bob listens; alice is his contact, eve only has his public key file.
struct Scene {
    bob: Home,
    relay: Relay,
    listener: Running,
    alice: Sender,
    eve: Sender,
}

impl Scene {
    fn new() -> Self {
        let [bob, alice, eve] = [(); 3].map(|()| Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let relay = relay();
        let listener = listen(&bob, &relay, &[]);
        let (alice, eve) = (Sender::new(&alice, &bob), Sender::new(&eve, &bob));
        Self { bob, relay, listener, alice, eve }
    }

    /// Everything that was posted before was dealt with.
    fn alice_is_heard(&self) {
        assert_eq!(self.alice.send(&mut self.relay.client(), b"x"), Status::Delivered);
    }
}

fn now() -> Now {
    Now { mono: std::time::Duration::ZERO, unix_ms: unix_ms() }
}

/// A question of `sender`, the packet that asks it, and a client that awaits the answer.
fn question(sender: &Sender, client: &mut Client, way: Way) -> (Question, Packet) {
    let question = Question::new(sender.me.public(), &mut OsRandom);
    let sealer = Sealer::new(&sender.me, &sender.to, &sender.access);
    let (mut packet, now) = ([0; PACKET_LEN], now());
    question.packet(&sealer, way, &[0xa0], now, &mut OsRandom, &mut packet);
    let channel = Channel::receipts(question.ack_key(), question.id());
    let address = client.subscribe(&channel, &sender.me, epoch(now.unix_ms), [0; 8], 0);
    while client.next_cell().address != address {}
    (question, packet)
}

/// Shows a packet to who reads the mailbox, and waits until the relay has done so.
fn show(sender: &Sender, relay: &Relay, to: Box, packet: &Packet) {
    let mut client = relay.client();
    client.say(&Cell::post(1, sender.mailbox(to, unix_ms()), packet).volatile());
    client.heard_nothing();
}

/// The bodies of all HEREs that answer within one message of alice's.
fn here(scene: &Scene, sender: &Sender, client: &mut Client, question: &Question) -> Vec<Vec<u8>> {
    scene.alice_is_heard();
    let mut bodies = Vec::new();
    let reader = KeyPair::generate();
    let fence = client.subscribe(&Channel::open(&random()), &reader, 0, [0; 8], 0);
    loop {
        let cell = client.next_cell();
        if cell.address == fence {
            return bodies;
        }
        let packet: &Packet = cell.body[..].try_into().unwrap();
        assert!(question.recognises(packet), "an answer to another question");
        let opened = question.open(Way::Relay, &sender.me, &sender.to, packet, now(), &[]).unwrap();
        bodies.push(opened.body().to_vec());
    }
}

#[test]
fn a_contact_who_asks_hears_that_the_listener_is_here_and_which_one_it_is() {
    let scene = Scene::new();
    let other = listen(&scene.bob, &scene.relay, &[]);
    let mut client = scene.relay.client();
    let (question, packet) = question(&scene.alice, &mut client, Way::Relay);
    show(&scene.alice, &scene.relay, Box::Pair, &packet);
    let bodies = here(&scene, &scene.alice, &mut client, &question);
    // Both programs under the one key, each with a name of 8 bytes.
    assert_eq!(bodies.len(), 2);
    assert_ne!(bodies[0], bodies[1]);
    for body in bodies {
        assert_eq!((&body[..3], body.len()), (&[0xa1, 3, 0x48][..], 11));
    }
    drop(other);
}

#[test]
fn who_is_not_heard_draws_nothing() {
    let scene = Scene::new();
    let mut client = scene.relay.client();
    let (question, packet) = question(&scene.eve, &mut client, Way::Relay);
    show(&scene.eve, &scene.relay, Box::Public, &packet);
    assert!(here(&scene, &scene.eve, &mut client, &question).is_empty());
    let letter = scene.eve.seal(b"psst\n");
    scene.eve.await_receipts(&mut client, &letter);
    scene.eve.post(&mut client, Box::Public, &letter);
    scene.alice_is_heard();
    client.heard_nothing();
}

#[test]
fn what_is_broken_replayed_or_sealed_for_another_way_draws_nothing() {
    let scene = Scene::new();
    let (alice, mut client) = (&scene.alice, scene.relay.client());
    let (question, good) = question(alice, &mut client, Way::Relay);
    let mut bent = good;
    bent[700] ^= 1;
    let sealer = Sealer::new(&alice.me, &alice.to, &alice.access);
    let (mut by_udp, mut stale) = ([0; PACKET_LEN], [0; PACKET_LEN]);
    question.packet(&sealer, Way::Network, &[0xa0], now(), &mut OsRandom, &mut by_udp);
    let long_ago = Now { unix_ms: now().unix_ms - 301_000, ..now() };
    question.packet(&sealer, Way::Relay, &[0xa0], long_ago, &mut OsRandom, &mut stale);
    for packet in [&bent, &by_udp, &stale, &[0xa5; PACKET_LEN]] {
        show(alice, &scene.relay, Box::Pair, packet);
    }
    assert!(here(&scene, alice, &mut client, &question).is_empty());
    for _ in 0..3 {
        show(alice, &scene.relay, Box::Pair, &good);
    }
    assert_eq!(here(&scene, alice, &mut client, &question).len(), 1);
}

#[test]
fn a_message_that_is_too_old_or_from_the_future_is_not_delivered() {
    let scene = Scene::new();
    let (alice, mut client) = (&scene.alice, scene.relay.client());
    let ttl_ms = client.welcome.ttl_s.unwrap() * 1000;
    for time_ms in [unix_ms() - ttl_ms - 301_000, unix_ms() + 310_000] {
        let letter = alice.seal_as(Kind::Message, b"no\n", random(), time_ms, random());
        alice.await_receipts(&mut client, &letter);
        for packet in &letter.packets {
            client.post(1, alice.mailbox(Box::Pair, unix_ms()), packet);
            assert_eq!(client.next_cell().command, Command::Ack);
        }
    }
    scene.alice_is_heard();
    client.heard_nothing();
    assert_eq!(scene.listener.stdout(), b"x");
}

#[test]
fn only_who_is_heard_and_means_this_program_is_met() {
    let scene = Scene::new();
    let meet = |sender: &Sender, to: Box, instance: Option<[u8; 8]>| {
        let (mut client, rendezvous) = (scene.relay.client(), random());
        let sealer = Sealer::new(&sender.me, &sender.to, &sender.access);
        let mut packet = [0; PACKET_LEN];
        let meet = Meet { rendezvous, instance };
        meet.seal(&sealer, now(), &mut OsRandom, &mut packet);
        show(sender, &scene.relay, to, &packet);
        client.connect(&rendezvous);
        client
    };
    let mut unheard = meet(&scene.eve, Box::Public, None);
    let mut another = meet(&scene.alice, Box::Pair, Some(random()));
    assert_eq!(meet(&scene.alice, Box::Pair, None).next_cell().command, Command::Joined);
    scene.alice_is_heard();
    for client in [&mut unheard, &mut another] {
        client.socket.set_nonblocking(true).unwrap();
        let nothing = std::io::Read::read(&mut client.socket, &mut [0; 1]);
        assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
