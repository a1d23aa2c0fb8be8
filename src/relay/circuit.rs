//! Two connections joined into one: what comes from one goes to the other. PROTOCOL.md, 5.6.

use std::time::Duration;

use mio::event::Event;

use crate::net::wire::{Read, Wire};
use crate::proto::limits::Party;

/// A circuit on which nothing moves for so long is closed.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes that one turn moves in each direction at most.
const TURN: usize = 256 * 1024;

/// Two sockets, and what is on its way between them.
pub struct Circuit {
    ends: [End; 2],
    moved: Duration,
    /// With whom it shares its turns.
    pub party: Party,
    /// It waits for its turn.
    pub is_queued: bool,
}

/// One of the two.
pub struct End {
    wire: Wire,
    /// What this end has yet to take.
    waiting: Vec<u8>,
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
        Self { wire, waiting: waiting.to_vec(), ends: false, ended: false }
    }
}

impl Circuit {
    /// A circuit, whose turns are those of `party`.
    pub fn new(ends: [End; 2], party: Party, now: Duration) -> Self {
        Self { ends, moved: now, party, is_queued: false }
    }

    /// Takes note of an event of one end.
    pub fn on_event(&mut self, side: usize, event: &Event) {
        self.ends[side].wire.on_event(event);
    }

    /// When it wants to be looked at without news.
    pub fn deadline(&self) -> Duration {
        self.moved + SILENCE
    }

    /// One turn: moves what there is, up to a bound, both ways.
    pub fn drive(&mut self, now: Duration, space: &mut [u8]) -> Moved {
        let (mut bytes, mut more) = (0, false);
        for side in [0, 1] {
            let [a, b] = &mut self.ends;
            let (from, to) = if side == 0 { (a, b) } else { (b, a) };
            match pass(from, to, space) {
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
fn pass(from: &mut End, to: &mut End, space: &mut [u8]) -> Result<(u64, bool), Broken> {
    let mut moved = to.flush()?;
    while to.waiting.is_empty() && !to.ends && moved < TURN as u64 {
        match from.wire.read(space) {
            Read::Bytes(n) => {
                let written = to.wire.write(&space[..n]).map_err(|_| Broken)?;
                to.waiting.extend_from_slice(&space[written..n]);
                moved += written as u64;
            }
            Read::Later => break,
            Read::Closed => to.ends = true,
            Read::Broken => return Err(Broken),
        }
    }
    if to.ends && to.waiting.is_empty() && !to.ended {
        to.wire.end_writing();
        to.ended = true;
    }
    Ok((moved, to.waiting.is_empty() && !to.ends && from.wire.is_readable()))
}

impl End {
    fn flush(&mut self) -> Result<u64, Broken> {
        if self.waiting.is_empty() {
            return Ok(0);
        }
        let written = self.wire.write(&self.waiting).map_err(|_| Broken)?;
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        Ok(written as u64)
    }
}
