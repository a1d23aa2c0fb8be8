//! What comes in on a session: each message to where it goes, and what is answered.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::conn::Shared;
use super::{Caller, Heard, Notice, Stage};
use crate::net::feed::Feed;
use crate::net::receiver::{Progress, Receiver, Route};
use crate::net::sockets::Transport;
use crate::proto::stream::inbound::{Inbound, Step};
use crate::proto::stream::link::Link;
use crate::proto::stream::meta::Meta;
use crate::proto::stream::record::{
    AbortCode, Kind, RefuseCode, Violation, offer_body, refuse_body,
};
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Messages of one session that are over and not answered yet; until they are, it is not read.
const MAX_UNANSWERED: usize = 256;

/// One half of a session.
pub struct Hearing {
    id: Source,
    /// Who speaks.
    pub caller: Caller,
    /// How the session came about.
    pub transport: Transport,
    inbound: Inbound,
    /// The message that comes in, unless it is refused.
    current: Option<Current>,
    /// What is still to be said of messages that are over or refused, in their order: an answer
    /// names no message, its place does.
    dues: VecDeque<Due>,
    receivers: BTreeMap<usize, Box<dyn Receiver>>,
    /// Some message was answered.
    answered: bool,
    /// Of messages to receivers: the last one said that another of its run follows.
    in_run: bool,
    /// Runs that began and are not answered whole.
    open_runs: u64,
    /// Something of the oldest of them was delivered.
    run_delivered: bool,
    /// The peer wants a sign of life this often, ms.
    pub keepalive_ms: Option<u64>,
    /// What a hired receiver has to say back.
    pub feed: Option<Box<dyn Feed>>,
    /// The peer has taken leave.
    pub farewell: Option<Farewell>,
    /// The peer is in a chat.
    pub greeted: bool,
}

/// What a peer says last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It was stopped by a signal.
    Stopped,
    /// It leaves in good order.
    Leaves,
}

impl Farewell {
    fn of(kind: Kind, body: &[u8]) -> Option<Self> {
        match body {
            [code] if kind == Kind::Abort && *code == AbortCode::Stopped as u8 => {
                Some(Self::Stopped)
            }
            [code] if kind == Kind::Abort && *code == AbortCode::Leaves as u8 => Some(Self::Leaves),
            _ => None,
        }
    }
}

struct Current {
    heard: Heard,
    to: To,
    bytes: u64,
    ends_run: bool,
    always_answered: bool,
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Output,
    Receiver(usize),
    /// Nowhere: that it came is all that it says.
    Greeting,
}

struct Due {
    state: State,
    /// A message to a receiver that is the last of its run.
    ends_run: bool,
}

enum State {
    /// ACK once the output has flushed it.
    Flushing(Heard),
    /// What the receiver says.
    Awaited(usize, Heard, u64),
    /// ACK.
    Delivered(Heard, u64),
    /// REFUSE, which is as good.
    Sufficed(Heard, u64),
    /// ACK; nobody needs to know.
    Greeted(u64),
    /// REFUSE.
    Refused(RefuseCode, String),
}

/// What a record is taken with.
pub struct Taking<'t, 's> {
    /// The session among the output's sources.
    pub source: Source,
    /// Now.
    pub now: Now,
    /// What all connections use.
    pub shared: &'t mut Shared<'s>,
    /// The output.
    pub stage: &'t mut dyn Stage,
}

impl Hearing {
    /// Nothing has been heard of `caller` yet.
    pub fn new(id: Source, caller: Caller) -> Self {
        Self {
            id,
            caller,
            transport: Transport::Tcp,
            inbound: Inbound::default(),
            current: None,
            dues: VecDeque::new(),
            receivers: BTreeMap::new(),
            answered: false,
            in_run: false,
            open_runs: 0,
            run_delivered: false,
            keepalive_ms: None,
            feed: None,
            farewell: None,
            greeted: false,
        }
    }

    /// Whether a message is on its way in or unanswered.
    pub fn is_busy(&self) -> bool {
        self.current.is_some() || !self.dues.is_empty()
    }

