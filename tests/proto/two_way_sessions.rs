//! Two sides that both send and receive over one session never break the order of records, and each
//! sender learns exactly what became of each of its messages. Many seeds; AC_TEST_SEEDS.

use crate::testkit::{common::number, random::Dice};

use std::collections::VecDeque;

use anonchat::proto::stream::inbound::{Inbound, Step};
use anonchat::proto::stream::meta::{MessageKind, Meta, RESUMED};
use anonchat::proto::stream::outbound::{Outbound, Reply};
use anonchat::proto::stream::record::{
    AbortCode, Kind, OFFER_LEN, RefuseCode, Violation, offer_body, refuse_body,
};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered(u64),
    Refused,
    GivenUp,
}

/// One end, and the records on their way to it.
#[derive(Default)]
struct Side {
    incoming: VecDeque<(Kind, Vec<u8>)>,
    outbound: Outbound,
    inbound: Inbound,
    /// The message being sent, by number.
    current: Option<u8>,
    /// RESUME is awaited for it.
    asked: bool,
    /// RESUME has come for it and is not answered.
    offered: bool,
    /// ABORT 1 is to be said.
    refused: bool,
    to_send: Vec<u8>,
    /// Messages without an answer, oldest first; with those that were given up.
    unanswered: VecDeque<u8>,
    /// What the sender learnt, by number.
    learnt: Vec<(u8, Fate)>,
    /// As receiver: the message that comes in, its bytes, and whether RESUME is owed.
    coming: Option<(u8, u64, bool)>,
    /// Whole ones without an answer.
    due: VecDeque<(u8, Fate)>,
    /// What the receiver decided, by number.
    decided: Vec<(u8, Fate)>,
}

fn meta(number: u8) -> Meta {
    let mut meta = Meta::message([number; 16], 1);
    match number % 4 {
        0 => meta.kind = MessageKind::ChatLine as u8,
        1 => (meta.kind, meta.size) = (MessageKind::File as u8, Some(5)),
        2 => (meta.kind, meta.size) = (MessageKind::File as u8, Some(RESUMED + 1)),
        _ => {
            meta.kind = MessageKind::DirectoryEntry as u8;
            (meta.size, meta.mode) = (Some(9), Some(0o040_755));
        }
    }
    meta
}

impl Side {
    /// Something that it may do now, if the dice want; what goes to the other side.
    fn act(&mut self, dice: &mut Dice, out: &mut VecDeque<(Kind, Vec<u8>)>) {
        if std::mem::take(&mut self.refused) {
            out.push_back((Kind::Abort, vec![AbortCode::Refused as u8]));
        }
        match dice.below(5) {
            0 => self.begin(out),
            1 => self.go_on(dice, out),
            2 => self.answer(out),
            3 => self.receive(dice, out),
            _ => out.push_back((Kind::Pad, vec![])),
        }
    }

    fn begin(&mut self, out: &mut VecDeque<(Kind, Vec<u8>)>) {
        if self.current.is_some() {
            return;
        }
        let Some(number) = self.to_send.pop() else { return };
        let meta = meta(number);
        out.push_back((Kind::Meta, meta.encode()));
        self.outbound.begin(&meta);
        self.asked = meta.asks_resume();
        self.current = Some(number);
    }

    fn go_on(&mut self, dice: &mut Dice, out: &mut VecDeque<(Kind, Vec<u8>)>) {
        let Some(number) = self.current else { return };
        if self.asked {
            // Who waits for RESUME waits.
        } else if number % 4 != 0 && dice.below(6) == 0 {
            out.push_back((Kind::Abort, vec![AbortCode::CannotRead as u8]));
            assert!(self.outbound.give_up());
            self.offered = false;
            self.unanswered.extend(self.current.take());
        } else if std::mem::take(&mut self.offered) {
            out.push_back((Kind::Resume, 7_u64.to_be_bytes().to_vec()));
            self.outbound.start();
        } else if dice.below(2) == 0 {
            out.push_back((Kind::Data, vec![0; 10]));
            self.outbound.sent(10);
        } else {
            out.push_back((Kind::End, self.outbound.end().to_be_bytes().to_vec()));
            self.unanswered.extend(self.current.take());
        }
    }

