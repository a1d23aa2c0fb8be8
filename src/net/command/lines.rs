//! One run of the command for all lines of chat of a session: each is written with a newline at
//! its end.

use std::collections::VecDeque;
use std::rc::Rc;

use super::run::{Ending, Run};
use super::{Commands, FAILED};
use crate::net::hub::Bell;
use crate::net::listen::Caller;
use crate::net::receiver::{Progress, Receiver};
use crate::proto::stream::meta::Meta;
use crate::proto::stream::record::RefuseCode;
use crate::sched::mux::Ticket;

/// The longest line with its line end, in bytes. PROTOCOL.md, section 3.3.
const MAX_LINE: usize = 1024 * 1024 + 2;
/// What may wait for the command, in bytes.
const HELD: usize = 64 * 1024;

/// The lines of one session.
pub struct Lines {
    commands: Rc<Commands>,
    caller: Caller,
    bell: Bell,
    work: Work,
    /// Those without an answer, oldest first.
    lines: VecDeque<(Meta, Line)>,
}

enum Work {
    /// No whole line has come.
    Idle,
    /// For this number in the queue; the first whole line began so.
    Waiting(u64, Meta),
    Running(Run),
    /// It takes no more, for this reason; so far its stdin was flushed.
    Over(String, Ticket),
}

enum Line {
    /// What came so far.
    Coming(Vec<u8>),
    /// All of it.
    Whole(Vec<u8>),
    /// Delivered once this is flushed.
    Written(Ticket),
    TooLong,
}

impl Lines {
    /// Nothing yet of `caller`, in whose session news ring `bell`.
    pub fn new(commands: Rc<Commands>, caller: Caller, bell: Bell) -> Self {
        Self { commands, caller, bell, work: Work::Idle, lines: VecDeque::new() }
    }

    fn advance(&mut self) {
        self.start();
        let Work::Running(run) = &mut self.work else { return };
        run.look();
        for (_, line) in &mut self.lines {
            let Line::Whole(bytes) = line else { continue };
            if !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            run.write(bytes);
            if let Some(ticket) = run.mark() {
                *line = Line::Written(ticket);
            }
        }
        if let Some(ending) = run.ending() {
            let why = match ending {
                Ending::Exited(0) => "the command has ended".into(),
                other => other.to_string(),
            };
            self.work = Work::Over(why, run.flushed());
        }
    }

    fn start(&mut self) {
        let Work::Waiting(number, meta) = &self.work else { return };
        let orders = Run::orders();
        let Some(place) = self.commands.places.take(*number, &orders.0) else { return };
        let command = self.commands.command(&self.caller, meta);
        self.work = match self.commands.start(command, &self.bell, None, orders, place) {
            Ok(run) => Work::Running(run),
            Err(e) => Work::Over(Ending::NotStarted(e.kind()).to_string(), Ticket(0)),
        };
    }

    fn verdict(&self) -> Option<Progress> {
        let (why, flushed) = match &self.work {
            Work::Idle | Work::Waiting(..) => return None,
            Work::Running(run) if !run.is_deaf() => (None, run.flushed()),
            Work::Running(run) => (Some("the command reads no more"), run.flushed()),
            Work::Over(why, flushed) => (Some(why.as_str()), *flushed),
        };
        match &self.lines.front()?.1 {
            Line::TooLong => {
                Some(Progress::Refused(RefuseCode::TooLarge, "the line is too long".into()))
            }
            Line::Written(ticket) if *ticket <= flushed => Some(Progress::Delivered),
            _ => why.map(|why| Progress::Refused(FAILED, why.into())),
        }
    }
}

impl Receiver for Lines {
    fn begin(&mut self, meta: &Meta, _now_ms: u64) {
        self.lines.push_back((meta.clone(), Line::Coming(Vec::new())));
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Some((_, line)) = self.lines.back_mut()
            && let Line::Coming(so_far) = line
        {
            match so_far.len() + bytes.len() {
                0..=MAX_LINE => so_far.extend_from_slice(bytes),
                _ => *line = Line::TooLong,
            }
        }
    }

    fn end(&mut self) {
        if let Some((_, line)) = self.lines.back_mut()
            && let Line::Coming(bytes) = line
        {
            *line = Line::Whole(std::mem::take(bytes));
        }
        if let (Work::Idle, Some((meta, _))) = (&self.work, self.lines.back()) {
            let number = self.commands.places.queue_up(self.bell.clone());
            self.work = Work::Waiting(number, meta.clone());
        }
        self.advance();
    }

    fn abort(&mut self) {
        if let Some((_, Line::Coming(_) | Line::TooLong)) = self.lines.back() {
            self.lines.pop_back();
        }
    }

    fn has_room(&self) -> bool {
        match &self.work {
            Work::Waiting(..) => {
                let waiting = |(_, line): &(Meta, Line)| match line {
                    Line::Coming(bytes) | Line::Whole(bytes) => bytes.len(),
                    Line::Written(_) | Line::TooLong => 0,
                };
                self.lines.iter().map(waiting).sum::<usize>() < HELD
            }
            Work::Running(run) => run.has_room(),
            Work::Idle | Work::Over(..) => true,
        }
    }

    fn rings(&self) -> bool {
        true
    }

    fn progress(&mut self) -> Option<Progress> {
        self.advance();
        let verdict = self.verdict()?;
        let (meta, _) = self.lines.pop_front()?;
        if let Progress::Refused(_, why) = &verdict {
            (self.commands.tell)(&self.caller, &meta, why);
        }
        Some(verdict)
    }
}

impl Drop for Lines {
    /// Each line was whole, so the end of the session is an orderly end of what the command reads.
    fn drop(&mut self) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Running(run) => run.release(),
            Work::Waiting(number, _) => self.commands.places.leave(number),
            Work::Idle | Work::Over(..) => {}
        }
    }
}
