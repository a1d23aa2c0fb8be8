//! A listener at a relay that is killed at any instant, again and again: with `--state` a message
//! comes twice at most if it was the one in doubt, and a file lands once even without; nothing is
//! lost, and all is in the order of its sender. `AC_TEST_KILLS` is how often it is killed (12).

use crate::testkit::{
    common,
    random::{Dice, noise},
    relay_client, relay_people,
};

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anonchat::crypto::sodium::random;
use anonchat::proto::datagram::packet::Kind;
use anonchat::proto::stream::meta::{MessageKind, Meta};
use common::*;
use relay_client::Relay;
use relay_people::*;

/// Messages, or files.
const COUNT: u32 = 300;

/// Lets a moment pass: any will do.
fn moment(dice: &mut Dice) {
    std::thread::park_timeout(Duration::from_micros(dice.below(3000)));
}

fn kills() -> u32 {
    number("AC_TEST_KILLS", 12)
}

fn listener(bob: &Home, relay: &Relay, args: &[&str]) -> Running {
    let name = name_of(relay, bob);
    Running::start(bob.command("ac-listen", &[&["--via", &name], args].concat()))
}

/// The numbers of the lines.
fn numbers(out: &[u8]) -> Vec<u32> {
    let out = std::str::from_utf8(out).unwrap();
    assert!(out.is_empty() || out.ends_with('\n'), "half a message: {out:?}");
    out.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

#[test]
fn into_a_pipe_only_the_message_in_doubt_at_a_kill_comes_twice() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    for n in 0..COUNT {
        sender.post(&mut client, Box::Pair, &sender.seal(format!("line {n}\n").as_bytes()));
    }
    let state = bob.path().join("seen");
    let args = ["--state", state.to_str().unwrap()];
    let mut draw = Dice::new(kills().into());
    let mut next = 0;
    for kill in 0..=kills() {
        let mut running = listener(&bob, &relay, &args);
        let wanted = match kill == kills() {
            true => COUNT - next,
            false => draw.below(2 * COUNT / kills()).min(COUNT - next),
        };
        running.wait_stdout("messages", |out| {
            out.iter().filter(|byte| **byte == b'\n').count() as u32 >= wanted
        });
        moment(&mut draw);
        running.kill();
        running.wait_exit(DEADLINE);
        let came = numbers(&running.stdout());
        let Some(first) = came.first() else { continue };
        let in_doubt = next > 0 && *first == next - 1;
        let first = if in_doubt { next - 1 } else { next };
        let expected: Vec<u32> = (first..first + came.len() as u32).collect();
        assert_eq!(came, expected, "after {next} and kill {kill}");
        next = first + came.len() as u32;
    }
    assert_eq!(next, COUNT);
}

#[test]
fn a_file_lands_once_whole_and_without_a_state() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    let (sender, mut client) = (Sender::new(&alice, &bob), relay.client());
    let contents: Vec<Vec<u8>> = (0..COUNT).map(content).collect();
    for (n, content) in contents.iter().enumerate() {
        let meta = Meta {
            kind: MessageKind::File as u8,
            name: Some(format!("file{n}.bin")),
            size: Some(content.len() as u64),
            ..Meta::message(random(), unix_ms())
        };
        let meta = meta.encode();
        let body = [&(meta.len() as u16).to_be_bytes()[..], &meta, content].concat();
        let letter = sender.seal_as(Kind::Item, &body, random(), unix_ms(), random());
        sender.post(&mut client, Box::Pair, &letter);
    }
    let inbox = bob.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let args = ["-q", "-d", inbox.to_str().unwrap()];
    let mut draw = Dice::new(kills().into());
    for _ in 0..kills() {
        let before = landed(&inbox).len() as u32;
        let mut running = listener(&bob, &relay, &args);
        let wanted = (before + draw.below(2 * COUNT / kills())).min(COUNT);
        eventually("files", DEADLINE, || (landed(&inbox).len() as u32 >= wanted).then_some(()));
        moment(&mut draw);
        running.kill();
    }
    let _running = listener(&bob, &relay, &args);
    eventually("all files", DEADLINE, || (landed(&inbox).len() as u32 >= COUNT).then_some(()));
    // What comes behind them has come when they have all come again.
    assert_code(&send(&alice, &["--via", &name_of(&relay, &alice), "bob"], b"done\n"), 0);
    let mut found = BTreeMap::new();
    for (name, bytes) in landed(&inbox) {
        let (_, rest) = name.rsplit_once("_alice_file").unwrap_or_else(|| panic!("{name}"));
        let n: u32 = rest.strip_suffix(".bin").unwrap_or_else(|| panic!("{name}")).parse().unwrap();
        assert!(bytes == contents[n as usize], "{name} has other bytes");
        *found.entry(n).or_insert(0) += 1;
    }
    assert_eq!(found, (0..COUNT).map(|n| (n, 1)).collect());
    let left: Vec<_> = std::fs::read_dir(&inbox).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len() as u32, COUNT + 1, "the files, and the record of them: {left:?}");
}

/// The same bytes nowhere, of lengths from nothing to several fragments.
fn content(n: u32) -> Vec<u8> {
    noise(n.into(), [0, 17, 900, 2500][n as usize % 4])
}

/// What has its own name in `inbox`, and its bytes.
fn landed(inbox: &Path) -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(inbox).unwrap().map(|file| file.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let whole = names.filter(|name| !name.starts_with('.') && !name.ends_with(".part"));
    whole.map(|name| (name.clone(), std::fs::read(inbox.join(name)).unwrap())).collect()
}

#[test]
fn what_is_for_a_group_is_printed_once_by_a_member_that_is_killed() {
    let ((alice, bob), relay) = (alice_and_bob(), relay());
    assert_code(&bob.keygen(&["--group", "team"]), 0);
    let key = bob.path().join("groups/team.key");
    assert_code(&alice.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    let (at_bob, at_alice) = (name_of(&relay, &bob), name_of(&relay, &alice));
    let state = bob.path().join("seen");
    let without = ["--via", &at_bob, "-k", "team"];
    let with = [&without[..], &["--state", state.to_str().unwrap()]].concat();
    let listen = |args: &[&str]| {
        let running = Running::start(bob.command("ac-listen", args));
        running.wait_stderr("listening at relay");
        running
    };
    let say = |line: &[u8]| assert_code(&send(&alice, &["--via", &at_alice, "team"], line), 0);
    let mut first = listen(&with);
    say(b"one\n");
    first.kill();
    let mut second = listen(&with);
    say(b"two\n");
    assert_eq!(second.stdout(), b"two\n");
    second.kill();
    // The relay has both, for members that come later.
    let third = listen(&without);
    third.wait_stdout("all of it", |out| out == b"one\ntwo\n");
}
