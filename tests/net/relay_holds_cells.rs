//! A relay holds cells for those who are not there yet, and hands each reader what it has not read.
//! PROTOCOL.md, 5.3.

use crate::testkit::{common, relay_client};

use anonchat::crypto::sodium::KeyPair;
use anonchat::proto::relay::cell::{Cell, Command, ErrorCode};
use anonchat::proto::relay::mailbox::Channel;
use relay_client::{Relay, address, number_of, packet};

/// Bob, and the channel on which Alice writes to him.
fn bob() -> (KeyPair, Channel) {
    (KeyPair::generate(), Channel::open(&[7; 32]))
}

#[test]
fn cells_wait_for_a_reader_and_come_in_order() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    let mailbox = address(&channel, bob.public(), 3);
    for number in 0..100 {
        alice.queue(&Cell::post(number + 1000, mailbox, &packet(number)));
    }
    alice.flush();
    for number in 0..100 {
        let answer = alice.next_cell();
        assert_eq!((answer.command, answer.id), (Command::Ack, number + 1000));
    }
    let mut reader = relay.client();
    reader.subscribe(&channel, &bob, 3, [0; 8], 0);
    for number in 0..100 {
        let cell = reader.next_cell();
        assert_eq!((cell.command, cell.id, cell.address), (Command::Cell, number, mailbox));
        assert_eq!(number_of(&cell.body), number);
    }
    let live = reader.next_cell();
    assert_eq!((live.command, live.id), (Command::Live, 100));
    alice.post(1, mailbox, &packet(100));
    assert_eq!(number_of(&reader.next_cell().body), 100);
}

#[test]
fn a_reader_goes_on_where_it_was_and_acknowledged_cells_are_gone() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    let mailbox = address(&channel, bob.public(), 0);
    for number in 0..10 {
        alice.post(number, mailbox, &packet(number));
        assert_eq!(alice.next_cell().command, Command::Ack);
    }
    let mut first = relay.client();
    first.subscribe(&channel, &bob, 0, [0; 8], 0);
    let log = first.next_cell().log;
    first.acknowledge(mailbox, log, 3);
    first.heard_nothing_but_cells();
    drop(first);
    let mut second = relay.client();
    second.subscribe(&channel, &bob, 0, [0; 8], 0);
    assert_eq!(second.next_cell().id, 4, "what was acknowledged is gone");
    let mut third = relay.client();
    third.subscribe(&channel, &bob, 0, log, 8);
    assert_eq!(third.next_cell().id, 8, "the log is the same, so it goes on");
    third.subscribe(&channel, &bob, 0, [1; 8], 8);
    let again = std::iter::repeat_with(|| third.next_cell()).take(4).find(|cell| cell.id == 4);
    assert!(again.is_some(), "another log begins at the beginning");
}

#[test]
fn a_full_mailbox_refuses_and_takes_more_when_it_is_read() {
    let relay = Relay::spawn(&["--mailbox-cells", "3", "127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    let mailbox = address(&channel, bob.public(), 0);
    for id in 0..3 {
        alice.post(id, mailbox, &packet(id));
        assert_eq!(alice.next_cell().command, Command::Ack);
    }
    alice.post(77, mailbox, &packet(3));
    let refused = alice.next_cell();
    assert_eq!((refused.command, refused.id, refused.address), (Command::Error, 77, mailbox));
    assert_eq!(refused.body, [ErrorCode::MailboxFull as u8]);
    let mut reader = relay.client();
    reader.subscribe(&channel, &bob, 0, [0; 8], 0);
    let log = reader.next_cell().log;
    reader.acknowledge(mailbox, log, 1);
    reader.heard_nothing_but_cells();
    alice.post(78, mailbox, &packet(3));
    assert_eq!(alice.next_cell().command, Command::Ack);
}

#[test]
fn cells_go_when_they_are_too_old() {
    let relay = Relay::spawn(&["--ttl", "1s", "127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    assert_eq!(alice.welcome.ttl_s, Some(1));
    let mailbox = address(&channel, bob.public(), 0);
    alice.post(1, mailbox, &packet(1));
    assert_eq!(alice.next_cell().command, Command::Ack);
    common::eventually("the cell to go", common::DEADLINE, || {
        let mut reader = relay.client();
        reader.subscribe(&channel, &bob, 0, [0; 8], 0);
        (reader.next_cell().command == Command::Live).then_some(())
    });
}

#[test]
fn a_volatile_cell_is_for_those_who_are_there() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    let mut reader = relay.client();
    let mailbox = reader.subscribe(&channel, &bob, 0, [0; 8], 0);
    assert_eq!(reader.next_cell().command, Command::Live);
    alice.say(&Cell::post(5, mailbox, &packet(9)).volatile());
    let cell = reader.next_cell();
    assert_eq!((cell.command, cell.id, number_of(&cell.body)), (Command::Cell, 0, 9));
    alice.heard_nothing();
    let mut late = relay.client();
    late.subscribe(&channel, &bob, 0, [0; 8], 0);
    assert_eq!(late.next_cell().command, Command::Live);
}

#[test]
fn whoever_leaves_a_mailbox_reads_it_no_more_and_a_mailbox_without_use_is_forgotten() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ((bob, channel), mut alice) = (bob(), relay.client());
    let mut reader = relay.client();
    let mailbox = reader.subscribe(&channel, &bob, 0, [0; 8], 0);
    let first = reader.next_cell();
    reader.say(&Cell { address: mailbox, ..Cell::new(Command::Leave) });
    reader.heard_nothing();
    alice.post(1, mailbox, &packet(1));
    assert_eq!(alice.next_cell().command, Command::Ack);
    reader.heard_nothing();
    reader.subscribe(&channel, &bob, 0, first.log, 7);
    let cell = reader.next_cell();
    assert_eq!((cell.command, cell.id), (Command::Cell, 0), "it has begun anew");
    assert_ne!(cell.log, first.log);
}

#[test]
fn everybody_who_reads_a_groups_mailbox_gets_every_cell() {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let ((group, channel), mut alice) = (bob(), relay.client());
    let mut members: Vec<_> = (0..10).map(|_| relay.client()).collect();
    for member in &mut members {
        member.subscribe(&channel, &group, 0, [0; 8], 0);
        assert_eq!(member.next_cell().command, Command::Live);
    }
    let mailbox = address(&channel, group.public(), 0);
    (0..50).for_each(|number| alice.queue(&Cell::post(number, mailbox, &packet(number))));
    alice.flush();
    for member in &mut members {
        for number in 0..50 {
            assert_eq!(number_of(&member.next_cell().body), number);
        }
    }
}
