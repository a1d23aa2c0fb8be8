//! Messages that fit cells, one after the other on one link: each is posted and waited for.
//! PROTOCOL.md, 5.5.

use std::time::Duration;

use mio::Token;
use mio::event::Event;

use super::line::{Line, News};
use super::{Place, Through};
use crate::crypto::sodium::OsRandom;
use crate::net::call::Call;
use crate::net::dial::DialError;
use crate::net::hub::Hub;
use crate::net::send::{Cut, Delivered, Held, Limits, SendError};
use crate::net::several::{Peer, Turn};
use crate::proto::datagram::packet::{Kind, MessageId};
use crate::proto::relay::cell::ErrorCode;
use crate::proto::relay::posting::{IDS, Letter, Outcome, Parties, Patience, Posting};
use crate::proto::stream::link::Crossing;

/// The messages that are posted, each after the former is settled.
pub trait Letters {
    /// The next message, of at most [`crate::proto::datagram::packet::MAX_MESSAGE`] bytes; `None`:
    /// no more.
    fn next(&mut self) -> Option<Letter>;
    /// What came of the one that was given last. After [`SendError::Queued`] and
    /// [`SendError::Declined`] the others are posted all the same.
    fn settled(&mut self, result: &Result<(), SendError>) {
        let _ = result;
    }
}

/// One message.
pub struct Single(Option<Letter>);

impl Single {
    /// `body` as the message `id`, whose sequence is 0.
    pub fn new(id: MessageId, body: Vec<u8>) -> Self {
        Self(Some(Letter { kind: Kind::Message, id, body }))
    }
}

impl Letters for Single {
    fn next(&mut self) -> Option<Letter> {
        self.0.take()
    }
}

/// A peer whose mailbox is written to.
pub struct Post<'a> {
    call: &'a Call<'a>,
    through: Through,
    line: Line,
    letters: Box<dyn Letters>,
    posting: Option<Posting>,
    patience: Patience,
    /// Number of the first POST of the message.
    first_id: u64,
    /// What proves our right to read on the present link.
    link: Option<([u8; 32], [u8; crate::crypto::noise::HASH_LEN])>,
    /// Bytes that were delivered.
    total: u64,
    /// What came of the messages, if not all were delivered.
    failure: Option<SendError>,
}

impl<'a> Post<'a> {
    /// `letters` to whom `call` says, by one of `places`, all with the same [`Through::to`]; the
    /// link registers as `token`. `None` if there is no such place.
    pub fn new(
        call: &'a Call<'a>,
        places: Vec<Place>,
        letters: Box<dyn Letters>,
        patience: Patience,
        token: Token,
    ) -> Option<Self> {
        let through = places.first()?.via.clone()?;
        let line = Line::new(places, token, call.patience);
        Some(Self {
            call,
            through,
            line,
            letters,
            posting: None,
            patience,
            first_id: 1,
            link: None,
            total: 0,
            failure: None,
        })
    }

