//! `ac-listen --state FILE`: a listener that is killed and started anew neither prints a message
//! again nor lets its sender believe that it was lost; PROTOCOL.md, section 12.

use crate::testkit::{
    common,
    keys::{contact, identity},
    udp,
    udp::sealed,
};

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anonchat::crypto::sodium::{OsRandom, random};
use anonchat::keys::{Contact, LocalKey};
use anonchat::proto::datagram::ack::{Status, WHOLE, ack};
use anonchat::proto::datagram::packet::{Head, Kind, MessageId, PACKET_LEN, Way};
use anonchat::proto::datagram::probe::Prober;
use anonchat::proto::time::Now;
use common::{
    DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, eventually, program, run, send,
    unix_ms,
};
use udp::{Going, Packet, Proxy, Stranger};

/// Size of the header and of each entry of a state, in bytes.
const ENTRY: u64 = 48;

fn state_of(home: &Home) -> PathBuf {
    home.path().join("seen")
}

/// Listens for datagrams at `port` with the state of `home`.
fn listen(home: &Home, port: u16) -> Listener {
    let (state, address) = (state_of(home), format!("127.0.0.1:{port}"));
    Listener::spawn(home, &["-u", "--state", state.to_str().unwrap(), &address])
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// Waits until something was remembered: what is printed is on its way there.
fn wait_remembered(home: &Home, more_than: u64) {
    eventually("an entry", DEADLINE, || (len(&state_of(home)) > more_than).then_some(()));
}

/// One message, in as many transmissions as are wanted.
struct Letter {
    id: MessageId,
    ack_key: [u8; 32],
    time_ms: u64,
    more: bool,
}

impl Letter {
    fn new() -> Self {
        let id = MessageId { run: random(), sequence: 0 };
        Self { id, ack_key: random(), time_ms: unix_ms(), more: false }
    }

    fn packet(&self, from: &LocalKey, to: &Contact, body: &[u8]) -> Packet {
        let head = Head {
            kind: Kind::Message,
            way: Way::Network,
            more: self.more,
            id: self.id,
            time_ms: self.time_ms,
            ack_key: &self.ack_key,
            fragment: 0,
            of: 1,
        };
        sealed(from, to, &head, body)
    }
}

/// A message is sent while no answer gets back; once it is printed, the listener is killed, and
/// another takes its place. What that one prints of it.
fn printed_after_a_kill(remembers: bool) -> Vec<u8> {
    let (alice, bob) = alice_and_bob();
    let mut first = match remembers {
        true => listen(&bob, 0),
        false => Listener::spawn(&bob, &["-u", "127.0.0.1:0"]),
    };
    let port = first.port();
    let deaf = Arc::new(AtomicBool::new(true));
    let proxy = Proxy::before(port, {
        let deaf = Arc::clone(&deaf);
        move |going, packet| match going {
            Going::Back if deaf.load(Ordering::Relaxed) => vec![],
            _ => vec![packet],
        }
    });
    let to = proxy.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", "-w", "25s", &to]));
    sender.feed(b"once\n".to_vec());
    first.wait_stdout("the message", |out| out == b"once\n");
    if remembers {
        wait_remembered(&bob, ENTRY);
    }
    first.kill();
    let address = format!("127.0.0.1:{port}");
    let state = state_of(&bob);
    let second = match remembers {
        true => listen(&bob, port),
        false => Listener::spawn(&bob, &["-u", &address]),
    };
    assert_eq!(remembers, state.exists());
    deaf.store(false, Ordering::Relaxed);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
    // What comes afterwards is printed: so would the other have been by now.
    assert_code(&send(&alice, &["-u", &to], b"next\n"), 0);
    second.wait_stdout("the next message", |out| out.ends_with(b"next\n"));
    second.stdout()
}

#[test]
fn a_message_whose_last_ack_is_lost_in_a_kill_is_delivered_once_and_its_sender_told() {
    assert_eq!(printed_after_a_kill(true), b"next\n");
}

#[test]
fn without_a_state_it_is_printed_again() {
    assert_eq!(printed_after_a_kill(false), b"once\nnext\n");
}

#[test]
fn after_a_restart_replays_are_silent_and_new_transmissions_are_answered_once_each() {
    let (alice, bob) = alice_and_bob();
    let (me, to, letter) = (identity(&alice), contact(&bob), Letter::new());
    let mut listener = listen(&bob, 0);
    let port = listener.port();
    let stranger = Stranger::to(port);
    let packet = letter.packet(&me, &to, b"hello\n");
    stranger.send(&packet);
    let delivered = ack(&letter.ack_key, letter.id, WHOLE, Status::Delivered);
    wait_remembered(&bob, ENTRY);
    let prober = Prober::new(&me.pair, &to.public, to.access.as_bytes(), &mut OsRandom);
    let mut probe = [0; PACKET_LEN];
    prober.packet(Now { mono: Duration::ZERO, unix_ms: unix_ms() }, &mut OsRandom, &mut probe);
    let asking = Stranger::to(port);
    asking.send(&probe);
    asking.answer();
    let mut sent = vec![packet, probe];
    for restart in 0..3 {
        listener.kill();
        listener = listen(&bob, port);
        let replayer = Stranger::to(port);
        sent.iter().for_each(|packet| replayer.send(packet));
        let fresh = letter.packet(&me, &to, b"hello\n");
        let sender = Stranger::to(port);
        sender.wait_until_read(&me, &to);
        replayer.assert_nothing_came();
        sender.send(&fresh);
        assert_eq!(sender.answer(), delivered, "restart {restart}");
        sent.push(fresh);
        assert_eq!(listener.stdout(), b"");
    }
}

#[test]
fn a_run_that_a_kill_cut_is_not_gone_on_with_and_its_sender_is_told() {
    let (alice, bob) = alice_and_bob();
    let mut first = listen(&bob, 0);
    let port = first.port();
    let to = first.destination("bob");
    let mut sender = Running::start(alice.command("ac-send", &["-u", "-w", "3s", &to]));
    let mut stdin = sender.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"one\n").unwrap();
    first.wait_stdout("its beginning", |out| out == b"one\n");
    wait_remembered(&bob, ENTRY);
    first.kill();
    let second = listen(&bob, port);
    // The listener that was killed may be asked for the same message again, or for the next.
    let _ = std::io::Write::write_all(&mut stdin, b"two\n");
    drop(stdin);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
    assert_eq!(second.stdout(), b"");
}

