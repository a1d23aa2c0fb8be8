//! What a session says: a feed poured into a link, and the answers taken back to it.

use std::collections::VecDeque;
use std::io;

use super::feed::{Answer, Feed, Next};
use super::input::Got;
use crate::proto::stream::link::{Link, MAX_RECORD};
use crate::proto::stream::outbound::{Outbound, Reply};
use crate::proto::stream::record::{AbortCode, Kind, MAX_BODY, Violation};
use crate::proto::stream::session::MAX_RUN;
use crate::proto::time::Now;

/// Records are sealed while less than this is ahead of the socket, in bytes: four to a write.
const AHEAD: usize = MAX_RUN;
/// So no more than this ever is, in bytes, beside what is said of what was heard.
pub const MOST_AHEAD: usize = AHEAD + MAX_RUN.div_ceil(MAX_BODY) * MAX_RECORD;
/// What may be sent before the responder has let us in, in bytes. PROTOCOL.md, section 3.4.
const BEFORE_WELCOME: usize = 256 * 1024;

/// One half of a session.
pub struct Speaker {
    feed: Box<dyn Feed>,
    outbound: Outbound,
    stage: Stage,
    /// The receiver does not want the current message: ABORT is to be said.
    refused: bool,
    /// What may still be sent before the responder lets us in, in bytes.
    allowance: Option<usize>,
    /// A chat was begun.
    greets: bool,
    /// Of messages that were given up and are to be answered.
    unread: VecDeque<io::Error>,
    summary: Summary,
}

/// What came of everything that was said.
#[derive(Debug, Default)]
pub struct Summary {
    /// Bytes acknowledged.
    pub delivered: u64,
    /// What was refused first: code and text.
    pub refused: Option<(u8, String)>,
    /// What could not be read first.
    pub unread: Option<io::Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next message, if there is one.
    Between,
    /// The receiver's RESUME is awaited.
    Asked,
    /// The feed decides where to begin.
    Offered,
    /// Its bytes.
    Flowing,
    /// There are no more messages.
    Over,
}

impl Speaker {
    /// Says what `feed` has, to a peer that has let us in.
    pub fn new(feed: Box<dyn Feed>) -> Self {
        Self {
            feed,
            outbound: Outbound::default(),
            stage: Stage::Between,
            refused: false,
            allowance: None,
            greets: false,
            unread: VecDeque::new(),
            summary: Summary::default(),
        }
    }

    /// The same to one that may still let us in; see [`Speaker::let_in`].
    pub fn knocking(feed: Box<dyn Feed>) -> Self {
        Self { allowance: Some(BEFORE_WELCOME), ..Self::new(feed) }
    }

    /// The peer has let us in.
    pub fn let_in(&mut self) {
        self.allowance = None;
    }

    /// Whether everything was said and answered.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over && self.outbound.is_idle() && !self.refused
    }

    /// Whether a message is on its way out or not answered.
    pub fn is_busy(&self) -> bool {
        !self.outbound.is_idle()
    }

    /// Whether it has begun a chat.
    pub fn greets(&self) -> bool {
        self.greets
    }

    /// What came of it all.
    pub fn into_summary(self) -> Summary {
        self.summary
    }

    /// Seals what there is until enough is ahead of the socket; whether it might seal more.
    ///
    /// # Errors
    /// What ends the session, since the feed has no more.
    pub fn fill(&mut self, link: &mut Link, now: Now) -> io::Result<bool> {
        if std::mem::take(&mut self.refused) {
            link.send(Kind::Abort, &[AbortCode::Refused as u8], now);
        }
        while link.pending().len() < AHEAD {
            if !self.step(link, now)? {
                return Ok(false);
            }
        }
        Ok(self.stage != Stage::Over)
    }

    /// One record, if there is one now.
    fn step(&mut self, link: &mut Link, now: Now) -> io::Result<bool> {
        if self.allowance.is_some_and(|left| left < MAX_BODY) {
            return Ok(false);
        }
        match self.stage {
            Stage::Between => self.begin(link, now),
            Stage::Asked | Stage::Over => Ok(false),
            Stage::Offered => Ok(self.start(link, now)),
            Stage::Flowing => Ok(self.flow(link, now)),
        }
    }

    fn begin(&mut self, link: &mut Link, now: Now) -> io::Result<bool> {
        match self.feed.next()? {
            Next::Later => return Ok(false),
            Next::End => self.stage = Stage::Over,
            Next::Message(meta) => {
                self.greets |= meta.is_greeting();
                let body = meta.encode();
                link.send(Kind::Meta, &body, now);
                self.spend(body.len());
                self.outbound.begin(&meta);
                self.stage = if meta.asks_resume() { Stage::Asked } else { Stage::Flowing };
            }
        }
        Ok(true)
    }

    fn start(&mut self, link: &mut Link, now: Now) -> bool {
        match self.feed.start() {
            Ok(Some(offset)) => {
                link.send(Kind::Resume, &offset.to_be_bytes(), now);
                self.outbound.start();
                self.stage = Stage::Flowing;
                true
            }
            Ok(None) => false,
            Err(error) => self.give_up(error, link, now),
        }
    }

    fn flow(&mut self, link: &mut Link, now: Now) -> bool {
        let space = link.data_space();
        let len = self.allowance.unwrap_or(space.len()).min(space.len());
        match self.feed.read(&mut space[..len]) {
            Ok(Got::Bytes(n)) => {
                link.send_data(n, now);
                self.outbound.sent(n);
                self.spend(n);
                true
            }
            Ok(Got::Later) => false,
            Ok(Got::End) => {
                let total = self.outbound.end();
                link.send(Kind::End, &total.to_be_bytes(), now);
                self.stage = Stage::Between;
                true
            }
            Err(error) => self.give_up(error, link, now),
        }
    }

    fn spend(&mut self, bytes: usize) {
        if let Some(left) = &mut self.allowance {
            *left = left.saturating_sub(bytes);
        }
    }

    /// The current message cannot be read to its end.
    fn give_up(&mut self, error: io::Error, link: &mut Link, now: Now) -> bool {
        link.send(Kind::Abort, &[AbortCode::CannotRead as u8], now);
        self.stage = Stage::Between;
        if self.outbound.give_up() {
            self.unread.push_back(error);
        } else {
            self.was_unread(error);
        }
        true
    }

    fn was_unread(&mut self, error: io::Error) {
        let answer = Answer::Unread(error);
        self.feed.answered(&answer);
        if let Answer::Unread(error) = answer {
            self.summary.unread.get_or_insert(error);
        }
    }

    /// Takes ACK, REFUSE, or the receiver's RESUME.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn hear(&mut self, kind: Kind, body: &[u8]) -> Result<(), Violation> {
        match self.outbound.hear(kind, body)? {
            Reply::Delivered(total) => {
                self.summary.delivered += total;
                self.feed.answered(&Answer::Delivered(total));
            }
            Reply::Refused { code, text, current } => {
                if current {
                    self.refused = true;
                    self.stage = Stage::Between;
                }
                self.feed.answered(&Answer::Refused(code, text.clone()));
                self.summary.refused.get_or_insert((code, text));
            }
            Reply::GivenUp => {
                if let Some(error) = self.unread.pop_front() {
                    self.was_unread(error);
                }
            }
            Reply::Offered(offset, hash) => {
                self.feed.offered(offset, hash);
                self.stage = Stage::Offered;
            }
        }
        Ok(())
    }
}