    /// Whether a message comes in.
    pub fn is_receiving(&self) -> bool {
        self.current.is_some()
    }

    /// Whether no message has begun: one may still, and will want an answer.
    pub fn is_new(&self) -> bool {
        !self.inbound.within() && !self.answered
    }

    /// Whether it is not read because whoever takes its messages is busy.
    pub fn pauses(&self) -> bool {
        self.dues.len() >= MAX_UNANSWERED
            || self.receivers.values().any(|receiver| !receiver.has_room())
    }

    /// Whether somebody was hired.
    pub fn has_receivers(&self) -> bool {
        !self.receivers.is_empty()
    }

    /// Whether news of a message may ring any bell.
    pub fn hears_all_bells(&self) -> bool {
        self.receivers.values().any(|receiver| !receiver.rings())
    }

    /// Takes a record. Whether it belonged to a message.
    ///
    /// # Errors
    /// [`Violation`]; it ends the connection.
    pub fn take(
        &mut self,
        kind: Kind,
        body: &[u8],
        with: &mut Taking<'_, '_>,
    ) -> Result<bool, Violation> {
        self.farewell = self.farewell.or(Farewell::of(kind, body));
        match self.inbound.step(kind, body)? {
            Step::Begin(meta) => self.begin(&meta, with),
            Step::StartAt(offset) => {
                if let Some(receiver) = self.current_receiver() {
                    receiver.start_at(offset);
                }
            }
            Step::Data(data) => self.data(data, with),
            Step::End => self.end(with),
            Step::Aborted(code) => self.aborted(code, with),
            Step::Nothing => return Ok(false),
        }
        Ok(true)
    }

    fn current_receiver(&mut self) -> Option<&mut Box<dyn Receiver>> {
        match self.current.as_ref()?.to {
            To::Receiver(number) => self.receivers.get_mut(&number),
            To::Output | To::Greeting => None,
        }
    }

    fn begin(&mut self, meta: &Meta, with: &mut Taking<'_, '_>) {
        self.keepalive_ms = self.keepalive_ms.or(meta.keepalive_ms);
        let heard = Heard::new(meta, &self.caller, self.transport, with.now);
        if meta.is_greeting() {
            self.greeted = true;
            return self.greeted(heard, with);
        }
        let route = match with.shared.refusing {
            Some(code) => Route::Refused(code, String::new()),
            None => with.shared.host.route(self.id, &self.caller, meta),
        };
        let to = match route {
            Route::Output => {
                with.shared.mux.begin(with.source, heard.clone(), with.now.mono);
                To::Output
            }
            Route::Receiver(number) => match self.engage(number, meta, with) {
                Ok(()) => To::Receiver(number),
                Err((code, text)) => return self.turn_down(code, text, meta.counts()),
            },
            Route::Refused(code, text) => return self.turn_down(code, text, false),
        };
        let ends_run = to != To::Output && !meta.more && meta.counts();
        let always_answered = meta.is_always_answered();
        self.current = Some(Current { heard, to, bytes: 0, ends_run, always_answered });
    }

    /// The caller is in a chat.
    fn greeted(&mut self, heard: Heard, with: &mut Taking<'_, '_>) {
        let feed = match with.shared.refusing {
            Some(_) => None,
            None => with.shared.host.greeted(self.id, &self.caller),
        };
        if feed.is_none() {
            return self.turn_down(RefuseCode::NotWanted, String::new(), false);
        }
        self.feed = feed;
        self.current = Some(Current {
            heard,
            to: To::Greeting,
            bytes: 0,
            ends_run: false,
            always_answered: false,
        });
    }

    /// The message goes to receiver `number`, who is hired if need be.
    fn engage(
        &mut self,
        number: usize,
        meta: &Meta,
        with: &mut Taking<'_, '_>,
    ) -> Result<(), (RefuseCode, String)> {
        if meta.counts() {
            if !self.in_run {
                if !with.shared.run_begins() {
                    return Err((RefuseCode::Enough, String::new()));
                }
                self.open_runs += 1;
            }
            self.in_run = meta.more;
        }
        if !self.receivers.contains_key(&number) {
            let hired = with.shared.host.hire(number, self.id, &self.caller);
            let hired = hired.map_err(|e: io::Error| (RefuseCode::CannotWrite, e.to_string()))?;
            self.receivers.insert(number, hired.receiver);
            self.feed = hired.feed.or(self.feed.take());
        }
        if let Some(receiver) = self.receivers.get_mut(&number) {
            receiver.begin(meta, with.now.unix_ms);
        }
        Ok(())
    }

