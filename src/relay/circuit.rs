//! Two connections joined into one: what comes from one goes to the other. PROTOCOL.md, 5.6.

use std::time::Duration;

use mio::event::Event;

use crate::net::pipe::Pipe;
use crate::net::wire::{Read, Wire};

/// A circuit on which nothing moves for so long is closed.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes that one turn moves in each direction at most.
const TURN: u64 = 256 * 1024;
/// The same while several parties are served in turn.
const SHORT_TURN: u64 = 64 * 1024;
/// What is taken in at once, at most, while circuits have much to hand on, in bytes.
const SHORT_PIECE: usize = 16 * 1024;
/// Empty pipes that are kept.
const SPARE_PIPES: usize = 16;

/// Two sockets, and what is on its way between them.
pub struct Circuit {
    ends: [End; 2],
    moved: Duration,
    /// It waits for its turn.
    pub is_queued: bool,
}

/// One of the two.
pub struct End {
    wire: Wire,
    /// What this end has yet to take.
    waiting: Vec<u8>,
    /// And then this.
    pipe: Option<Pipe>,
    /// The other end has closed its direction.
    ends: bool,
    /// That was passed on.
    ended: bool,
}

/// What a turn came to.
pub enum Moved {
    /// So many bytes; whether there may be more at once.
    Bytes(u64, bool),
    /// The circuit is over.
    Over(u64),
}

impl End {
    /// A client that is joined with another one, and what it has yet to take of its link.
    pub fn new(wire: Wire, waiting: &[u8]) -> Self {
        Self { wire, waiting: waiting.to_vec(), pipe: None, ends: false, ended: false }
    }
}

impl Circuit {
    /// A circuit of these two.
    pub fn new(ends: [End; 2], now: Duration) -> Self {
        Self { ends, moved: now, is_queued: false }
    }

    /// Takes note of an event of one end.
    pub fn on_event(&mut self, side: usize, event: &Event) {
        self.ends[side].wire.on_event(event);
    }

    /// Bytes that it has yet to hand on.
    pub fn carrying(&self) -> u64 {
        let of = |end: &End| end.waiting.len() + end.pipe.as_ref().map_or(0, Pipe::held);
        self.ends.iter().map(of).sum::<usize>() as u64
    }

    /// When it wants to be looked at without news.
    pub fn deadline(&self) -> Duration {
        self.moved + SILENCE
    }

    /// One turn: moves what there is, up to a bound, both ways.
    pub fn drive(&mut self, now: Duration, by: &mut Means<'_>) -> Moved {
        if now >= self.deadline() {
            // Who was stopped for a while has not looked yet whether anything moved.
            self.ends.iter_mut().for_each(|end| end.wire.look_again());
        }
        let (mut bytes, mut more) = (0, false);
        for side in [0, 1] {
            let [a, b] = &mut self.ends;
            let (from, to) = if side == 0 { (a, b) } else { (b, a) };
            match pass(from, to, by) {
                Ok((moved, again)) => {
                    bytes += moved;
                    more |= again;
                }
                Err(Broken) => return Moved::Over(bytes),
            }
        }
        if bytes > 0 {
            self.moved = now;
        }
        let over = self.ends.iter().all(|end| end.ended) || now >= self.deadline();
        if over { Moved::Over(bytes) } else { Moved::Bytes(bytes, more) }
    }
}

/// One of the sockets is of no more use.
struct Broken;

/// Moves what `from` says to `to`: how much, and whether there may be more at once.
fn pass(from: &mut End, to: &mut End, by: &mut Means<'_>) -> Result<(u64, bool), Broken> {
    let mut moved = to.flush(by.pipes)?;
    while to.is_free() && !to.ends && moved < by.most() {
        match to.take_from(&mut from.wire, by) {
            Read::Bytes(_) => moved += to.flush(by.pipes)?,
            Read::Later => break,
            Read::Closed => to.ends = true,
            Read::Broken => return Err(Broken),
        }
    }
    if to.ends && to.is_free() && !to.ended {
        to.wire.end_writing();
        to.ended = true;
    }
    Ok((moved, to.is_free() && !to.ends && from.wire.is_readable()))
}

impl End {
    /// Whether it has taken everything.
    fn is_free(&self) -> bool {
        self.waiting.is_empty() && self.pipe.is_none()
    }

    /// Reads once what this end is to take: uncopied, as long as there are descriptors for that.
    fn take_from(&mut self, wire: &mut Wire, by: &mut Means<'_>) -> Read {
        let piece = by.piece().min(by.space.len());
        let space = &mut by.space[..piece];
        let Some(mut pipe) = by.pipes.take() else { return self.copy_from(wire, space) };
        let Some(read) = wire.fill(&mut pipe, piece) else {
            by.pipes.give_up();
            return self.copy_from(wire, space);
        };
        match read {
            Read::Bytes(_) => self.pipe = Some(pipe),
            _ => by.pipes.give_back(pipe),
        }
        read
    }

    fn copy_from(&mut self, wire: &mut Wire, space: &mut [u8]) -> Read {
        let read = wire.read(space);
        if let Read::Bytes(n) = read {
            self.waiting.extend_from_slice(&space[..n]);
        }
        read
    }

    /// Writes what the socket takes: how much that was.
    fn flush(&mut self, pipes: &mut Pipes) -> Result<u64, Broken> {
        let mut moved = self.wire.write(&self.waiting).map_err(|_| Broken)?;
        match moved {
            all if all == self.waiting.len() => self.waiting = Vec::new(),
            some => drop(self.waiting.drain(..some)),
        }
        if let Some(mut pipe) = self.pipe.take_if(|_| self.waiting.is_empty()) {
            moved += self.wire.empty(&mut pipe).map_err(|_| Broken)?;
            match pipe.held() {
                0 => pipes.give_back(pipe),
                _ => self.pipe = Some(pipe),
            }
        }
        Ok(moved as u64)
    }
}

/// What circuits move bytes by: none of it is theirs for longer than they need it.
pub struct Means<'a> {
    /// Empty pipes.
    pub pipes: &'a mut Pipes,
    /// Room to copy.
    pub space: &'a mut [u8],
    /// Others wait for their turn.
    pub is_contended: bool,
    /// Circuits have much to hand on.
    pub is_short: bool,
}

impl Means<'_> {
    fn most(&self) -> u64 {
        if self.is_contended { SHORT_TURN } else { TURN }
    }

    fn piece(&self) -> usize {
        if self.is_short { SHORT_PIECE } else { TURN as usize }
    }
}

/// Empty pipes, for whichever circuit needs one next.
#[derive(Default)]
pub struct Pipes {
    spare: Vec<Pipe>,
    /// The system moves nothing through pipes.
    useless: bool,
}

impl Pipes {
    fn take(&mut self) -> Option<Pipe> {
        if self.useless {
            return None;
        }
        self.spare.pop().or_else(|| Pipe::new().ok())
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }

    fn give_up(&mut self) {
        *self = Self { spare: Vec::new(), useless: true };
    }
}
