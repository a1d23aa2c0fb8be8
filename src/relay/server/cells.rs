//! A client's turn: what it asks for, and what it is handed.

use std::time::Duration;

use super::{Relay, Slot, client};
use crate::crypto::sodium::{OsRandom, PublicKey};
use crate::net::wire::Read;
use crate::proto::relay::cell::{CELL_LEN, Cell, Command, ErrorCode, FLAG_VOLATILE, WIRE_LEN};
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;
use crate::relay::client::{Open, PROOF_COST, VOLATILE_CELLS};
use crate::sched::limits::Rate;

/// While more than this waits for slow readers, in bytes of all together, each is given little at
/// a time.
const MAX_BACKLOG: usize = 64 << 20;
/// So many cells.
const FEW_CELLS: usize = 2;
/// Cells that one turn reads, or hands out, at most while several parties are served in turn.
const CONTENDED_CELLS: usize = 8;

/// Until when a client is not read because it was too fast.
fn paused_until(rate: Option<Rate>, open: &Open, now: Now) -> Option<Duration> {
    rate.map(|rate| open.bucket.ready_at(rate)).filter(|at| *at > now.mono)
}

impl Relay<'_> {
    pub(super) fn drive_client(&mut self, key: usize, now: Now) {
        if let Some(Slot::Client(client)) = self.slots.get(key) {
            self.note_turn(client.party, now);
        }
        if let Some((wire, open)) = client(&mut self.slots, key)
            && open.is_overdue(now)
        {
            // Who was stopped for a while has not looked yet whether the client spoke meanwhile.
            wire.look_again();
        }
        let over = match self.read_cells(key, now) {
            Ok(over) => over,
            Err(_) => {
                self.counts.violations += 1;
                true
            }
        };
        if over || self.write_cells(key, now) {
            return self.remove(key, now);
        }
        let Some(Slot::Client(client)) = self.slots.get_mut(key) else { return };
        let deadline = client.deadline();
        let Some((wire, open)) = client.open() else { return self.queue(key) };
        let paused = paused_until(self.settings.rate, open, now);
        if open.is_overdue(now) {
            return self.remove(key, now);
        }
        let may_read = open.waits || (open.room() > 0 && paused.is_none());
        let more =
            (wire.is_readable() && may_read) || (wire.is_writable() && self.table.has_more(key));
        self.timers.set(key, paused.map_or(deadline, |at| deadline.min(at)));
        if more {
            self.queue(key);
        }
    }

    /// Cells that one turn reads, or hands out, at most.
    fn turn_cells(&self, now: Now) -> usize {
        match () {
            () if self.backlog > MAX_BACKLOG => FEW_CELLS,
            () if self.is_contended(now) => CONTENDED_CELLS,
            () => usize::MAX,
        }
    }

    /// Reads once and does what is asked for; whether the client is gone.
    pub(super) fn read_cells(&mut self, key: usize, now: Now) -> Result<bool, Violation> {
        let few = self.turn_cells(now);
        let Some((wire, open)) = client(&mut self.slots, key) else { return Ok(false) };
        let paused = paused_until(self.settings.rate, open, now).is_some();
        let len = match open.waits {
            true => 1,
            false if paused => 0,
            false => open.appetite(open.room().min(few)),
        };
        if len == 0 {
            return Ok(false);
        }
        let n = match wire.read(&mut self.space[..len]) {
            Read::Bytes(_) if open.waits => return Err(Violation::OutOfOrder),
            Read::Bytes(n) => n,
            Read::Later => return Ok(false),
            Read::Closed | Read::Broken => return Ok(true),
        };
        open.link.lend(&mut self.spare);
        let space = std::mem::take(&mut self.space);
        let served = self.serve_all(key, &space[..n], now);
        self.space = space;
        served.map(|()| false)
    }

    pub(super) fn serve_all(
        &mut self,
        key: usize,
        mut input: &[u8],
        now: Now,
    ) -> Result<(), Violation> {
        let mut plain = [0; CELL_LEN];
        let mut cost = 0;
        while let Some((_, open)) = client(&mut self.slots, key) {
            if open.waits && !input.is_empty() {
                return Err(Violation::OutOfOrder);
            }
            let Some(cell) = open.link.take(&mut input, now, &mut plain)? else { break };
            if let Some(rate) = self.settings.rate {
                open.bucket.take(rate, now.mono);
            }
            cost += self.serve(key, &cell, now, input.is_empty())?;
        }
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.had_turn(cost);
        }
        Ok(())
    }

    /// Does what a cell asks for: what that cost, in cells. `last` says that nothing came behind it
    /// yet.
    pub(super) fn serve(
        &mut self,
        key: usize,
        cell: &Cell<'_>,
        now: Now,
        last: bool,
    ) -> Result<usize, Violation> {
        match cell.command {
            Command::Post => return self.post(key, cell, now),
            Command::Subscribe => return self.subscribe(key, cell, now).map(|()| PROOF_COST),
            Command::Ack => self.table.acknowledge(key, &cell.address, &cell.log, cell.id),
            Command::Leave => self.table.leave(key, &cell.address),
            Command::Connect if !last => return Err(Violation::OutOfOrder),
            Command::Connect => self.connect(key, cell, now)?,
            // The link lets nothing through that a relay says.
            Command::Noop | Command::Cell | Command::Error | Command::Joined | Command::Live => {}
        }
        Ok(1)
    }

    /// Says a cell to a client.
    pub(super) fn say(&mut self, key: usize, cell: &Cell<'_>, now: Now) {
        if let Some((_, open)) = client(&mut self.slots, key) {
            open.link.send(cell, now);
        }
    }

    pub(super) fn refuse(&mut self, key: usize, cell: &Cell<'_>, code: ErrorCode, now: Now) {
        self.counts.refused += 1;
        let id = if cell.command == Command::Post { cell.id } else { 0 };
        let (address, body) = (cell.address, &[code as u8]);
        self.say(key, &Cell { id, address, body, ..Cell::new(Command::Error) }, now);
    }

    pub(super) fn post(
        &mut self,
        key: usize,
        cell: &Cell<'_>,
        now: Now,
    ) -> Result<usize, Violation> {
        PublicKey::from_bytes(&cell.address).map_err(|_| Violation::Malformed)?;
        let packet = cell.packet().ok_or(Violation::Malformed)?;
        if cell.flags & FLAG_VOLATILE != 0 {
            let (slots, ready) = (&mut self.slots, &mut self.news.ready);
            let backlog = &mut self.backlog;
            self.table.show(&cell.address, packet, |reader, cell| {
                let few = *backlog > MAX_BACKLOG;
                // A reader that is busy with what is held gets it behind that.
                if let Some((_, open)) = client(slots, reader)
                    && open.takes_volatile(if few { FEW_CELLS } else { VOLATILE_CELLS })
                {
                    open.link.send(cell, now);
                    open.backlog += WIRE_LEN;
                    *backlog += WIRE_LEN;
                    ready.push(reader);
                }
            });
            return Ok(1 + self.wake_readers());
        }
        let (address, news) = (&cell.address, &mut self.news);
        let posted = self.table.post(key, address, packet, now.mono, &mut OsRandom, news);
        let woken = self.wake_readers();
        self.close_displaced(now);
        match posted {
            Ok(()) => self.say(key, &Cell { id: cell.id, ..Cell::new(Command::Ack) }, now),
            Err(code) => self.refuse(key, cell, code, now),
        }
        // To wake somebody is little work beside a cell.
        Ok(2 + woken / 8)
    }

    /// Those to whom something was handed have a turn: how many.
    pub(super) fn wake_readers(&mut self) -> usize {
        let count = self.news.ready.len();
        let mut ready = std::mem::take(&mut self.news.ready);
        ready.drain(..).for_each(|reader| self.queue(reader));
        self.news.ready = ready;
        count
    }

    /// Whose reading gave way is told so by the end of its link.
    fn close_displaced(&mut self, now: Now) {
        while let Some(reader) = self.news.displaced.pop() {
            self.remove(reader, now);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        key: usize,
        cell: &Cell<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let address = PublicKey::from_bytes(&cell.address).map_err(|_| Violation::Malformed)?;
        let Some((_, open)) = client(&mut self.slots, key) else { return Ok(()) };
        if !open.challenge.admits(&address, open.link.handshake_hash(), cell.body) {
            return Err(Violation::NotOpened);
        }
        let (random, news) = (&mut OsRandom, &mut self.news);
        let read = self.table.subscribe(key, &cell.address, &cell.log, cell.id, random, news);
        self.close_displaced(now);
        if let Err(code) = read {
            self.refuse(key, cell, code, now);
        }
        Ok(())
    }

    /// Closes whoever has taken nothing for too long.
    pub(super) fn close_stuck(&mut self, now: Now) {
        while let Some(key) = self.stuck.due(now.mono) {
            let Some((wire, _)) = client(&mut self.slots, key) else {
                self.stuck.forget(key);
                continue;
            };
            // Who was stopped for a while has not looked yet whether it takes something.
            wire.try_again();
            if self.write_cells(key, now) || self.stuck.due(now.mono) == Some(key) {
                self.remove(key, now);
            }
        }
    }

    /// Hands a client what it is to read, and writes; whether it is gone.
    pub(super) fn write_cells(&mut self, key: usize, now: Now) -> bool {
        let few = self.turn_cells(now);
        let Some((wire, open)) = client(&mut self.slots, key) else { return false };
        open.link.lend(&mut self.spare);
        open.keep_alive(now);
        // Whose socket takes nothing now gets nothing more ready for it: it all lies in the log.
        let room = if wire.is_writable() { open.room().min(few) } else { 0 };
        self.table.pull(key, room, |cell| open.link.send(cell, now));
        let written = wire.write(open.link.pending());
        open.link.consumed(*written.as_ref().unwrap_or(&0));
        open.link.give_back(&mut self.spare);
        let waiting = open.link.pending().len();
        self.backlog = self.backlog - open.backlog + waiting;
        open.backlog = waiting;
        let took = written.as_ref().is_ok_and(|n| *n > 0);
        self.stuck.note(key, took, waiting > 0, now.mono);
        written.is_err()
    }
}