    /// What begins is refused at once.
    fn turn_down(&mut self, code: RefuseCode, text: String, of_run: bool) {
        self.inbound.refuse();
        let ends_run = of_run && !self.in_run && self.open_runs > 0;
        self.dues.push_back(Due { state: State::Refused(code, text), ends_run });
    }

    fn data(&mut self, data: &[u8], with: &mut Taking<'_, '_>) {
        let Some(current) = &mut self.current else { return };
        current.bytes += data.len() as u64;
        match current.to {
            To::Output => with.shared.mux.data(with.source, data, with.now.mono, with.stage),
            To::Receiver(number) => {
                if let Some(receiver) = self.receivers.get_mut(&number) {
                    receiver.data(data);
                }
            }
            To::Greeting => {}
        }
    }

    fn end(&mut self, with: &mut Taking<'_, '_>) {
        if let Some(receiver) = self.current_receiver() {
            receiver.end();
        }
        let Some(current) = self.current.take() else { return };
        let state = match current.to {
            To::Greeting => State::Greeted(current.bytes),
            To::Receiver(number) => State::Awaited(number, current.heard, current.bytes),
            To::Output => {
                with.shared.mux.end(with.source);
                State::Flushing(current.heard)
            }
        };
        self.dues.push_back(Due { state, ends_run: current.ends_run });
    }

    fn aborted(&mut self, code: u8, with: &mut Taking<'_, '_>) {
        let Some(current) = self.give_up(with.source, with.shared) else { return };
        with.shared.host.notice(Notice::Cut(&current.heard, abort_reason(code)));
        if current.always_answered && self.farewell.is_none() {
            let state = State::Refused(RefuseCode::GivenUp, String::new());
            self.dues.push_back(Due { state, ends_run: current.ends_run });
        }
    }

    /// The current message will never be whole.
    fn give_up(&mut self, source: Source, shared: &mut Shared<'_>) -> Option<Current> {
        if let Some(receiver) = self.current_receiver() {
            receiver.abort();
        }
        let current = self.current.take()?;
        if current.to == To::Output {
            shared.mux.cut(source);
        }
        Some(current)
    }

    /// Takes what the receivers have to say.
    pub fn ask_receivers(&mut self, link: &mut Link, now: Now) {
        let numbers: Vec<usize> = self.receivers.keys().copied().collect();
        for number in numbers {
            while let Some(progress) =
                self.receivers.get_mut(&number).and_then(|receiver| receiver.progress())
            {
                self.hear_receiver(number, progress, link, now);
            }
        }
    }

    fn hear_receiver(&mut self, number: usize, progress: Progress, link: &mut Link, now: Now) {
        let of_receiver =
            |due: &&mut Due| matches!(due.state, State::Awaited(whose, ..) if whose == number);
        let oldest = self.dues.iter_mut().find(of_receiver);
        match (progress, oldest) {
            (Progress::Resume { offset, hash }, _) => {
                if self.inbound.offer() {
                    link.send(Kind::Resume, &offer_body(offset, &hash), now);
                }
            }
            (Progress::Delivered | Progress::Sufficed, Some(due)) => {
                let refused = State::Refused(RefuseCode::CannotWrite, String::new());
                if let State::Awaited(_, heard, total) = std::mem::replace(&mut due.state, refused)
                {
                    due.state = State::Delivered(heard, total);
                }
            }
            (Progress::Refused(code, text), Some(due)) => due.state = State::Refused(code, text),
            (Progress::Refused(code, text), None) => {
                if let Some(current) = self.current.take_if(|c| c.to == To::Receiver(number)) {
                    self.inbound.refuse();
                    let state = State::Refused(code, text);
                    self.dues.push_back(Due { state, ends_run: current.ends_run });
                }
            }
            (Progress::Sufficed, None) => {
                if let Some(current) = self.current.take_if(|c| c.to == To::Receiver(number)) {
                    self.inbound.refuse();
                    let state = State::Sufficed(current.heard, current.bytes);
                    self.dues.push_back(Due { state, ends_run: current.ends_run });
                }
            }
            (Progress::Delivered, None) => debug_assert!(false, "nothing was to be delivered"),
        }
    }

