//! Who of a group listens at a relay now: one PROBE into the group's mailbox, and the programs that
//! answer it. PROTOCOL.md, 5.6.

use std::time::Duration;

use mio::Token;
use mio::event::Event;

use super::Place;
use super::line::{Line, News};
use crate::crypto::noise::HASH_LEN;
use crate::crypto::sodium::OsRandom;
use crate::net::call::Call;
use crate::net::dial::DialError;
use crate::net::hub::Hub;
use crate::net::send::Limits;
use crate::proto::datagram::packet::{PACKET_LEN, Sealer, Way};
use crate::proto::datagram::presence::{INSTANCE_LEN, instance};
use crate::proto::datagram::probe::{EMPTY_MAP, Question};
use crate::proto::relay::cell::{Address, Cell, Command};
use crate::proto::relay::mailbox::{Channel, Reader, epoch};
use crate::proto::time::Now;

/// Who is there answers within this.
const ROLL_CALL: Duration = Duration::from_secs(1);
/// The most programs that are written to at once.
const MOST: usize = 64;

/// Names one of several programs under one key.
pub type Instance = [u8; INSTANCE_LEN];

/// The question, and who answered.
pub struct Muster<'a> {
    call: &'a Call<'a>,
    line: Line,
    question: Question,
    receipts: Option<Address>,
    there: Vec<Instance>,
    /// When it is over.
    until: Option<Duration>,
}

impl<'a> Muster<'a> {
    /// Asks those who hold the key that `call` names, at one of `places`; registers as `token`.
    pub fn new(call: &'a Call<'a>, places: Vec<Place>, token: Token) -> Self {
        Self {
            call,
            line: Line::new(places, token, call.patience),
            question: Question::new(call.me.public(), &mut OsRandom),
            receipts: None,
            there: Vec::new(),
            until: None,
        }
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        self.line.on_event(event);
    }

    /// Goes on. Who is there, once that is known.
    ///
    /// # Errors
    /// When no relay is reached, or nobody is there.
    pub fn advance(
        &mut self,
        hub: &Hub,
        limits: &mut Limits<'_>,
    ) -> Result<Option<Vec<Instance>>, DialError> {
        let now = hub.clock.now();
        let Self { call, line, question, receipts, there, .. } = self;
        let news = line.advance(hub, limits, |cell| {
            if cell.command == Command::Cell && Some(cell.address) == *receipts {
                there.extend(answer(call, question, cell, now).filter(|one| !there.contains(one)));
                there.truncate(MOST);
            }
            Ok(())
        })?;
        if let News::Linked { challenge, hash, .. } = news {
            self.ask(&challenge, &hash, now, limits);
        }
        if self.until.is_none_or(|until| now.mono < until) {
            return Ok(None);
        }
        match self.there.is_empty() {
            true => Err(DialError::Nobody(self.line.name())),
            false => Ok(Some(std::mem::take(&mut self.there))),
        }
    }

    fn ask(
        &mut self,
        challenge: &[u8; 32],
        hash: &[u8; HASH_LEN],
        now: Now,
        limits: &mut Limits<'_>,
    ) {
        self.until.get_or_insert(now.mono + ROLL_CALL);
        let Call { me, peer, access, .. } = self.call;
        let today = epoch(now.unix_ms);
        let receipts = Channel::receipts(self.question.ack_key(), self.question.id());
        let receipts = receipts.at(me.public(), today);
        let mailbox = Channel::open(access).at(peer, today);
        let reader = Reader::new(me, challenge);
        let (Some(receipts), Some(mailbox), Some(reader)) = (receipts, mailbox, reader) else {
            return;
        };
        let Some(proof) = reader.prove(&receipts, hash) else { return };
        let address = receipts.address;
        self.receipts = Some(address);
        let subscribe = Cell { address, body: &proof, ..Cell::new(Command::Subscribe) };
        self.line.send(&subscribe, now, limits);
        let mut packet = [0; PACKET_LEN];
        let sealer = Sealer::new(me, peer, access);
        self.question.packet(&sealer, Way::Relay, EMPTY_MAP, now, &mut OsRandom, &mut packet);
        self.line.send(&Cell::post(1, mailbox.address, &packet).volatile(), now, limits);
        self.line.pour();
    }

    /// Nobody waits for it any longer.
    pub fn give_up(&mut self) -> DialError {
        self.line.give_up()
    }

    /// When [`Muster::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.until.map_or(self.line.deadline(), |until| until.min(self.line.deadline()))
    }
}

/// Which program says in `cell` that it is there.
fn answer(call: &Call<'_>, question: &Question, cell: &Cell<'_>, now: Now) -> Option<Instance> {
    let packet = cell.packet().filter(|packet| question.recognises(packet))?;
    let here = question.open(Way::Relay, call.me, &call.peer, packet, now, &[])?;
    instance(here.body())
}
