//! One session with somebody who is let in: the messages that they say, and what is answered.

use std::collections::VecDeque;

use super::conn::Shared;
use super::{Caller, Heard, Notice, Stage};
use crate::net::sockets::Transport;
use crate::proto::mux::{Mux, Source};
use crate::proto::stream::inbound::{Inbound, Step};
use crate::proto::stream::link::{KEEPALIVE, Link};
use crate::proto::stream::meta::{MessageKind, Meta, Welcome};
use crate::proto::stream::record::{AbortCode, Kind, RefuseCode, Violation, refuse_body};
use crate::proto::time::Now;

/// Messages of one session that are over and not answered yet; until they are, it is not read.
const MAX_UNANSWERED: usize = 16;

/// A peer that does not take this much of our answers, in bytes, is not read: its next message would
/// only lengthen the queue.
const MAX_UNTAKEN: usize = 64 * 1024;

/// A session, and where its messages stand.
pub struct Session {
    /// What crosses the wire.
    pub link: Link,
    caller: Caller,
    inbound: Inbound,
    /// The message that comes in.
    current: Option<Heard>,
    /// What is still to be said of messages that are over, in their order: an answer names no
    /// message, its place does.
    answers: VecDeque<Answer>,
    /// Some message was answered.
    answered: bool,
}

enum Answer {
    /// It is whole; ACK once the output has flushed it.
    WhenFlushed(Heard),
    /// REFUSE.
    Refused(RefuseCode),
}

impl Session {
    /// The session of `caller`, who is let in: says so.
    pub fn welcome(link: Link, caller: Caller, now: Now, shared: &Shared<'_>) -> Self {
        let mut session = Self {
            link,
            caller,
            inbound: Inbound::default(),
            current: None,
            answers: VecDeque::new(),
            answered: false,
        };
        session.link.send(Kind::Welcome, &welcome(shared).encode(), now);
        session
    }

    /// Whether a message is on its way in or unanswered.
    pub fn is_busy(&self) -> bool {
        self.current.is_some() || !self.answers.is_empty()
    }

    /// Whether no message has begun: one may still, and will want an answer.
    pub fn is_new(&self) -> bool {
        !self.inbound.within() && !self.answered
    }

    /// Whether it is not read because its message waits for the output.
    pub fn is_stalled(&self, source: Source, mux: &Mux<Heard>) -> bool {
        !mux.has_room(source) || self.answers.len() >= MAX_UNANSWERED
    }

    /// Whether it is not read because it does not read. This excuses no silence.
    pub fn is_choked(&self) -> bool {
        self.link.pending().len() >= MAX_UNTAKEN
    }

    /// Says that we stop.
    pub fn stop(&mut self, now: Now) {
        self.link.send(Kind::Abort, &[AbortCode::Stopped as u8], now);
    }

    /// The connection is over: what was not whole never will be.
    pub fn leave(&mut self, source: Source, shared: &mut Shared<'_>) {
        if let Some(heard) = self.current.take() {
            shared.mux.cut(source);
            shared.host.notice(Notice::Cut(&heard, "the connection ended"));
        }
    }

    /// The oldest whole message was flushed.
    pub fn acknowledge(&mut self, total: u64, now: Now, shared: &mut Shared<'_>) {
        if let Some(Answer::WhenFlushed(heard)) = self.answers.pop_front() {
            self.link.send(Kind::Ack, &total.to_be_bytes(), now);
            self.answered = true;
            shared.host.notice(Notice::Delivered(&heard, total));
            self.say_refusals(now);
        }
    }

    /// Refuses the message that comes in, and says why.
    pub fn refuse(&mut self, code: RefuseCode, source: Source, now: Now, shared: &mut Shared<'_>) {
        let Some(heard) = self.current.take() else { return };
        self.inbound.refuse();
        self.answers.push_back(Answer::Refused(code));
        self.say_refusals(now);
        shared.mux.cut(source);
        shared.host.notice(Notice::Cut(&heard, code.why()));
    }

    /// Refuses all that is not acknowledged: it never will be.
    pub fn refuse_all(
        &mut self,
        code: RefuseCode,
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        self.refuse(code, source, now, shared);
        for answer in &mut self.answers {
            *answer = Answer::Refused(code);
        }
        self.say_refusals(now);
    }

    /// Says what needs no waiting for, up to the first message that does.
    fn say_refusals(&mut self, now: Now) {
        while let Some(Answer::Refused(code)) = self.answers.front() {
            self.answered = true;
            self.link.send(Kind::Refuse, &refuse_body(*code, ""), now);
            self.answers.pop_front();
        }
    }

    /// Bytes of records. Whether any of them belonged to a message; an error ends the connection.
    pub fn take(
        &mut self,
        bytes: &[u8],
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> Result<bool, Violation> {
        let Self { link, caller, inbound, current, answers, .. } = self;
        let mut keepalive = None;
        let mut news = false;
        link.feed(bytes, now, &mut shared.plain, |kind, body| {
            match inbound.step(kind, body)? {
                Step::Begin(meta) => {
                    keepalive = meta.keepalive_ms;
                    news = true;
                    if let Some(code) = shared.refusing.or_else(|| unwanted(&meta)) {
                        inbound.refuse();
                        answers.push_back(Answer::Refused(code));
                        return Ok(());
                    }
                    let heard = heard(&meta, caller, now);
                    shared.mux.begin(source, heard.clone(), now.mono);
                    *current = Some(heard);
                }
                Step::Data(data) => {
                    news = true;
                    shared.mux.data(source, data, now.mono, stage);
                }
                Step::End => {
                    shared.mux.end(source);
                    answers.extend(current.take().map(Answer::WhenFlushed));
                }
                Step::Aborted(code) => {
                    shared.mux.cut(source);
                    if let Some(heard) = current.take() {
                        shared.host.notice(Notice::Cut(&heard, abort_reason(code)));
                    }
                }
                Step::Nothing => {}
            }
            Ok(())
        })?;
        if let Some(ms) = keepalive {
            link.ask_keepalive(ms);
        }
        if !self.answers.is_empty() {
            self.say_refusals(now);
        }
        Ok(news)
    }
}

/// What the responder says first. A user with less patience than a keepalive asks for more of them.
fn welcome(shared: &Shared<'_>) -> Welcome {
    let often = shared.silence / 3;
    let keepalive_ms = (often < KEEPALIVE).then_some(often.as_millis() as u64);
    Welcome { largest: None, challenge: None, keepalive_ms }
}

fn unwanted(meta: &Meta) -> Option<RefuseCode> {
    let wanted = [MessageKind::Message as u8, MessageKind::ChatLine as u8].contains(&meta.kind);
    (!wanted).then_some(RefuseCode::NotWanted)
}

fn heard(meta: &Meta, caller: &Caller, now: Now) -> Heard {
    Heard {
        id: meta.id,
        caller: caller.clone(),
        sent_ms: meta.time_ms,
        arrived_ms: now.unix_ms,
        kind: meta.kind,
        transport: Transport::Tcp,
    }
}

fn abort_reason(code: u8) -> &'static str {
    match code {
        c if c == AbortCode::CannotRead as u8 => "the sender could not read its input",
        c if c == AbortCode::Stopped as u8 => "the sender was stopped",
        _ => "the sender gave up",
    }
}
