//! What is sent to a group by way of a relay reaches every member that listens, and those who come
//! later; nobody takes it from the others. PROTOCOL.md, 5.3 and 5.5.

use crate::testkit::{common, proxy, relay_client, relay_people};

use common::*;
use proxy::Proxy;
use relay_client::Relay;
use relay_people::*;

/// `count` people who hold the key of `team`, and know each other as `m0`, `m1` and so on.
fn team(count: usize) -> Vec<Home> {
    let members: Vec<_> = (0..count).map(|_| Home::with_identity()).collect();
    assert_code(&members[0].keygen(&["--group", "team"]), 0);
    let key = members[0].path().join("groups/team.key");
    for (n, member) in members.iter().enumerate() {
        for (m, other) in members.iter().enumerate().filter(|(m, _)| *m != n) {
            member.import(other, &format!("m{m}"));
        }
        if n > 0 {
            assert_code(&member.keygen(&["--import", key.to_str().unwrap(), "--as", "team"]), 0);
        }
    }
    members
}

fn hear(member: &Home, relay: &Relay) -> Running {
    listen(member, relay, &["-k", "team"])
}

#[test]
fn every_member_hears_what_one_says_and_so_does_one_who_comes_later() {
    let (members, relay) = (team(4), relay());
    let via = name_of(&relay, &members[0]);
    let listening: Vec<_> = members[1..3].iter().map(|member| hear(member, &relay)).collect();
    for line in ["one\n", "two\n"] {
        assert_code(&send(&members[0], &["--via", &via, "team"], line.as_bytes()), 0);
    }
    for listener in &listening {
        listener.wait_stdout("both", |bytes| bytes == b"one\ntwo\n");
    }
    let late = hear(&members[3], &relay);
    late.wait_stdout("both", |bytes| bytes == b"one\ntwo\n");
}

#[test]
fn what_a_member_has_heard_it_leaves_to_the_others_and_hears_once_while_it_listens() {
    let (members, relay) = (team(3), relay());
    let (via, proxy) = (name_of(&relay, &members[0]), Proxy::to(relay.port));
    let by_proxy = name_at(&relay, &members[1], "home", proxy.port());
    let first = listen_by(&members[1], &[&by_proxy], &["-k", "team"]);
    assert_code(&send(&members[0], &["--via", &via, "team"], b"one\n"), 0);
    first.wait_stdout("one", |bytes| bytes == b"one\n");
    // The group's mailbox is read again, from where it was left.
    proxy.interrupt();
    assert_code(&send(&members[0], &["--via", &via, "team"], b"two\n"), 0);
    first.wait_stdout("two", |bytes| bytes == b"one\ntwo\n");
    let second = hear(&members[2], &relay);
    second.wait_stdout("both", |bytes| bytes == b"one\ntwo\n");
}

#[test]
fn nobody_but_others_tells_a_member_that_its_message_was_delivered() {
    let (members, relay) = (team(2), relay());
    let via = name_of(&relay, &members[0]);
    let own = hear(&members[0], &relay);
    // Nobody else is there: the relay holds it, though we hear ourselves.
    assert_code(&send(&members[0], &["--via", &via, "team"], b"alone\n"), 7);
    own.wait_stdout("our own", |bytes| bytes == b"alone\n");
    let other = hear(&members[1], &relay);
    assert_code(&send(&members[0], &["--via", &via, "team"], b"together\n"), 0);
    other.wait_stdout("both", |bytes| bytes == b"alone\ntogether\n");
}
