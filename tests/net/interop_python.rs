//! The real programs speak with a peer that shares no code with them: tests/vectors/stream.py, on
//! the Python packages noiseprotocol, kyber-py and cryptography, in both roles; and tests/vectors/relay.py,
//! a client of a relay, and somebody to write to by it.

use crate::testkit::{common, keys::contact, relay_client, relay_reader};

use std::process::{Command, Stdio};

use anonchat::crypto::sodium::{Blake2b, Secret};
use anonchat::keys::{KeyFile, disk};
use anonchat::proto::relay::link::open_access;
use common::{DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, need, possible, run};
use relay_client::Relay;
use serde_json::{Value, json};

/// More records than one key seals: both sides have to rekey, and at the same one.
const RECORDS: usize = (1 << 14) + 100;

/// Whether Python and its packages are there.
fn python() -> bool {
    if !need("python3") {
        return false;
    }
    let imports = "import noise, kyber_py, cryptography, nacl";
    let found = Command::new("python3").args(["-c", imports]).stderr(Stdio::null()).status();
    let install = "python3 -m pip install noiseprotocol kyber-py cryptography pynacl";
    possible(found.is_ok_and(|status| status.success()), install)
}

/// The Python peer in one role.
fn peer(role: &str) -> Command {
    python_program("stream.py", role)
}

fn python_program(name: &str, role: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).arg(role);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lines(stdout: &[u8]) -> Vec<Value> {
    stdout.split_inclusive(|b| *b == b'\n').map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn secret(home: &Home) -> Secret<32> {
    match disk::read(&home.path().join("identity.key")) {
        Ok(KeyFile::Keyed(keyed)) => keyed.unlock(|| Err("not protected".into())).ok().unwrap(),
        _ => panic!("no secret key file"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_python_peer_delivers_to_ac_listen_across_a_rekey() {
    if !python() {
        return;
    }
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
    let message: Vec<u8> = (0..2 * RECORDS).map(|i| (i % 251) as u8).collect();
    let task = json!({
        "secret": hex(secret(&alice).expose()), "access": hex(contact(&bob).access.as_bytes()),
        "peer": hex(contact(&bob).public.as_bytes()), "port": listener.port(),
        "message": hex(&message), "pieces": RECORDS,
    });
    let said = run(peer("initiate"), task.to_string().as_bytes(), DEADLINE);
    assert_code(&said, 0);
    let said = lines(&said.stdout);
    assert_eq!(said[0], json!({"step": "welcome", "body": "a0"}));
    assert_eq!(said[1], json!({"step": "acknowledged", "total": message.len()}));
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert!(listener.stdout() == message, "{} bytes", listener.stdout().len());
}

#[test]
fn a_python_peer_takes_a_message_from_ac_send() {
    if !python() {
        return;
    }
    let (alice, bob) = alice_and_bob();
    let mut listener = Running::start(peer("respond"));
    let task = json!({
        "secret": hex(secret(&bob).expose()), "access": hex(contact(&bob).access.as_bytes()),
    });
    listener.feed(task.to_string().into_bytes());
    listener.wait_stdout("its port", |bytes| bytes.contains(&b'\n'));
    let port = lines(&listener.stdout())[0]["port"].as_u64().unwrap();

    let message: Vec<u8> = (0..300_000).map(|i| (i % 251) as u8).collect();
    let sent = common::send(&alice, &[&format!("bob@127.0.0.1:{port}")], &message);
    assert_code(&sent, 0);
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    let received = &lines(&listener.stdout())[1];
    assert_eq!(received["caller"], hex(contact(&alice).public.as_bytes()));
    assert_eq!(received["total"], message.len());
    let mut hash = Blake2b::new(32, None);
    hash.update(&message);
    let mut digest = [0; 32];
    hash.finish(&mut digest);
    assert_eq!(received["blake2b"], hex(&digest));
}

#[test]
fn a_python_client_reads_posts_and_joins_at_a_real_relay() {
    if !python() {
        return;
    }
    for open in [false, true] {
        let args: &[&str] = if open { &["--open", "--rate", "0"] } else { &["--rate", "0"] };
        let relay = Relay::spawn(&[args, &["127.0.0.1:0"]].concat());
        let access = match open {
            true => open_access(&relay.contact.public),
            false => *relay.contact.access.as_bytes(),
        };
        // Once on beyond a rekey of what the client says: that takes a while.
        let task = json!({
            "port": relay.port, "public": hex(relay.contact.public.as_bytes()),
            "access": hex(&access), "noops": if open { 1 } else { RECORDS },
        });
        let said = run(python_program("relay.py", "link"), task.to_string().as_bytes(), DEADLINE);
        assert_code(&said, 0);
        let steps: Vec<_> = lines(&said.stdout).iter().map(|line| line["step"].clone()).collect();
        assert_eq!(
            steps,
            [
                "posted",
                "read what was held",
                "read what came, freed it, and came back",
                "a cursor holds for its log only",
                "went on behind a rekey",
                "joined two links",
                "ended who broke a rule",
                "the others went on",
            ]
        );
        relay.still_serves();
    }
}

/// Alice's side of a task at a relay, with Bob at the other end.
fn relay_task(relay: &Relay, me: &Home, peer: &Home, message: &[u8]) -> Value {
    json!({
        "port": relay.port, "public": hex(relay.contact.public.as_bytes()),
        "relay_access": hex(relay.contact.access.as_bytes()),
        "secret": hex(secret(me).expose()), "own_access": hex(contact(me).access.as_bytes()),
        "peer": hex(contact(peer).public.as_bytes()), "access": hex(contact(peer).access.as_bytes()),
        "message": hex(message), "pieces": 3,
    })
}

#[test]
fn a_python_peer_delivers_to_ac_listen_by_cells_and_by_a_circuit() {
    if !python() {
        return;
    }
    let (alice, bob) = alice_and_bob();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    relay_reader::know(&bob, &relay, "home", relay.port);
    let message: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
    for role in ["send", "circuit"] {
        let mut listener = Running::start(bob.command("ac-listen", &["-1", "--via", "home"]));
        listener.wait_stderr("listening at relay home");
        let task = relay_task(&relay, &alice, &bob, &message).to_string();
        let said = run(python_program("relay.py", role), task.as_bytes(), DEADLINE);
        assert_code(&said, 0);
        let said = lines(&said.stdout);
        match role {
            "send" => assert_eq!(said[0]["step"], "delivered"),
            _ => assert_eq!(said.last().unwrap()["step"], "acknowledged"),
        }
        assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
        assert!(listener.stdout() == message, "{role}: {} bytes", listener.stdout().len());
    }
}

#[test]
fn a_python_peer_takes_a_message_from_ac_send_out_of_its_mailbox() {
    if !python() {
        return;
    }
    let (alice, bob) = alice_and_bob();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    relay_reader::know(&alice, &relay, "home", relay.port);
    let message: Vec<u8> = (0..5000).map(|i| (i % 251) as u8).collect();
    let mut reader = Running::start(python_program("relay.py", "receive"));
    reader.feed(relay_task(&relay, &bob, &alice, &[]).to_string().into_bytes());
    reader.wait_stdout("that it listens", |bytes| bytes.contains(&b'\n'));
    assert_code(&common::send(&alice, &["--via", "home", "bob"], &message), 0);
    assert!(reader.wait_exit(DEADLINE).success(), "{}", reader.stderr());
    let received = &lines(&reader.stdout())[1];
    assert_eq!(received["message"], hex(&message));
}
