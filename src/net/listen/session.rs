//! One session with somebody who is let in, or who has let us in: what they say and what we say,
//! over one link.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::conn::Shared;
use super::hearing::{Farewell, Hearing, Taking};
use super::host::Parting;
use super::{Caller, Notice, Stage};
use crate::net::dial::{DialError, NoProof};
use crate::net::feed::Feed;
use crate::net::send::Cut;
use crate::net::sockets::Transport;
use crate::net::speaker::{MOST_AHEAD, Speaker};
use crate::net::wire::{Wire, Wrote};
use crate::proto::stream::link::{KEEPALIVE, Link};
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::record::{AbortCode, Kind, OFFER_LEN, RefuseCode, Violation};
use crate::proto::stream::session::plain_buffer;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// A peer that does not take this much of our answers, in bytes, is not read: its next message would
/// only lengthen the queue.
const MAX_UNTAKEN: usize = 64 * 1024;

/// A peer that takes what we say as fast as we do must not keep us from others.
const WRITES_A_TURN: usize = 8;

/// A session, and where its messages stand.
pub struct Session {
    /// What crosses the wire.
    pub link: Link,
    address: SocketAddr,
    id: Source,
    hearing: Hearing,
    speaker: Option<Speaker>,
    /// What it says may be told of by any bell.
    hears_all_bells: bool,
    /// There is more to seal, as soon as the socket takes it.
    more_to_say: bool,
    /// We called, and were not let in yet.
    knocking: Option<Knocking>,
    /// Whether we called.
    outgoing: bool,
    /// Whether it ends once everything was said and answered.
    once: bool,
    parting: Option<Parting>,
    /// We have said that we leave.
    left: bool,
}

/// A call that is to be let in.
struct Knocking {
    number: u64,
    until: Duration,
}

/// A call that was answered by who holds the key.
pub struct Called {
    /// Of the call.
    pub number: u64,
    /// Until when it may take to let us in.
    pub until: Duration,
    /// What is said.
    pub feed: Box<dyn Feed>,
    /// Whether the session ends once that was said and answered.
    pub once: bool,
}

impl Session {
    /// The session of `caller`, who is let in: says so.
    pub fn welcome(
        link: Link,
        address: SocketAddr,
        caller: Caller,
        id: Source,
        now: Now,
        shared: &mut Shared<'_>,
    ) -> Self {
        let feed = shared.host.feed(id, &caller);
        let mut session = Self::new(link, address, caller, id);
        if let Some(feed) = feed {
            session.give_voice(feed, Speaker::new, shared);
        }
        session.link.send(Kind::Welcome, &welcome(shared).encode(), now);
        session
    }

    /// A session with `callee`, who is to let us in.
    pub fn called(
        link: Link,
        address: SocketAddr,
        callee: Caller,
        id: Source,
        called: Called,
        shared: &Shared<'_>,
    ) -> Self {
        let Called { number, until, feed, once } = called;
        let knocking = Some(Knocking { number, until });
        let session = Self::new(link, address, callee, id);
        let mut session = Self { knocking, outgoing: true, once, ..session };
        session.give_voice(feed, Speaker::knocking, shared);
        session
    }

    /// The same, which came about in another way than TCP.
    #[must_use]
    pub fn by(mut self, transport: Transport) -> Self {
        self.hearing.transport = transport;
        self
    }

    /// From now on it says what `feed` has, as `speaker` does.
    fn give_voice(
        &mut self,
        mut feed: Box<dyn Feed>,
        speaker: fn(Box<dyn Feed>) -> Speaker,
        shared: &Shared<'_>,
    ) {
        self.hears_all_bells = !feed.rings(shared.bell.of(self.id));
        self.speaker = Some(speaker(feed));
    }

    fn new(link: Link, address: SocketAddr, caller: Caller, id: Source) -> Self {
        Self {
            link,
            address,
            id,
            hearing: Hearing::new(id, caller),
            speaker: None,
            hears_all_bells: false,
            more_to_say: false,
            knocking: None,
            outgoing: false,
            once: false,
            parting: None,
            left: false,
        }
    }

    /// With whom it is.
    pub fn peer(&self) -> &Caller {
        &self.hearing.caller
    }

    /// Whether a message comes in.
    pub fn is_receiving(&self) -> bool {
        self.hearing.is_receiving()
    }

