//! One input, read once, feeds several readers: each gets every byte, what is kept is bounded, and
//! who holds up the others for too long is named. Played by seed, in a time of its own.
//!
//! `AC_TEST_SEEDS` says how many worlds are played, `AC_TEST_SEED` plays one again.

use crate::testkit::random::{Dice, noise, seeds};

use std::fs::File;
use std::io::{ErrorKind, PipeWriter, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anonchat::net::fan::{BOUND, Fan, GRACE, Laggard, PATIENCE};
use anonchat::net::hub::Bell;
use anonchat::net::input::{Got, Input};
use mio::{Events, Poll};
use rustix::fs::{OFlags, fcntl_setfl};

/// A record's content at most.
const SPACE: usize = 65_516;
const MIB: usize = 1024 * 1024;
/// One turn of the loop.
const TURN: Duration = Duration::from_millis(10);
/// After so long, in our own time, a world is stuck.
const DEADLINE: Duration = Duration::from_secs(30);

fn bell() -> (Poll, Bell) {
    let poll = Poll::new().unwrap();
    let bell = Bell::new(poll.registry()).unwrap();
    (poll, bell)
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

/// How fast somebody takes bytes.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// So many bytes a turn.
    Steady(usize),
    /// Up to so many, at random.
    Ragged(usize),
    /// That, until it has taken so many bytes; then nothing any more.
    StopsAt(usize, usize),
    /// That, until it has taken so many bytes; then it is gone.
    GoneAt(usize, usize),
    /// Begins only at this turn, as one that is still being called.
    From(usize, usize),
    /// So many bytes a turn from this turn on, out of a buffer of this size that is filled at once:
    /// a socket.
    Buffered(usize, usize, usize),
}

struct Taker {
    input: Option<Input>,
    pace: Pace,
    got: Vec<u8>,
    /// What has left its buffer.
    drained: usize,
    over: Option<Duration>,
    cut: Option<Duration>,
}

struct World {
    fan: Fan,
    takers: Vec<Taker>,
    turn: usize,
    now: Duration,
    space: Vec<u8>,
    /// Who fills the input, if that is a pipe.
    filler: Option<Filler>,
}

impl World {
    fn new(input: Input, paces: &[Pace]) -> Self {
        let (fan, inputs) = Fan::split(input, paces.len());
        let taker = |(input, pace): (Input, &Pace)| Taker {
            input: Some(input),
            pace: *pace,
            got: Vec::new(),
            drained: 0,
            over: None,
            cut: None,
        };
        let takers = inputs.into_iter().zip(paces).map(taker).collect();
        Self { fan, takers, turn: 0, now: Duration::ZERO, space: vec![0; SPACE], filler: None }
    }

    /// Plays until everybody is over, cut or gone, or stuck for good.
    fn play(&mut self, dice: &mut Dice, turns: usize) {
        while self.turn < turns && self.goes_on() {
            self.turn += 1;
            self.now += TURN;
            self.filler.iter_mut().for_each(Filler::fill);
            let mut budgets: Vec<_> =
                self.takers.iter_mut().map(|taker| budget(taker, self.turn, dice)).collect();
            loop {
                for (number, budget) in budgets.iter_mut().enumerate() {
                    self.take(number, budget);
                }
                self.check_bound();
                if !self.fan.take_news() {
                    break;
                }
            }
            for Laggard { reader, behind } in self.fan.tend(self.now) {
                let taker = &mut self.takers[reader];
                assert!(behind > BOUND / 2, "{behind} bytes are not far behind");
                taker.input = None;
                taker.cut = Some(self.now);
            }
        }
    }

    fn take(&mut self, number: usize, budget: &mut usize) {
        let taker = &mut self.takers[number];
        while let Some(input) = &mut taker.input
            && *budget > 0
        {
            let space = self.space.len().min(*budget);
            match input.read(&mut self.space[..space]).unwrap() {
                Got::Bytes(n) => {
                    assert!(n > 0 && n <= space);
                    taker.got.extend_from_slice(&self.space[..n]);
                    *budget -= n;
                }
                Got::Later => return,
                Got::End => {
                    taker.over = Some(self.now);
                    taker.input = None;
                }
            }
            if let Pace::GoneAt(_, at) = taker.pace
                && taker.got.len() >= at
            {
                taker.input = None;
            }
        }
    }

    fn goes_on(&self) -> bool {
        self.takers.iter().any(|taker| taker.input.is_some())
    }

    /// Somebody who takes bytes all the time and is neither over nor cut.
    fn stuck(&self) -> Option<&Taker> {
        let steady = |taker: &&Taker| matches!(taker.pace, Pace::Steady(n) if n > 1000);
        self.takers.iter().filter(steady).find(|t| t.over.is_none() && t.cut.is_none())
    }

    /// Nobody is further behind than what is kept.
    fn check_bound(&self) {
        let here = || self.takers.iter().filter(|t| t.input.is_some()).map(|t| t.got.len());
        let spread = here().max().unwrap_or(0) - here().min().unwrap_or(0);
        assert!(spread as u64 <= BOUND, "{spread} bytes apart");
    }

    fn check_bytes(&self, content: &[u8]) {
        for (number, taker) in self.takers.iter().enumerate() {
            let prefix = content.get(..taker.got.len());
            assert!(prefix == Some(&taker.got[..]), "reader {number} got other bytes");
            let whole = taker.got.len() == content.len();
            assert!(taker.over.is_none() || whole, "reader {number} got too few");
        }
    }
}

fn budget(taker: &mut Taker, turn: usize, dice: &mut Dice) -> usize {
    match taker.pace {
        Pace::Steady(n) | Pace::GoneAt(n, _) => n,
        Pace::Ragged(n) => dice.below(2 * n),
        Pace::StopsAt(n, at) => n.min(at.saturating_sub(taker.got.len())),
        Pace::From(n, first) => n * usize::from(turn >= first),
        Pace::Buffered(n, first, size) => {
            let leaves = n * usize::from(turn >= first);
            taker.drained = (taker.drained + leaves).min(taker.got.len());
            size - (taker.got.len() - taker.drained)
        }
    }
}

fn play(content: &[u8], paces: &[Pace]) -> World {
    let (_poll, bell) = bell();
    let mut world = World::new(Input::new(file(content), &bell).unwrap(), paces);
    world.play(&mut Dice::new(1), 100_000);
    world.check_bytes(content);
    world
}

fn turns(time: Duration) -> usize {
    (time.as_millis() / TURN.as_millis()) as usize
}

#[test]
fn all_get_every_byte_whatever_their_pace_while_the_buffer_holds_it() {
    let content = noise(0, BOUND as usize - 1);
    let late = Pace::From(MIB, 2 * turns(PATIENCE));
    let paces = [Pace::Steady(MIB), Pace::Steady(2000), late, Pace::Ragged(9999)];
    let world = play(&content, &paces);
    assert!(world.takers.iter().all(|taker| taker.over.is_some() && taker.cut.is_none()));
    assert_eq!(world.takers[0].over, Some(TURN * 8), "the fastest waited");
}

#[test]
fn one_that_takes_nothing_any_more_is_cut_and_named_and_the_others_go_on() {
    let content = noise(0, 30 * MIB);
    let stops = Pace::StopsAt(MIB, MIB);
    let fast = Pace::Steady(MIB / 2);
    let world = play(&content, &[fast, stops, fast, Pace::From(MIB, usize::MAX), stops]);
    let cut: Vec<_> = world.takers.iter().map(|taker| taker.cut.is_some()).collect();
    assert_eq!(cut, [false, true, false, true, true]);
    // Three of them cost no more than one: the time for 30 MiB, and one patience.
    let end = world.takers[0].over.unwrap();
    assert!(end <= 60 * TURN + GRACE + PATIENCE + 5 * TURN, "{end:?}");
    assert!(end >= PATIENCE, "nobody waited: {end:?}");
}

#[test]
fn one_that_dies_late_is_given_no_more_time_for_having_been_good() {
    let content = noise(0, 60 * MIB);
    let world = play(&content, &[Pace::Steady(9999), Pace::StopsAt(9999, 40 * MIB)]);
    let alone = TURN * (content.len() / 9999) as u32;
    let end = world.takers[0].over.unwrap();
    assert!(world.takers[1].cut.is_some());
    assert!(end <= alone + GRACE + PATIENCE + 5 * TURN, "{end:?} {alone:?}");
}

#[test]
fn one_that_is_much_slower_holds_up_the_others_for_a_bounded_time() {
    let content = noise(0, 60 * MIB);
    for slow in [1, 1000, 10_000] {
        let world = play(&content, &[Pace::Steady(MIB), Pace::Steady(slow)]);
        assert!(world.takers[1].cut.is_some(), "{slow} is too slow for {MIB}");
        let end = world.takers[0].over.unwrap();
        assert!(end <= TURN * 60 + 2 * PATIENCE, "{slow}: {end:?}");
    }
    let long = play(&content, &[Pace::Steady(30_000), Pace::Steady(3000)]);
    assert!(long.takers[1].cut.is_some(), "a tenth of the pace is too slow");
    assert!(long.takers[0].over.is_some() && long.takers[0].cut.is_none());
}

#[test]
fn one_that_is_a_little_slower_is_waited_for() {
    let content = noise(0, 60 * MIB);
    for (fast, slow) in [(9000, 8999), (9000, 6000), (60_000, 40_000), (MIB, MIB / 4)] {
        let world = play(&content, &[Pace::Steady(fast), Pace::Steady(slow)]);
        assert!(world.takers.iter().all(|taker| taker.over.is_some()), "{slow} for {fast}");
    }
}

#[test]
fn what_sockets_hide_makes_nobody_the_slower_of_two_that_are_as_fast() {
    let content = noise(0, 80 * MIB);
    for (pace, size) in [(10_000, MIB), (80_000, 3 * MIB), (MIB / 2, 6 * MIB), (MIB, 40 * MIB)] {
        let late = turns(PATIENCE / 2);
        let paces = [Pace::Buffered(pace, 0, size), Pace::Buffered(pace, late, size)];
        let world = play(&content, &paces);
        assert!(world.takers.iter().all(|taker| taker.over.is_some()), "{pace} {size}");
    }
}

#[test]
fn one_that_stumbles_catches_up() {
    let content = noise(0, 60 * MIB);
    let late = turns(PATIENCE * 4 / 5);
    let world = play(&content, &[Pace::Steady(MIB / 2), Pace::From(MIB, late)]);
    assert!(world.takers.iter().all(|taker| taker.over.is_some()));
}

#[test]
fn a_process_that_was_stopped_blames_nobody() {
    let content = noise(0, 20 * MIB);
    let (_poll, bell) = bell();
    let input = Input::new(file(&content), &bell).unwrap();
    let mut world = World::new(input, &[Pace::Steady(MIB), Pace::From(MIB, 20)]);
    let mut dice = Dice::new(1);
    world.play(&mut dice, 10);
    let due = world.fan.deadline().unwrap();
    assert!(due > world.now && due <= world.now + PATIENCE);
    world.now += Duration::from_secs(3600);
    world.play(&mut dice, 1000);
    assert!(world.takers.iter().all(|taker| taker.over.is_some()));
    assert_eq!(world.fan.deadline(), None, "nobody is held up at the end");
}

#[test]
fn an_input_that_cannot_be_read_is_an_error_for_each() {
    let (_poll, bell) = bell();
    let folder = File::open(std::env::temp_dir()).unwrap();
    let (_fan, mut inputs) = Fan::split(Input::new(folder, &bell).unwrap(), 3);
    for input in &mut inputs {
        let said = input.read(&mut [0; 10]).unwrap_err().to_string();
        assert!(said.to_lowercase().contains("directory"), "{said}");
    }
}

#[test]
fn worlds_by_seed_end_with_the_same_bytes_for_all() {
    for seed in seeds(60) {
        let outcome = std::panic::catch_unwind(|| world_of(seed));
        assert!(outcome.is_ok(), "AC_TEST_SEED={seed} shows it again");
    }
}

fn world_of(seed: u64) {
    let mut dice = Dice::new(seed);
    let len = [0, 1, SPACE, 70_000, 3 * MIB, 8 * MIB + dice.below(MIB), 17 * MIB];
    let content = noise(0, len[dice.below(len.len())]);
    let mut paces = Vec::new();
    for _ in 0..=dice.below(6) {
        let scale = 1 << dice.below(21);
        let speed = 1 + dice.below(scale);
        let somewhere = dice.below(content.len() + 1);
        paces.push(match dice.below(6) {
            0 => Pace::Steady(speed),
            1 | 2 => Pace::Ragged(speed),
            3 => Pace::StopsAt(speed, somewhere),
            4 => Pace::GoneAt(speed, somewhere),
            _ => Pace::From(speed, dice.below(1000)),
        });
    }
    let (mut poll, bell) = bell();
    let (input, filler) = if dice.one_in(2) {
        (Input::new(file(&content), &bell).unwrap(), None)
    } else {
        let (input, filler) = pipe(&content, &bell);
        (input, Some(filler))
    };
    let mut world = World { filler, ..World::new(input, &paces) };
    // Where a pipe can only be read by a thread, that takes a time that is not the world's.
    let deadline = Instant::now() + DEADLINE;
    while world.goes_on()
        && (world.turn < 10_000 || world.stuck().is_some() && Instant::now() < deadline)
    {
        let until = world.turn + 100;
        world.play(&mut dice, until);
        poll.poll(&mut Events::with_capacity(4), Some(Duration::ZERO)).unwrap();
    }
    world.check_bytes(&content);
    if let Some(Taker { pace, got, .. }) = world.stuck() {
        panic!("{pace:?} is stuck at {} of {}", got.len(), content.len());
    }
}

/// Fills a pipe as far as it goes, once a turn: in the world's own time, so that a seed plays the
/// same each time.
struct Filler {
    writer: Option<PipeWriter>,
    content: Vec<u8>,
    written: usize,
}

impl Filler {
    fn fill(&mut self) {
        while let Some(writer) = &mut self.writer {
            match writer.write(&self.content[self.written..]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // Readers that are gone end it early.
                Ok(0) | Err(_) => self.writer = None,
                Ok(n) => self.written += n,
            }
        }
    }
}

fn pipe(content: &[u8], bell: &Bell) -> (Input, Filler) {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let input = Input::new(File::from(OwnedFd::from(reader)), bell).unwrap();
    (input, Filler { writer: Some(writer), content: content.to_vec(), written: 0 })
}
