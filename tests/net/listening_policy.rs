//! Nobody gets more of a listener than their part: not of its output, its sessions, its
//! connections or its time. Whoever is over a limit waits, and everything still arrives.

use crate::testkit::{caller, common, machines, measure::alone};

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anonchat::proto::stream::handshake::HELLO_LEN;
use anonchat::proto::stream::record::Kind;
use caller::{Caller, connect_from};
use common::*;
use machines::Network;

/// Bob listens; Alice and Carol are his contacts.
struct Scene {
    alice: Home,
    bob: Home,
    carol: Home,
    listener: Listener,
}

impl Scene {
    fn new(args: &[&str]) -> Self {
        Self::with(|bob| bob.command("ac-listen", &[args, &["127.0.0.1:0"]].concat()))
    }

    /// With so few descriptors that half of them, `descriptors` / 2, are soon taken.
    fn with_descriptors(descriptors: usize, args: &[&str]) -> Self {
        let args = [args, &["127.0.0.1:0"]].concat();
        Self::with(|bob| bob.command_with_descriptors(descriptors, "ac-listen", &args))
    }

    fn with(command: impl FnOnce(&Home) -> Command) -> Self {
        let [alice, bob, carol] = std::array::from_fn(|_| Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        befriend(&carol, "carol", &bob, "bob");
        let listener = Listener::start(command(&bob));
        Self { alice, bob, carol, listener }
    }

    fn sender(&self, who: &Home) -> Running {
        Running::start(who.command("ac-send", &[&self.listener.destination("bob")]))
    }

    /// A sender whose message is under way, and has not ended.
    fn live(&self, who: &Home, text: &str) -> Running {
        let mut sender = self.sender(who);
        sender.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        sender
    }

    fn is_heard(&self, who: &Home, text: &str) {
        assert_code(&send(who, &[&self.listener.destination("bob")], text.as_bytes()), 0);
        self.listener.wait_stdout(text, |out| contains(out, text));
    }

    fn call(&self, who: &Home) -> Caller {
        Caller::call(who, &self.bob, self.listener.port())
    }

    fn stranger(&self, last: u8) -> TcpStream {
        connect_from(Ipv4Addr::new(127, 0, 0, last), self.listener.port())
    }
}

fn contains(out: &[u8], text: &str) -> bool {
    out.windows(text.len()).any(|window| window == text.as_bytes())
}

/// As much as opens a handshake.
fn says_garbage(stranger: &mut TcpStream) {
    stranger.write_all(&[7; HELLO_LEN]).unwrap();
}

fn ends_well(sender: &mut Running) {
    sender.close_stdin();
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(0), "{}", sender.stderr());
}

#[test]
fn a_contact_with_many_sessions_keeps_another_waiting_for_one_of_them_only() {
    let scene = Scene::new(&["-v", "-w", "1"]);
    let mut hogs: Vec<_> = (0..8)
        .map(|_| {
            let mut hog = scene.call(&scene.alice);
            hog.begin(b"hog ");
            hog
        })
        .collect();
    scene.listener.wait_stdout("the first of them", |out| out.starts_with(b"hog "));
    let mut carol = scene.sender(&scene.carol);
    carol.feed(b"carol ".to_vec());
    // All hogs say that they live, and nothing else.
    let served = Instant::now();
    while carol.poll_exit().is_none() {
        assert!(served.elapsed() < DEADLINE, "{}", carol.stderr());
        for hog in &mut hogs {
            hog.is_kept_for(Duration::from_millis(10), true);
        }
    }
    assert!(carol.wait_exit(DEADLINE).success(), "{}", carol.stderr());
    assert!(scene.listener.stdout().starts_with(b"hog carol "), "{:?}", scene.listener.stdout());
    assert_eq!(scene.listener.stderr().matches("the message was cut off").count(), 1);
}