    fn advance(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Result<Turn, SendError> {
        if self.posting.is_none() && !self.begin(hub, limits)? {
            return Ok(Turn::Over(self.over()));
        }
        let now = hub.clock.now();
        let Self { line, posting, .. } = self;
        let Some(posting) = posting else { return Ok(Turn::Wait) };
        if posting.deadline().is_some_and(|at| now.mono >= at) {
            line.look_again();
        }
        let news = line.advance(hub, limits, |cell| posting.hear(cell, now));
        let more = self.take(news.map_err(SendError::Dial)?, hub)?;
        self.pass_on(hub, limits);
        let Some(outcome) = self.posting.as_mut().and_then(|posting| posting.outcome(now)) else {
            return Ok(if more { Turn::Busy } else { Turn::Wait });
        };
        self.settle(outcome, hub, limits)?;
        Ok(Turn::Busy)
    }

    /// Takes up the next message; whether there is one.
    fn begin(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Result<bool, SendError> {
        let Some(letter) = self.letters.next() else { return Ok(false) };
        let Call { me, peer, access, .. } = self.call;
        if let Some(trace) = &mut limits.trace {
            trace(&about(&letter));
        }
        let channels = self.through.channels(me, peer, access);
        let parties = Parties { me, peer, access, channels };
        let mut patience = self.patience;
        if matches!(self.failure, Some(SendError::Queued(..))) {
            // Nobody was there a moment ago.
            patience.answer = Duration::ZERO;
        }
        let now = hub.clock.now();
        let (first_id, rng) = (self.first_id, &mut OsRandom);
        self.first_id += IDS;
        self.posting = Posting::new(parties, letter, first_id, patience, now, rng);
        self.meet(hub)?;
        Ok(self.posting.is_some())
    }

    /// The message and the link get to know each other.
    fn meet(&mut self, hub: &Hub) -> Result<(), SendError> {
        let (Some(posting), Some((challenge, hash))) = (&mut self.posting, &self.link) else {
            return Ok(());
        };
        posting.linked(challenge, hash, hub.clock.now()).map_err(|violation| {
            let broken = |address| SendError::CutOff(address, Cut::Broken(violation));
            self.line.address().map_or_else(|| SendError::Dial(self.line.give_up()), broken)
        })
    }

    /// What became of the link; whether there is more to be read.
    fn take(&mut self, news: News, hub: &Hub) -> Result<bool, SendError> {
        match news {
            News::None => {}
            News::More => return Ok(true),
            News::Cut => {
                self.link = None;
                if let Some(posting) = &mut self.posting {
                    posting.unlinked();
                    if posting.is_confirmed() {
                        self.line.stay();
                    }
                }
            }
            News::Linked { challenge, hash, elsewhere } => {
                self.link = Some((challenge, hash));
                if let (true, Some(posting)) = (elsewhere, &mut self.posting) {
                    posting.start_over();
                }
                self.meet(hub)?;
            }
        }
        Ok(false)
    }

    /// Posts what is due.
    fn pass_on(&mut self, hub: &Hub, limits: &mut Limits<'_>) {
        let now = hub.clock.now();
        let Self { line, posting: Some(posting), .. } = self else { return };
        if !line.is_clogged() {
            posting.fill(now, &mut OsRandom, &mut |cell| line.send(cell, now, limits));
        }
        line.pour();
        if posting.is_confirmed() {
            line.works();
        }
    }

    /// The message is over: the next one, unless there can be none.
    fn settle(
        &mut self,
        outcome: Outcome,
        hub: &Hub,
        limits: &mut Limits<'_>,
    ) -> Result<(), SendError> {
        let Some(mut posting) = self.posting.take() else { return Ok(()) };
        let now = hub.clock.now();
        posting.leave(&mut |cell| self.line.send(cell, now, limits));
        self.line.pour();
        let result = match outcome {
            Outcome::Delivered => {
                self.total += posting.len() as u64;
                Ok(())
            }
            other => Err(self.error(other)),
        };
        self.letters.settled(&result);
        match result {
            Ok(()) => Ok(()),
            Err(error @ (SendError::Queued(..) | SendError::Declined(..))) => {
                self.failure = Some(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn error(&mut self, outcome: Outcome) -> SendError {
        let name = self.line.name();
        match outcome {
            Outcome::Queued => SendError::Queued(Held { relay: name, ttl: self.line.ttl() }),
            Outcome::NotTaken(ErrorCode::MailboxFull) => {
                SendError::Dial(DialError::MailboxFull(name))
            }
            Outcome::NotTaken(_) => SendError::Dial(DialError::RelayFull(name)),
            Outcome::Declined => SendError::Declined(0, String::new()),
            Outcome::Delivered | Outcome::Unconfirmed => match (self.line.address(), self.link) {
                (Some(address), Some(_)) => {
                    SendError::CutOff(address, Cut::Silence(self.patience.silence))
                }
                (Some(address), None) => SendError::CutOff(address, Cut::Closed),
                (None, _) => SendError::Dial(self.line.give_up()),
            },
        }
    }

    fn over(&mut self) -> Result<Delivered, SendError> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(Delivered { address: self.line.address(), total: self.total }),
        }
    }
}

/// What is about to go into several packets.
fn about(letter: &Letter) -> Crossing {
    let len = letter.body.len();
    let what = if letter.kind == Kind::Item { "ITEM" } else { "MESSAGE" };
    // An item begins with its META, which is no text.
    let content = if letter.kind == Kind::Item { &[][..] } else { &letter.body };
    Crossing {
        outgoing: true,
        wire_len: 0,
        wire_head: Vec::new(),
        meaning: format!("{what}, {len} bytes"),
        content: content[..content.len().min(crate::proto::stream::link::TRACE_BYTES)].to_vec(),
    }
}

impl Peer for Post<'_> {
    fn on_event(&mut self, event: &Event) {
        self.line.on_event(event);
    }

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        self.advance(hub, limits).unwrap_or_else(|e| Turn::Over(Err(e)))
    }

    fn deadline(&self, _: &Limits<'_>) -> Duration {
        let posting = self.posting.as_ref().and_then(Posting::deadline);
        posting.map_or(self.line.deadline(), |at| at.min(self.line.deadline()))
    }

    /// What the relay holds it goes on holding.
    fn stop(&mut self, _: &Hub) {}

    fn too_slow(&mut self, _: &Hub, behind: u64) -> SendError {
        match self.line.address() {
            Some(address) => SendError::CutOff(address, Cut::TooSlow(behind)),
            None => SendError::Dial(self.line.give_up()),
        }
    }
}
