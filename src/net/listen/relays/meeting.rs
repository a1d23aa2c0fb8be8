//! Callers who wait for us at a relay: a link of its own to the relay, CONNECT, and then a connection
//! like any that was accepted. PROTOCOL.md, 5.6.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;
use mio::event::Event;
use mio::net::TcpStream;

use crate::crypto::sodium::PublicKey;
use crate::net::dial::{CONNECT_TIME, Calling, Dialed, NotOpened, Opening};
use crate::net::hub::Hub;
use crate::net::via::circuit::{pour, wait};
use crate::net::via::link::{Linked, Linking};
use crate::net::via::{Place, Relay};
use crate::proto::relay::cell::{Cell, Command, RENDEZVOUS_LEN};
use crate::proto::relay::link::CellLink;
use crate::proto::time::Now;

/// Circuits that are joined at once.
const MAX_MEETINGS: usize = 64;
/// The same with one caller.
const MAX_WITH_ONE: usize = 8;

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
    /// It is to join us with the caller.
    Waiting(Box<CellLink>),
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
            *underway = Underway::Waiting(Box::new(link));
        }
        let Underway::Waiting(link) = underway else { return Ok(None) };
        pour(link, socket).map_err(NotOpened::Relay)?;
        Ok(wait(link, socket, now)?.then_some(()))
    }
}

/// Circuits that are not joined yet, by the token that their connection will have.
#[derive(Default)]
pub struct Meetings(BTreeMap<usize, (PublicKey, Calling<MeetCall>)>);

impl Meetings {
    /// Goes to meet `caller`, unless too many are met already: it gives up, and may try again.
    pub fn begin(
        &mut self,
        token: usize,
        relay: &Rc<Relay>,
        caller: PublicKey,
        rendezvous: [u8; RENDEZVOUS_LEN],
    ) {
        let with_it = self.0.values().filter(|(with, _)| *with == caller).count();
        if self.0.len() < MAX_MEETINGS && with_it < MAX_WITH_ONE {
            let call = MeetCall { relay: Rc::clone(relay), rendezvous };
            let calling = Calling::new(call, &relay.places(), Token(token));
            self.0.insert(token, (caller, calling));
        }
    }

    /// Takes note of an event; whether it was for one of these.
    pub fn on_event(&mut self, token: usize, event: &Event) -> bool {
        let meeting = self.0.get_mut(&token);
        meeting.is_some_and(|(_, calling)| {
            calling.on_event(event);
            true
        })
    }

    /// Goes on with all of them: the connections of those that were joined, by token. Of the others
    /// nobody needs to know: who waits for us is told by the relay.
    pub fn advance(&mut self, hub: &Hub) -> Vec<(usize, Dialed<()>)> {
        let mut joined = Vec::new();
        self.0.retain(|token, (_, calling)| match calling.advance(hub) {
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
        self.0.values().map(|(_, calling)| calling.deadline()).min()
    }

    /// Nobody is met any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
