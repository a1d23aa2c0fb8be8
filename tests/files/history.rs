//! A history, if asked for: what was sent and received, sealed to its owner, and nothing of it lost
//! by crashes, full disks or several writers at once.

use crate::testkit::{common, screen::terminal};

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::*;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;

/// Alice and Bob, who know each other, and where their histories are.
struct Friends {
    alice: Home,
    bob: Home,
}

impl Friends {
    fn new() -> Self {
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        Self { alice, bob }
    }

    /// Alice sends these over `transport` (`-u` or nothing); both record all of it.
    fn talk(&self, transport: &[&str], messages: &[&[u8]]) {
        let (count, theirs) = (messages.len().to_string(), history(&self.bob));
        let args = [&["-n", &count, "--history", &theirs, "127.0.0.1:0"], transport].concat();
        let mut listener = Listener::spawn(&self.bob, &args);
        let (to, ours) = (listener.destination("bob"), history(&self.alice));
        for message in messages {
            let args = [&["--history", &ours, &to], transport].concat();
            assert_code(&send(&self.alice, &args, message), 0);
        }
        assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
        assert_eq!(listener.stdout(), messages.concat());
    }
}

fn history(home: &Home) -> String {
    home.path().join("history").to_str().unwrap().to_owned()
}

fn replay(home: &Home, args: &[&str]) -> Output {
    let path = history(home);
    run(home.command("ac-listen", &[&["--replay", &path], args].concat()), b"", DEADLINE)
}

/// A message, put together from its objects.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    event: String,
    peer: String,
    transport: String,
    /// `status`, or `cut` or `whole`.
    ending: String,
    content: Vec<u8>,
    id: String,
}

/// What `--json` says, with nothing on stderr but what `warning` names.
fn messages(home: &Home, args: &[&str], warning: &str) -> Vec<Message> {
    let replayed = replay(home, &[&["--json"], args].concat());
    assert_code(&replayed, 0);
    let said = String::from_utf8(replayed.stderr).unwrap();
    assert_eq!(said.is_empty(), warning.is_empty(), "{said}");
    assert!(said.contains(warning), "{said}");
    parse(&replayed.stdout)
}

fn parse(lines: &[u8]) -> Vec<Message> {
    let mut found: Vec<Message> = Vec::new();
    let mut next = 0;
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        assert_eq!(object["seq"], next, "{object}");
        let content = match object["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(text("base64")).unwrap(),
        };
        if next == 0 {
            let peer = text("from") + &text("to");
            let (event, transport, id) = (text("event"), text("transport"), text("id"));
            found.push(Message { event, peer, transport, ending: String::new(), content, id });
        } else {
            found.last_mut().unwrap().content.extend(content);
        }
        next += 1;
        if object["last"] == true {
            let whole = if object["cut"] == true { "cut" } else { "whole" };
            let status = object["status"].as_str().unwrap_or(whole);
            found.last_mut().unwrap().ending = status.to_owned();
            next = 0;
        }
    }
    found
}

/// Bytes in which a shift or a swap shows.
fn long(len: usize) -> Vec<u8> {
    (0..len as u32 / 4).flat_map(|n| (n ^ 0xfeed_beef).to_le_bytes()).collect()
}

/// Where each entry begins, and the end.
fn entries(file: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = vec![0];
    while at < file.len() {
        at += anonchat::history::entry::length(&file[at..]).unwrap();
        found.push(at);
    }
    assert_eq!(at, file.len());
    found
}

