//! The output goes from caller to caller, whoever has how many sessions, and nobody's part of the
//! buffers is another's. `AC_TEST_SEEDS` says how many random cases are tried.

use crate::testkit::{common::number, random::numbers};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anonchat::proto::datagram::packet::MAX_MESSAGE;
use anonchat::sched::mux::{Ending, HELD_BYTES, HELD_TIME, Mux, Sink, Ticket};
use anonchat::sched::party::{Network, Party, Source};
use anonchat::sched::turns::Turns;

const PATIENCE: Duration = Duration::from_secs(30);

fn party(n: u8) -> Party {
    Party::Address(Network::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))))
}

/// Notes whose messages begin and end.
#[derive(Default)]
struct Paper {
    began: Vec<u8>,
    open: Option<u8>,
    tickets: u64,
}

impl Sink<u8> for Paper {
    fn has_room(&self) -> bool {
        true
    }
    fn begin(&mut self, who: &u8) {
        assert_eq!(self.open.replace(*who), None, "two at once");
        self.began.push(*who);
    }
    fn data(&mut self, who: &u8, _: &[u8]) {
        assert_eq!(self.open, Some(*who));
    }
    fn end(&mut self, who: &u8, _: Ending) {
        assert_eq!(self.open.take(), Some(*who));
    }
    fn mark(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

/// One mux, and sources of which each has at most one message on its way.
struct World {
    mux: Mux<u8>,
    paper: Paper,
    now: Duration,
    /// Whose each source is, and whether its message is whole.
    on_its_way: BTreeMap<Source, (u8, bool)>,
}

impl World {
    fn new() -> Self {
        let (mux, paper) = (Mux::new(None, PATIENCE), Paper::default());
        Self { mux, paper, now: Duration::ZERO, on_its_way: BTreeMap::new() }
    }

    fn begin(&mut self, source: Source, who: u8, len: usize) {
        self.mux.introduce(source, party(who));
        self.mux.begin(source, who, self.now);
        self.mux.data(source, &vec![b'x'; len], self.now, &mut self.paper);
        self.on_its_way.insert(source, (who, false));
    }

    fn end(&mut self, source: Source) {
        if let Some((_, whole)) = self.on_its_way.get_mut(&source) {
            *whole = true;
            self.mux.end(source);
        }
    }

    /// Moves on, and gives those whose messages are over.
    fn pump(&mut self) -> BTreeSet<Source> {
        let mut written = Vec::new();
        self.mux.pump(self.now, &mut self.paper, &mut written);
        let over: BTreeSet<_> = written.iter().map(|w| w.source).collect();
        self.on_its_way.retain(|source, _| !over.contains(source));
        over
    }
}

#[test]
fn a_full_message_of_datagrams_is_confirmed_at_once_since_no_more_comes_before_that() {
    for (len, confirmed) in [(MAX_MESSAGE, true), (MAX_MESSAGE - 1, false)] {
        let mut world = World::new();
        world.begin(Source::Run(1), 1, len);
        world.mux.confirm_part(Source::Run(1));
        let at_once = !world.pump().is_empty();
        assert_eq!(at_once, confirmed, "{len} bytes");
    }
}

#[test]
fn a_message_without_a_byte_keeps_nobody_waiting_and_counts_when_it_ends() {
    let mut world = World::new();
    for silent in 1..=3 {
        world.begin(Source::Run(silent), 1, 0);
    }
    world.now += Duration::from_secs(1);
    world.pump();
    assert!(world.paper.began.is_empty(), "nobody has said anything");
    assert_eq!((world.mux.next_deadline(), world.mux.underway()), (None, 0));

    world.begin(Source::Run(50), 2, 10);
    world.end(Source::Run(50));
    assert_eq!(world.pump(), BTreeSet::from([Source::Run(50)]));

    // What was announced long ago is held from its first byte on, like any other.
    world.mux.data(Source::Run(1), b"x", world.now, &mut world.paper);
    world.pump();
    assert_eq!(world.paper.began, [2]);
    world.now += HELD_TIME;
    world.pump();
    assert_eq!(world.paper.began, [2, 1]);

    // Those that end without a byte are messages, in the order in which they end.
    world.end(Source::Run(3));
    world.end(Source::Run(2));
    assert!(world.pump().is_empty(), "the first one is not over");
    world.mux.cut(Source::Run(1));
    assert_eq!(world.pump(), BTreeSet::from([Source::Run(2), Source::Run(3)]));
    assert_eq!(world.paper.began, [2, 1, 1, 1]);
}

#[test]
fn a_caller_with_many_sessions_gets_one_turn_and_then_the_others_have_theirs() {
    let mut world = World::new();
    for n in 0..100 {
        world.begin(Source::Run(n), 1, 10);
        world.now += Duration::from_millis(1);
    }
    world.now += Duration::from_secs(1);
    world.pump();
    assert_eq!(world.paper.began, [1], "the first of them flows");
    // Now come two who have one each.
    world.begin(Source::Run(200), 2, 10);
    world.begin(Source::Run(201), 3, 10);
    world.now += Duration::from_secs(1);
    world.pump();
    (0..3).for_each(|n| world.end(Source::Run(n)));
    world.end(Source::Run(200));
    world.end(Source::Run(201));
    world.pump();
    assert_eq!(world.paper.began[..5], [1, 2, 3, 1, 1]);
}

#[test]
fn an_owner_that_was_cut_for_its_silence_goes_to_the_back_with_all_its_sessions() {
    let mut world = World::new();
    (0..10).for_each(|n| world.begin(Source::Run(n), 1, 10));
    world.now += Duration::from_secs(1);
    world.pump();
    world.begin(Source::Run(50), 2, 10);
    world.now += Duration::from_millis(250);
    world.pump();
    world.now += PATIENCE;
    let slow = world.mux.overdue(world.now).unwrap();
    assert!(slow < Source::Run(10));
    world.mux.cut(slow);
    world.pump();
    assert_eq!(world.paper.began, [1, 2]);
}

#[test]
fn one_caller_cannot_fill_the_buffers_of_all() {
    let mut world = World::new();
    world.begin(Source::Run(1000), 9, 10);
    world.now += Duration::from_secs(1);
    world.pump();
    let mut taken = 0;
    for n in 0..500 {
        if world.mux.has_room(Source::Run(n)) {
            world.mux.introduce(Source::Run(n), party(1));
            if world.mux.has_room(Source::Run(n)) {
                world.begin(Source::Run(n), 1, HELD_BYTES);
                taken += HELD_BYTES;
            }
        }
    }
    assert!(taken <= 2 << 20, "{taken} bytes");
    for who in 2..60 {
        let source = Source::Run(2000 + u64::from(who));
        world.mux.introduce(source, party(who));
        assert!(world.mux.has_room(source), "nothing is left for {who}");
        world.begin(source, who, HELD_BYTES);
    }
    let source = Source::Run(3000);
    world.mux.introduce(source, party(1));
    assert!(!world.mux.has_room(source));
}

fn seeds() -> u64 {
    number("AC_TEST_SEEDS", 60)
}

#[test]
fn whoever_waits_sees_at_most_one_turn_of_each_other_caller() {
    for seed in 0..seeds() {
        let mut below = numbers(seed);
        let mut world = World::new();
        let mut next = 0;
        // Since when each caller has something that waits, as a place in `began`.
        let mut since: BTreeMap<u8, usize> = BTreeMap::new();
        for _ in 0..400 {
            match below(3) {
                0 => {
                    // Caller 0 has most of the sessions.
                    let who = below(8).saturating_sub(3) as u8;
                    world.begin(Source::Run(next), who, 1 + below(100) as usize);
                    next += 1;
                }
                1 => {
                    let sources: Vec<_> = world.on_its_way.keys().copied().collect();
                    if !sources.is_empty() {
                        world.end(sources[below(sources.len() as u64) as usize]);
                    }
                }
                _ => world.now += Duration::from_millis(below(300)),
            }
            let before = world.paper.began.len();
            let over = world.pump();
            over.iter().for_each(|source| world.mux.forget(*source));
            for (place, who) in world.paper.began.iter().enumerate().skip(before) {
                if let Some(from) = since.remove(who) {
                    let between = &world.paper.began[from..place];
                    let distinct: BTreeSet<_> = between.iter().collect();
                    assert_eq!(distinct.len(), between.len(), "seed {seed}: {between:?} and {who}");
                }
            }
            // Who is whole and not written waits for a turn, unless it has it.
            let owner = world.on_its_way.keys().find(|s| world.mux.owns(**s)).copied();
            for (source, (who, whole)) in &world.on_its_way {
                if *whole && owner != Some(*source) {
                    since.entry(*who).or_insert(world.paper.began.len());
                }
            }
        }
    }
}

/// What [`Turns`] does, as plainly as it can be said.
#[derive(Default)]
struct Circle {
    line: Vec<u8>,
    waiting: BTreeMap<u8, Vec<Source>>,
    last: Option<u8>,
}

impl Circle {
    fn push(&mut self, who: u8, source: Source) {
        let queue = self.waiting.entry(who).or_default();
        if queue.is_empty() && self.last != Some(who) {
            self.line.push(who);
        }
        queue.push(source);
    }

    fn pop(&mut self) -> Option<Source> {
        if let Some(last) = self.last.take().filter(|last| !self.is_done(*last)) {
            self.line.push(last);
        }
        if self.line.is_empty() {
            return None;
        }
        let who = self.line.remove(0);
        self.last = Some(who);
        Some(self.waiting.get_mut(&who).unwrap().remove(0))
    }

    fn remove(&mut self, who: u8, source: Source) {
        self.waiting.get_mut(&who).unwrap().retain(|other| *other != source);
        if self.is_done(who) {
            self.line.retain(|other| *other != who);
        }
    }

    fn is_done(&self, who: u8) -> bool {
        self.waiting.get(&who).is_none_or(Vec::is_empty)
    }
}

#[test]
fn turns_are_as_a_plain_circle_has_them() {
    for seed in 0..seeds() {
        let mut below = numbers(seed);
        let (mut turns, mut circle) = (Turns::default(), Circle::default());
        let mut places = BTreeMap::new();
        for number in 0..400 {
            let who = below(5) as u8;
            match below(5) {
                0..=2 => {
                    let source = Source::Run(number);
                    places.insert(source, (who, turns.push(party(who), source)));
                    circle.push(who, source);
                }
                3 => {
                    let popped = turns.pop();
                    assert_eq!(popped, circle.pop(), "seed {seed}");
                    popped.map(|source| places.remove(&source));
                }
                _ => {
                    let Some((&source, &(who, place))) = places.iter().nth(below(7) as usize)
                    else {
                        continue;
                    };
                    places.remove(&source);
                    turns.remove(party(who), place);
                    circle.remove(who, source);
                }
            }
            assert_eq!(turns.is_empty(), places.is_empty(), "seed {seed}");
        }
    }
}
