//! Discovery between machines on one switch: who is found, how soon, and by whom nobody is.
//!
//! `AC_TEST_DISCOVERY_RUNS`: runs of those that are timed or lossy (20 and 5).
#![allow(clippy::print_stderr)]

use crate::testkit::{common, machines};

use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Running, assert_code, befriend, number, run};
use machines::{Lan, Machine};

/// Machines, each with somebody who has an identity. The first is Alice's.
fn lan(count: usize) -> Option<(Lan, Vec<Home>)> {
    let lan = Lan::new(count)?;
    Some((lan, (0..count).map(|_| Home::with_identity()).collect()))
}

/// An announcer that has said that it answers.
fn announce(machine: &Machine, home: &Home, args: &[&str]) -> Running {
    let args = [&["--announce"], args].concat();
    let running = Running::start(machine.command(home, "ac-discover", &args));
    running.wait_stderr("announcing ");
    running
}

fn discover(machine: &Machine, home: &Home, args: &[&str]) -> std::process::Output {
    run(machine.command(home, "ac-discover", args), b"", DEADLINE)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

fn runs(default: usize) -> usize {
    number("AC_TEST_DISCOVERY_RUNS", default)
}

/// Alice on the first of six machines; three contacts, one who does not know her, one stranger.
fn alice_and_five() -> Option<(Lan, Vec<Home>, Vec<Running>)> {
    let (lan, homes) = lan(6)?;
    for (n, name) in ["bob", "carol", "dave"].iter().enumerate() {
        befriend(&homes[0], "alice", &homes[n + 1], name);
    }
    homes[0].import(&homes[4], "erin");
    let others = lan.hosts.iter().zip(&homes).enumerate().skip(1);
    let announcers =
        others.map(|(n, (host, home))| announce(host, home, &[&format!("{}", 1000 + n)])).collect();
    Some((lan, homes, announcers))
}

const FOUND: [&str; 3] = [
    "bob\t10.0.0.2:1001\tonline\ttcp",
    "carol\t10.0.0.3:1002\tonline\ttcp",
    "dave\t10.0.0.4:1003\tonline\ttcp",
];

#[test]
fn contacts_on_five_machines_are_found_within_300_ms_and_the_others_never() {
    let Some((lan, homes, _announcers)) = alice_and_five() else { return };
    let mut times = Vec::new();
    for _ in 0..runs(20) {
        let began = Instant::now();
        let seeker = Running::start(lan.hosts[0].command(&homes[0], "ac-discover", &[]));
        seeker.wait_stdout("three lines", |bytes| lines(bytes).len() >= 3);
        times.push(began.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(300), "{times:?}");
    eprintln!("all three found within {median:?} (median), {:?} at most", times[times.len() - 1]);
    let whole = discover(&lan.hosts[0], &homes[0], &[]);
    assert_code(&whole, 0);
    let mut found = lines(&whole.stdout);
    found.sort();
    assert_eq!(found, FOUND);
    for nobody in ["erin", "bob"] {
        // Who does not know us is not found, and who is not known to the one who asks finds nobody.
        let (host, home) = if nobody == "erin" { (0, 0) } else { (5, 5) };
        if nobody == "bob" {
            homes[5].import(&homes[1], "bob");
        }
        let sought = discover(&lan.hosts[host], &homes[home], &[nobody]);
        assert_code(&sought, 4);
        assert!(sought.stdout.is_empty());
    }
}

#[test]
fn three_in_ten_packets_lost_all_three_are_found_within_two_seconds() {
    let Some((lan, homes, _announcers)) = alice_and_five() else { return };
    if !lan.hosts.iter().all(|host| host.lose(30)) {
        return;
    }
    for number in 0..runs(5) {
        let found = discover(&lan.hosts[0], &homes[0], &[]);
        let found = lines(&found.stdout);
        // Which of their addresses is checked first is a matter of luck here.
        for name in ["bob\t", "carol\t", "dave\t"] {
            assert!(found.iter().any(|line| line.starts_with(name)), "run {number}: {found:?}");
        }
    }
    assert!(lan.hosts[0].lost() > 0, "the switch lost nothing");
}

#[test]
fn an_address_alone_is_printed_for_ac_send() {
    let Some((lan, homes)) = lan(3) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    befriend(&homes[0], "alice", &homes[2], "carol");
    let listen = lan.hosts[1].command(&homes[1], "ac-listen", &["-1", "--announce", "1234"]);
    let mut listener = common::Listener::start(listen);
    let line = "echo hi | ac-send bob@$(ac-discover bob)";
    assert_code(&run(lan.hosts[0].shell(&homes[0], line), b"", DEADLINE), 0);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(0), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"hi\n");
    // With the listener its announcer is gone.
    assert_code(&discover(&lan.hosts[0], &homes[0], &["-w", "300ms", "bob"]), 4);
    // Of several each is named, and who is missing is an error.
    let _carol = announce(&lan.hosts[2], &homes[2], &["10.0.0.3:99", "-u"]);
    let both = discover(&lan.hosts[0], &homes[0], &["-w", "500ms", "carol", "bob"]);
    assert_code(&both, 4);
    assert_eq!(lines(&both.stdout), ["carol@10.0.0.3:99"]);
    let said = String::from_utf8_lossy(&both.stderr).into_owned();
    assert!(said.contains("ac-discover: bob: not found within 0.5 s\nhint: "), "{said}");
}

#[test]
fn ac_send_finds_a_name_on_the_local_network_if_it_is_told_to() {
    let Some((lan, homes)) = lan(3) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    befriend(&homes[0], "alice", &homes[2], "carol");
    let listen = |n: usize, port: &str| {
        let args = ["--announce", port];
        common::Listener::start(lan.hosts[n].command(&homes[n], "ac-listen", &args))
    };
    let (bob, carol) = (listen(1, "1"), listen(2, "2"));
    let send = |args: &[&str], text: &[u8]| {
        run(lan.hosts[0].command(&homes[0], "ac-send", args), text, DEADLINE)
    };
    // Without being told to it asks nobody.
    assert_code(&send(&["bob"], b"no"), 4);
    assert_code(&send(&["--lan", "bob"], b"one\n"), 0);
    assert_code(&send(&["--lan", "bob", "carol"], b"two\n"), 0);
    std::fs::write(homes[0].path().join("config.toml"), "lan = true\n").unwrap();
    assert_code(&send(&["bob"], b"three\n"), 0);
    bob.wait_stdout("all that is for bob", |out| out == b"one\ntwo\nthree\n");
    carol.wait_stdout("all that is for carol", |out| out == b"two\n");
    assert_code(&send(&["--lan", "bob@10.0.0.2:1"], b""), 2);
    assert_code(&send(&["--lan", "-a", "bob"], b""), 2);
    drop(carol);
    let gone = send(&["--lan", "carol"], b"");
    assert_code(&gone, 4);
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(said.starts_with("ac-send: carol: not found on the local network\nhint: "), "{said}");
}

#[test]
fn members_of_a_group_are_found_and_introduce_themselves_if_they_want_to() {
    let Some((lan, homes)) = lan(4) else { return };
    assert_code(&homes[0].keygen(&["--group", "team"]), 0);
    let key = homes[0].path().join("groups/team.key");
    for home in &homes[1..3] {
        assert_code(&home.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    }
    // Alice knows Dave, but he has no key of the group: he sees and shows nothing of it.
    befriend(&homes[0], "alice", &homes[3], "dave");
    let bobs = ["1", "-k", "team", "--introduce"];
    let _bob = announce(&lan.hosts[1], &homes[1], &bobs);
    let _carol = announce(&lan.hosts[2], &homes[2], &["2", "-k", "team"]);
    let _dave = announce(&lan.hosts[3], &homes[3], &["3"]);
    let members = |args: &[&str]| {
        let found =
            discover(&lan.hosts[0], &homes[0], &[&["-k", "team", "-w", "700ms"], args].concat());
        assert_code(&found, 0);
        let mut found = lines(&found.stdout);
        found.sort();
        found
    };
    let digits = lines(&homes[1].keygen(&["-l"]).stdout)[0].split("  ").next().unwrap().to_owned();
    let expected = [
        "team\t10.0.0.3:2\tonline\ttcp".to_owned(),
        format!("team/?\t10.0.0.2:1\tonline\ttcp\t{digits}"),
    ];
    assert_eq!(members(&[]), expected);
    assert!(
        !homes[0]
            .path()
            .join("contacts")
            .read_dir()
            .unwrap()
            .any(|f| { f.unwrap().file_name().to_string_lossy().starts_with("team") })
    );
    // Filed once, under the group's name; then it is known.
    assert_eq!(members(&["--save"]), expected);
    let short = digits.split(' ').take(2).collect::<Vec<_>>().join("-");
    let filed = homes[0].path().join(format!("contacts/team.{short}.pub"));
    let before = std::fs::read(&filed).unwrap();
    let known = format!("team/team.{short}\t10.0.0.2:1\tonline\ttcp");
    assert_eq!(members(&["--save"]), [expected[0].clone(), known]);
    assert_eq!(std::fs::read(&filed).unwrap(), before);
}

#[test]
fn who_introduces_itself_takes_the_name_of_nobody() {
    let Some((lan, homes)) = lan(2) else { return };
    assert_code(&homes[0].keygen(&["--group", "team"]), 0);
    let key = homes[0].path().join("groups/team.key");
    let mallory = Home::new();
    assert_code(&mallory.keygen(&["--name", "bob"]), 0);
    assert_code(&mallory.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
    // A contact of the name that would be taken, and one of the name that is claimed.
    homes[0].import(&homes[1], "bob");
    homes[0].import(&Home::with_identity(), "team.bob");
    let read = |name: &str| std::fs::read(homes[0].path().join("contacts").join(name)).unwrap();
    let before = (read("bob.pub"), read("team.bob.pub"));
    let _mallory = announce(&lan.hosts[1], &mallory, &["1", "-k", "team", "--introduce"]);
    let args = ["-k", "team", "--save", "-w", "500ms"];
    let found = discover(&lan.hosts[0], &homes[0], &args);
    assert_code(&found, 0);
    assert!(lines(&found.stdout)[0].starts_with("team/bob?\t10.0.0.2:1\t"));
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(said.contains("contacts/team.bob: not filed: another key has that name"), "{said}");
    assert_eq!((read("bob.pub"), read("team.bob.pub")), before);
    assert_eq!(homes[0].path().join("contacts").read_dir().unwrap().count(), 2);
}

#[test]
fn a_holder_of_the_public_key_file_who_is_no_contact_is_answered_only_if_that_was_asked_for() {
    let Some((lan, homes)) = lan(2) else { return };
    homes[0].import(&homes[1], "bob");
    let quiet = announce(&lan.hosts[1], &homes[1], &["1"]);
    assert_code(&discover(&lan.hosts[0], &homes[0], &["-w", "400ms", "bob"]), 4);
    quiet.wait_stderr("not answered: somebody who is not among your contacts");
    let _open = announce(&lan.hosts[1], &homes[1], &["2", "--accept-unknown"]);
    let found = discover(&lan.hosts[0], &homes[0], &["bob"]);
    assert_code(&found, 0);
    assert_eq!(lines(&found.stdout), ["10.0.0.2:2"]);
}

#[test]
fn a_listener_answers_whom_it_would_hear() {
    let Some((lan, homes)) = lan(3) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    befriend(&homes[2], "carol", &homes[1], "bob");
    let args = ["--announce", "--from", "carol", "1"];
    let listen = lan.hosts[1].command(&homes[1], "ac-listen", &args);
    let _listener = common::Listener::start(listen);
    assert_code(&discover(&lan.hosts[0], &homes[0], &["-w", "400ms", "bob"]), 4);
    assert_code(&discover(&lan.hosts[2], &homes[2], &["bob"]), 0);
    // A contact who is filed while it runs is answered at once, and no more once removed.
    let alone =
        common::Listener::start(lan.hosts[2].command(&homes[2], "ac-listen", &["--announce", "2"]));
    homes[0].import(&homes[2], "carol");
    assert_code(&discover(&lan.hosts[0], &homes[0], &["-w", "400ms", "carol"]), 4);
    homes[2].import(&homes[0], "alice");
    assert_code(&discover(&lan.hosts[0], &homes[0], &["carol"]), 0);
    std::fs::remove_file(homes[2].path().join("contacts/alice.pub")).unwrap();
    assert_code(&discover(&lan.hosts[0], &homes[0], &["-w", "400ms", "carol"]), 4);
    drop(alone);
}

#[test]
fn waiting_ends_when_the_contact_comes_or_the_time_is_over() {
    let Some((lan, homes)) = lan(2) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    let wait = ["--wait", "bob", "-w", "300ms"];
    assert_code(&discover(&lan.hosts[0], &homes[0], &wait), 4);
    let waiting = lan.hosts[0].command(&homes[0], "ac-discover", &["--wait", "bob"]);
    let mut waiting = Running::start(waiting);
    let _bob = announce(&lan.hosts[1], &homes[1], &["7"]);
    assert_eq!(waiting.wait_exit(DEADLINE).code(), Some(0), "{}", waiting.stderr());
    assert_eq!(waiting.stdout(), b"10.0.0.2:7\n");
}

#[test]
fn networks_that_come_and_go_are_followed_at_both_ends() {
    let Some((lan, homes)) = lan(2) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    lan.hosts.iter().for_each(Machine::unplug);
    let _bob = announce(&lan.hosts[1], &homes[1], &["7"]);
    let watch =
        lan.hosts[0].command(&homes[0], "ac-discover", &["--watch", "--interface", "cable"]);
    let watch = Running::start(watch);
    watch.wait_stderr("no network interface is up");
    lan.hosts[0].plug_in(0);
    lan.hosts[1].plug_in(1);
    watch.wait_stdout("bob at his address", |out| lines(out) == ["bob\t10.0.0.2:7\tonline\ttcp"]);
    // Bob's machine gets another address, as after a change of networks.
    lan.hosts[1].unplug();
    lan.hosts[1].plug_in(9);
    let moved = "bob\t10.0.0.10:7\tonline\ttcp";
    watch.wait_stdout("bob at his new address", |out| lines(out).iter().any(|l| l == moved));
}

#[test]
fn without_ipv4_a_contact_is_found_at_a_link_local_address() {
    let Some((lan, homes)) = lan(2) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    lan.hosts.iter().for_each(Machine::drop_ipv4);
    let listen = lan.hosts[1].command(&homes[1], "ac-listen", &["-1", "--announce", "1234"]);
    let mut listener = common::Listener::start(listen);
    let line = "echo hi | ac-send bob@$(ac-discover --wait bob)";
    assert_code(&run(lan.hosts[0].shell(&homes[0], line), b"", DEADLINE), 0);
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(0), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"hi\n");
}

#[test]
fn an_answer_that_cannot_go_by_ipv4_goes_by_ipv6() {
    let Some((lan, homes)) = lan(2) else { return };
    befriend(&homes[0], "alice", &homes[1], "bob");
    // Bob hears what alice tells everybody by IPv4, and has no route back.
    lan.hosts[1].move_to("192.168.9.9/24");
    let _bob = announce(&lan.hosts[1], &homes[1], &["1234"]);
    let found = discover(&lan.hosts[0], &homes[0], &["bob"]);
    assert_code(&found, 0);
    let said = lines(&found.stdout);
    assert!(said[0].starts_with("[fe80::") && said[0].ends_with(":1234"), "{said:?}");
}

#[test]
fn several_announcers_live_on_one_machine() {
    let Some((lan, mut homes)) = lan(2) else { return };
    homes.push(Home::with_identity());
    befriend(&homes[0], "alice", &homes[1], "bob");
    befriend(&homes[0], "alice", &homes[2], "carol");
    let _bob = announce(&lan.hosts[1], &homes[1], &["1"]);
    let _twice = announce(&lan.hosts[1], &homes[1], &["2", "-u"]);
    let _carol = announce(&lan.hosts[1], &homes[2], &["3"]);
    let found = discover(&lan.hosts[0], &homes[0], &[]);
    let mut found = lines(&found.stdout);
    found.sort();
    assert_eq!(
        found,
        [
            "bob\t10.0.0.2:1\tonline\ttcp",
            "bob\t10.0.0.2:2\tonline\tudp",
            "carol\t10.0.0.2:3\tonline\ttcp"
        ]
    );
}

#[test]
fn a_contact_is_found_on_a_network_that_takes_less_than_a_packet() {
    let Some((lan, homes)) = lan(2) else { return };
    lan.narrow(1000);
    befriend(&homes[0], "alice", &homes[1], "bob");
    let _bob = announce(&lan.hosts[1], &homes[1], &["1234"]);
    let found = discover(&lan.hosts[0], &homes[0], &["bob"]);
    assert_code(&found, 0);
    assert_eq!(found.stdout, b"10.0.0.2:1234\n");
}