#[test]
fn both_sides_keep_what_crossed_by_every_way() {
    let friends = Friends::new();
    let big = long(300_000);
    let said: &[&[u8]] = &[b"hi\n", b"", b"two\nlines", b"\xff\x00raw", &big];
    friends.talk(&[], said);
    friends.talk(&["-u"], said);
    let sealed = friends.alice.path().join("box").to_str().unwrap().to_owned();
    let (ours, theirs) = (history(&friends.alice), history(&friends.bob));
    let args = ["-o", &sealed, "--history", &ours, "bob"];
    assert_code(&send(&friends.alice, &args, b"by mail"), 0);
    let opening = ["--open", &sealed, "--history", &theirs];
    assert_code(&run(friends.bob.command("ac-listen", &opening), b"", DEADLINE), 0);

    let (sent, received) = (messages(&friends.alice, &[], ""), messages(&friends.bob, &[], ""));
    let transports = ["tcp"; 5].iter().chain(&["udp"; 5]).chain(&["file"]);
    let bodies = said.iter().chain(said).copied().chain([&b"by mail"[..]]);
    assert_eq!((sent.len(), received.len()), (11, 11));
    for (((sent, received), transport), body) in
        sent.iter().zip(&received).zip(transports).zip(bodies)
    {
        let ending = if *transport == "file" { "sealed" } else { "delivered" };
        for (message, event, peer, ending) in
            [(sent, "sent_message", "bob", ending), (received, "message", "alice", "whole")]
        {
            assert_eq!((&*message.event, &*message.peer), (event, peer));
            assert_eq!((&*message.transport, &*message.ending), (*transport, ending));
            assert!(message.content == body, "{transport}: {} bytes", message.content.len());
        }
        assert_eq!(sent.id, received.id);
    }
}

