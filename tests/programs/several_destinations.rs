//! One `ac-send` to several destinations: each gets every byte and has a line of result, none holds
//! up the others for long, and the exit code is that of the worst.

use crate::testkit::{
    common,
    measure::{alone, peak_resident_kib},
    proxy,
};

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use common::*;
use proxy::Proxy;
use rustix::process::Signal;
use serde_json::Value;

/// More than is kept for a slow one, all buffers on the way included.
const MUCH: usize = 48 << 20;

/// Alice, who sends, and others, who know her and are known to her.
fn friends<const N: usize>(names: [&str; N]) -> (Home, [Home; N]) {
    let alice = Home::with_identity();
    let homes = names.map(|name| {
        let home = Home::with_identity();
        befriend(&alice, "alice", &home, name);
        home
    });
    (alice, homes)
}

/// A pattern whose length divides no chunk's.
fn bytes(len: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..65_537).map(|n| (n % 251) as u8 ^ (n >> 13) as u8).collect();
    let mut bytes = pattern.repeat(len / pattern.len() + 1);
    bytes.truncate(len);
    bytes
}

/// The lines on stderr about `name`, without the name.
fn said_of(name: &str, output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let prefix = format!("ac-send: {name}: ");
    text.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}

/// Exactly one line about `name`, and `what` in it.
fn assert_said(name: &str, what: &str, output: &Output) {
    match &said_of(name, output)[..] {
        [line] if line.contains(what) => {}
        other => panic!("{name}, {what}: {other:?}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Where nobody listens.
fn nowhere(name: &str) -> String {
    format!("{name}@127.0.0.1:{}", free_port())
}

/// Somebody who accepts every connection and says nothing, as long as this lives.
struct Silent(TcpListener);

impl Silent {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn destination(&self, name: &str) -> String {
        format!("{name}@{}", self.0.local_addr().unwrap())
    }
}

/// A listener of which nobody reads what it writes.
fn paused(home: &Home, args: &[&str]) -> (Listener, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = home.command("ac-listen", args);
    command.stdout(writer);
    (Listener::start(command), reader)
}

#[test]
fn each_gets_every_byte_and_has_a_line_of_result() {
    for (transport, len) in [(&["-1", "127.0.0.1:0"][..], 20_000_001), (&["-1u", "127.0.0.1:0"], 3)]
    {
        let (alice, homes) = friends(["bob", "carol", "dave"]);
        let mut listeners = homes.each_ref().map(|home| Listener::spawn(home, transport));
        let to: Vec<_> =
            listeners.iter().zip(["bob", "carol", "dave"]).map(|(l, n)| l.destination(n)).collect();
        let mut args: Vec<_> = to.iter().map(String::as_str).collect();
        if transport[0] == "-1u" {
            args.push("-u");
        }
        let message = bytes(len);
        let sent = send(&alice, &args, &message);
        assert_code(&sent, 0);
        for (listener, name) in listeners.iter_mut().zip(["bob", "carol", "dave"]) {
            assert!(listener.wait_exit(DEADLINE).success());
            assert!(listener.stdout() == message, "{name} got something else");
            assert_said(name, &format!("{len} bytes delivered, 127.0.0.1:"), &sent);
        }
        assert!(sent.stdout.is_empty());
    }
}

#[test]
fn a_file_on_stdin_and_an_empty_input_reach_all_too() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    let file = alice.path().join("input");
    for len in [0, 1_000_000] {
        std::fs::write(&file, bytes(len)).unwrap();
        let mut listeners =
            [&bob, &carol].map(|home| Listener::spawn(home, &["-1", "127.0.0.1:0"]));
        let to = [listeners[0].destination("bob"), listeners[1].destination("carol")];
        let mut command = alice.command("ac-send", &["-q", &to[0], &to[1]]);
        command.stdin(File::open(&file).unwrap());
        let sent = run(command, b"", DEADLINE);
        assert_code(&sent, 0);
        assert!(sent.stderr.is_empty(), "-q says nothing of success");
        for listener in &mut listeners {
            assert!(listener.wait_exit(DEADLINE).success());
            assert!(listener.stdout() == bytes(len));
        }
    }
}

#[test]
fn one_whose_reader_pauses_is_cut_and_named_and_the_others_have_everything() {
    let _alone = alone();
    let (alice, [bob, carol, dave]) = friends(["bob", "carol", "dave"]);
    let mut good = [&bob, &dave].map(|home| Listener::spawn(home, &["-1", "127.0.0.1:0"]));
    let (stuck, mut reader) = paused(&carol, &["127.0.0.1:0"]);
    let to = [good[0].destination("bob"), stuck.destination("carol"), good[1].destination("dave")];
    let mut sender = Running::start(alice.command("ac-send", &to.each_ref().map(String::as_str)));
    sender.feed(bytes(MUCH));
    let started = Instant::now();
    let mut peak = 0;
    eventually("its end", DEADLINE, || {
        peak = peak.max(peak_resident_kib(&sender).unwrap_or(0));
        sender.poll_exit()
    });
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let status = sender.wait_exit(DEADLINE);
    let output = Output { status, stdout: Vec::new(), stderr: sender.stderr().into() };
    assert_code(&output, 6);
    assert_said("carol", "is too slow, ", &output);
    for (listener, name) in good.iter_mut().zip(["bob", "dave"]) {
        assert!(listener.wait_exit(DEADLINE).success());
        assert!(listener.stdout() == bytes(MUCH), "{name} got something else");
        assert_said(name, &format!("{MUCH} bytes delivered"), &output);
    }
    assert!((1..40 * 1024).contains(&peak), "{peak} KiB of memory");
    // Gone on, the reader has the beginning, and is told that it is no more than that.
    let mut beginning = vec![0; 1 << 20];
    reader.read_exact(&mut beginning).unwrap();
    assert!(beginning == bytes(1 << 20));
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    stuck.wait_stderr("cut off");
}

#[test]
fn over_udp_one_whose_reader_pauses_is_cut_and_named_too() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    let mut good = Listener::spawn(&bob, &["-1u", "127.0.0.1:0"]);
    let (stuck, _reader) = paused(&carol, &["-u", "127.0.0.1:0"]);
    let to = [good.destination("bob"), stuck.destination("carol")];
    let message = bytes(16 << 20);
    let sent = send(&alice, &["-u", &to[0], &to[1]], &message);
    assert_code(&sent, 6);
    assert_said("carol", "is too slow, ", &sent);
    assert!(good.wait_exit(DEADLINE).success());
    assert!(good.stdout() == message);
}

#[test]
fn one_that_is_silent_holds_up_nobody_whom_the_buffer_serves() {
    let (alice, [bob, _carol, _dave]) = friends(["bob", "carol", "dave"]);
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    let silent = Silent::new();
    let to = [silent.destination("carol"), listener.destination("bob"), nowhere("dave")];
    let args = ["-w", "3s", &to[0], &to[1], &to[2]];
    let mut sender = Running::start(alice.command("ac-send", &args));
    sender.feed(bytes(1_000_000));
    let line = sender.wait_stderr("ac-send: bob: ");
    assert!(line.contains("1000000 bytes delivered"), "{line}");
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(sender.poll_exit().is_none(), "the silent one has 3 s");
    let status = sender.wait_exit(DEADLINE);
    let output = Output { status, stdout: Vec::new(), stderr: sender.stderr().into() };
    assert_code(&output, 5);
    assert_said("carol", "gave no proof of the key within 3 s", &output);
    assert_said("dave", "connection refused", &output);
}

#[test]
fn one_that_is_silent_is_waited_for_only_so_long_by_those_who_could_go_on() {
    let (alice, [bob, _carol]) = friends(["bob", "carol"]);
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    let silent = Silent::new();
    let to = [listener.destination("bob"), silent.destination("carol")];
    let sent = send(&alice, &[&to[0], &to[1]], &bytes(MUCH));
    assert_code(&sent, 5);
    assert_said("carol", "gave no proof of the key within 5", &sent);
    assert!(listener.wait_exit(DEADLINE).success());
    assert!(listener.stdout() == bytes(MUCH));
}

#[test]
fn the_exit_code_is_the_first_of_its_table_that_occurred() {
    let (alice, [bob, carol, _dave, _erin, frank]) =
        friends(["bob", "carol", "dave", "erin", "frank"]);
    let homes = Homes { alice, bob, carol, frank };
    // From the worst to the best.
    let codes = [3, 6, 5, 4, 8, 0];
    std::thread::scope(|scope| {
        for (from, code) in codes.into_iter().enumerate() {
            let homes = &homes;
            scope.spawn(move || ends_with(code, from, homes));
        }
    });
}

struct Homes {
    alice: Home,
    bob: Home,
    carol: Home,
    frank: Home,
}

/// Sends to one destination for each outcome but the `from` worst.
fn ends_with(code: i32, from: usize, homes: &Homes) {
    let cut = Listener::spawn(&homes.bob, &["127.0.0.1:0"]);
    let (proxy, silent) = (Proxy::to(cut.port()), Silent::new());
    let mut full = homes.frank.command("ac-listen", &["127.0.0.1:0"]);
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    let full = Listener::start(full);
    let good = Listener::spawn(&homes.carol, &["127.0.0.1:0"]);
    let to = [
        "nobody".to_owned(),
        proxy.destination("bob"),
        silent.destination("dave"),
        nowhere("erin"),
        full.destination("frank"),
        good.destination("carol"),
    ];
    let mut args = vec!["-w", "3s", "-v"];
    args.extend(to[from..].iter().map(String::as_str));
    let mut sender = Running::start(homes.alice.command("ac-send", &args));
    sender.stdin.as_mut().unwrap().write_all(b"hi\n").unwrap();
    good.wait_stdout("the first line", |bytes| bytes == b"hi\n");
    if from <= 1 {
        proxy.wait_answered(1248 + 274);
        proxy.cut();
    }
    sender.close_stdin();
    let status = sender.wait_exit(DEADLINE);
    assert_eq!(status.code(), Some(code), "{args:?}\n{}", sender.stderr());
    let lines = sender.stderr().lines().filter(|l| l.starts_with("ac-send: ")).count();
    assert_eq!(lines, to.len() - from, "a line each:\n{}", sender.stderr());
}

#[test]
fn an_input_that_cannot_be_read_is_1_for_each_and_before_all_others() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    let listeners = [&bob, &carol].map(|home| Listener::spawn(home, &["127.0.0.1:0"]));
    let to = [listeners[0].destination("bob"), listeners[1].destination("carol")];
    let mut command = alice.command("ac-send", &[&to[0], "nobody", &to[1]]);
    command.stdin(File::open("/").unwrap());
    let sent = run(command, b"", DEADLINE);
    assert_code(&sent, 1);
    assert_said("bob", "cannot read the input: ", &sent);
    assert_said("carol", "cannot read the input: ", &sent);
    assert_said("nobody", "no contact", &sent);
    listeners.iter().for_each(|listener| drop(listener.wait_stderr("cut off")));
}

