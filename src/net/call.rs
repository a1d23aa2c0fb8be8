//! Calling a peer: the handshake, to message 2, over a connection to its own address or over a circuit
//! of a relay.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;

use super::dial::{NoProof, NotOpened, Opening};
use super::via::Place;
use super::via::circuit::Underway;
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::proto::stream::handshake::{CONFIRM_LEN, Initiator, REPLY_LEN};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::stream::session::Session;
use crate::proto::time::Now;

/// Who is called, and who calls.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The key that calls.
    pub me: &'a KeyPair,
    /// The key that is called.
    pub peer: PublicKey,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// How long it may take: [`super::dial::CONNECT_TIME`], or the user's own patience if that is shorter.
    pub patience: Duration,
    /// Note what crosses the wire.
    pub trace: bool,
}

/// The initiator's half of the handshake.
pub struct Handshake {
    initiator: Option<Initiator>,
    hello: Vec<u8>,
    opening: Crossing,
    reply: Vec<u8>,
}

impl Opening for Call<'_> {
    type Underway = Underway;
    type Opened = Link;

    fn patience(&self) -> Duration {
        self.patience
    }

    fn begin(&self, place: &Place, now: Now) -> io::Result<Underway> {
        match &place.via {
            Some(through) => Underway::to(through, self, now),
            None => Ok(Underway::Direct(Box::new(self.handshake(now)?))),
        }
    }

    fn advance(
        &self,
        underway: &mut Underway,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<Link>, NotOpened> {
        if let Underway::Relayed(circuit) = underway {
            if !circuit.advance(self, socket, now)? {
                return Ok(None);
            }
            let begun = self.handshake(now).map_err(|_| NoProof::Closed)?;
            *underway = Underway::Direct(Box::new(begun));
        }
        let Underway::Direct(handshake) = underway else { return Ok(None) };
        self.shake(handshake, socket, now).map_err(NotOpened::from)
    }

    fn late(&self, underway: &Underway, waited: Duration) -> NotOpened {
        match underway {
            Underway::Direct(_) => NoProof::Silence(waited).into(),
            Underway::Relayed(circuit) => circuit.late(waited),
        }
    }
}

impl Call<'_> {
    fn handshake(&self, now: Now) -> io::Result<Handshake> {
        Handshake::begin(self.me, &self.peer, &self.access, now)
    }

    fn shake(
        &self,
        underway: &mut Handshake,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<Link>, NoProof> {
        let Some((session, confirm)) = underway.shake(socket)? else { return Ok(None) };
        let mut link = Link::new(session, now, self.trace);
        let reply = &underway.reply;
        link.note([
            underway.opening.clone(),
            Crossing::handshake(false, reply.len(), reply, "handshake 2: I hold the key"),
            Crossing::handshake(true, confirm.len(), &confirm[..], "handshake 3: this is who I am"),
        ]);
        link.send_raw(&confirm);
        Ok(Some(link))
    }
}

impl Handshake {
    /// Of a call by `me` to the holder of `peer`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub(super) fn begin(
        me: &KeyPair,
        peer: &PublicKey,
        access: &[u8; 32],
        now: Now,
    ) -> io::Result<Self> {
        let (initiator, hello) = Initiator::start(me, peer, access, now.unix_ms)
            .map_err(|_| io::Error::other("the cryptographic library failed"))?;
        let reply = Vec::with_capacity(REPLY_LEN);
        let meaning = "handshake 1: I hold your public key file";
        let opening = Crossing::handshake(true, hello.len(), &hello[..], meaning);
        Ok(Self { initiator: Some(initiator), hello: hello.to_vec(), opening, reply })
    }

    /// Writes message 1 and reads message 2; then the session, and message 3.
    pub(super) fn shake(
        &mut self,
        socket: &mut TcpStream,
    ) -> Result<Option<(Session, [u8; CONFIRM_LEN])>, NoProof> {
        self.write_hello(socket)?;
        self.read_reply(socket)
    }

    fn write_hello(&mut self, socket: &mut TcpStream) -> Result<(), NoProof> {
        while !self.hello.is_empty() {
            match socket.write(&self.hello) {
                Ok(n) => drop(self.hello.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(NoProof::Closed),
            }
        }
        Ok(())
    }

    /// The session, and message 3, once message 2 is there.
    fn read_reply(
        &mut self,
        socket: &mut TcpStream,
    ) -> Result<Option<(Session, [u8; CONFIRM_LEN])>, NoProof> {
        let mut space = [0; REPLY_LEN];
        while self.reply.len() < REPLY_LEN {
            match socket.read(&mut space[..REPLY_LEN - self.reply.len()]) {
                Ok(0) => return Err(NoProof::Closed),
                Ok(n) => self.reply.extend_from_slice(&space[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(NoProof::Closed),
            }
        }
        space.copy_from_slice(&self.reply);
        match self.initiator.take().map(|initiator| initiator.confirm(&space)) {
            Some(Ok(proved)) => Ok(Some(proved)),
            _ => Err(NoProof::WrongAnswer),
        }
    }
}