    /// Whether a message is on its way or unanswered.
    pub fn is_busy(&self) -> bool {
        self.hearing.is_busy() || self.speaker.as_ref().is_some_and(Speaker::is_busy)
    }

    /// Whether they called and no message has begun: one may still, and will want an answer.
    pub fn is_new(&self) -> bool {
        !self.outgoing && self.hearing.is_new()
    }

    /// Whether it is not read because whoever takes its messages is busy.
    pub fn pauses(&self) -> bool {
        self.hearing.pauses()
    }

    /// Whether it is not read because it does not read. This excuses no silence.
    pub fn is_choked(&self) -> bool {
        let own = if self.speaker.is_some() { MOST_AHEAD } else { 0 };
        self.link.pending().len() >= own + MAX_UNTAKEN
    }

    /// Whether there is something to seal or to write, if the socket takes it.
    pub fn wants_write(&self) -> bool {
        self.more_to_say || !self.link.pending().is_empty()
    }

    /// Whether somebody takes what it says beside the output.
    pub fn has_receivers(&self) -> bool {
        self.hearing.has_receivers()
    }

    /// Whether it may have news for which any bell rings.
    pub fn hears_all_bells(&self) -> bool {
        self.hears_all_bells || self.hearing.hears_all_bells()
    }

    /// Whether it ends by our own will, and everything is written.
    pub fn is_done(&self) -> bool {
        let said = self.speaker.as_ref().is_some_and(Speaker::is_over);
        let over = self.once && said && !self.hearing.is_busy();
        (over || self.parting.is_some()) && self.link.pending().is_empty()
    }

    /// When it wants to be driven without news; `silence` is what the peer is allowed.
    pub fn deadline(&self, stalled: bool, silence: Duration) -> Duration {
        let keepalive = self.link.keepalive_at();
        if stalled {
            return keepalive;
        }
        let let_in = self.knocking.as_ref().map_or(keepalive, |knocking| knocking.until);
        keepalive.min(let_in).min(self.link.heard() + silence)
    }

    /// Whether the peer was silent for too long, or does not let us in.
    pub fn is_overdue(&self, now: Now, silence: Duration) -> bool {
        let late = self.knocking.as_ref().is_some_and(|knocking| now.mono >= knocking.until);
        late || now.mono >= self.link.heard() + silence
    }

    /// Notes why it ends, unless that is known already.
    pub fn part(&mut self, parting: Parting) {
        self.parting.get_or_insert(parting);
    }

    /// Says that we stop.
    pub fn stop(&mut self, now: Now) {
        self.link.send(Kind::Abort, &[AbortCode::Stopped as u8], now);
    }

    /// Whether it is a part of a chat: there an end without a farewell is a cut, though nothing may be
    /// under way.
    fn is_chat(&self) -> bool {
        self.hearing.greeted || self.speaker.as_ref().is_some_and(Speaker::greets)
    }

    /// Says that we leave, if that is to be said, once.
    pub fn take_leave(&mut self, now: Now) {
        if self.is_chat() && !std::mem::replace(&mut self.left, true) {
            self.link.send(Kind::Abort, &[AbortCode::Leaves as u8], now);
        }
    }

    /// Says what there is to say, as far as the socket takes it.
    pub fn speak(&mut self, wire: &mut Wire, now: Now, shared: &mut Shared<'_>) -> Wrote {
        self.hearing.ask_receivers(&mut self.link, now);
        self.hearing.answer(&mut self.link, now, shared);
        self.more_to_say = false;
        for _ in 0..WRITES_A_TURN {
            self.more_to_say = self.fill(now);
            match wire.pour(&mut self.link) {
                Wrote::All if self.more_to_say => {}
                other => return other,
            }
        }
        Wrote::All
    }

    fn fill(&mut self, now: Now) -> bool {
        let Some(speaker) = &mut self.speaker else { return false };
        match speaker.fill(&mut self.link, now) {
            Ok(more) => more,
            Err(error) => {
                self.unreadable(error, now);
                false
            }
        }
    }

    fn unreadable(&mut self, error: io::Error, now: Now) {
        self.link.send(Kind::Abort, &[AbortCode::CannotRead as u8], now);
        self.speaker = None;
        self.part(Parting::Unread(error));
    }