    /// Says what is due, or offers what is there.
    fn answer(&mut self, out: &mut VecDeque<(Kind, Vec<u8>)>) {
        if let Some((_, _, offer @ true)) = &mut self.coming {
            *offer = false;
            out.push_back((Kind::Resume, offer_body(7, &[1; 32]).to_vec()));
            assert!(self.inbound.offer() || self.coming.is_none());
        }
        let Some((number, fate)) = self.due.pop_front() else { return };
        self.decided.push((number, fate));
        out.push_back(match fate {
            Fate::Delivered(total) => (Kind::Ack, total.to_be_bytes().to_vec()),
            Fate::Refused => (Kind::Refuse, refuse_body(RefuseCode::TooLarge, "no")),
            Fate::GivenUp => (Kind::Refuse, refuse_body(RefuseCode::GivenUp, "")),
        });
    }

    /// Takes a record, and refuses what comes in at times.
    fn receive(&mut self, dice: &mut Dice, _: &mut VecDeque<(Kind, Vec<u8>)>) {
        if let Some((kind, body)) = self.incoming.pop_front() {
            self.take(kind, &body).unwrap();
        }
        if dice.below(8) == 0
            && let Some((number, ..)) = self.coming.take()
        {
            self.inbound.refuse();
            self.due.push_back((number, Fate::Refused));
        }
    }

    fn take(&mut self, kind: Kind, body: &[u8]) -> Result<(), Violation> {
        let answers = matches!(kind, Kind::Ack | Kind::Refuse);
        if answers || (kind == Kind::Resume && body.len() == OFFER_LEN) {
            return self.hear(kind, body);
        }
        match self.inbound.step(kind, body)? {
            Step::Begin(meta) => self.coming = Some((meta.id[0], 0, meta.asks_resume())),
            Step::StartAt(offset) => assert_eq!(offset, 7),
            Step::Data(data) => self.coming.as_mut().unwrap().1 += data.len() as u64,
            Step::End => {
                let (number, bytes, _) = self.coming.take().unwrap();
                self.due.push_back((number, Fate::Delivered(bytes)));
            }
            Step::Aborted(_) => {
                let (number, ..) = self.coming.take().unwrap();
                self.due.push_back((number, Fate::GivenUp));
            }
            Step::Nothing => {}
        }
        Ok(())
    }

    fn hear(&mut self, kind: Kind, body: &[u8]) -> Result<(), Violation> {
        let fate = match self.outbound.hear(kind, body)? {
            Reply::Offered(offset, hash) => {
                assert_eq!((offset, hash), (7, [1; 32]));
                self.asked = false;
                self.offered = true;
                return Ok(());
            }
            Reply::Delivered(total) => Fate::Delivered(total),
            Reply::Refused { current: true, .. } => {
                self.refused = true;
                (self.asked, self.offered) = (false, false);
                self.learnt.push((self.current.take().unwrap(), Fate::Refused));
                return Ok(());
            }
            Reply::Refused { .. } => Fate::Refused,
            Reply::GivenUp => Fate::GivenUp,
        };
        self.learnt.push((self.unanswered.pop_front().unwrap(), fate));
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.to_send.is_empty() && self.current.is_none() && self.outbound.is_idle()
    }
}

