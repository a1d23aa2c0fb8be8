//! A stranger gets silence: over TCP garbage, replays and a wrong `access` draw not one byte and no
//! reset, and a holder of the public key file who is no contact gets handshake message 2 and nothing
//! after it. Whatever strangers do, contacts are heard. PROTOCOL.md, section 3.1.

use crate::testkit::{common, keys::contact, proxy};

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, SeededRandom, random, random_into};
use anonchat::keys::{Contact, fingerprint};
use anonchat::proto::stream::gate::{Answer, Gate, Passage};
use anonchat::proto::stream::handshake::{HELLO_LEN, Initiator, REPLY_LEN};
use anonchat::proto::stream::replay::ReplayGuard;
use anonchat::proto::time::{CLOCK_WINDOW_MS, Now};
use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, eventually, send, unix_ms};
use proxy::Proxy;
use rustix::process::Signal;

/// Bob listens; Alice is his contact, and whatever strangers did, she is heard.
struct Scene {
    alice: Home,
    bob: Home,
    listener: Listener,
}

impl Scene {
    fn new() -> Self {
        Self::with(|bob| bob.command("ac-listen", &["127.0.0.1:0"]))
    }

    fn with(command: impl Fn(&Home) -> Command) -> Self {
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let listener = Listener::start(command(&bob));
        Self { alice, bob, listener }
    }

    fn stranger(&self) -> Stranger {
        Stranger(TcpStream::connect(("127.0.0.1", self.listener.port())).unwrap())
    }

    /// A contact is heard, and stderr told of nobody else.
    fn still_hears_alice(&self) {
        let text = format!("{:032x}\n", u128::from_be_bytes(random()));
        let sent = send(&self.alice, &[&self.listener.destination("bob")], text.as_bytes());
        assert_code(&sent, 0);
        self.listener.wait_stdout("the message of a contact", |out| out.ends_with(text.as_bytes()));
    }

    /// Message 1 as a holder of `contact` makes it.
    fn hello(&self, contact: &Contact, unix_ms: u64) -> (Initiator, [u8; HELLO_LEN]) {
        let me = KeyPair::generate();
        Initiator::start(&me, &contact.public, contact.access.as_bytes(), unix_ms).unwrap()
    }

    /// A caller with Bob's public key file has had its answer: whatever came before it was handled.
    fn has_handled_everything(&self) {
        let (_, hello) = self.hello(&contact(&self.bob), unix_ms());
        let mut caller = self.stranger();
        caller.say(&hello);
        caller.hears::<REPLY_LEN>();
    }
}

struct Stranger(TcpStream);

