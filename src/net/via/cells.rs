//! To one peer, wherever it is: by a stream to one of its own addresses; else by a relay, in cells
//! if it fits them, and by a circuit if it does not. PROTOCOL.md, 5.5 and 5.6.

use std::io;
use std::time::Duration;

use mio::Token;
use mio::event::Event;

use super::members::Members;
use super::muster::Muster;
use super::post::{Letters, Post, Single};
use super::{Place, To};
use crate::crypto::sodium::random;
use crate::net::call::Call;
use crate::net::dial::{Calling, DialError, silent};
use crate::net::feed::{Feed, OneMessage};
use crate::net::hub::Hub;
use crate::net::input::{Got, Input};
use crate::net::send::{Limits, SendError, Stream, Task};
use crate::net::several::{Peer, Turn};
use crate::net::tokens::Topic;
use crate::proto::datagram::packet::{MAX_MESSAGE, MessageId};
use crate::proto::relay::posting::Patience;
use crate::proto::stream::meta::Meta;

/// Input that has not ended by then flows through a circuit.
const GATHER: Duration = Duration::from_millis(200);

/// What is sent.
pub enum Cargo {
    /// Nothing: is the peer there?
    Ping,
    /// All that the input gives, as one message that begins with this META if it is a stream.
    Input(Input, Meta),
    /// Files and folders; as single messages, too, if they are small.
    Files(Feeds, Option<Box<dyn Letters>>),
}

/// Gives what is said to one recipient, and the same again to another.
pub type Feeds = Box<dyn FnMut() -> io::Result<Box<dyn Feed>>>;

impl Cargo {
    fn task(self) -> Result<Task, SendError> {
        Ok(match self {
            Self::Ping => Task::Ping,
            Self::Input(input, meta) => Task::Say(Box::new(OneMessage::new(meta, input))),
            Self::Files(mut feed, _) => Task::Say(feed().map_err(SendError::Local)?),
        })
    }
}

/// How long a peer may take, and what it registers as.
#[derive(Clone, Copy)]
pub struct Terms {
    /// It may be silent for so long, once it was heard.
    pub silence: Duration,
    /// By a relay: it may take so long to be heard.
    pub answer: Duration,
    /// Its number among the recipients, by which its connections register.
    pub peer: usize,
}

impl Terms {
    fn token(&self) -> Token {
        Topic::Peer(self.peer).token()
    }
}

