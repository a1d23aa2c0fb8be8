//! Reaching a peer by a circuit: a link to the relay, MEET into the peer's mailbox, CONNECT, and then
//! a stream as if the peer had been dialled. PROTOCOL.md, 5.6.

use std::io;
use std::time::Duration;

use mio::net::TcpStream;

use super::Through;
use super::link::{Linked, Linking, read_cell, write_some};
use crate::crypto::sodium::{OsRandom, random};
use crate::net::call::{Call, Handshake};
use crate::net::dial::{NoProof, NotOpened};
use crate::proto::datagram::meet::Meet;
use crate::proto::datagram::packet::{PACKET_LEN, Sealer};
use crate::proto::relay::cell::{Cell, Command, ErrorCode};
use crate::proto::relay::link::CellLink;
use crate::proto::relay::mailbox::{Channel, epoch};
use crate::proto::stream::record::Violation;
use crate::proto::time::Now;

/// A call that was begun.
pub enum Underway {
    /// The handshake with the peer.
    Direct(Box<Handshake>),
    /// What comes before it, at a relay.
    Relayed(Box<Circuit>),
}

impl Underway {
    /// By a relay.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub(in crate::net) fn to(through: &Through, call: &Call<'_>, now: Now) -> io::Result<Self> {
        let linking = Linking::begin(&through.relay, now)?;
        let channels = through.channels(call.me, &call.peer, &call.access);
        Ok(Self::Relayed(Box::new(Circuit {
            stage: Stage::Linking(Box::new(linking)),
            meet: Meet { rendezvous: random(), instance: through.instance },
            channels,
        })))
    }
}

/// A circuit that nobody has joined yet.
pub struct Circuit {
    stage: Stage,
    meet: Meet,
    channels: (Channel, Option<Channel>),
}

enum Stage {
    Linking(Box<Linking>),
    /// MEET and CONNECT are on their way, or were heard.
    Waiting(Box<CellLink>),
}

impl Circuit {
    /// Goes as far as it can; whether the peer is there.
    pub(in crate::net) fn advance(
        &mut self,
        call: &Call<'_>,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<bool, NotOpened> {
        if let Stage::Linking(linking) = &mut self.stage {
            let linked = linking.advance(socket, now).map_err(NotOpened::Relay)?;
            let Some(Linked { mut link, .. }) = linked else { return Ok(false) };
            // To both mailboxes at once: a link that waits for its circuit says nothing more.
            let (first, second) = &self.channels;
            let mailboxes = std::iter::once(first).chain(second);
            mailboxes.for_each(|channel| self.post(channel, call, &mut link, now));
            let connect = Cell { body: &self.meet.rendezvous, ..Cell::new(Command::Connect) };
            link.send(&connect, now);
            self.stage = Stage::Waiting(Box::new(link));
        }
        let Stage::Waiting(link) = &mut self.stage else { return Ok(false) };
        pour(link, socket).map_err(NotOpened::Relay)?;
        wait(link, socket, now)
    }

    fn post(&self, channel: &Channel, call: &Call<'_>, link: &mut CellLink, now: Now) {
        let Some(mailbox) = channel.at(&call.peer, epoch(now.unix_ms)) else { return };
        let sealer = Sealer::new(call.me, &call.peer, &call.access);
        let mut packet = [0; PACKET_LEN];
        self.meet.seal(&sealer, now, &mut OsRandom, &mut packet);
        link.send(&Cell::post(0, mailbox.address, &packet).volatile(), now);
    }

    /// Nothing has come of it.
    pub(in crate::net) fn late(&self, waited: Duration) -> NotOpened {
        match &self.stage {
            Stage::Linking(linking) => NotOpened::Relay(linking.late(waited)),
            Stage::Waiting(..) => NotOpened::Nobody,
        }
    }
}

/// Writes what the socket takes.
pub(in crate::net) fn pour(link: &mut CellLink, socket: &mut TcpStream) -> Result<(), NoProof> {
    let mut pending = link.pending().to_vec();
    let before = pending.len();
    write_some(socket, &mut pending)?;
    link.consumed(before - pending.len());
    Ok(())
}

/// Whether the relay has joined us with somebody. Reads nothing of what follows.
pub(in crate::net) fn wait(
    link: &mut CellLink,
    socket: &mut TcpStream,
    now: Now,
) -> Result<bool, NotOpened> {
    while let Some(bytes) = read_cell(socket, link).map_err(NotOpened::Relay)? {
        let mut answer = Ok(false);
        let fed = link.feed(&bytes, now, |cell| match cell.command {
            Command::Joined => {
                answer = Ok(true);
                Ok(())
            }
            Command::Error => {
                if let Some(why) = refused(cell.body) {
                    answer = Err(why);
                }
                Ok(())
            }
            Command::Ack | Command::Noop => Ok(()),
            _ => Err(Violation::OutOfOrder),
        });
        fed.map_err(|_| NotOpened::Relay(NoProof::WrongAnswer))?;
        if answer? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What an ERROR means for a circuit. That a mailbox takes no MEET leaves it to the others.
fn refused(body: &[u8]) -> Option<NotOpened> {
    match body.first().copied().and_then(ErrorCode::from_byte) {
        Some(ErrorCode::Nobody) => Some(NotOpened::Nobody),
        Some(ErrorCode::RelayFull) => Some(NotOpened::RelayFull),
        Some(ErrorCode::MailboxFull | ErrorCode::TooMany) | None => None,
    }
}