#[test]
fn the_beginning_of_a_run_is_not_printed_again() {
    let (alice, bob) = alice_and_bob();
    let (me, to) = (identity(&alice), contact(&bob));
    let begun = Letter { more: true, ..Letter::new() };
    let mut listener = listen(&bob, 0);
    let port = listener.port();
    let stranger = Stranger::to(port);
    stranger.send(&begun.packet(&me, &to, b"one\n"));
    stranger.answer();
    wait_remembered(&bob, ENTRY);
    listener.kill();
    let second = listen(&bob, port);
    let stranger = Stranger::to(port);
    stranger.send(&begun.packet(&me, &to, b"one\n"));
    Stranger::to(port).wait_until_read(&me, &to);
    stranger.assert_nothing_came();
    assert_eq!(second.stdout(), b"");
}

#[test]
fn an_entry_that_was_torn_is_cut_off_and_the_others_hold() {
    let (alice, bob) = alice_and_bob();
    let (me, to) = (identity(&alice), contact(&bob));
    let (old, torn) = (Letter::new(), Letter::new());
    let mut listener = listen(&bob, 0);
    let port = listener.port();
    for (letter, entries) in [(&old, 2), (&torn, 4)] {
        Stranger::to(port).send(&letter.packet(&me, &to, b"old\n"));
        wait_remembered(&bob, entries * ENTRY);
    }
    listener.kill();
    let state = state_of(&bob);
    let whole = len(&state);
    assert_eq!(whole, 5 * ENTRY, "a header, and a run and a packet of each");
    let file = std::fs::File::options().write(true).open(&state).unwrap();
    file.set_len(whole - ENTRY - 7).unwrap();
    let second = listen(&bob, port);
    assert_eq!(len(&state) % ENTRY, 0);
    for letter in [&old, &torn] {
        let stranger = Stranger::to(port);
        stranger.send(&letter.packet(&me, &to, b"new\n"));
        stranger.answer();
    }
    second.wait_stdout("what is not remembered", |out| out == b"new\n");
}

