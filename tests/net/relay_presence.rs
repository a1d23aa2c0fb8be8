//! `ac-discover --via` says who listens at a relay, to people whom they hear, and says it of nobody
//! else.

use crate::testkit::{
    common,
    keys::{group, identity, public},
    relay_client, relay_reader,
};

use std::net::{Shutdown, TcpStream};
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use anonchat::crypto::sodium::{OsRandom, PublicKey};
use anonchat::keys::LocalKey as Key;
use anonchat::proto::datagram::packet::{Kind, LocalKey, Opened, PACKET_LEN, Way};
use anonchat::proto::datagram::probe::Probe;
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::mailbox::{Channel, epoch};
use common::{DEADLINE, Home, Running, assert_code, befriend, run, said};
use relay_client::{Client, Relay};
use relay_reader::{know, now};
use serde_json::Value;

/// A program that listens at a relay, as far as presence goes: it answers probes.
struct Present {
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
    /// Who asked.
    asked: Receiver<PublicKey>,
}

impl Present {
    /// The holder of `me`, who hears `contact`.
    fn for_contact(me: Key, contact: &PublicKey, relay: &Relay) -> Self {
        let channel = Channel::pair(&me.pair, contact, contact, me.pair.public()).unwrap();
        Self::on(me, &channel, relay)
    }

    fn for_group(me: Key, relay: &Relay) -> Self {
        let channel = Channel::open(me.access.as_bytes());
        Self::on(me, &channel, relay)
    }