#[test]
fn sessions_of_one_contact_beyond_its_limit_wait_and_all_arrive() {
    let scene = Scene::new(&["--max-per-contact", "2"]);
    let mut first = scene.live(&scene.alice, "1");
    scene.listener.wait_stdout("the first", |out| out == b"1");
    let mut others = ["2", "3", "4", "5"].map(|text| scene.live(&scene.alice, text));
    let line = scene.listener.wait_stderr("too many sessions at once");
    assert_eq!(line, "ac-listen: alice: too many sessions at once: some wait");
    // Another contact has its own seat, and its turn after the one that flows.
    let mut carol = scene.sender(&scene.carol);
    carol.feed(b"carol".to_vec());
    ends_well(&mut first);
    assert!(carol.wait_exit(DEADLINE).success(), "{}", carol.stderr());
    others.iter_mut().for_each(Running::close_stdin);
    others.iter_mut().for_each(ends_well);
    let out = String::from_utf8(scene.listener.stdout()).unwrap();
    let mut letters: Vec<_> = out.chars().collect();
    letters.sort_unstable();
    assert_eq!(letters.into_iter().collect::<String>(), "12345aclor");
    assert_eq!(scene.listener.stderr().matches("too many").count(), 1, "once a minute");
    assert!(scene.listener.stderr().contains("hint: --max-per-contact sets the limit"));
}

#[test]
fn sessions_beyond_the_limit_of_all_wait_and_all_arrive() {
    let scene = Scene::new(&["--max-clients", "1"]);
    let mut first = scene.live(&scene.alice, "1");
    scene.listener.wait_stdout("the first", |out| out == b"1");
    let mut second = scene.live(&scene.carol, "2");
    let line = scene.listener.wait_stderr("too many");
    assert_eq!(line, "ac-listen: too many sessions at once: some wait");
    ends_well(&mut first);
    ends_well(&mut second);
    let mut many: Vec<_> = (0..10).map(|_| scene.sender(&scene.alice)).collect();
    many.iter_mut().for_each(|sender| sender.feed(vec![b'x'; 100_000]));
    many.iter_mut().for_each(|sender| assert!(sender.wait_exit(DEADLINE).success()));
    let length = 2 + 10 * 100_000;
    scene.listener.wait_stdout("all of them", |out| out.len() == length);
}

#[test]
fn a_session_that_keeps_its_seat_and_says_nothing_loses_it_to_one_that_waits() {
    // The output is not what they wait for: its reader takes everything.
    let scene = Scene::new(&["--max-clients", "1", "-w", "1"]);
    let mut silent = scene.call(&scene.alice);
    silent.begin(b"silent ");
    scene.listener.wait_stdout("its beginning", |out| out == b"silent ");
    let mut carol = scene.sender(&scene.carol);
    carol.feed(vec![b'c'; 200_000]);
    let end = Instant::now() + DEADLINE;
    while carol.poll_exit().is_none() {
        assert!(Instant::now() < end, "{}", carol.stderr());
        silent.is_kept_for(Duration::from_millis(50), true);
    }
    assert!(carol.wait_exit(DEADLINE).success(), "{}", carol.stderr());
}

#[test]
fn connections_of_one_address_beyond_its_limit_wait_and_draw_nothing_while_others_come_in() {
    let _alone = alone();
    let scene = Scene::new(&["--max-per-address", "2"]);
    let mut strangers: Vec<_> = (0..6).map(|_| scene.stranger(2)).collect();
    strangers.iter_mut().for_each(says_garbage);
    scene.listener.wait_stderr("an address: too many connections at once: some wait");
    let called = Instant::now();
    scene.is_heard(&scene.alice, "another address is not concerned");
    assert!(called.elapsed() < Duration::from_millis(1500), "{:?}", called.elapsed());
    strangers.iter_mut().for_each(|stranger| stranger.write_all(&[7; 3000]).unwrap());
    scene.is_heard(&scene.alice, "nor does what they say matter");
    for mut stranger in strangers {
        stranger.set_nonblocking(true).unwrap();
        let heard = stranger.read(&mut [0; 1]).map_err(|e| e.kind());
        assert_eq!(heard, Err(ErrorKind::WouldBlock), "not a byte, and no reset");
        stranger.set_nonblocking(false).unwrap();
    }
    assert!(!scene.listener.stderr().contains("127.0.0.2"), "an address in a log by default");
}