impl Stranger {
    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn hears<const N: usize>(&mut self) -> [u8; N] {
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Nothing has come so far: no byte, no end, no reset.
    fn hears_nothing_yet(&mut self) {
        self.0.set_nonblocking(true).unwrap();
        let heard = self.0.read(&mut [0; 1]);
        assert_eq!(heard.map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
        self.0.set_nonblocking(false).unwrap();
    }

    /// Closing our direction closes the connection at once, and until then there came nothing: had
    /// a byte been written or a reset sent, it would arrive before this end.
    fn leaves_quietly(mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
        self.hears_the_end();
    }

    /// The connection is closed in good order, and nothing came before.
    fn hears_the_end(&mut self) {
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(self.0.read(&mut [0; 1]).map_err(|e| e.kind()), Ok(0));
    }

    fn draws_nothing(mut self, scene: &Scene) {
        scene.has_handled_everything();
        self.hears_nothing_yet();
        self.leaves_quietly();
    }
}

fn garbage(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random_into(&mut bytes);
    bytes
}

#[test]
fn a_port_probe_draws_nothing() {
    let scene = Scene::new();
    drop(scene.stranger());
    scene.stranger().leaves_quietly();
    scene.stranger().draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn garbage_of_every_length_draws_nothing() {
    let scene = Scene::new();
    let lengths: Vec<_> = (0..=2000).collect();
    for batch in lengths.chunks(100) {
        let strangers: Vec<_> = batch
            .iter()
            .map(|len| {
                let mut stranger = scene.stranger();
                stranger.say(&garbage(*len));
                stranger
            })
            .collect();
        scene.has_handled_everything();
        for mut stranger in strangers {
            stranger.hears_nothing_yet();
            stranger.leaves_quietly();
        }
    }
    scene.still_hears_alice();
}

#[test]
fn garbage_that_goes_on_for_long_is_drained_without_a_reset() {
    let scene = Scene::new();
    let mut stranger = scene.stranger();
    stranger.say(&garbage(8 << 20));
    stranger.draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn other_protocols_draw_nothing() {
    let scene = Scene::new();
    for greeting in [
        &b"GET / HTTP/1.1\r\nHost: bob\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x05\x01\x00",
        &[0; HELLO_LEN],
        &[0xff; HELLO_LEN],
    ] {
        let mut stranger = scene.stranger();
        stranger.say(greeting);
        stranger.draws_nothing(&scene);
    }
    scene.still_hears_alice();
}

#[test]
fn nothing_comes_for_as_long_as_a_prober_has_patience() {
    let scene = Scene::new();
    let mut silent = scene.stranger();
    let mut noisy = scene.stranger();
    noisy.say(&garbage(HELLO_LEN));
    let end = Instant::now() + Duration::from_millis(1500);
    for stranger in [&mut silent, &mut noisy] {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stranger.0.set_read_timeout(Some(left)).unwrap();
        let heard = stranger.0.read(&mut [0; 1]).map_err(|e| e.kind());
        assert_eq!(heard, Err(ErrorKind::WouldBlock));
    }
    scene.still_hears_alice();
}

#[test]
fn a_replayed_first_message_draws_nothing_during_and_after_its_session() {
    let scene = Scene::new();
    let proxy = Proxy::to(scene.listener.port());
    let mut sender = Running::start(scene.alice.command("ac-send", &[&proxy.destination("bob")]));
    // More than message 1: the handshake is complete.
    let hello = proxy.recorded(HELLO_LEN + 81)[..HELLO_LEN].to_vec();

    let mut replay = scene.stranger();
    replay.say(&hello);
    replay.draws_nothing(&scene);

    sender.feed(b"the first\n".to_vec());
    assert!(sender.wait_exit(DEADLINE).success());
    let mut replay = scene.stranger();
    replay.say(&hello);
    replay.draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn a_first_message_with_something_behind_it_draws_nothing() {
    let scene = Scene::new();
    let (_, hello) = scene.hello(&contact(&scene.bob), unix_ms());
    let mut stranger = scene.stranger();
    stranger.say(&[&hello[..], b"x"].concat());
    stranger.draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn a_wrong_access_draws_nothing() {
    let scene = Scene::new();
    let contact = Contact { access: contact(&scene.alice).access, ..contact(&scene.bob) };
    let mut stranger = scene.stranger();
    stranger.say(&scene.hello(&contact, unix_ms()).1);
    stranger.draws_nothing(&scene);

    // The real sender, with an edited file: as far as it can tell, nobody listens.
    let file = scene.alice.path().join("contacts/bob.pub");
    let text = std::fs::read_to_string(&file).unwrap();
    let access = text.lines().find(|line| line.starts_with("access")).unwrap();
    let wrong = text.replace(access, &format!("access = \"{}=\"", "A".repeat(43)));
    std::fs::write(&file, wrong).unwrap();
    let sent = send(&scene.alice, &["-w", "1s", &scene.listener.destination("bob")], b"hi\n");
    assert_code(&sent, 5);
    std::fs::write(&file, text).unwrap();
    scene.still_hears_alice();
}

#[test]
fn a_wrong_key_draws_nothing() {
    let scene = Scene::new();
    let mut contact = contact(&scene.bob);
    contact.public = *KeyPair::generate().public();
    let mut stranger = scene.stranger();
    stranger.say(&scene.hello(&contact, unix_ms()).1);
    stranger.draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn a_clock_six_minutes_off_draws_nothing_and_one_four_minutes_off_is_answered() {
    let scene = Scene::new();
    let contact = contact(&scene.bob);
    let (now, minute) = (unix_ms(), CLOCK_WINDOW_MS / 5);
    for stamp in [0, now - 6 * minute, now + 6 * minute, u64::MAX] {
        let mut stranger = scene.stranger();
        stranger.say(&scene.hello(&contact, stamp).1);
        stranger.draws_nothing(&scene);
    }
    for stamp in [now - 4 * minute, now + 4 * minute] {
        let mut caller = scene.stranger();
        caller.say(&scene.hello(&contact, stamp).1);
        caller.hears::<REPLY_LEN>();
    }
    scene.still_hears_alice();
}

#[test]
fn garbage_for_message_3_draws_nothing_after_message_2() {
    let scene = Scene::new();
    for len in [1, 79, 80, 81, 5000] {
        let mut stranger = scene.stranger();
        // In two pieces: a message need not come in one.
        let (_, hello) = scene.hello(&contact(&scene.bob), unix_ms());
        stranger.say(&hello[..700]);
        stranger.say(&hello[700..]);
        stranger.hears::<REPLY_LEN>();
        stranger.say(&garbage(len));
        stranger.draws_nothing(&scene);
    }
    scene.still_hears_alice();
}

#[test]
fn who_is_no_contact_gets_message_2_and_nothing_after_it() {
    let scene = Scene::new();
    let mut stranger = scene.stranger();
    let (initiator, hello) = scene.hello(&contact(&scene.bob), unix_ms());
    stranger.say(&hello);
    let reply = stranger.hears::<REPLY_LEN>();
    let (_, confirm) = initiator.confirm(&reply).unwrap();
    stranger.say(&confirm);
    scene.listener.wait_stderr("turned away");
    stranger.say(&garbage(5000));
    stranger.draws_nothing(&scene);
    scene.still_hears_alice();
}

#[test]
fn who_was_turned_away_is_told_of_once_and_heard_as_soon_as_imported() {
    let scene = Scene::new();
    let carol = Home::with_identity();
    carol.import(&scene.bob, "bob");
    let destination = scene.listener.destination("bob");
    let mut callers: Vec<_> = (0..10)
        .map(|_| {
            let mut command = carol.command("ac-send", &["-w", "1s", &destination]);
            command.stdin(std::process::Stdio::null());
            Running::start(command)
        })
        .collect();
    for caller in &mut callers {
        assert_eq!(caller.wait_exit(DEADLINE).code(), Some(5), "{}", caller.stderr());
    }
    let said = scene.listener.stderr();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("turned away")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains(&fingerprint(&contact(&carol).public)), "{said}");
    let hint = said.lines().skip_while(|line| !line.contains("turned away")).nth(1).unwrap();
    assert!(hint.starts_with("hint: ") && hint.contains("ac-keygen --import"), "{hint}");

    scene.bob.import(&carol, "carol");
    assert_code(&send(&carol, &[&destination], b"at last\n"), 0);
    scene.listener.wait_stdout("the message of the new contact", |out| out == b"at last\n");
}

#[test]
fn a_contact_imported_just_after_the_start_is_heard_at_the_first_attempt() {
    let bob = Home::with_identity();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    for name in ["carol", "dave", "erin"] {
        let friend = Home::with_identity();
        befriend(&friend, name, &bob, "bob");
        assert_code(&send(&friend, &[&listener.destination("bob")], b"hi\n"), 0);
    }
}

#[test]
fn a_contact_who_was_removed_is_heard_no_more() {
    let scene = Scene::new();
    scene.still_hears_alice();
    std::fs::remove_file(scene.bob.path().join("contacts/alice.pub")).unwrap();
    let sent = send(&scene.alice, &["-w", "1s", &scene.listener.destination("bob")], b"hi\n");
    assert_code(&sent, 5);
    scene.listener.wait_stderr("turned away");
}

/// With 64 descriptors, of which a quarter may wait.
fn with_few_descriptors() -> Scene {
    Scene::with(|bob| bob.command_with_descriptors(64, "ac-listen", &["127.0.0.1:0"]))
}

#[test]
fn the_oldest_strangers_make_room_when_descriptors_are_few() {
    let scene = with_few_descriptors();
    let mut strangers: Vec<_> = (0..100).map(|_| scene.stranger()).collect();
    scene.still_hears_alice();
    // Alice pushed out one; what asks here has her place.
    scene.has_handled_everything();
    let mut newest = strangers.split_off(100 - 15);
    strangers.iter_mut().for_each(Stranger::hears_the_end);
    newest.iter_mut().for_each(Stranger::hears_nothing_yet);
    let open = std::fs::read_dir(format!("/proc/{}/fd", scene.listener.pid())).unwrap().count();
    assert!(open <= 32, "{open} descriptors");
    scene.still_hears_alice();
}

#[test]
fn strangers_who_make_room_draw_no_reset_whatever_they_said() {
    let mut scene = with_few_descriptors();
    // All are there, with what they said, when the listener looks.
    scene.listener.signal(Signal::STOP);
    let mut strangers: Vec<_> = (0..100)
        .map(|_| {
            let mut stranger = scene.stranger();
            stranger.say(&garbage(2000));
            stranger
        })
        .collect();
    scene.listener.signal(Signal::CONT);
    scene.has_handled_everything();
    strangers[..100 - 16].iter_mut().for_each(Stranger::hears_the_end);
    scene.still_hears_alice();
}

#[test]
fn a_strangers_close_frees_its_connection_at_once() {
    let scene = Scene::new();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", scene.listener.pid())).unwrap().count();
    let before = open();
    let strangers: Vec<_> = (0..20).map(|_| scene.stranger()).collect();
    scene.has_handled_everything();
    drop(strangers);
    eventually("closed connections", Duration::from_secs(5), || (open() <= before).then_some(()));
}

#[test]
fn the_deadline_is_drawn_at_accept_and_nothing_moves_it() {
    let pair = KeyPair::generate();
    let access = random();
    let contact_hello =
        |unix_ms| Initiator::start(&KeyPair::generate(), pair.public(), &access, unix_ms);
    let responding =
        [anonchat::proto::stream::handshake::Responding { pair: &pair, access: &access }];
    let mut random = SeededRandom::new(7);
    let mut seconds = Vec::new();
    for nth in 0..1000 {
        let now = Now { mono: Duration::from_secs(nth), unix_ms: 1_000_000_000 };
        let mut gate = Gate::new(now, &mut random);
        let drawn = gate.deadline();
        seconds.push((drawn - now.mono).as_secs_f64());
        if nth < 20 {
            let mut replays = ReplayGuard::default();
            let later = Now { mono: now.mono + Duration::from_secs(9), ..now };
            if nth % 2 == 0 {
                let (_, hello) = contact_hello(now.unix_ms).unwrap();
                assert!(matches!(gate.feed(&hello, later), Passage::Nothing) && gate.knocks());
                let answer = gate.answer(later, &responding, &mut replays);
                assert!(matches!(answer, Answer::Reply(_)));
            }
            for len in [1, 79, 1248, 3000] {
                assert!(matches!(gate.feed(&garbage(len), later), Passage::Nothing));
                let answer = gate.answer(later, &responding, &mut replays);
                assert!(matches!(answer, Answer::Nothing));
            }
            assert_eq!(gate.deadline(), drawn);
        }
    }
    assert!(seconds.iter().all(|s| (10.0..=30.0).contains(s)));
    // Evenly over the whole range: of 1000 draws some are in each second.
    for second in 10..30 {
        let within = |s: &&f64| (f64::from(second)..f64::from(second + 1)).contains(*s);
        assert!(seconds.iter().filter(within).count() > 10, "none near {second} s");
    }
}