#[test]
fn wrong_usage_sends_nothing_to_anybody() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    std::fs::copy(alice.path().join("contacts/bob.pub"), alice.path().join("contacts/rob.pub"))
        .unwrap();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let (to, port) = (listener.destination("bob"), listener.port());
    let rob = listener.destination("rob");
    let out = alice.path().join("box");
    for (args, why) in [
        (&[&to[..], "carol@127.0.0.1:x"][..], "a port is a number"),
        (&[&to, "127.0.0.1:1"], "whose address is it?"),
        (&[&to, ""], "empty"),
        (&[&to, &to], "bob: it is named twice"),
        (&[&to, &rob], "rob: it is the same as bob"),
        (&["-o", out.to_str().unwrap(), "bob", "carol"], "-o seals for one"),
        (&["--plain", &format!("127.0.0.1:{port}"), "127.0.0.1:2"], "one destination at a time"),
    ] {
        let sent = send(&alice, args, b"hi\n");
        assert_code(&sent, 2);
        let said = String::from_utf8(sent.stderr).unwrap();
        assert!(said.contains(why), "{args:?}: {said}");
    }
    assert!(!Path::new(&out).exists());
    assert!(listener.stdout().is_empty() && !listener.stderr().contains("connected"));
    // The same key at another place is another destination.
    let mut twin = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    assert_code(&send(&alice, &[&to, &twin.destination("bob")], b"hi\n"), 0);
    assert!(twin.wait_exit(DEADLINE).success());
    assert_eq!((listener.stdout(), twin.stdout()), (b"hi\n".to_vec(), b"hi\n".to_vec()));
    drop(carol);
}