#[test]
fn who_shares_an_address_with_callers_who_go_no_further_waits_a_moment_and_is_heard() {
    let scene = Scene::new(&["-v", "--max-per-address", "2"]);
    let _silent: Vec<_> = (0..60).map(|_| scene.stranger(1)).collect();
    let mut strangers: Vec<_> = (0..6).map(|_| scene.stranger(1)).collect();
    strangers.iter_mut().for_each(says_garbage);
    scene.is_heard(&scene.alice, "behind the same address");
    scene.listener.wait_stderr("127.0.0.1: too many connections at once: some wait");
}

#[test]
fn connections_over_the_rate_are_delayed_and_all_arrive() {
    let _alone = alone();
    let scene = Scene::new(&["--rate", "5/s"]);
    let began = Instant::now();
    let mut senders: Vec<_> = (0..15).map(|_| scene.sender(&scene.alice)).collect();
    senders.iter_mut().for_each(|sender| sender.feed(b"x".to_vec()));
    senders.iter_mut().for_each(ends_well);
    // 5 at once, and 10 more at 5 a second.
    let took = began.elapsed();
    assert!((1900..15_000).contains(&took.as_millis()), "{took:?}");
    scene.listener.wait_stdout("all", |out| out == b"xxxxxxxxxxxxxxx");
    scene.listener.wait_stderr("too many connections in a short time: some wait");
}