#[test]
fn honest_sides_never_break_the_order_and_learn_what_became_of_everything() {
    let seeds = number("AC_TEST_SEEDS", 300);
    for seed in 1..=seeds {
        let mut dice = Dice::new(seed);
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            side.to_send = (0..12).collect();
        }
        let mut turns = 0;
        while !sides.iter().all(Side::is_done) {
            turns += 1;
            assert!(turns < 100_000, "seed {seed}: it does not end");
            let who = dice.below(2) as usize;
            let mut out = VecDeque::new();
            sides[who].act(&mut dice, &mut out);
            sides[1 - who].incoming.append(&mut out);
        }
        let [a, b] = &sides;
        for (sender, receiver) in [(a, b), (b, a)] {
            assert_eq!(sender.learnt.len(), 12, "seed {seed}");
            for (learnt, decided) in sender.learnt.iter().zip(&receiver.decided) {
                // What its sender gave up may have been refused before: both know it never came.
                let same = learnt == decided || learnt.1 == Fate::GivenUp;
                assert!(same && learnt.0 == decided.0, "seed {seed}: {learnt:?}, {decided:?}");
            }
        }
    }
}

fn sent(number: u8) -> Outbound {
    let mut outbound = Outbound::default();
    outbound.begin(&meta(number));
    outbound
}

#[test]
fn an_answer_to_nothing_ends_the_session() {
    let hear = |outbound: &mut Outbound, kind, body: &[u8]| outbound.hear(kind, body).unwrap_err();
    let broken = Violation::OutOfOrder;
    let refuse = refuse_body(RefuseCode::NoRoom, "");
    assert_eq!(hear(&mut Outbound::default(), Kind::Ack, &[0; 8]), broken);
    assert_eq!(hear(&mut Outbound::default(), Kind::Refuse, &refuse), broken);
    assert_eq!(hear(&mut Outbound::default(), Kind::Resume, &[0; OFFER_LEN]), broken);
    assert_eq!(hear(&mut sent(0), Kind::Ack, &[0; 8]), broken, "before END");
    assert_eq!(hear(&mut sent(1), Kind::Resume, &[0; OFFER_LEN]), broken, "nobody asked");
    let mut twice = sent(2);
    assert!(matches!(twice.hear(Kind::Resume, &[0; OFFER_LEN]), Ok(Reply::Offered(0, _))));
    assert_eq!(hear(&mut twice, Kind::Resume, &[0; OFFER_LEN]), broken, "twice");
    let mut given_up = sent(1);
    assert!(given_up.give_up());
    assert_eq!(hear(&mut given_up, Kind::Ack, &[0; 8]), broken, "it was given up");
    let mut other_total = sent(0);
    other_total.sent(5);
    other_total.end();
    assert_eq!(hear(&mut other_total, Kind::Ack, &6_u64.to_be_bytes()), broken);
}

#[test]
fn resume_has_its_one_place() {
    let step = |inbound: &mut Inbound, kind, body: &[u8]| inbound.step(kind, body).map(drop);
    let broken = Err(Violation::OutOfOrder);
    for number in [2, 3] {
        let mut inbound = Inbound::default();
        assert_eq!(step(&mut inbound, Kind::Resume, &[0; 8]), broken, "before META");
        let asked = || {
            let mut inbound = Inbound::default();
            inbound.step(Kind::Meta, &meta(number).encode()).unwrap();
            inbound
        };
        assert_eq!(step(&mut asked(), Kind::Data, b"x"), broken, "before RESUME");
        assert_eq!(step(&mut asked(), Kind::End, &[0; 8]), broken, "before RESUME");
        assert_eq!(step(&mut asked(), Kind::Resume, &[0; 8]), broken, "before the receiver's");
        let mut inbound = asked();
        let _ = inbound.offer();
        assert_eq!(step(&mut inbound, Kind::Resume, &[0; 8]), Ok(()));
        assert_eq!(step(&mut inbound, Kind::Resume, &[0; 8]), broken, "twice");
        let mut inbound = asked();
        let _ = inbound.offer();
        assert_eq!(step(&mut inbound, Kind::Resume, &[0; 9]), Err(Violation::Malformed));
    }
    let mut small = Inbound::default();
    small.step(Kind::Meta, &meta(1).encode()).unwrap();
    assert!(!small.offer());
    assert_eq!(step(&mut small, Kind::Resume, &[0; 8]), broken, "META does not ask");
}