#[test]
fn a_signal_is_told_to_all() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    let listeners = [&bob, &carol].map(|home| Listener::spawn(home, &["127.0.0.1:0"]));
    let silent = Silent::new();
    let to = [
        listeners[0].destination("bob"),
        silent.destination("carol"),
        listeners[1].destination("carol"),
    ];
    let mut sender = Running::start(alice.command("ac-send", &to.each_ref().map(String::as_str)));
    sender.stdin.as_mut().unwrap().write_all(b"begun\n").unwrap();
    for listener in &listeners {
        listener.wait_stdout("the beginning", |bytes| bytes == b"begun\n");
    }
    sender.signal(Signal::INT);
    let status = sender.wait_exit(DEADLINE);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
    for listener in &listeners {
        let line = listener.wait_stderr("cut off");
        assert!(line.contains("stopped"), "{line}");
    }
}

#[test]
fn fifty_at_once_get_the_same() {
    let (alice, [bob]) = friends(["bob"]);
    let listener = Listener::spawn(&bob, &["-n", "50", "0.0.0.0:0"]);
    let to: Vec<_> = (1..=50).map(|n| format!("bob@127.0.0.{n}:{}", listener.port())).collect();
    let args: Vec<_> = to.iter().map(String::as_str).collect();
    let message = bytes(300_000);
    let sent = send(&alice, &args, &message);
    assert_code(&sent, 0);
    assert_eq!(said_of("bob", &sent).len(), 50);
    let mut listener = listener;
    assert!(listener.wait_exit(DEADLINE).success());
    let heard = listener.stdout();
    assert_eq!(heard.len(), 50 * message.len());
    assert!(heard.chunks(message.len()).all(|one| one == message));
}

