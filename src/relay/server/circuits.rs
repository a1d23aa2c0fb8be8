//! Clients that wait to be joined, and those that are.

use super::{LINGER, Relay, Slot, client};
use crate::net::buffers;
use crate::net::wire::Left;
use crate::proto::relay::cell::{Cell, Command, ErrorCode};
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;
use crate::relay::circuit::{Circuit, End, Means, Moved};
use crate::relay::client::{Client, Stage};

/// While circuits have more than this to hand on, in bytes of all together, each takes in little at
/// a time.
const MAX_CARRYING: u64 = 64 << 20;

impl Relay<'_> {
    pub(super) fn connect(
        &mut self,
        key: usize,
        cell: &Cell<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let rendezvous = cell.body.try_into().map_err(|_| Violation::Malformed)?;
        // A link that carries a circuit carries nothing else.
        self.table.forget(key);
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.waits = true;
        }
        if let Some(other) = self.room.meet(key, &rendezvous, now.mono) {
            self.join(other, key, now);
        }
        Ok(())
    }

    /// Both are there: makes a circuit of them.
    pub(super) fn join(&mut self, first: usize, second: usize, now: Now) {
        let circuit = self.circuits.vacant_key();
        let (mut ends, mut sides) = (Vec::new(), Vec::new());
        for (side, key) in [first, second].into_iter().enumerate() {
            self.say(key, &Cell::new(Command::Joined), now);
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let Slot::Client(client) = std::mem::replace(slot, Slot::End(circuit, side)) else {
                continue;
            };
            let Client { wire, party, stage, .. } = *client;
            let Stage::Open(mut open) = stage else { continue };
            sides.push((key, party));
            buffers::unbound(wire.socket());
            ends.push(End::new(wire, open.link.pending()));
            open.link.give_back(&mut self.spare);
            self.backlog -= open.backlog;
            self.stuck.forget(key);
            self.timers.clear(key);
        }
        let Ok(ends) = <[End; 2]>::try_from(ends) else { return };
        let Ok(sides) = sides.try_into() else { return };
        self.counts.joined += 1;
        let made = Circuit::new(ends, now.mono);
        self.carrying += made.carrying();
        self.circuits.insert((made, sides));
        self.queue(first);
    }

    pub(super) fn drive_circuit(&mut self, number: usize, now: Now) {
        let (first, party) = self.circuits[number].1[0];
        self.note_turn(party, now);
        let is_contended = self.is_contended(now);
        let is_short = self.carrying > MAX_CARRYING;
        let (pipes, space) = (&mut self.pipes, &mut self.space);
        let mut means = Means { pipes, space, is_contended, is_short };
        let circuit = &mut self.circuits[number].0;
        circuit.is_queued = false;
        let before = circuit.carrying();
        let moved = circuit.drive(now.mono, &mut means);
        self.carrying = self.carrying - before + circuit.carrying();
        match moved {
            Moved::Bytes(bytes, more) => {
                self.counts.carried += bytes;
                self.timers.set(first, circuit.deadline());
                if more {
                    self.queue(first);
                }
            }
            Moved::Over(bytes) => {
                self.counts.carried += bytes;
                self.remove(first, now);
            }
        }
    }

    /// Nobody came to the rendezvous of a client: that ends its link.
    pub(super) fn nobody_came(&mut self, key: usize, now: Now) {
        let body = &[ErrorCode::Nobody as u8];
        self.say(key, &Cell { body, ..Cell::new(Command::Error) }, now);
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.leaving = Some(now.mono + LINGER);
            self.queue(key);
        }
    }

    /// Writes what was said last, and waits for the client to close.
    pub(super) fn take_leave(&mut self, key: usize, now: Now) {
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        let until = client.deadline();
        let Stage::Open(open) = &mut client.stage else { return };
        let written = client.wire.write(open.link.pending());
        let gone = written.is_err();
        open.link.consumed(written.unwrap_or(0));
        if open.link.pending().is_empty() {
            client.wire.end_writing();
        }
        if gone || now.mono >= until || client.wire.drain() == Left::Closed {
            return self.remove(key, now);
        }
        self.timers.set(key, until);
    }
}