#[test]
fn messages_over_the_rate_are_delayed_and_other_contacts_are_not() {
    let _alone = alone();
    let scene = Scene::new(&["--rate", "5/s"]);
    let mut flood = scene.call(&scene.alice);
    let began = Instant::now();
    (0..3).for_each(|_| {
        (0..4).for_each(|_| flood.message(b"x"));
        flood.is_kept_for(Duration::from_millis(100), true);
    });
    scene.listener.wait_stderr("alice: too many messages in a short time: some wait");
    scene.is_heard(&scene.carol, "carol");
    let carol = began.elapsed();
    flood.wait("all acknowledged", |heard| {
        heard.iter().filter(|(kind, _)| *kind == Kind::Ack).count() == 12
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(carol < took, "{carol:?} and {took:?}");
}

#[test]
fn without_options_a_crowd_behind_one_address_and_one_key_is_not_limited() {
    let _alone = alone();
    let count = number("AC_TEST_SENDERS", 100);
    let scene = Scene::new(&[]);
    let mut senders: Vec<_> = (0..count).map(|_| scene.sender(&scene.alice)).collect();
    senders.iter_mut().for_each(|sender| sender.feed(b"x".to_vec()));
    senders.iter_mut().for_each(ends_well);
    scene.listener.wait_stdout("all", |out| out.len() == count);
    // Of more than 256 sessions of one contact at once some have their turn later.
    let said = scene.listener.stderr();
    assert!(count > 200 || said.lines().count() == 2, "{said}");
}

#[test]
fn strangers_who_take_all_the_connections_crowd_out_only_each_other() {
    let scene = Scene::with_descriptors(64, &[]);
    let mut strangers: Vec<_> = (0..60).map(|_| scene.stranger(2)).collect();
    for round in 0..3 {
        scene.is_heard(&scene.alice, &format!("round {round}\n"));
        strangers.extend((0..20).map(|_| scene.stranger(3)));
    }
}

#[test]
fn sessions_that_only_give_signs_of_life_stay_and_make_room_for_others() {
    let scene = Scene::with_descriptors(64, &["-w", "4"]);
    let mut idle = scene.call(&scene.alice);
    for round in 0..4 {
        assert!(idle.is_kept_for(Duration::from_millis(1000), true), "signs of life are enough");
        scene.is_heard(&scene.carol, &format!("carol {round}"));
    }
    idle.message(b"after a while ");
    idle.wait("the acknowledgement", |heard| heard.iter().any(|(kind, _)| *kind == Kind::Ack));
    // More than there are connections for.
    let mut many: Vec<_> = (0..50).map(|_| scene.call(&scene.alice)).collect();
    scene.is_heard(&scene.carol, "carol");
    let now = Duration::from_millis(20);
    let kept =
        many.iter_mut().filter_map(|caller| caller.is_kept_for(now, true).then_some(())).count();
    assert!((20..50).contains(&kept), "{kept} of 50");
}

#[test]
fn a_contact_whose_sessions_all_wait_leaves_room_for_another() {
    let scene = Scene::with_descriptors(64, &["-w", "60"]);
    let mut many: Vec<_> = (0..50)
        .map(|_| {
            let mut caller = scene.call(&scene.alice);
            caller.begin(b"x");
            caller
        })
        .collect();
    // She comes in, though all of these are in the middle of a message and have as many seats as
    // there are; her own turn comes when the one that flows is over.
    let mut carol = scene.call(&scene.carol);
    carol.message(b"carol");
    let now = Duration::from_millis(20);
    let kept = many.iter_mut().filter(|caller| caller.acks() == 0).count();
    assert_eq!(kept, 50);
    let mut open: Vec<_> =
        many.drain(..).filter_map(|mut c| c.is_kept_for(now, true).then_some(c)).collect();
    assert!((10..50).contains(&open.len()), "{} of 50", open.len());
    open.iter_mut().for_each(|caller| caller.say(Kind::End, &1u64.to_be_bytes()));
    carol.wait("the acknowledgement", |heard| heard.iter().any(|(kind, _)| *kind == Kind::Ack));
}

#[test]
fn a_session_that_says_nothing_at_all_is_closed_after_the_silence_allowed() {
    let scene = Scene::new(&["-w", "1"]);
    let mut silent = scene.call(&scene.alice);
    let began = Instant::now();
    while silent.is_kept_for(Duration::from_millis(300), false) {
        assert!(began.elapsed() < DEADLINE);
        // Or the listener would end, since nobody says anything.
        scene.is_heard(&scene.carol, "carol");
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    scene.is_heard(&scene.carol, "carol");
}

/// Takes up to half a minute, and no processor time.
#[test]
fn whatever_a_stranger_says_or_waits_for_it_is_closed_in_order_after_10_to_30_seconds() {
    let scene = Scene::new(&["--max-per-address", "1"]);
    let opened = Instant::now();
    // The first of them is read at once, each of the others 2 s after the one before.
    let mut strangers: Vec<_> = (0..5).map(|_| scene.stranger(2)).collect();
    strangers[1].write_all(&[7; 3000]).unwrap();
    strangers[2].write_all(&[7; 1000]).unwrap();
    let waiting = strangers.into_iter().map(|mut stranger| {
        std::thread::spawn(move || {
            stranger.set_read_timeout(Some(2 * DEADLINE)).unwrap();
            let heard = stranger.read(&mut [0; 1]).map_err(|e| e.kind());
            (heard, opened.elapsed())
        })
    });
    for ended in waiting.collect::<Vec<_>>() {
        let (heard, after) = ended.join().unwrap();
        assert_eq!(heard, Ok(0), "a byte, or a reset");
        let (least, most) = (Duration::from_secs(10), Duration::from_secs(32));
        assert!((least..most).contains(&after), "{after:?}");
    }
}

#[test]
fn a_message_that_stalls_in_silence_is_cut_after_the_silence_allowed() {
    let scene = Scene::new(&["-w", "1", "--max-clients", "1"]);
    let mut stalled = scene.call(&scene.alice);
    stalled.begin(b"half");
    let began = Instant::now();
    assert!(!stalled.is_kept_for(DEADLINE, false));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    scene.listener.wait_stderr("alice: the message was cut off");
}

#[test]
fn unknown_callers_share_by_address_and_a_contact_has_its_own_part() {
    let scene = Scene::new(&["--accept-unknown", "--max-per-address", "1", "--max-clients", "2"]);
    let strangers = [Home::with_identity(), Home::with_identity()];
    strangers.iter().for_each(|stranger| stranger.import(&scene.bob, "bob"));
    let mut first = scene.live(&strangers[0], "1");
    scene.listener.wait_stdout("the first", |out| out == b"1");
    let mut second = scene.live(&strangers[1], "2");
    scene.listener.wait_stderr("too many connections at once");
    let mut alice = scene.sender(&scene.alice);
    alice.feed(b"alice".to_vec());
    ends_well(&mut first);
    ends_well(&mut second);
    ends_well(&mut alice);
}

#[test]
fn a_plain_listener_keeps_to_the_limits_too() {
    let scene = Scene::new(&["--plain", "--max-per-address", "1"]);
    let mut first = scene.stranger(2);
    first.write_all(b"first ").unwrap();
    scene.listener.wait_stdout("the first", |out| out == b"first ");
    let mut second = scene.stranger(2);
    second.write_all(b"second ").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    scene.listener.wait_stderr("too many connections at once");
    first.shutdown(Shutdown::Write).unwrap();
    scene.listener.wait_stdout("both", |out| out == b"first second ");
}

#[test]
fn runs_of_datagrams_beyond_the_limit_of_a_contact_wait_and_arrive() {
    let scene = Scene::new(&["-u", "--max-per-contact", "1"]);
    let args = ["-u", &scene.listener.destination("bob")];
    let sender = || Running::start(scene.alice.command("ac-send", &args));
    // More than one message carries.
    let more = |sender: &mut Running| {
        sender.stdin.as_mut().unwrap().write_all(&[b'x'; 150_000]).unwrap();
    };
    let mut first = sender();
    more(&mut first);
    scene.listener.wait_stdout("the first", |out| out.len() > 60_000);
    let mut second = sender();
    more(&mut second);
    scene.listener.wait_stderr("alice: too many sessions at once: some wait");
    ends_well(&mut first);
    ends_well(&mut second);
    scene.listener.wait_stdout("both", |out| out.len() == 300_000);
}

#[test]
fn limits_that_make_no_sense_are_wrong_usage() {
    let bob = Home::with_identity();
    for args in [
        &["--max-clients", "0", "0"][..],
        &["--max-clients", "100000000", "0"],
        &["--max-per-contact", "-1", "0"],
        &["--rate", "20", "0"],
        &["--rate", "20/d", "0"],
        &["--plain", "--max-per-contact", "5", "0"],
        &["--plain", "-u", "--rate", "5/s", "0"],
        &["-u", "--max-per-address", "5", "0"],
        &["--open", "file", "--rate", "5/s"],
        &["--replay", "file", "--max-clients", "5"],
    ] {
        let output = run(bob.command("ac-listen", args), b"", DEADLINE);
        assert_code(&output, 2);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().count() == 2 && said.contains("\nhint: "), "{args:?}: {said}");
    }
}

#[test]
fn a_limit_is_reported_to_programs_with_its_name() {
    let scene = Scene::new(&["--json", "--max-per-contact", "1"]);
    let mut first = scene.live(&scene.alice, "1");
    scene.listener.wait_stdout("the first", |out| contains(out, "\"message\""));
    let mut second = scene.live(&scene.alice, "2");
    let event = "{\"v\":1,\"event\":\"limited\",\"limit\":\"per_contact\",\"from\":\"alice\"}";
    scene.listener.wait_stdout("the limit", |out| contains(out, event));
    ends_well(&mut first);
    ends_well(&mut second);
}

#[test]
fn a_crowd_from_another_machine_is_let_in_as_fast_as_the_default_says() {
    let Some(network) = Network::new() else { return };
    let count = number("AC_TEST_SENDERS", 150);
    let (alice, bob) = alice_and_bob();
    let listener = Listener::start(network.bob.command(&bob, "ac-listen", &["10.0.0.5:1234"]));
    let command = || network.alice.command(&alice, "ac-send", &["10.0.0.5:1234"]);
    let mut senders: Vec<_> = (0..count).map(|_| Running::start(command())).collect();
    senders.iter_mut().for_each(|sender| sender.feed(b"x".to_vec()));
    senders.iter_mut().for_each(ends_well);
    listener.wait_stdout("all", |out| out.len() == count);
}