#[test]
fn a_ping_asks_each() {
    let (alice, [bob, carol, _dave]) = friends(["bob", "carol", "dave"]);
    for transport in [&["127.0.0.1:0"][..], &["-u", "127.0.0.1:0"]] {
        let listeners = [&bob, &carol].map(|home| Listener::spawn(home, transport));
        let to =
            [listeners[0].destination("bob"), listeners[1].destination("carol"), nowhere("dave")];
        let mut args = vec!["-z"];
        args.extend(to.iter().map(String::as_str));
        args.extend((transport.len() > 1).then_some("-u"));
        let asked = send(&alice, &args, b"");
        assert_code(&asked, 4);
        assert_said("bob", "there, 127.0.0.1", &asked);
        assert_said("carol", "there, 127.0.0.1", &asked);
        assert_said("dave", "connection refused", &asked);
    }
}

#[test]
fn an_anonymous_sender_has_another_key_for_each() {
    let (alice, [bob, carol]) = friends(["bob", "carol"]);
    let args = ["--json", "-1", "--accept-unknown", "127.0.0.1:0"];
    let mut listeners = [&bob, &carol].map(|home| Listener::spawn(home, &args));
    let to = [listeners[0].destination("bob"), listeners[1].destination("carol")];
    assert_code(&send(&alice, &["-a", &to[0], &to[1]], b"hi\n"), 0);
    let mut keys = BTreeSet::new();
    for listener in &mut listeners {
        assert!(listener.wait_exit(DEADLINE).success());
        let lines = String::from_utf8(listener.stdout()).unwrap();
        let objects = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let message = objects.into_iter().find(|object| object["event"] == "message").unwrap();
        assert_eq!(message["known"], false);
        keys.insert(message["key"].as_str().unwrap().to_owned());
    }
    assert_eq!(keys.len(), 2);
}

#[test]
fn a_passphrase_is_read_once_for_all() {
    let (alice, bob, carol) = (Home::new(), Home::with_identity(), Home::with_identity());
    let file = alice.path().join("passphrase");
    std::fs::write(&file, "correct horse\n").unwrap();
    let file = file.to_str().unwrap();
    assert_code(&alice.keygen(&["-p", "--passphrase-file", file]), 0);
    befriend(&alice, "alice", &bob, "bob");
    befriend(&alice, "alice", &carol, "carol");
    let listeners = [&bob, &carol].map(|home| Listener::spawn(home, &["127.0.0.1:0"]));
    let to = [listeners[0].destination("bob"), listeners[1].destination("carol")];
    // What follows on the descriptor is the message.
    let args = ["--passphrase-fd", "0", &to[0], &to[1]];
    assert_code(&send(&alice, &args, b"correct horse\nhi\n"), 0);
    for listener in &listeners {
        assert_eq!(listener.stdout(), b"hi\n");
    }
}

