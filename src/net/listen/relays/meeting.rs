//! Callers who wait for us at a relay: a link of its own to the relay, CONNECT, and then a connection
//! like any that was accepted. PROTOCOL.md, 5.6.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;

use crate::net::dial::{CONNECT_TIME, Calling, Dialed, NotOpened, Opening};
use crate::net::hub::Hub;
use crate::net::tokens::Topic;
use crate::net::via::circuit::{pour, wait};
use crate::net::via::link::{Linked, Linking};
use crate::net::via::{Place, Relay};
use crate::proto::relay::cell::{Cell, Command, RENDEZVOUS_LEN};
use crate::proto::relay::link::CellLink;
use crate::proto::time::Now;
use crate::sched::limits::PER_CONTACT;
use crate::sched::party::Party;

/// Callers that are met at once.
const MAX_MEETINGS: usize = 128;
/// The same of one party.
const MAX_OF_PARTY: usize = 32;
/// Callers that wait to be met; beyond, a MEET is dropped.
const MAX_WAITING: usize = 2048;
/// The same of one party: as many as have seats, and as many again.
const MAX_WAITING_OF_PARTY: usize = 2 * PER_CONTACT;
/// A caller waits at its relay for so long.
const CALLER_WAITS: Duration = Duration::from_secs(30);
/// A caller whose MEET came has said CONNECT behind it: if the relay does not join us within this,
/// it has gone.
const JOIN_TIME: Duration = Duration::from_secs(5);

/// A call to a relay at which somebody waits.
#[derive(Clone)]
pub struct MeetCall {
    relay: Rc<Relay>,
    rendezvous: [u8; RENDEZVOUS_LEN],
}

/// How far it is.
pub enum Underway {
    /// The relay is to let us in.
    Linking(Box<Linking>),
    /// It is to join us with the caller, until then.
    Waiting(Box<CellLink>, Duration),
}

impl Opening for MeetCall {
    type Underway = Underway;
    type Opened = ();

    fn patience(&self) -> Duration {
        CONNECT_TIME
    }

    fn begin(&self, _: &Place, now: Now) -> io::Result<Underway> {
        Linking::begin(&self.relay, now).map(|linking| Underway::Linking(Box::new(linking)))
    }

    fn advance(
        &self,
        underway: &mut Underway,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<()>, NotOpened> {
        if let Underway::Linking(linking) = underway {
            let linked = linking.advance(socket, now).map_err(NotOpened::Relay)?;
            let Some(Linked { mut link, .. }) = linked else { return Ok(None) };
            link.send(&Cell { body: &self.rendezvous, ..Cell::new(Command::Connect) }, now);
            *underway = Underway::Waiting(Box::new(link), now.mono + JOIN_TIME);
        }
        let Underway::Waiting(link, until) = underway else { return Ok(None) };
        pour(link, socket).map_err(NotOpened::Relay)?;
        match wait(link, socket, now)? {
            true => Ok(Some(())),
            false if now.mono < *until => Ok(None),
            false => Err(NotOpened::Nobody),
        }
    }

    fn deadline(&self, underway: &Underway) -> Option<Duration> {
        match underway {
            Underway::Linking(_) => None,
            Underway::Waiting(_, until) => Some(*until),
        }
    }
}

/// Somebody who waits for us at a relay, and is not met yet.
struct Caller {
    party: Party,
    call: MeetCall,
    until: Duration,
}

/// Who is met: circuits that are not joined yet, by the token that their connection will have, and
/// those who wait for their turn.
#[derive(Default)]
pub struct Meetings {
    underway: BTreeMap<usize, (Party, Calling<MeetCall>)>,
    /// In the order in which they came.
    waiting: VecDeque<Caller>,
}

impl Meetings {
    /// A caller of `party` waits for us at `relay`. It is met when its turn comes, unless too many
    /// wait: then nobody comes to it.
    pub fn ask(
        &mut self,
        party: Party,
        relay: &Rc<Relay>,
        rendezvous: [u8; RENDEZVOUS_LEN],
        now: Now,
    ) {
        let of_party = self.waiting.iter().filter(|caller| caller.party == party).count();
        if self.waiting.len() < MAX_WAITING && of_party < MAX_WAITING_OF_PARTY {
            let call = MeetCall { relay: Rc::clone(relay), rendezvous };
            self.waiting.push_back(Caller { party, call, until: now.mono + CALLER_WAITS });
        }
    }

    /// Whether somebody waits to be met.
    pub fn are_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Goes to meet those whose turn it is, `most` at once or fewer; `token` gives each connection
    /// its own.
    pub fn begin(&mut self, most: usize, now: Now, mut token: impl FnMut() -> usize) {
        self.waiting.retain(|caller| now.mono < caller.until);
        while self.underway.len() < MAX_MEETINGS.min(most) {
            let Some(Caller { party, call, .. }) = self.next() else { return };
            let (token, places) = (token(), call.relay.places());
            let calling = Calling::new(call, &places, Topic::Connection(token).token());
            self.underway.insert(token, (party, calling));
        }
    }

    /// Of the parties with fewest meetings the caller that came first.
    fn next(&mut self) -> Option<Caller> {
        let mut met = BTreeMap::<Party, usize>::new();
        self.underway.values().for_each(|(party, _)| *met.entry(*party).or_default() += 1);
        let met = |caller: &Caller| met.get(&caller.party).copied().unwrap_or(0);
        let waiting = self.waiting.iter().enumerate();
        let may = waiting.map(|(n, caller)| (met(caller), n));
        let (_, n) = may.filter(|(met, _)| *met < MAX_OF_PARTY).min()?;
        self.waiting.remove(n)
    }

    /// Takes note of an event; whether it was for one of these.
    pub fn on_event(&mut self, token: usize, event: &Event) -> bool {
        let meeting = self.underway.get_mut(&token);
        meeting.is_some_and(|(_, calling)| {
            calling.on_event(event);
            true
        })
    }

    /// Goes on with all of them: the connections of those that were joined, by token. Of the others
    /// nobody needs to know: who waits for us is told by the relay.
    pub fn advance(&mut self, hub: &Hub) -> Vec<(usize, Dialed<()>)> {
        let mut joined = Vec::new();
        self.underway.retain(|token, (_, calling)| match calling.advance(hub) {
            Ok(None) => true,
            Ok(Some(dialed)) => {
                joined.push((*token, dialed));
                false
            }
            Err(_) => false,
        });
        joined
    }

    /// When [`Meetings::advance`] has something to do without news.
    pub fn deadline(&self) -> Option<Duration> {
        self.underway.values().map(|(_, calling)| calling.deadline()).min()
    }

    /// Nobody is met any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