#[test]
fn without_the_option_there_is_no_history() {
    let friends = Friends::new();
    let mut listener = Listener::spawn(&friends.bob, &["-1", "127.0.0.1:0"]);
    let before = names(&friends);
    assert_code(&send(&friends.alice, &[&listener.destination("bob")], b"hi"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(names(&friends), before);
}

fn names(friends: &Friends) -> Vec<std::ffi::OsString> {
    let folders = [friends.alice.path(), friends.bob.path()].map(|p| fs::read_dir(p).unwrap());
    folders.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_history_is_sealed_and_closed_to_others() {
    let friends = Friends::new();
    friends.talk(&[], &[b"a word that nobody reads"]);
    let key = fs::read_to_string(friends.alice.public_key_file()).unwrap();
    let key = key.lines().find_map(|line| line.strip_prefix("public = ")).unwrap();
    let key = STANDARD.decode(key.trim_matches('"')).unwrap();
    for home in [&friends.alice, &friends.bob] {
        let path = history(home);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let bytes = fs::read(&path).unwrap();
        let shows = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        for secret in [&b"word"[..], b"alice", b"bob", &key[..8]] {
            assert!(!shows(secret), "{secret:?} in clear");
        }
        assert!(shows(b"AChist"));
    }
}

#[test]
fn a_history_that_others_can_open_is_refused() {
    let friends = Friends::new();
    let path = history(&friends.alice);
    fs::write(&path, "").unwrap();
    for mode in [0o644, 0o620, 0o606] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let args = ["--history", &path, "bob@127.0.0.1:1"];
        let refused = send(&friends.alice, &args, b"hi");
        assert_code(&refused, 1);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("cannot write the history") && said.contains("0600"), "{said}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn what_is_no_file_is_no_history() {
    let friends = Friends::new();
    let fifo = friends.alice.path().join("fifo").to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let folder = friends.alice.path().to_str().unwrap();
    for path in [&fifo, folder] {
        let args = ["--history", path, "bob@127.0.0.1:1"];
        assert_code(&send(&friends.alice, &args, b"hi"), 1);
        let replayed = run(friends.alice.command("ac-listen", &["--replay", path]), b"", DEADLINE);
        assert_code(&replayed, 1);
    }
    let missing = replay(&friends.alice, &[]);
    assert_code(&missing, 1);
    fs::write(history(&friends.alice), "Dear diary").unwrap();
    let replayed = replay(&friends.alice, &[]);
    assert_code(&replayed, 1);
    assert!(String::from_utf8(replayed.stderr).unwrap().contains("is no history"));
}

#[test]
fn a_history_is_written_and_read_through_no_symbolic_link() {
    let friends = Friends::new();
    let path = history(&friends.alice);
    let (target, missing) =
        (friends.alice.path().join("target"), friends.alice.path().join("missing"));
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    for to in [&target, &missing] {
        std::os::unix::fs::symlink(to, &path).unwrap();
        let refused = send(&friends.alice, &["--history", &path, "bob@127.0.0.1:1"], b"hi");
        let args = ["--history", &path, "127.0.0.1:0"];
        let listened = run(friends.alice.command("ac-listen", &args), b"", DEADLINE);
        for refused in [refused, listened, replay(&friends.alice, &[])] {
            assert_code(&refused, 1);
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(said.contains("is a symbolic link"), "{said}");
        }
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
    assert!(!missing.exists());
}

#[test]
fn nothing_is_appended_to_a_file_that_is_no_history() {
    let friends = Friends::new();
    let notes = friends.alice.path().join("notes");
    fs::write(&notes, "milk\n").unwrap();
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o600)).unwrap();
    let key = friends.alice.path().join("identity.key");
    for file in [&notes, &key] {
        let (before, path) = (fs::read(file).unwrap(), file.to_str().unwrap());
        let refused = send(&friends.alice, &["--history", path, "bob@127.0.0.1:1"], b"hi");
        let args = ["--history", path, "127.0.0.1:0"];
        let listened = run(friends.alice.command("ac-listen", &args), b"", DEADLINE);
        for refused in [refused, listened] {
            assert_code(&refused, 1);
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(said.contains("is no history"), "{said}");
        }
        assert_eq!(fs::read(file).unwrap(), before);
    }
}

#[test]
fn a_history_that_others_can_change_or_own_is_not_replayed() {
    let friends = Friends::new();
    friends.talk(&[], &[b"hi"]);
    let path = history(&friends.alice);
    for (mode, code) in [(0o620, 1), (0o602, 1), (0o644, 0), (0o600, 0)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_code(&replay(&friends.alice, &[]), code);
    }
    if common::possible(std::os::unix::fs::chown(&path, Some(12345), None).is_ok(), "run as root") {
        let replayed = replay(&friends.alice, &[]);
        assert_code(&replayed, 1);
        assert!(String::from_utf8(replayed.stderr).unwrap().contains("belongs to somebody else"));
    }
}

#[test]
fn recording_needs_no_passphrase_and_replaying_does() {
    let (alice, bob) = (Home::new(), Home::with_identity());
    let passphrase = bob.path().join("passphrase").to_str().unwrap().to_owned();
    fs::write(&passphrase, "open sesame\n").unwrap();
    assert_code(&alice.keygen(&["-p", "--passphrase-file", &passphrase]), 0);
    befriend(&alice, "alice", &bob, "bob");
    let friends = Friends { alice, bob };
    let sealed = friends.alice.path().join("box").to_str().unwrap().to_owned();
    let path = history(&friends.alice);
    // With a key made for this one message nothing but the history could ask for a passphrase.
    let args = ["-a", "-o", &sealed, "--history", &path, "bob"];
    assert_code(&send(&friends.alice, &args, b"hi"), 0);
    assert_code(&replay(&friends.alice, &["--passphrase-file", "/dev/null"]), 3);
    let told = ["--passphrase-file", &*passphrase];
    assert_eq!(messages(&friends.alice, &told, "")[0].content, b"hi");
}

#[test]
fn another_key_opens_nothing_and_mine_passes_over_what_is_not_mine() {
    let friends = Friends::new();
    friends.talk(&[], &[b"one", b"two"]);
    let theirs = fs::read(history(&friends.alice)).unwrap();
    let mine = fs::read(history(&friends.bob)).unwrap();
    fs::write(history(&friends.bob), &theirs).unwrap();
    let replayed = replay(&friends.bob, &[]);
    assert_code(&replayed, 5);
    assert!(replayed.stdout.is_empty());
    let said = String::from_utf8(replayed.stderr).unwrap();
    assert!(said.contains("not sealed for this key") && said.contains("hint:"), "{said}");

    fs::write(history(&friends.bob), [mine.clone(), theirs, mine].concat()).unwrap();
    let found = messages(&friends.bob, &[], "4 entries that are for another key");
    let contents: Vec<_> = found.iter().map(|m| m.content.clone()).collect();
    assert_eq!(contents, [&b"one"[..], b"two", b"one", b"two"]);
    // The other key can be named.
    let key = friends.alice.path().join("identity.key").to_str().unwrap().to_owned();
    assert_eq!(messages(&friends.bob, &["-k", &key], "4 entries").len(), 2);
}

#[test]
fn a_tail_that_is_torn_at_any_byte_costs_its_own_entry_only() {
    let friends = Friends::new();
    friends.talk(&[], &[b"first", b"second", b"third"]);
    let whole = fs::read(history(&friends.bob)).unwrap();
    let [_, _, last, end] = entries(&whole)[..] else { panic!("3 entries") };
    // What is appended later must be found again, whatever the torn length says.
    let later = &whole[..last];
    let stride = number("AC_TEST_TORN_STRIDE", 1);
    for cut in (last..end).step_by(stride) {
        let warning = if cut == last { "" } else { "torn" };
        fs::write(history(&friends.bob), &whole[..cut]).unwrap();
        let found = messages(&friends.bob, &[], warning);
        let contents: Vec<_> = found.iter().map(|m| m.content.clone()).collect();
        assert_eq!(contents, [&b"first"[..], b"second"], "cut at {cut}");

        fs::write(history(&friends.bob), [&whole[..cut], later].concat()).unwrap();
        let found = messages(&friends.bob, &[], warning);
        let contents: Vec<_> = found.iter().map(|m| m.content.clone()).collect();
        assert_eq!(contents, [&b"first"[..], b"second", b"first", b"second"], "cut at {cut}");
    }
}

#[test]
fn an_entry_that_was_changed_costs_itself_only() {
    let friends = Friends::new();
    friends.talk(&[], &[b"first", &long(200_000), b"third"]);
    let whole = fs::read(history(&friends.bob)).unwrap();
    let starts = entries(&whole);
    let path = history(&friends.bob);
    let file = File::options().write(true).open(&path).unwrap();
    // Within the second part of the long message; its head, too.
    for at in [starts[2], starts[2] + 9, starts[2] + 5000] {
        file.write_all_at(&whole, 0).unwrap();
        file.write_all_at(&[!whole[at]], at as u64).unwrap();
        let found = messages(&friends.bob, &[], "passed over");
        let endings: Vec<_> = found.iter().map(|m| &*m.ending).collect();
        assert_eq!(endings, ["whole", "cut", "whole"], "changed at {at}");
        assert_eq!(found[1].content.len(), 200_000 - 65_536);
    }
    // Its first part: the others are still there.
    file.write_all_at(&whole, 0).unwrap();
    file.write_all_at(&[!whole[starts[1] + 100]], starts[1] as u64 + 100).unwrap();
    let found = messages(&friends.bob, &[], "passed over");
    assert_eq!(found[1].ending, "cut");
    assert!(found[1].content == long(200_000)[65_536..]);
}

#[test]
fn several_writers_at_once_lose_nothing_and_mix_nothing() {
    let friends = Friends::new();
    let (ours, theirs) = (history(&friends.alice), history(&friends.bob));
    let count: usize = number("AC_TEST_WRITERS", 6);
    let body = |n: usize| long(150_000 + 4 * n)[4 * n..].to_vec();
    let mut listeners: Vec<_> = (0..2)
        .map(|_| {
            let n = count.to_string();
            Listener::spawn(&friends.bob, &["-n", &n, "--history", &theirs, "127.0.0.1:0"])
        })
        .collect();
    let mut senders = Vec::new();
    for n in 0..2 * count {
        let to = listeners[n % 2].destination("bob");
        let command = friends.alice.command("ac-send", &["--history", &ours, &to]);
        let mut sender = Running::start(command);
        sender.feed(body(n));
        senders.push(sender);
    }
    for sender in &mut senders {
        assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    }
    for listener in &mut listeners {
        assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    }
    for (home, ending) in [(&friends.alice, "delivered"), (&friends.bob, "whole")] {
        let found = messages(home, &[], "");
        assert_eq!(found.len(), 2 * count);
        for n in 0..2 * count {
            let same = |m: &&Message| m.ending == ending && m.content == body(n);
            assert_eq!(found.iter().filter(same).count(), 1, "message {n}");
        }
    }
}

/// Entries of long messages of several writers, dealt out in turns.
#[test]
fn messages_whose_entries_stand_between_each_other_come_out_whole() {
    let friends = Friends::new();
    let bodies = [long(400_000), long(300_000)[40..].to_vec(), b"short".to_vec()];
    let mut piles: Vec<Vec<Vec<u8>>> = Vec::new();
    for body in &bodies {
        friends.talk(&[], &[body]);
        let whole = fs::read(history(&friends.alice)).unwrap();
        let pieces = entries(&whole).windows(2).map(|w| whole[w[0]..w[1]].to_vec()).collect();
        piles.push(pieces);
        fs::remove_file(history(&friends.alice)).unwrap();
        fs::remove_file(history(&friends.bob)).unwrap();
    }
    let mut dealt = Vec::new();
    while piles.iter().any(|pile| !pile.is_empty()) {
        for pile in &mut piles {
            dealt.extend(pile.drain(..pile.len().min(1)).flatten());
        }
    }
    fs::write(history(&friends.alice), dealt).unwrap();
    let found = messages(&friends.alice, &[], "");
    assert_eq!(found.len(), 3);
    for (message, body) in found.iter().zip(&bodies) {
        assert_eq!(message.ending, "delivered");
        assert!(message.content == *body);
    }
}

#[test]
fn nothing_is_acknowledged_that_a_full_disk_did_not_take() {
    let friends = Friends::new();
    for transport in [&[][..], &["-u"]] {
        let args = [&["--history", "/dev/full", "127.0.0.1:0"], transport].concat();
        let mut listener = Listener::spawn(&friends.bob, &args);
        let to = listener.destination("bob");
        let sent = send(&friends.alice, &[&[&*to], transport].concat(), b"hi");
        assert_code(&sent, 8);
        assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
        let said = listener.stderr();
        assert!(said.contains("cannot write the history /dev/full: no space left"), "{said}");
    }
}

#[test]
fn a_sender_whose_disk_is_full_ends_with_1_and_never_ends_its_message() {
    let friends = Friends::new();
    for transport in [&[][..], &["-u"]] {
        let args = [&["--json", "-w", "2s", "127.0.0.1:0"], transport].concat();
        let mut listener = Listener::spawn(&friends.bob, &args);
        let to = listener.destination("bob");
        let args = [&["--history", "/dev/full", &*to], transport].concat();
        let sent = send(&friends.alice, &args, b"hi");
        assert_code(&sent, 1);
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(said.contains("bob: cannot write the history /dev/full: no space"), "{said}");
        listener.wait_exit(DEADLINE);
        let delivered = String::from_utf8(listener.stdout()).unwrap();
        assert!(!delivered.contains("\"delivered\""), "{delivered}");
    }
}

#[test]
fn what_a_disk_did_not_take_whole_leaves_nothing_behind() {
    let friends = Friends::new();
    friends.talk(&[], &[b"hi"]);
    let before = fs::read(history(&friends.alice)).unwrap();
    let mut command = Command::new("sh");
    // 2 blocks of 512 bytes, or of 1024 in some shells; the entry is far longer than either.
    let limit = "trap '' XFSZ; ulimit -f 2; exec \"$@\"";
    command.args(["-c", limit, "sh", program("ac-send").to_str().unwrap()]);
    let listener = Listener::spawn(&friends.bob, &["127.0.0.1:0"]);
    command.args(["--history", &history(&friends.alice), &listener.destination("bob")]);
    friends.alice.at_home(&mut command);
    let sent = run(command, &long(100_000), DEADLINE);
    assert_code(&sent, 1);
    let said = String::from_utf8(sent.stderr).unwrap();
    assert!(said.contains("file too large"), "{said}");
    assert!(fs::read(history(&friends.alice)).unwrap() == before);
}

#[test]
fn a_message_that_was_not_delivered_is_marked_so() {
    let friends = Friends::new();
    let path = history(&friends.alice);
    let mut listener = Listener::spawn(&friends.bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let mut sender = Running::start(friends.alice.command("ac-send", &["--history", &path, &to]));
    sender.stdin.as_mut().unwrap().write_all(b"half of").unwrap();
    listener.wait_stdout("the first half", |out| out == b"half of");
    listener.kill();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
    let found = messages(&friends.alice, &[], "");
    assert_eq!(
        (found.len(), &*found[0].ending, &*found[0].content),
        (1, "failed", &b"half of"[..])
    );
    // Nobody there before anything was read: nothing to record.
    assert_code(&send(&friends.alice, &["--history", &path, &to], b"more"), 4);
    assert_eq!(messages(&friends.alice, &[], "").len(), 1);
}

#[test]
fn what_flows_when_a_listener_is_stopped_or_killed_is_kept_as_cut_off() {
    for signal in [Signal::TERM, Signal::KILL] {
        let friends = Friends::new();
        let path = history(&friends.bob);
        let mut listener = Listener::spawn(&friends.bob, &["--history", &path, "127.0.0.1:0"]);
        let to = listener.destination("bob");
        let mut sender = Running::start(friends.alice.command("ac-send", &[&to]));
        sender.stdin.as_mut().unwrap().write_all(b"half of").unwrap();
        listener.wait_stdout("the first half", |out| out == b"half of");
        eventually("an entry", DEADLINE, || {
            fs::metadata(&path).is_ok_and(|m| m.len() > 0).then_some(())
        });
        listener.signal(signal);
        listener.wait_exit(DEADLINE);
        let found = messages(&friends.bob, &[], "");
        let [Message { ending, content, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&**ending, &**content), ("cut", &b"half of"[..]), "{signal:?}");
    }
}

#[test]
fn who_holds_the_lock_stalls_messages_and_not_signals() {
    let friends = Friends::new();
    let path = history(&friends.bob);
    let mut listener = Listener::spawn(&friends.bob, &["--history", &path, "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let locked = File::open(&path).unwrap();
    flock(&locked, FlockOperation::LockExclusive).unwrap();
    let mut sender = Running::start(friends.alice.command("ac-send", &[&to]));
    sender.feed(b"hi".to_vec());
    listener.wait_stdout("the message", |out| out == b"hi");
    // It is printed, and not acknowledged: a listener that keeps signs of life going can be asked.
    assert_code(&send(&friends.alice, &["-z", &to], b""), 0);
    assert_eq!(sender.poll_exit(), None);
    flock(&locked, FlockOperation::Unlock).unwrap();
    assert!(sender.wait_exit(DEADLINE).success());
    flock(&locked, FlockOperation::LockExclusive).unwrap();
    let mut sender = Running::start(friends.alice.command("ac-send", &[&to]));
    sender.feed(b"ho".to_vec());
    listener.wait_stdout("the message", |out| out == b"hiho");
    listener.signal(Signal::TERM);
    listener.wait_exit(DEADLINE);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6));
}

#[test]
fn a_replay_can_be_narrowed_by_name_and_time() {
    let friends = Friends::new();
    let carol = Home::with_identity();
    befriend(&carol, "carol", &friends.bob, "bob");
    let path = history(&friends.bob);
    let mut listener =
        Listener::spawn(&friends.bob, &["-n", "2", "--history", &path, "127.0.0.1:0"]);
    let to = listener.destination("bob");
    assert_code(&send(&friends.alice, &[&to], b"from alice"), 0);
    assert_code(&send(&carol, &[&to], b"from carol"), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let listener = Listener::spawn(&carol, &["127.0.0.1:0"]);
    let args = ["--history", &path, &listener.destination("carol")];
    assert_code(&send(&friends.bob, &args, b"to carol"), 0);

    let raw = |args: &[&str]| {
        let replayed = replay(&friends.bob, args);
        assert_code(&replayed, 0);
        String::from_utf8(replayed.stdout).unwrap()
    };
    assert_eq!(raw(&["-0"]), "from alice\0from carol\0to carol\0");
    assert_eq!(raw(&[]), "from alicefrom carolto carol");
    assert_eq!(raw(&["--from", "carol"]), "from carol");
    assert_eq!(raw(&["-0", "--from", "carol", "--from", "alice"]), "from alice\0from carol\0");
    assert_eq!(raw(&["--since", "1h", "-0"]), "from alice\0from carol\0to carol\0");
    assert_eq!(raw(&["--since", "2999-12-31"]), "");
    assert_eq!(raw(&["--since", "2020-01-01T10:00", "--from", "alice"]), "from alice");

    // Who has the name now, and who had it then.
    let contacts = friends.bob.path().join("contacts");
    fs::rename(contacts.join("carol.pub"), contacts.join("caroline.pub")).unwrap();
    assert_eq!(raw(&["--from", "carol"]), "from carol");
    assert_eq!(raw(&["--from", "caroline"]), "from carol");
    assert_code(&replay(&friends.bob, &["--from", "nobody"]), 3);
    for wrong in [&["--since", "soon"][..], &["--history", "x"], &["-u"], &["1234"], &["-1"]] {
        assert_code(&replay(&friends.bob, wrong), 2);
    }
}

#[test]
fn on_a_terminal_each_message_has_its_time_and_its_direction() {
    let Some((mut controller, user)) = terminal() else { return };
    let friends = Friends::new();
    friends.talk(&[], &[b"hi\n", b"\x1b[31mred"]);
    let to = "bob@127.0.0.1:1";
    let args = ["-u", "-w", "1s", "--history", &history(&friends.alice), to];
    assert!(!send(&friends.alice, &args, b"lost").status.success());
    let mut shown = String::new();
    for home in [&friends.alice, &friends.bob] {
        let mut command = home.command("ac-listen", &["--replay", &history(home)]);
        command.stdout(user.try_clone().unwrap());
        assert!(Running::start(command).wait_exit(DEADLINE).success());
    }
    let text = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = controller.read(&mut buffer) {
            theirs.lock().unwrap().extend_from_slice(&buffer[..len]);
        }
    });
    eventually("five lines", DEADLINE, || {
        shown = String::from_utf8(text.lock().unwrap().clone()).unwrap().replace("\r\n", "\n");
        (shown.matches('\n').count() == 5).then_some(())
    });
    // The test may run across midnight: what stands before the time is the day.
    let lines: Vec<_> = shown.lines().map(|line| line.split_once(": ").unwrap()).collect();
    let titles = ["to bob", "to bob", "to bob", "alice", "alice"];
    let bodies = ["hi", "^[[31mred", "lost [not delivered]", "hi", "^[[31mred"];
    for (((head, body), title), expected) in lines.iter().zip(titles).zip(bodies) {
        assert_eq!(*body, expected);
        let time = head.strip_suffix(title).unwrap().trim_end().rsplit(' ').next().unwrap();
        assert_eq!(time.len(), 8, "{head}");
        assert!(time.split(':').all(|n| n.parse::<u8>().is_ok()), "{head}");
    }
}

/// Memory stays where it is, whatever the length: the bound is far below the message.
#[test]
fn a_long_message_is_recorded_and_replayed_in_constant_memory() {
    let friends = Friends::new();
    let mib: usize = number("AC_TEST_HISTORY_MIB", 96);
    let body = long(mib << 20);
    let limit = |home: &Home, args: &[&str]| {
        let mut command = Command::new("sh");
        let program = program("ac-listen");
        command.args(["-c", "ulimit -d 65536 && exec \"$@\"", "sh", program.to_str().unwrap()]);
        command.args(args);
        home.at_home(&mut command);
        command.stdout(std::process::Stdio::null());
        command
    };
    let path = history(&friends.bob);
    let mut listener =
        Listener::start(limit(&friends.bob, &["-1", "--history", &path, "127.0.0.1:0"]));
    assert_code(&send(&friends.alice, &[&listener.destination("bob")], &body), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(fs::metadata(&path).unwrap().len() > (mib as u64) << 20);
    let command = limit(&friends.bob, &["--replay", &path]);
    assert_code(&run(command, b"", DEADLINE), 0);
    let replayed = replay(&friends.bob, &[]);
    assert_code(&replayed, 0);
    assert!(replayed.stdout == body);
}