#[test]
fn a_history_has_a_record_for_each_with_what_came_of_it() {
    let (alice, [bob, _carol, dave]) = friends(["bob", "carol", "dave"]);
    let good = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let mut full = dave.command("ac-listen", &["127.0.0.1:0"]);
    full.stdout(File::options().write(true).open("/dev/full").unwrap());
    let full = Listener::start(full);
    let history = alice.path().join("history").to_str().unwrap().to_owned();
    let to = [good.destination("bob"), nowhere("carol"), full.destination("dave")];
    let message = "line\n".repeat(40_000).into_bytes();
    let sent = send(&alice, &["--history", &history, &to[0], &to[1], &to[2]], &message);
    assert_code(&sent, 4);
    let replay = alice.command("ac-listen", &["--replay", &history, "--json"]);
    let replayed = run(replay, b"", DEADLINE);
    assert_code(&replayed, 0);
    let lines = String::from_utf8(replayed.stdout).unwrap();
    let objects: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let ended = |to: &str| {
        let last = |o: &&Value| o["to"] == to && o["last"] == true;
        objects.iter().find(last).map(|o| o["status"].as_str().unwrap())
    };
    assert_eq!(ended("bob"), Some("delivered"));
    assert_eq!(ended("dave"), Some("failed"));
    assert_eq!(ended("carol"), None, "nothing was sent to who was never reached");
    let part = |o: &&Value| o["to"] == "bob";
    let text: String = objects.iter().filter(part).map(|o| o["text"].as_str().unwrap()).collect();
    assert!(text.as_bytes() == message);
}

#[test]
fn files_and_folders_reach_each_that_takes_them() {
    let (alice, [bob, carol, dave]) = friends(["bob", "carol", "dave"]);
    let folder = alice.path().join("photos");
    std::fs::create_dir(&folder).unwrap();
    let contents =
        [("photos/1", bytes(3_000_000)), ("photos/2", bytes(7)), ("song", bytes(70_000))];
    for (name, content) in &contents {
        std::fs::write(alice.path().join(name), content).unwrap();
    }
    let taking = [&bob, &carol].map(|home| {
        let inbox = home.path().join("inbox");
        std::fs::create_dir(&inbox).unwrap();
        let args = ["-1", "-d", inbox.to_str().unwrap(), "127.0.0.1:0"];
        (Listener::spawn(home, &args), inbox)
    });
    let declining = Listener::spawn(&dave, &["127.0.0.1:0"]);
    let to = [
        taking[0].0.destination("bob"),
        declining.destination("dave"),
        taking[1].0.destination("carol"),
    ];
    let paths = ["photos", "song"].map(|name| alice.path().join(name));
    let [photos, song] = paths.each_ref().map(|path| path.to_str().unwrap());
    let sent = send(&alice, &[&to[0], &to[1], "nobody", &to[2], "--", photos, song], b"");
    assert_code(&sent, 3);
    assert_said("bob", "delivered, 127.0.0.1", &sent);
    assert_said("carol", "delivered, 127.0.0.1", &sent);
    assert!(said_of("dave", &sent).iter().all(|line| line.contains("declined")));
    for (mut listener, inbox) in taking {
        assert!(listener.wait_exit(DEADLINE).success());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&inbox).unwrap() {
            let path = entry.unwrap().path();
            let landed = path.file_name().unwrap().to_str().unwrap().to_owned();
            // YYYYMMDD_HHMMSS_FROM_NAME
            let name = landed.rsplit('_').next().unwrap().to_owned();
            match path.is_dir() {
                true => found.extend(std::fs::read_dir(&path).unwrap().map(|entry| {
                    let path = entry.unwrap().path();
                    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
                    (format!("{name}/{file}"), std::fs::read(&path).unwrap())
                })),
                false => found.push((name, std::fs::read(&path).unwrap())),
            }
        }
        found.sort();
        let wanted = contents.iter().map(|(name, content)| ((*name).to_owned(), content.clone()));
        assert!(found == wanted.collect::<Vec<_>>(), "{inbox:?} has something else");
    }
}