/// What `ac-listen -u --state STATE` says that does not come to listen; exit code 1.
fn refusal(home: &Home, state: &Path) -> String {
    let args = ["-u", "--state", state.to_str().unwrap(), "127.0.0.1:0"];
    let refused = run(home.command("ac-listen", &args), b"", DEADLINE);
    assert_code(&refused, 1);
    let said = String::from_utf8(refused.stderr).unwrap();
    said.replace(&format!("ac-listen: {}: ", state.display()), "")
}

#[test]
fn a_file_that_is_no_state_of_ours_is_refused_and_left_alone() {
    let (alice, bob) = alice_and_bob();
    let state = state_of(&bob);
    drop(listen(&bob, 0));
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    let ours = std::fs::read(&state).unwrap();

    let foreign = refusal(&alice, &state);
    assert_eq!(
        foreign,
        "the state of a listener with another key\n\
         hint: name another file, or say with -k whose key it is\n"
    );
    let mut damaged = ours.clone();
    damaged.extend([0; 48]);
    std::fs::write(&state, &damaged).unwrap();
    assert!(refusal(&bob, &state).starts_with("damaged at byte 48\nhint: "));
    std::fs::write(&state, b"dear diary").unwrap();
    assert!(refusal(&bob, &state).starts_with("is no state of ac-listen\nhint: "));
    assert_eq!(std::fs::read(&state).unwrap(), b"dear diary");
    std::fs::write(&state, &ours).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(refusal(&bob, &state), "mode 0640 lets others at it\nhint: make it 0600\n");
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o600)).unwrap();
    let link = bob.path().join("link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    assert_eq!(refusal(&bob, &link), "is a symbolic link\n");
    assert_eq!(refusal(&bob, bob.path()), "is a directory\n");
    assert_eq!(refusal(&bob, Path::new("/dev/null")), "is not a regular file\n");
}

#[test]
fn two_listeners_do_not_share_a_state() {
    let (_, bob) = alice_and_bob();
    let first = listen(&bob, 0);
    assert_eq!(
        refusal(&bob, &state_of(&bob)),
        "another listener has it\nhint: each needs a state of its own\n"
    );
    drop(first);
    listen(&bob, 0);
}

#[test]
fn what_cannot_be_remembered_is_not_acknowledged() {
    let (alice, bob) = alice_and_bob();
    // 512 bytes (in some shells 1024) are a header and nine entries; a message takes two.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" -u --state \"$1\" 127.0.0.1:0";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program("ac-listen")).arg(state_of(&bob));
    bob.at_home(&mut command);
    let mut listener = Listener::start(command);
    let to = listener.destination("bob");
    let send = || send(&alice, &["-u", "-w", "5s", &to], b"hi\n").status.code();
    let codes: Vec<_> = std::iter::from_fn(|| Some(send())).take(12).collect();
    let delivered = codes.iter().take_while(|code| **code == Some(0)).count();
    assert!((4..11).contains(&delivered), "{codes:?}");
    assert_eq!(codes[delivered], Some(8), "it is declined, and nothing comes after it: {codes:?}");
    assert!(codes[delivered + 1..].iter().all(|code| *code != Some(0)));
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(1));
    let said = listener.stderr();
    assert!(said.contains("cannot write the state") && said.contains("file too large"), "{said}");
}

#[test]
fn a_state_that_is_empty_or_was_torn_at_its_beginning_is_begun() {
    let (alice, bob) = alice_and_bob();
    let state = state_of(&bob);
    drop(listen(&bob, 0));
    let header = std::fs::read(&state).unwrap();
    for begun in [0, 1, 8, 47] {
        std::fs::write(&state, &header[..begun]).unwrap();
        let listener = listen(&bob, 0);
        assert_code(&send(&alice, &["-u", &listener.destination("bob")], b"hi\n"), 0);
        assert_eq!(len(&state), 3 * ENTRY);
    }
}

#[test]
fn what_nothing_can_use_is_refused() {
    let bob = Home::with_identity();
    let refused = run(bob.command("ac-listen", &["--state", "seen", "0"]), b"", DEADLINE);
    assert_code(&refused, 2);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--state: nothing of a TCP stream can come twice\nhint: "), "{said}");
    assert!(!bob.path().join("seen").exists());
}