/// A peer that is spoken to by whatever way leads to it.
pub struct Dispatch<'a> {
    call: &'a Call<'a>,
    terms: Terms,
    /// Its places at relays.
    relayed: Vec<Place>,
    /// It has addresses of its own.
    direct: bool,
    /// Why they did not lead to it.
    failure: Option<DialError>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    /// Its own addresses are called.
    Calling(Box<Calling<&'a Call<'a>>>, Option<Cargo>),
    /// Is the input short?
    Gathering(Box<Gather>),
    /// It is told.
    Talking(Box<Stream<'a>>),
    /// Its mailbox is written to.
    Posting(Box<Post<'a>>),
    /// It is a group: who is there?
    Mustering(Box<Muster<'a>>, Option<Cargo>),
    /// Those are told.
    Members(Box<Members<'a>>),
    /// It could not be told anything.
    Over,
}

struct Gather {
    input: Input,
    meta: Meta,
    bytes: Vec<u8>,
    until: Duration,
}

impl<'a> Dispatch<'a> {
    /// `cargo` to whom `call` says, at one of `places`.
    pub fn new(call: &'a Call<'a>, places: &[Place], cargo: Cargo, terms: Terms) -> Self {
        let (relayed, direct): (Vec<_>, Vec<_>) =
            places.iter().cloned().partition(|place| place.via.is_some());
        let calling = Calling::new(call, &direct, terms.token());
        let stage = Stage::Calling(Box::new(calling), Some(cargo));
        Self { call, terms, relayed, direct: !direct.is_empty(), failure: None, stage }
    }

    fn advance(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Result<(), SendError> {
        if let Stage::Calling(calling, cargo) = &mut self.stage {
            match calling.advance(hub) {
                Ok(None) => return Ok(()),
                Ok(Some(dialed)) => {
                    let Some(cargo) = cargo.take() else { return Ok(()) };
                    let stream = Stream::dialed(dialed, cargo.task()?, self.terms.silence);
                    self.stage = Stage::Talking(Box::new(stream));
                }
                Err(why) if self.relayed.is_empty() => return Err(SendError::Dial(why)),
                Err(why) => {
                    let Some(cargo) = cargo.take() else { return Ok(()) };
                    self.failure = self.direct.then_some(why);
                    self.relay(cargo, hub)?;
                }
            }
        }
        if let Stage::Gathering(gather) = &mut self.stage {
            let Some(ended) = gather.advance(hub)? else { return Ok(()) };
            self.gathered(ended)?;
        }
        if let Stage::Mustering(muster, cargo) = &mut self.stage {
            let there = muster.advance(hub, limits).map_err(SendError::Dial)?;
            let Some(there) = there else { return Ok(()) };
            let Some(cargo) = cargo.take() else { return Ok(()) };
            let Terms { silence, peer, .. } = self.terms;
            let members = Members::call(self.call, &self.relayed, &there, cargo, silence, peer)?;
            self.stage = Stage::Members(Box::new(members));
        }
        Ok(())
    }

    /// Nothing was said yet: the relay is to have it.
    fn relay(&mut self, cargo: Cargo, hub: &Hub) -> Result<(), SendError> {
        match cargo {
            Cargo::Input(input, mut meta) => {
                // One id for both ways.
                meta.id = MessageId { run: random(), sequence: 0 }.to_bytes();
                input.by_relay();
                input.begin(meta.id);
                let until = hub.clock.now().mono + GATHER;
                let gather = Gather { input, meta, bytes: Vec::new(), until };
                self.stage = Stage::Gathering(Box::new(gather));
            }
            Cargo::Files(_, Some(letters)) => self.post(letters),
            other => self.circuit(other)?,
        }
        Ok(())
    }

    fn gathered(&mut self, ended: bool) -> Result<(), SendError> {
        let Stage::Gathering(gather) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let Gather { input, meta, bytes, .. } = *gather;
        if ended {
            let mut run = [0; 8];
            run.copy_from_slice(&meta.id[..8]);
            self.post(Box::new(Single::new(MessageId { run, sequence: 0 }, bytes)));
            return Ok(());
        }
        self.circuit(Cargo::Input(input.after(bytes), meta))
    }

    fn post(&mut self, letters: Box<dyn Letters>) {
        let Terms { silence, answer, .. } = self.terms;
        let patience = Patience { answer, silence };
        let post =
            Post::new(self.call, self.relayed.clone(), letters, patience, self.terms.token());
        self.stage = post.map_or(Stage::Over, |post| Stage::Posting(Box::new(post)));
    }

    fn circuit(&mut self, cargo: Cargo) -> Result<(), SendError> {
        let (silence, token) = (self.terms.silence, self.terms.token());
        let is_group = |place: &Place| place.via.as_ref().is_some_and(|via| via.to == To::Group);
        if self.relayed.iter().any(is_group) && !matches!(cargo, Cargo::Ping) {
            let muster = Muster::new(self.call, self.relayed.clone(), token);
            self.stage = Stage::Mustering(Box::new(muster), Some(cargo));
            return Ok(());
        }
        let stream = Stream::new(self.call, &self.relayed, cargo.task()?, silence, token);
        self.stage = Stage::Talking(Box::new(stream));
        Ok(())
    }

    /// What is known of its own addresses counts too.
    fn better(&mut self, error: SendError) -> SendError {
        match error {
            SendError::Dial(why) => SendError::Dial(why.or_better(self.failure.take())),
            other => other,
        }
    }
}

impl Gather {
    /// Whether the input has ended with what fits a message; `None`: not known yet.
    fn advance(&mut self, hub: &Hub) -> Result<Option<bool>, SendError> {
        while self.bytes.len() <= MAX_MESSAGE {
            let len = self.bytes.len();
            self.bytes.resize(MAX_MESSAGE + 1, 0);
            let got = self.input.read(&mut self.bytes[len..]);
            self.bytes.truncate(len + if let Ok(Got::Bytes(n)) = got { n } else { 0 });
            match got.map_err(SendError::Input)? {
                Got::Bytes(_) => {}
                Got::End => return Ok(Some(true)),
                Got::Later if hub.clock.now().mono < self.until => return Ok(None),
                Got::Later => return Ok(Some(false)),
            }
        }
        Ok(Some(false))
    }
}

impl Peer for Dispatch<'_> {
    fn on_event(&mut self, event: &Event) {
        match &mut self.stage {
            Stage::Calling(calling, _) => calling.on_event(event),
            Stage::Talking(stream) => stream.on_event(event),
            Stage::Posting(post) => post.on_event(event),
            Stage::Mustering(muster, _) => muster.on_event(event),
            Stage::Members(members) => members.on_event(event),
            Stage::Gathering(_) | Stage::Over => {}
        }
    }

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        if let Err(e) = self.advance(hub, limits) {
            return Turn::Over(Err(e));
        }
        let turn = match &mut self.stage {
            Stage::Calling(..) | Stage::Gathering(_) | Stage::Mustering(..) => Turn::Wait,
            Stage::Talking(stream) => stream.turn(hub, limits),
            Stage::Posting(post) => post.turn(hub, limits),
            Stage::Members(members) => members.turn(hub, limits),
            Stage::Over => Turn::Over(Err(SendError::Dial(DialError::Nobody(String::new())))),
        };
        match turn {
            Turn::Over(Err(e)) => Turn::Over(Err(self.better(e))),
            turn => turn,
        }
    }

    fn deadline(&self, limits: &Limits<'_>) -> Duration {
        match &self.stage {
            Stage::Calling(calling, _) => calling.deadline(),
            Stage::Gathering(gather) => gather.until,
            Stage::Talking(stream) => stream.deadline(limits),
            Stage::Posting(post) => post.deadline(limits),
            Stage::Mustering(muster, _) => muster.deadline(),
            Stage::Members(members) => members.deadline(limits),
            Stage::Over => Duration::ZERO,
        }
    }

    fn stop(&mut self, hub: &Hub) {
        match &mut self.stage {
            Stage::Talking(stream) => stream.stop(hub),
            Stage::Posting(post) => post.stop(hub),
            Stage::Members(members) => members.stop(hub),
            Stage::Calling(..) | Stage::Gathering(_) | Stage::Mustering(..) | Stage::Over => {}
        }
    }

    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError {
        match &mut self.stage {
            Stage::Calling(calling, _) => SendError::Dial(calling.give_up(hub.clock.now())),
            Stage::Talking(stream) => stream.too_slow(hub, behind),
            Stage::Posting(post) => post.too_slow(hub, behind),
            Stage::Mustering(muster, _) => SendError::Dial(muster.give_up()),
            Stage::Members(members) => members.too_slow(hub, behind),
            Stage::Gathering(_) | Stage::Over => SendError::Dial(DialError::NotFound(silent())),
        }
    }
}
