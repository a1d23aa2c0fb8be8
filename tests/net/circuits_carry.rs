//! What does not fit cells flows through a relay as if there were none: long streams, files, bytes
//! both ways, chats; and to each program of a group that is there.

use crate::testkit::{
    common,
    keys::{group, identity, public},
    random::bytes,
    relay_reader,
};

use std::fs;
use std::io::Write as _;

use anonchat::proto::datagram::packet::MAX_MESSAGE;
use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, run, send};
use relay_reader::{Bridge, Scene};

impl Scene {
    /// bob's ac-listen, to which the relay's circuits lead.
    fn listener(&self, args: &[&str]) -> Listener {
        let listener = Listener::spawn(&self.bob, &[args, &["127.0.0.1:0"]].concat());
        let me = identity(&self.bob);
        Bridge::of(me, &public(&self.alice), &self.relay, listener.port());
        listener
    }
}

#[test]
fn a_long_stream_arrives_and_is_acknowledged() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["-1"]);
    let content = bytes(3_000_000);
    let sent = run(scene.alice.command("ac-send", &["--via", "home", "bob"]), &content, DEADLINE);
    assert_code(&sent, 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == content);
}

#[test]
fn input_that_flows_is_heard_before_it_ends() {
    let scene = Scene::new();
    let listener = scene.listener(&[]);
    let mut sending = Running::start(scene.alice.command("ac-send", &["--via", "home", "bob"]));
    let stdin = sending.stdin.as_mut().unwrap();
    stdin.write_all(b"one\n").unwrap();
    listener.wait_stdout("the first line", |said| said == b"one\n");
    sending.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    listener.wait_stdout("the second line", |said| said == b"one\ntwo\n");
    sending.close_stdin();
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
}

#[test]
fn a_ping_says_whether_they_are_there() {
    let scene = Scene::new();
    let args = ["--via", "home", "-z", "-w", "1s", "bob"];
    assert_code(&send(&scene.alice, &args, b""), 4);
    let _listener = scene.listener(&[]);
    assert_code(&send(&scene.alice, &args, b""), 0);
}

#[test]
fn large_files_and_folders_land() {
    let scene = Scene::new();
    let inbox = scene.bob.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let mut listener = scene.listener(&["-1", "-d", inbox.to_str().unwrap()]);
    let folder = scene.alice.path().join("photos");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), bytes(10)).unwrap();
    let large = scene.alice.path().join("large");
    fs::write(&large, bytes(2_000_000)).unwrap();
    let (folder, large) = (folder.to_str().unwrap(), large.to_str().unwrap());
    assert_code(&send(&scene.alice, &["--via", "home", "bob", "--", large, folder], b""), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let landed: Vec<_> = fs::read_dir(&inbox).unwrap().map(|e| e.unwrap().path()).collect();
    let named = |end: &str| landed.iter().find(|path| path.to_str().unwrap().ends_with(end));
    assert!(fs::read(named("_alice_large").unwrap()).unwrap() == bytes(2_000_000));
    assert_eq!(fs::read(named("_alice_photos").unwrap().join("a")).unwrap(), bytes(10));
}

#[test]
fn bytes_go_both_ways() {
    let scene = Scene::new();
    let _listener = scene.listener(&["-e", "tr a-z A-Z"]);
    let sent = send(&scene.alice, &["--via", "home", "-b", "bob"], b"louder\n");
    assert_code(&sent, 0);
    assert_eq!(sent.stdout, b"LOUDER\n");
}

#[test]
fn a_chat_goes_by_the_relay_of_via() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["-i"]);
    let mut chat = Running::start(scene.alice.command("ac-send", &["-i", "--via", "home", "bob"]));
    chat.stdin.as_mut().unwrap().write_all(b"are you there?\n").unwrap();
    listener.wait_stdout("her line", |said| said.ends_with(b"are you there?\n"));
    listener.stdin.as_mut().unwrap().write_all(b"I am\n").unwrap();
    chat.wait_stdout("his line", |said| said.ends_with(b"I am\n"));
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
}

#[test]
fn who_is_connected_in_a_chat_is_reached_by_the_same_relay_or_that_of_the_key_file() {
    let scene = Scene::new();
    let (carol, dave) = (Home::with_identity(), Home::with_identity());
    befriend(&scene.alice, "alice", &carol, "carol");
    befriend(&scene.alice, "alice", &dave, "dave");
    let hers = scene.alice.path().join("contacts/carol.pub");
    let text = fs::read_to_string(&hers).unwrap();
    fs::write(&hers, text + "relay = \"home\"\n").unwrap();
    let direct = Listener::spawn(&dave, &["-i", "127.0.0.1:0"]);
    let (bob, listener) =
        (scene.listener(&["-i"]), Listener::spawn(&carol, &["-i", "127.0.0.1:0"]));
    Bridge::of(identity(&carol), &public(&scene.alice), &scene.relay, listener.port());
    // The relay of --via for everybody, but who is at an address.
    let at = direct.destination("dave");
    let chats = [
        (vec!["--via", "home", "bob"], "carol", &listener),
        (vec!["--via", "home", "bob"], at.as_str(), &direct),
        (vec![at.as_str()], "carol", &listener),
    ];
    for (number, (args, to, hears)) in chats.into_iter().enumerate() {
        let args = [vec!["-i"], args].concat();
        let mut chat = Running::start(scene.alice.command("ac-send", &args));
        let name = to.split('@').next().unwrap();
        let line = format!("/connect {to}\n/msg {name} this is {number}\n");
        chat.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let said = format!("this is {number}\n");
        hears.wait_stdout("her line", |heard| heard.ends_with(said.as_bytes()));
        chat.close_stdin();
        assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    }
    drop(bob);
}

#[test]
fn every_program_of_a_group_that_is_there_is_told_out_of_one_input() {
    let scene = Scene::new();
    assert_code(&scene.bob.keygen(&["--group", "team"]), 0);
    let key = scene.bob.path().join("groups/team.key");
    assert_code(&scene.alice.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    let content = bytes(MAX_MESSAGE + 500_000);
    let args = ["--via", "home", "team"];
    assert_code(&run(scene.alice.command("ac-send", &args), &content, DEADLINE), 4);
    let mut listeners: Vec<_> = (1..=2)
        .map(|instance| {
            let listener = Listener::spawn(&scene.bob, &["-1", "-k", "team", "127.0.0.1:0"]);
            let me = group(&scene.bob, "team");
            Bridge::public(me, &scene.relay, listener.port(), [instance; 8]);
            listener
        })
        .collect();
    let sent = run(scene.alice.command("ac-send", &args), &content, DEADLINE);
    assert_code(&sent, 0);
    for listener in &mut listeners {
        assert!(listener.wait_exit(DEADLINE).success());
        assert!(listener.stdout() == content, "{} bytes", listener.stdout().len());
    }
}