    fn on(me: Key, mailbox: &Channel, relay: &Relay) -> Self {
        let mut client = relay.client();
        client.subscribe(mailbox, &me.pair, epoch(now().unix_ms), [0; 8], 0);
        assert_eq!(client.next_cell().command, Command::Live);
        let socket = client.socket.try_clone().unwrap();
        let (tell, asked) = channel();
        let thread = std::thread::spawn(move || {
            while let Some(cell) = client.try_next_cell(DEADLINE) {
                if let Some(who) = answer(&me, &mut client, &cell.body) {
                    let _ = tell.send(who);
                }
            }
        });
        Self { socket, thread: Some(thread), asked }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// HERE, if that is what a packet asks for.
fn answer(me: &Key, client: &mut Client, packet: &[u8]) -> Option<PublicKey> {
    let packet: &[u8; PACKET_LEN] = packet.try_into().ok()?;
    let local = LocalKey::new(me.pair.duplicate(), me.access.as_bytes());
    assert!(local.recognises(packet));
    let opened = Opened::open(&me.pair, packet, 0, &[]).unwrap();
    assert!(opened.way() == Way::Relay && opened.kind() == Kind::Probe);
    let back = Channel::receipts(opened.ack_key(), opened.id());
    let back = back.at(opened.sender(), epoch(opened.time_ms())).unwrap();
    // Four bytes of the program's own, so that two of one key differ.
    let instance = client.link.handshake_hash()[..8].to_vec();
    let body = [&[0xa1, 0x03, 0x48], &instance[..]].concat();
    let mut here = [0; PACKET_LEN];
    let probe = Probe::new(&opened, 0);
    probe.answer(&me.pair, Way::Relay, &body, now(), &mut OsRandom, &mut here);
    client.say(&Cell::post(1, back.address, &here).volatile());
    Some(*opened.sender())
}

/// Alice, who knows the relay as `home`, and two contacts.
struct Scene {
    alice: Home,
    bob: Home,
    carol: Home,
    relay: Relay,
}

impl Scene {
    fn new() -> Self {
        let [alice, bob, carol] = [(); 3].map(|()| Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        befriend(&alice, "alice", &carol, "carol");
        let relay = Relay::spawn(&["127.0.0.1:0"]);
        know(&alice, &relay, "home", relay.port);
        Self { alice, bob, carol, relay }
    }

    fn bob_is_there(&self) -> Present {
        Present::for_contact(identity(&self.bob), &public(&self.alice), &self.relay)
    }

    fn discover(&self, args: &[&str]) -> Output {
        let args = [&["--via", "home"], args].concat();
        run(self.alice.command("ac-discover", &args), b"", DEADLINE)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn who_listens_at_the_relay_is_listed_and_who_does_not_is_not() {
    let scene = Scene::new();
    let bob = scene.bob_is_there();
    let listed = scene.discover(&[]);
    assert_code(&listed, 0);
    assert_eq!(stdout(&listed), "bob\trelay home\tonline\trelay\n");
    assert_eq!(bob.asked.recv().unwrap(), public(&scene.alice));
    drop(bob);
    let nobody = scene.discover(&["-w", "300ms"]);
    assert_code(&nobody, 4);
    assert!(said(&nobody).contains("nobody was found within 0.3 s\nhint: "), "{nobody:?}");
}

#[test]
fn a_name_prints_the_relay_for_ac_send_and_several_the_names_that_are_there() {
    let scene = Scene::new();
    let _bob = scene.bob_is_there();
    let one = scene.discover(&["bob"]);
    assert_code(&one, 0);
    assert_eq!(stdout(&one), "home\n");
    let waited = scene.discover(&["--wait", "bob", "-w", "20s"]);
    assert_code(&waited, 0);
    assert_eq!(stdout(&waited), "home\n");
    let two = scene.discover(&["-w", "1s", "carol", "bob"]);
    assert_code(&two, 4);
    assert_eq!(stdout(&two), "bob\n");
    assert!(said(&two).contains("carol: not found within 1 s"), "{two:?}");
}

#[test]
fn a_group_counts_its_programs_and_protected_groups_are_named_to_be_asked() {
    let scene = Scene::new();
    assert_code(&scene.alice.keygen(&["--group", "team"]), 0);
    let programs = [(); 3].map(|()| Present::for_group(group(&scene.alice, "team"), &scene.relay));
    let listed = scene.discover(&["-w", "1s"]);
    assert_code(&listed, 0);
    let lines: Vec<_> = stdout(&listed).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines.iter().all(|l| l.starts_with("team/") && l.ends_with("\trelay home\tonline\trelay"))
    );
    assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    drop(programs);
    let passphrase = scene.alice.path().join("passphrase");
    std::fs::write(&passphrase, "a cavity of walnuts\n").unwrap();
    let file = passphrase.to_str().unwrap();
    let made = scene.alice.keygen(&["-p", "--group", "board", "--passphrase-file", file]);
    assert_code(&made, 0);
    let _program = Present::for_group(group(&scene.alice, "team"), &scene.relay);
    let listed = scene.discover(&["-w", "300ms"]);
    assert_code(&listed, 0);
    assert!(said(&listed).contains("it has a passphrase: name it to look for it"), "{listed:?}");
}

#[test]
fn a_list_that_is_watched_follows_who_comes_and_is_json_if_asked_for() {
    let scene = Scene::new();
    let args = ["--via", "home", "--watch", "--json"];
    let watching = Running::start(scene.alice.command("ac-discover", &args));
    let _bob = scene.bob_is_there();
    watching.wait_stdout("bob", |out| out.contains(&b'\n'));
    let line: Value =
        serde_json::from_slice(watching.stdout().split(|b| *b == b'\n').next().unwrap()).unwrap();
    let fields = ["event", "name", "status", "address", "transport"].map(|f| line[f].clone());
    assert_eq!(fields, ["presence", "bob", "online", "relay home", "relay"]);
}

#[test]
fn a_relay_that_is_not_there_or_not_known_says_so() {
    let scene = Scene::new();
    let Scene { relay, alice, .. } = scene;
    let via = |word: &str| run(alice.command("ac-discover", &["--via", word]), b"", DEADLINE);
    let unknown = via("work");
    assert_code(&unknown, 3);
    assert!(said(&unknown).contains("work: no relay of that name"), "{unknown:?}");
    let elsewhere = via("home@127.0.0.1:1");
    assert_code(&elsewhere, 4);
    assert!(said(&elsewhere).contains("relay home: 127.0.0.1:1: "), "{elsewhere:?}");
    drop(relay);
    let gone = via("home");
    assert_code(&gone, 4);
    for args in [["-u"], ["--public"]] {
        let args = [&["--via", "home"], &args[..]].concat();
        assert_code(&run(alice.command("ac-discover", &args), b"", DEADLINE), 2);
    }
    drop(scene.carol);
}

/// A real listener at the relay that `home` calls home.
fn listening(scene: &Scene, home: &Home, args: &[&str]) -> Running {
    know(home, &scene.relay, "home", scene.relay.port);
    listening_again(home, args)
}

fn listening_again(home: &Home, args: &[&str]) -> Running {
    let args = [&["--via", "home"], args].concat();
    let listener = Running::start(home.command("ac-listen", &args));
    listener.wait_stderr("listening at relay home");
    listener
}

#[test]
fn a_real_listener_answers_those_whom_it_hears_and_nobody_else() {
    let scene = Scene::new();
    let _bob = listening(&scene, &scene.bob, &[]);
    // Carol is there, and hears only somebody else.
    let dave = Home::with_identity();
    befriend(&scene.carol, "carol", &dave, "dave");
    let _carol = listening(&scene, &scene.carol, &["--from", "dave"]);
    let listed = scene.discover(&["-w", "1s"]);
    assert_code(&listed, 0);
    assert_eq!(stdout(&listed), "bob\trelay home\tonline\trelay\n");

    // Who has Bob's public key file and is no contact of his.
    know(&dave, &scene.relay, "home", scene.relay.port);
    dave.import(&scene.bob, "bob");
    let args = ["--via", "home", "-w", "1s"];
    let strangers = run(dave.command("ac-discover", &args), b"", DEADLINE);
    assert_code(&strangers, 0);
    assert_eq!(stdout(&strangers), "carol\trelay home\tonline\trelay\n");
}

#[test]
fn members_of_a_group_that_listen_are_counted_and_what_is_printed_leads_ac_send_there() {
    let scene = Scene::new();
    assert_code(&scene.alice.keygen(&["--group", "team"]), 0);
    let key = scene.alice.path().join("groups/team.key");
    for member in [&scene.bob, &scene.carol] {
        assert_code(&member.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    }
    let bob = listening(&scene, &scene.bob, &["-k", "team"]);
    let carol = listening(&scene, &scene.carol, &["-k", "team"]);
    let again = listening_again(&scene.carol, &["-k", "team"]);
    let listed = scene.discover(&["-w", "1s"]);
    assert_code(&listed, 0);
    let text = stdout(&listed);
    assert_eq!(text.lines().filter(|line| line.starts_with("team/")).count(), 3, "{text}");
    assert_eq!(text.lines().count(), 3, "nobody listens for themselves: {text}");

    let word = scene.discover(&["team"]);
    assert_code(&word, 0);
    let word = stdout(&word);
    let args = ["--via", word.trim_end(), "team"];
    assert_code(&common::send(&scene.alice, &args, b"all of you"), 0);
    for listener in [bob, carol, again] {
        listener.wait_stdout("the message", |out| out == b"all of you");
    }
}

#[test]
fn a_list_that_is_watched_says_that_the_relay_is_lost_and_goes_on_when_it_is_back() {
    let mut scene = Scene::new();
    let args = ["--via", "home", "--watch"];
    let watching = Running::start(scene.alice.command("ac-discover", &args));
    let bob = scene.bob_is_there();
    watching.wait_stdout("bob", |out| out.contains(&b'\n'));
    drop(bob);
    scene.relay.kill();
    watching.wait_stderr("ac-discover: relay home: lost; trying again");
    let (port, home) = (scene.relay.port, std::mem::replace(&mut scene.relay.home, Home::new()));
    scene.relay = Relay::at(home, &[&format!("127.0.0.1:{port}")]);
    let bob = scene.bob_is_there();
    assert_eq!(bob.asked.recv_timeout(DEADLINE).unwrap(), public(&scene.alice));
}
