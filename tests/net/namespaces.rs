//! Two machines, 10.0.0.1 and 10.0.0.5, and the lines that people type, over a cable that is good,
//! loses 30 % of the packets each way, or is pulled.
//!
//! `AC_TEST_UDP_BYTES`: length of the long input over the lossy cable (1 MiB).

use crate::testkit::{common, machines};

use std::time::Duration;

use anonchat::crypto::sodium::{Random, SeededRandom};
use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, number, run};
use machines::{LINK, Lan, Machine, Narrow, Network};

/// For everything that has to be sent several times.
const LOSSY_DEADLINE: Duration = Duration::from_secs(180);

/// A network with Alice and Bob on it, who know each other and nobody else.
fn on_a_cable() -> Option<(Network, Home, Home)> {
    let network = Network::new()?;
    let (alice, bob) = common::alice_and_bob();
    Some((network, alice, bob))
}

/// The same with 30 % of the packets lost in each direction.
fn on_a_lossy_cable() -> Option<(Network, Home, Home)> {
    let all = on_a_cable()?;
    all.0.lose(30).then_some(all)
}

fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // A pass per 4 MiB: what is the same everywhere would hide a wrong order.
    for (seed, piece) in bytes.chunks_mut(4 << 20).enumerate() {
        SeededRandom::new(seed as u64).fill(piece);
    }
    bytes
}

#[test]
fn the_line_of_the_readme_crosses_between_two_machines() {
    let Some((network, alice, bob)) = on_a_cable() else { return };
    let command = network.bob.command(&bob, "ac-listen", &["-1", "10.0.0.5:1234"]);
    let mut listener = Listener::start(command);
    let sent = run(network.alice.shell(&alice, "echo hi | ac-send 10.0.0.5:1234"), b"", DEADLINE);
    assert_code(&sent, 0);
    assert!(sent.stdout.is_empty());
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(0), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn datagrams_arrive_whole_in_order_and_once_though_three_in_ten_are_lost() {
    let Some((network, alice, bob)) = on_a_lossy_cable() else { return };
    let listener =
        Listener::start(network.bob.command(&bob, "ac-listen", &["-u", "10.0.0.5:1234"]));
    let mut expected = Vec::new();
    for number in 1..=20 {
        let line = format!("echo hi {number} | ac-send -u 10.0.0.5:1234");
        let sent = run(network.alice.shell(&alice, &line), b"", LOSSY_DEADLINE);
        assert_code(&sent, 0);
        expected.extend(format!("hi {number}\n").into_bytes());
    }
    // Exit 0 meant delivered: all of it is in the pipe, at most not read by us yet.
    listener.wait_stdout("everything", |bytes| bytes.len() >= expected.len());
    assert_eq!(String::from_utf8_lossy(&listener.stdout()), String::from_utf8_lossy(&expected));
    assert!(network.alice.lost() > 0 && network.bob.lost() > 0, "the cable lost nothing");
}

#[test]
fn a_long_input_over_datagrams_arrives_identical_though_three_in_ten_are_lost() {
    let Some((network, alice, bob)) = on_a_lossy_cable() else { return };
    let len = number("AC_TEST_UDP_BYTES", 1 << 20);
    let input = bytes(len);
    let listener =
        Listener::start(network.bob.command(&bob, "ac-listen", &["-u", "10.0.0.5:1234"]));
    let command = network.alice.command(&alice, "ac-send", &["-u", "10.0.0.5:1234"]);
    assert_code(&run(command, &input, LOSSY_DEADLINE), 0);
    listener.wait_stdout("everything", |bytes| bytes.len() >= input.len());
    assert_eq!(listener.stdout().len(), input.len());
    assert!(listener.stdout() == input, "same length, other bytes");
    assert!(network.alice.lost() > 0 && network.bob.lost() > 0, "the cable lost nothing");
}

#[test]
fn a_pulled_cable_ends_the_sender_with_6_after_the_silence_it_allows() {
    let Some((network, alice, bob)) = on_a_cable() else { return };
    let listener = Listener::start(network.bob.command(&bob, "ac-listen", &["10.0.0.5:1234"]));
    let command = network.alice.command(&alice, "ac-send", &["-w", "2s", "10.0.0.5:1234"]);
    let mut sender = Running::start(command);
    let half = bytes(1 << 20);
    std::io::Write::write_all(sender.stdin.as_mut().unwrap(), &half).unwrap();
    // The stream flows: Bob has seen of it, and its end was not sent.
    listener.wait_stdout("the first bytes", |bytes| bytes.len() >= 64 << 10);
    network.cut();
    sender.feed(bytes(64 << 20));
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(6), "{}", sender.stderr());
    let stdout = listener.stdout();
    assert!(half.starts_with(&stdout[..stdout.len().min(half.len())]));
}

