//! No line of a chat is lost, shown twice or out of its order, however often connections break: the
//! side that says them and the side that shows them, by seed, over sessions that end at any moment.

use crate::testkit::{common::number, random::Dice};

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use anonchat::cli::chat::seen::Seen;
use anonchat::cli::chat::talk::{Event, Line, Parting, Talk, Unsaid};
use anonchat::crypto::sodium::{KeyPair, PublicKey};
use anonchat::sched::party::Source;

/// One connection, with what is under way on it.
#[derive(Default)]
struct Wire {
    there: VecDeque<Rc<Line>>,
    back: VecDeque<()>,
}

/// Somebody who shows what arrives.
#[derive(Default)]
struct Far {
    wires: BTreeMap<Source, Wire>,
    seen: Seen,
    shown: Vec<String>,
}

impl Far {
    fn take(&mut self, from: Source) {
        let wire = self.wires.get_mut(&from).unwrap();
        let Some(line) = wire.there.pop_front() else { return };
        if !self.seen.contains(&[7; 32], &line.id) {
            self.seen.insert([7; 32], line.id);
            self.shown.push(String::from_utf8(line.text.clone()).unwrap());
        }
        wire.back.push_back(());
    }
}

fn line(n: u64) -> Line {
    Line { id: u128::from(n).to_be_bytes(), typed_ms: n, text: format!("line {n}").into_bytes() }
}

fn key() -> PublicKey {
    *KeyPair::generate().public()
}

const SECOND: Duration = Duration::from_secs(1);

/// Up to three sessions at once break, reconnect, stall. Returns how often one was lost.
fn run(seed: u64, lines: u64) -> usize {
    let mut dice = Dice::new(seed);
    let (mut talk, mut far, bob) = (Talk::default(), Far::default(), key());
    let (mut now, mut next_session, mut typed, mut losses) = (Duration::ZERO, 1, 0, 0);
    let mut delivered = Vec::new();
    talk.join(bob, "bob", now);
    for step in 0.. {
        assert!(step < 200_000, "seed {seed}: no end");
        now += Duration::from_millis(dice.below(400));
        let settling = typed == lines;
        match dice.below(if settling { 14 } else { 20 }) {
            0 if far.wires.len() < 3 => {
                let session = Source::Run(next_session);
                far.wires.insert(session, Wire::default());
                assert!(talk.opened(session, bob, "bob"));
                next_session += 1;
            }
            1 if losses < 200 => {
                let which = dice.below(4) as usize;
                if let Some(session) = far.wires.keys().nth(which).copied() {
                    far.wires.remove(&session);
                    talk.closed(session, Parting::Loss, now);
                    losses += 1;
                }
            }
            2..=12 => {
                let Some((&session, _)) = far.wires.iter().nth(dice.below(3) as usize) else {
                    continue;
                };
                match dice.below(3) {
                    0 => far.wires.get_mut(&session).unwrap().there.extend(talk.next(session)),
                    1 => far.take(session),
                    _ => {
                        if far.wires.get_mut(&session).unwrap().back.pop_front().is_some() {
                            talk.answered(session, None);
                        }
                    }
                }
            }
            13 => {
                // A call is due whenever nobody is here, and never while somebody is.
                if let Some(who) = talk.due(now) {
                    assert!(who == bob && far.wires.is_empty(), "seed {seed}");
                    talk.unanswered(&bob, now);
                }
            }
            _ if !settling => {
                let said = talk.say(line(typed)).unwrap();
                assert_eq!(said.here.len() + said.away.len(), 1);
                assert_eq!(said.here.is_empty(), far.wires.is_empty());
                typed += 1;
            }
            _ => {}
        }
        while let Some(event) = talk.event() {
            if let Event::Delivered { line, .. } = event {
                delivered.push(line.typed_ms);
            }
        }
        if settling && talk.is_settled() {
            break;
        }
    }
    let expected: Vec<String> = (0..lines).map(|n| format!("line {n}")).collect();
    assert_eq!(far.shown, expected, "seed {seed}");
    delivered.sort_unstable();
    assert_eq!(delivered, (0..lines).collect::<Vec<_>>(), "seed {seed}");
    losses
}

#[test]
fn every_line_is_shown_once_and_in_order_over_many_losses() {
    let seeds = number("AC_TEST_SEEDS", 200);
    let losses: Vec<usize> = (1..=seeds).map(|seed| run(seed, 60)).collect();
    // The runs are about what they claim to be.
    assert!(losses.iter().filter(|n| **n >= 20).count() * 10 > losses.len() * 3, "{losses:?}");
}