    /// The oldest whole message to the output was flushed.
    pub fn flushed(&mut self, total: u64) {
        let flushing = |due: &&mut Due| matches!(due.state, State::Flushing(_));
        let Some(due) = self.dues.iter_mut().find(flushing) else { return };
        let refused = State::Refused(RefuseCode::CannotWrite, String::new());
        if let State::Flushing(heard) = std::mem::replace(&mut due.state, refused) {
            due.state = State::Delivered(heard, total);
        }
    }

    /// Says what needs no waiting for, up to the first message that does.
    pub fn answer(&mut self, link: &mut Link, now: Now, shared: &mut Shared<'_>) {
        loop {
            match self.dues.front().map(|due| &due.state) {
                Some(State::Delivered(heard, total)) => {
                    link.send(Kind::Ack, &total.to_be_bytes(), now);
                    shared.host.notice(Notice::Delivered(heard, *total));
                    self.run_delivered |= self.open_runs > 0;
                }
                Some(State::Sufficed(heard, total)) => {
                    let body = refuse_body(RefuseCode::NeedsNoMore, "");
                    link.send(Kind::Refuse, &body, now);
                    shared.host.notice(Notice::Delivered(heard, *total));
                    self.run_delivered |= self.open_runs > 0;
                }
                Some(State::Greeted(total)) => link.send(Kind::Ack, &total.to_be_bytes(), now),
                Some(State::Refused(code, text)) => {
                    link.send(Kind::Refuse, &refuse_body(*code, text), now);
                }
                _ => return,
            }
            self.answered = true;
            if self.dues.pop_front().is_some_and(|due| due.ends_run) {
                self.open_runs -= 1;
                shared.run_ended(std::mem::take(&mut self.run_delivered));
            }
        }
    }

    /// Refuses the message that comes in, and says why.
    pub fn refuse(&mut self, code: RefuseCode, source: Source, shared: &mut Shared<'_>) {
        let Some(current) = self.give_up(source, shared) else { return };
        self.inbound.refuse();
        let state = State::Refused(code, String::new());
        self.dues.push_back(Due { state, ends_run: current.ends_run });
        shared.host.notice(Notice::Cut(&current.heard, code.why()));
    }

    /// Refuses all that is not acknowledged: it never will be.
    pub fn refuse_all(&mut self, code: RefuseCode, source: Source, shared: &mut Shared<'_>) {
        self.refuse(code, source, shared);
        for due in &mut self.dues {
            if let State::Flushing(_) | State::Awaited(..) = due.state {
                due.state = State::Refused(code, String::new());
            }
        }
        self.receivers.clear();
    }

    /// The connection is over: what was not whole never will be.
    pub fn leave(&mut self, source: Source, shared: &mut Shared<'_>) {
        // A sender whose last folder was refused has nothing more to say, and ends in order.
        let mut delivered = !self.is_busy() && std::mem::take(&mut self.run_delivered);
        if let Some(current) = self.give_up(source, shared) {
            shared.host.notice(Notice::Cut(&current.heard, "the connection ended"));
        }
        for _ in 0..std::mem::take(&mut self.open_runs) {
            shared.run_ended(std::mem::take(&mut delivered));
        }
    }
}

fn abort_reason(code: u8) -> &'static str {
    match code {
        c if c == AbortCode::CannotRead as u8 => "the sender could not read its input",
        c if c == AbortCode::Stopped as u8 => "the sender was stopped",
        c if c == AbortCode::Leaves as u8 => "the sender left",
        _ => "the sender gave up",
    }
}