#[test]
fn the_first_datagram_passes_a_path_that_takes_less_than_its_size() {
    for (mtu, mute) in [(1000, false), (1227, false), (1000, true), (1280, false)] {
        let Some(narrow) = Narrow::new(mtu) else { return };
        if mute && !narrow.routers.iter().all(Machine::is_mute) {
            return;
        }
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        let listen = |args: &[&str]| Listener::start(narrow.bob.command(&bob, "ac-listen", args));
        let mut addresses = vec!["10.0.3.1"];
        if mtu == 1280 {
            addresses.push("[fd00:3::1]");
        }
        for address in addresses {
            // Each is the first to go that way: nothing is known of it.
            for (args, input) in [(&["-u"][..], &b"hi\n"[..]), (&["-u", "-z"], b"")] {
                narrow.forget_paths();
                let mut listener = listen(&["-u", "0"]);
                let to = format!("bob@{address}:{}", listener.port());
                let args = [args, &["-w", "5", &to]].concat();
                let sent = run(narrow.alice.command(&alice, "ac-send", &args), input, DEADLINE);
                assert_code(&sent, 0);
                listener.wait_stdout("what was sent", |out| out == input);
                listener.kill();
            }
        }
        narrow.forget_paths();
        let long = bytes(300_000);
        let mut listener = listen(&["-u", "-1", "0"]);
        let to = format!("bob@10.0.3.1:{}", listener.port());
        let args = ["-u", "-w", "5", &to];
        assert_code(&run(narrow.alice.command(&alice, "ac-send", &args), &long, DEADLINE), 0);
        assert!(listener.wait_exit(DEADLINE).success());
        assert!(listener.stdout() == long);
    }
}

/// The link-local address that `machine` has on the cable, and the number of its interface there.
fn link_local(machine: &Machine, home: &Home) -> (String, String) {
    let show = format!("ip -6 -o address show dev {LINK} scope link");
    let shown = run(machine.shell(home, &show), b"", DEADLINE);
    let text = String::from_utf8(shown.stdout).unwrap();
    let number = text.split(':').next().unwrap().to_owned();
    let address = text.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap();
    (address.to_owned(), number)
}

#[test]
fn a_link_local_address_is_bound_and_dialled_with_its_interface() {
    let Some(lan) = Lan::new(2) else { return };
    let (alice, bob) = common::alice_and_bob();
    let (ours, theirs) = (&lan.hosts[0], &lan.hosts[1]);
    let (address, number) = link_local(theirs, &bob);
    for transport in [&[][..], &["-u"]] {
        for zone in [LINK, &number] {
            let at = format!("[{address}%{zone}]:0");
            let args = [transport, &["-1", &at]].concat();
            let mut listener = Listener::start(theirs.command(&bob, "ac-listen", &args));
            // By its name, however it was said; what is shown can be typed.
            let place = format!("[{address}%{LINK}]:{}", listener.port());
            assert!(listener.stderr().contains(&format!("listening on {place} (")), "{place}");
            let to = format!("bob@{}", place.replace(LINK, zone));
            let args = [transport, &[to.as_str()]].concat();
            assert_code(&run(ours.command(&alice, "ac-send", &args), b"hi\n", DEADLINE), 0);
            assert_eq!(listener.wait_exit(DEADLINE).code(), Some(0), "{}", listener.stderr());
            assert_eq!(listener.stdout(), b"hi\n");
        }
    }
    // In a key file, from a relay, and by discovery.
    let at = format!("[{address}%{LINK}]:7000");
    let relay = Running::start(theirs.command(&bob, "ac-relay", &["--address", &at, &at]));
    relay.wait_stderr(&format!("listening on {at} (tcp)"));
    let home = alice.path().join("home.pub");
    std::fs::write(&home, relay.stdout()).unwrap();
    let via = ["--via", home.to_str().unwrap(), "bob"];
    assert_code(&run(ours.command(&alice, "ac-send", &via), b"hi\n", DEADLINE), 7);
    let announced = format!("[{address}%{LINK}]:1234");
    let announcer =
        Running::start(theirs.command(&bob, "ac-discover", &["--announce", &announced]));
    announcer.wait_stderr(&format!("announcing {announced} (tcp)"));
    let found = run(ours.command(&alice, "ac-discover", &["bob"]), b"", DEADLINE);
    assert_code(&found, 0);
    assert_eq!(String::from_utf8(found.stdout).unwrap(), format!("{announced}\n"));
}

#[test]
fn an_interface_that_is_missing_or_makes_no_sense_is_said() {
    let (alice, _bob) = common::alice_and_bob();
    let said = |name: &str, args: &[&str], code: i32, what: &str| {
        let output = run(alice.command(name, args), b"hi\n", DEADLINE);
        assert_code(&output, code);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(what), "{name} {args:?}: {stderr}");
    };
    let missing = "nope0: there is no such interface";
    let link_local = "only a link-local address has an interface behind %";
    for name in ["ac-listen", "ac-relay"] {
        said(name, &["[fe80::1%nope0]:0"], 2, missing);
        said(name, &["[::1%lo]:0"], 2, link_local);
        said(name, &["[::%lo]:0"], 2, link_local);
        said(name, &["[fe80::1]:0"], 1, "say on which interface");
    }
    for transport in [&[][..], &["-u"]] {
        let send = |to: &str, what| said("ac-send", &[transport, &[to]].concat(), 4, what);
        send("bob@[fe80::1%nope0]:1", missing);
        send("bob@[::1%lo]:1", link_local);
        send("bob@[fe80::1]:1", "say on which interface");
    }
}

#[test]
fn what_the_own_machine_forbids_is_1_and_what_the_network_says_is_4() {
    let Some((network, alice, _bob)) = on_a_cable() else { return };
    let send =
        |args: &[&str]| run(network.alice.command(&alice, "ac-send", args), b"hi\n", DEADLINE);
    // No route.
    assert_code(&send(&["-u", "bob@192.0.2.1:1234"]), 4);
    assert_code(&send(&["bob@192.0.2.1:1234"]), 4);
    if !network.alice.forbids_udp() {
        return;
    }
    let sent = send(&["-u", "bob@10.0.0.5:1234"]);
    assert_code(&sent, 1);
    assert!(String::from_utf8_lossy(&sent.stderr).contains("not permitted"), "{sent:?}");
}
