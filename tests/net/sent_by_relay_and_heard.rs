//! From ac-send to ac-listen by a relay: what waited is heard by who comes, once and in order,
//! whatever becomes of the sender's links; and a group's mailbox serves all of its members.
//!
//! `AC_TEST_MESSAGES` says how many messages go over links that are cut.

use crate::testkit::{common, proxy, relay_client, relay_people};

use std::fs;
use std::io::{Read as _, Write as _, pipe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Running, assert_code, befriend, eventually, number, run, send};
use proxy::Proxy;
use relay_client::Relay;
use relay_people::{listen, name_of, relay};

struct Scene {
    alice: Home,
    bob: Home,
    relay: Relay,
    /// The relay as alice names it.
    via: String,
}

impl Scene {
    fn new() -> Self {
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let relay = relay();
        let via = name_of(&relay, &alice);
        Self { alice, bob, relay, via }
    }

    fn send(&self, args: &[&str], stdin: &[u8]) -> std::process::Output {
        send(&self.alice, &[&["--via", &self.via], args].concat(), stdin)
    }
}

#[test]
fn what_is_queued_is_heard_by_who_comes_and_then_it_is_delivered_at_once() {
    let scene = Scene::new();
    for line in [&b"one\n"[..], b"two\n"] {
        assert_code(&scene.send(&["-w", "1s", "--queue", "bob"], line), 0);
    }
    let listener = listen(&scene.bob, &scene.relay, &[]);
    listener.wait_stdout("what was queued", |heard| heard == b"one\ntwo\n");
    assert_code(&scene.send(&["bob"], b"three\n"), 0);
    assert_eq!(listener.stdout(), b"one\ntwo\nthree\n");
}

#[test]
fn what_one_listener_has_taken_the_next_does_not_find_again() {
    let scene = Scene::new();
    // Long enough for the copy that a stranger would find.
    assert_code(&scene.send(&["-w", "4s", "--queue", "bob"], b"once\n"), 0);
    // It may be over before it says that it listens.
    let via = name_of(&scene.relay, &scene.bob);
    let mut first = Running::start(scene.bob.command("ac-listen", &["--via", &via, "-1"]));
    assert!(first.wait_exit(DEADLINE).success(), "{}", first.stderr());
    assert_eq!(first.stdout(), b"once\n");
    let mut second = listen(&scene.bob, &scene.relay, &["-1", "-w", "2s"]);
    assert_eq!(second.wait_exit(DEADLINE).code(), Some(4), "{}", second.stderr());
    assert_eq!(second.stdout(), b"");
}

#[test]
fn small_files_wait_and_land() {
    let scene = Scene::new();
    let paths: Vec<_> = ["a.txt", "b.txt"]
        .map(|name| {
            let path = scene.alice.path().join(name);
            fs::write(&path, format!("this is {name}")).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .into();
    let args = ["-w", "1s", "bob", "--", &paths[0], &paths[1]];
    assert_code(&scene.send(&args, b""), 7);
    let inbox = scene.bob.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let via = name_of(&scene.relay, &scene.bob);
    let args = ["--via", &via, "-n", "2", "-d", inbox.to_str().unwrap()];
    let mut listener = Running::start(scene.bob.command("ac-listen", &args));
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    let found = fs::read_dir(&inbox).unwrap().map(|entry| entry.unwrap().path());
    let shown = found.filter(|path| path.to_str().unwrap().contains("_alice_"));
    let mut landed: Vec<_> = shown.map(|path| fs::read_to_string(path).unwrap()).collect();
    landed.sort();
    assert_eq!(landed, ["this is a.txt", "this is b.txt"]);
}

#[test]
fn every_member_of_a_group_hears_also_who_comes_later() {
    let scene = Scene::new();
    let carol = Home::with_identity();
    befriend(&scene.alice, "alice", &carol, "carol");
    befriend(&scene.alice, "alice", &scene.bob, "bob2");
    assert_code(&scene.bob.keygen(&["--group", "team"]), 0);
    let key = scene.bob.path().join("groups/team.key");
    for member in [&scene.alice, &carol] {
        assert_code(&member.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    }
    let bob = listen(&scene.bob, &scene.relay, &["-k", "team"]);
    assert_code(&scene.send(&["team"], b"to all\n"), 0);
    bob.wait_stdout("the message", |heard| heard == b"to all\n");
    let carols = listen(&carol, &scene.relay, &["-k", "team"]);
    carols.wait_stdout("the message, later", |heard| heard == b"to all\n");
    let long = vec![b'x'; 300_000];
    let args = ["--via", &scene.via, "team"];
    assert_code(&run(scene.alice.command("ac-send", &args), &long, DEADLINE), 0);
    for member in [&bob, &carols] {
        let heard = member.stdout();
        assert!(heard[7..] == long, "{} bytes", heard.len());
    }
}

#[test]
fn links_that_are_cut_lose_and_repeat_nothing() {
    let count = number("AC_TEST_MESSAGES", 12);
    let scene = Scene::new();
    let proxy = Arc::new(Proxy::to(scene.relay.port));
    let via = proxy.destination("home");
    let mut listener = listen(&scene.bob, &scene.relay, &["-n", &format!("{count}")]);
    let over = Arc::new(AtomicBool::new(false));
    let cutter = std::thread::spawn({
        let (proxy, over) = (Arc::clone(&proxy), Arc::clone(&over));
        move || {
            // A pace at which links live long enough to carry something.
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(35));
                proxy.interrupt();
            }
        }
    });
    let mut expected = Vec::new();
    for number in 0..count {
        let text = format!("message {number} {}\n", "x".repeat(number * 1500));
        expected.extend_from_slice(text.as_bytes());
        // Cut before the first handshake with the relay is over, it has reached nobody, and says so.
        let sent = common::eventually("a message to be taken", DEADLINE * 2, || {
            let command = scene.alice.command("ac-send", &["--via", &via, "bob"]);
            let sent = run(command, text.as_bytes(), DEADLINE);
            (sent.status.code() != Some(5)).then_some(sent)
        });
        let said = String::from_utf8_lossy(&sent.stderr);
        assert!([Some(0), Some(7)].contains(&sent.status.code()), "{said}");
    }
    over.store(true, Ordering::Relaxed);
    cutter.join().unwrap();
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert!(listener.stdout() == expected, "{}", String::from_utf8_lossy(&listener.stdout()));
}

#[test]
fn a_reader_that_pauses_is_waited_for_by_an_impatient_sender() {
    let scene = Scene::new();
    let (mut reader, mut writer) = pipe().unwrap();
    writer.write_all(&[b'.'; 1 << 16]).unwrap();
    let via = name_of(&scene.relay, &scene.bob);
    let mut command = scene.bob.command("ac-listen", &["--via", &via, "-1"]);
    command.stdout(writer);
    let mut listener = Running::start(command);
    listener.wait_stderr("listening at relay");
    let args = ["--via", &scene.via, "-w", "1s", "bob"];
    let mut sender = Running::start(scene.alice.command("ac-send", &args));
    sender.feed(b"later\n".to_vec());
    let began = Instant::now();
    eventually("a pause", DEADLINE, || {
        assert!(sender.poll_exit().is_none(), "{}", sender.stderr());
        (began.elapsed() > Duration::from_millis(3500)).then_some(())
    });
    let mut heard = vec![0; (1 << 16) + 6];
    reader.read_exact(&mut heard).unwrap();
    assert!(heard.ends_with(b"later\n"));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success());
}
