//! Who waits to be joined: at one rendezvous, for a bounded time, and with the first who comes.

use std::time::Duration;

use anonchat::relay::room::{PATIENCE, Room};

const START: Duration = Duration::from_secs(5);

#[test]
fn two_meet_and_the_next_two_meet_there_again() {
    let mut room = Room::default();
    assert_eq!(room.meet(1, &[7; 32], START), None);
    assert_eq!(room.meet(2, &[8; 32], START), None);
    assert_eq!(room.meet(3, &[7; 32], START), Some(1));
    assert!(!room.has(1) && !room.has(3) && room.has(2));
    assert_eq!(room.meet(4, &[7; 32], START), None);
    assert_eq!(room.meet(5, &[7; 32], START), Some(4));
    assert_eq!(room.len(), 1);
}

#[test]
fn nobody_waits_for_longer_than_that() {
    let mut room = Room::default();
    room.meet(1, &[1; 32], START);
    room.meet(2, &[2; 32], START + Duration::from_secs(1));
    let late = START + PATIENCE;
    assert_eq!(room.next_deadline(), Some(late));
    assert_eq!(room.expired(late - Duration::from_millis(1)), None);
    assert_eq!((room.expired(late), room.expired(late)), (Some(1), None));
    assert_eq!(room.meet(3, &[1; 32], late), None, "who waited no more is not met");
}

#[test]
fn whoever_leaves_is_met_by_nobody() {
    let mut room = Room::default();
    room.meet(1, &[1; 32], START);
    room.leave(1);
    assert!(room.is_empty() && room.next_deadline().is_none());
    assert_eq!(room.meet(2, &[1; 32], START), None);
}