#[test]
fn a_line_of_two_sessions_is_answered_once() {
    let (mut talk, bob) = (Talk::default(), key());
    talk.opened(Source::Run(1), bob, "bob");
    talk.say(line(1)).unwrap();
    assert_eq!(talk.next(Source::Run(1)).unwrap().typed_ms, 1);
    talk.opened(Source::Run(2), bob, "bob");
    talk.say(line(2)).unwrap();
    // The older session takes nothing any more; the newer one takes everything again.
    assert!(talk.next(Source::Run(1)).is_none());
    assert_eq!(talk.next(Source::Run(2)).unwrap().typed_ms, 1);
    talk.closed(Source::Run(2), Parting::Loss, SECOND);
    assert_eq!(talk.next(Source::Run(1)).unwrap().typed_ms, 1);
    assert_eq!(talk.next(Source::Run(1)).unwrap().typed_ms, 2);
    // The answers to the first line's two copies, then that to the second.
    talk.answered(Source::Run(1), None);
    talk.answered(Source::Run(1), None);
    assert!(!talk.is_settled());
    talk.answered(Source::Run(1), None);
    assert!(talk.is_settled());
    let delivered = |event| matches!(event, Event::Delivered { .. });
    assert_eq!(std::iter::from_fn(|| talk.event()).filter(|e| delivered(e.clone())).count(), 2);
}

#[test]
fn calls_come_after_one_second_and_then_ever_less_often() {
    let (mut talk, bob) = (Talk::default(), key());
    talk.join(bob, "bob", Duration::ZERO);
    let mut at = Duration::ZERO;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(talk.due(at), Some(bob));
        assert_eq!(talk.due(at), None, "it is under way");
        talk.unanswered(&bob, at);
        let next = talk.deadline().unwrap();
        assert_eq!(talk.due(next - Duration::from_millis(1)), None);
        waits.push((next - at).as_secs());
        at = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(talk.due(at), Some(bob));
    talk.opened(Source::Run(1), bob, "bob");
    assert_eq!(talk.deadline(), None);
    talk.closed(Source::Run(1), Parting::Loss, at);
    assert_eq!(talk.deadline(), Some(at + SECOND));
}

#[test]
fn who_called_us_is_waited_for_unless_they_said_goodbye() {
    let (mut talk, bob, carol) = (Talk::default(), key(), key());
    assert_eq!(talk.say(line(0)), Err(Unsaid::Nobody));
    talk.opened(Source::Run(1), bob, "bob");
    talk.opened(Source::Run(2), carol, "carol");
    talk.closed(Source::Run(1), Parting::Loss, SECOND);
    talk.closed(Source::Run(2), Parting::Goodbye, SECOND);
    assert_eq!(talk.deadline(), None, "nobody whom we could call");
    let said = talk.say(line(1)).unwrap();
    assert_eq!((said.here.len(), said.away), (0, vec!["bob".to_owned()]));
    talk.opened(Source::Run(3), bob, "bob");
    assert_eq!(talk.next(Source::Run(3)).unwrap().typed_ms, 1);
    assert_eq!(talk.tell("carol", line(2)), Err(Unsaid::Unknown));
}

#[test]
fn a_mark_stands_for_all_who_were_here() {
    let (mut talk, bob, carol, dave) = (Talk::default(), key(), key(), key());
    talk.opened(Source::Run(1), bob, "bob");
    talk.opened(Source::Run(2), carol, "carol");
    talk.join(dave, "dave", Duration::ZERO);
    let said = talk.say(line(1)).unwrap();
    assert_eq!(said.away, ["dave"]);
    let mut marks = Vec::new();
    for session in [Source::Run(1), Source::Run(2)] {
        talk.next(session).unwrap();
        talk.answered(session, None);
    }
    talk.opened(Source::Run(3), dave, "dave");
    talk.next(Source::Run(3)).unwrap();
    talk.answered(Source::Run(3), None);
    while let Some(event) = talk.event() {
        if let Event::Delivered { to, last_of, late, .. } = event {
            marks.push((to, last_of, late));
        }
    }
    let mark = |to: &str, last_of, late| (to.to_owned(), last_of, late);
    let expected =
        [mark("bob", None, false), mark("carol", Some(2), false), mark("dave", None, true)];
    assert_eq!(marks, expected);
}

#[test]
fn what_waits_is_bounded_and_the_user_is_told() {
    let (mut talk, bob, carol) = (Talk::default(), key(), key());
    talk.join(bob, "bob", Duration::ZERO);
    let mut kept = 0;
    while talk.say(line(kept)).unwrap().full.is_empty() {
        kept += 1;
        assert!(kept < 100_000);
    }
    assert_eq!(kept, 1000);
    // Somebody else is not concerned.
    talk.opened(Source::Run(1), carol, "carol");
    let said = talk.say(line(kept)).unwrap();
    assert_eq!((said.here, said.full), (vec!["carol".into()], vec!["bob".into()]));
    // At the end each line that was kept is told to be undelivered, once.
    talk.end("the chat ended");
    let undelivered =
        std::iter::from_fn(|| talk.event()).filter(|e| matches!(e, Event::Undelivered { .. }));
    assert_eq!(undelivered.count() as u64, kept + 1);
}