    /// The connection is over: what was not whole never will be.
    pub fn leave(&mut self, source: Source, shared: &mut Shared<'_>) {
        let order = !self.is_busy() && !self.is_chat();
        self.hearing.leave(source, shared);
        if let Some(knocking) = &self.knocking {
            let why = match &self.parting {
                Some(Parting::Cut(Cut::Silence(time))) => NoProof::NotLetIn(*time),
                _ => NoProof::Closed,
            };
            let error = DialError::NoProof(self.address, why);
            return shared.host.notice(Notice::NotReached(knocking.number, &error));
        }
        let parting = self.parting.take().unwrap_or(match order {
            true => Parting::InOrder,
            false => Parting::Cut(Cut::Closed),
        });
        shared.host.notice(Notice::Disconnected(self.id, &self.hearing.caller, &parting));
    }

    /// The oldest whole message to the output was flushed.
    pub fn acknowledge(&mut self, total: u64, now: Now, shared: &mut Shared<'_>) {
        self.hearing.flushed(total);
        self.hearing.answer(&mut self.link, now, shared);
    }

    /// Refuses the message that comes in, and says why.
    pub fn refuse(&mut self, code: RefuseCode, source: Source, now: Now, shared: &mut Shared<'_>) {
        self.hearing.refuse(code, source, shared);
        self.hearing.answer(&mut self.link, now, shared);
    }

    /// Refuses all that is not acknowledged: it never will be.
    pub fn refuse_all(
        &mut self,
        code: RefuseCode,
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        self.hearing.refuse_all(code, source, shared);
        self.hearing.answer(&mut self.link, now, shared);
    }

    /// Bytes of records. Whether any of them belonged to a message; an error ends the connection.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn take(
        &mut self,
        bytes: &[u8],
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) -> Result<bool, Violation> {
        let mut plain = shared.plain.take().unwrap_or_else(plain_buffer);
        let mut news = false;
        let Self { link, hearing, speaker, knocking, .. } = self;
        let mut asked = None;
        let (id, address) = (self.id, self.address);
        let fed = link.feed(bytes, now, &mut plain, |kind, body| {
            match (kind, speaker.as_mut()) {
                (Kind::Welcome, speaker) if knocking.is_some() => {
                    asked = Welcome::decode(body)?.keepalive_ms;
                    speaker.into_iter().for_each(Speaker::let_in);
                    if let Some(knocking) = knocking.take() {
                        // Before what the peer says next: it may come in the same read.
                        shared.host.notice(Notice::Reached(knocking.number, id, address));
                    }
                }
                _ if knocking.is_some() => return Err(Violation::OutOfOrder),
                (Kind::Ack | Kind::Refuse, Some(speaker)) => speaker.hear(kind, body)?,
                (Kind::Resume, Some(speaker)) if body.len() == OFFER_LEN => {
                    speaker.hear(kind, body)?;
                }
                _ => {
                    let with =
                        &mut Taking { source, now, shared: &mut *shared, stage: &mut *stage };
                    news |= hearing.take(kind, body, with)?;
                }
            }
            Ok(())
        });
        shared.plain = Some(plain);
        if let Some(ms) = asked.or(self.hearing.keepalive_ms.take()) {
            self.link.ask_keepalive(ms);
        }
        if let Some(feed) = self.hearing.feed.take()
            && self.speaker.is_none()
        {
            self.give_voice(feed, Speaker::new, shared);
        }
        if let Err(violation) = fed {
            self.part(Parting::Cut(Cut::Broken(violation)));
        } else if let Some(farewell) = self.hearing.farewell {
            self.part(match farewell {
                Farewell::Stopped => Parting::Cut(Cut::Stopped),
                Farewell::Leaves => Parting::Left,
            });
        }
        self.hearing.ask_receivers(&mut self.link, now);
        self.hearing.answer(&mut self.link, now, shared);
        fed.map(|()| news)
    }
}

/// What the responder says first. A user with less patience than a keepalive asks for more of them.
fn welcome(shared: &Shared<'_>) -> Welcome {
    let often = shared.silence / 3;
    let keepalive_ms = (often < KEEPALIVE).then_some(often.as_millis() as u64);
    Welcome { keepalive_ms, ..Welcome::default() }
}
