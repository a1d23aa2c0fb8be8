//! Dialling a relay, up to its WELCOME: a link that carries cells. PROTOCOL.md, 5.1.

use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use mio::net::TcpStream;

use super::{Place, Relay};
use crate::crypto::sodium::{KeyPair, random};
use crate::net::call::Handshake;
use crate::net::dial::{NoProof, NotOpened, Opening};
use crate::proto::relay::cell::WIRE_LEN;
use crate::proto::relay::link::CellLink;
use crate::proto::stream::meta::Welcome;
use crate::proto::stream::record::Kind;
use crate::proto::stream::session::{Session, plain_buffer};
use crate::proto::time::Now;

/// The longest TTL that a relay may have, in seconds: 30 days.
pub const MAX_TTL_S: u64 = 30 * 86_400;
/// Whoever says nothing for so long says NOOP.
const NOOP_AFTER: Duration = Duration::from_secs(60);
/// Whoever is not heard for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(150);
/// The longest WELCOME that is read, in bytes on the wire.
const MAX_WELCOME: usize = 4096;

/// A link whose relay has proved its key and let us in.
pub struct Linked {
    /// Carries the cells.
    pub link: CellLink,
    /// What the right to read is proved against.
    pub challenge: [u8; 32],
    /// For how long the relay holds cells.
    pub ttl: Duration,
}

/// A link under way.
pub struct Linking {
    stage: Stage,
    /// The WELCOME that is coming in.
    welcome: Vec<u8>,
}

enum Stage {
    Shaking(Box<Handshake>),
    Confirming(Box<Session>, Vec<u8>),
    Done,
}

impl Linking {
    /// Of a throwaway key, to `relay`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn begin(relay: &Relay, now: Now) -> io::Result<Self> {
        let me = KeyPair::generate();
        let handshake = Handshake::begin(&me, &relay.public, &relay.access, now)?;
        Ok(Self { stage: Stage::Shaking(Box::new(handshake)), welcome: Vec::new() })
    }

    /// Goes as far as it can. Reads nothing beyond WELCOME.
    ///
    /// # Errors
    /// What the relay did instead.
    pub fn advance(&mut self, socket: &mut TcpStream, now: Now) -> Result<Option<Linked>, NoProof> {
        if let Stage::Shaking(handshake) = &mut self.stage {
            let Some((session, confirm)) = handshake.shake(socket)? else { return Ok(None) };
            self.stage = Stage::Confirming(Box::new(session), confirm.to_vec());
        }
        let Stage::Confirming(_, confirm) = &mut self.stage else { return Ok(None) };
        write_some(socket, confirm)?;
        if !read_record(socket, &mut self.welcome)? {
            return Ok(None);
        }
        let Stage::Confirming(mut session, _) = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return Ok(None);
        };
        let mut plain = plain_buffer();
        let (kind, body) =
            session.open(&self.welcome[2..], &mut plain).map_err(|_| NoProof::WrongAnswer)?;
        let welcome = Welcome::decode(body).map_err(|_| NoProof::WrongAnswer)?;
        match (kind, welcome.challenge) {
            (Kind::Welcome, Some(challenge)) => {
                let ttl = Duration::from_secs(welcome.ttl_s.unwrap_or(0).min(MAX_TTL_S));
                Ok(Some(Linked { link: CellLink::new(*session, now), challenge, ttl }))
            }
            _ => Err(NoProof::WrongAnswer),
        }
    }

    /// Nothing has come of it in all of `waited`: a relay that is full proves its key, and lets nobody
    /// in.
    pub fn late(&self, waited: Duration) -> NoProof {
        match self.stage {
            Stage::Shaking(_) => NoProof::Silence(waited),
            Stage::Confirming(..) | Stage::Done => NoProof::NotLetIn(waited),
        }
    }
}

/// A call to a relay.
#[derive(Clone)]
pub struct LinkCall {
    /// Who is called.
    pub relay: Rc<Relay>,
    /// How long it may take.
    pub patience: Duration,
}

impl Opening for LinkCall {
    type Underway = Linking;
    type Opened = Linked;

    fn patience(&self) -> Duration {
        self.patience
    }

    fn begin(&self, _: &Place, now: Now) -> io::Result<Linking> {
        Linking::begin(&self.relay, now)
    }

    fn advance(
        &self,
        underway: &mut Linking,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<Linked>, NotOpened> {
        Ok(underway.advance(socket, now)?)
    }

    fn late(&self, underway: &Linking, waited: Duration) -> NotOpened {
        underway.late(waited).into()
    }
}

/// When a side that has said nothing says NOOP: after a minute, or up to a quarter less, drawn anew
/// each time, so that links do not speak in step.
pub fn noop_after() -> Duration {
    let quarter = NOOP_AFTER.as_millis() as u64 / 4;
    NOOP_AFTER - Duration::from_millis(u64::from_be_bytes(random()) % quarter)
}

/// Writes what the socket takes of `bytes`, and removes it from them.
pub(super) fn write_some(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), NoProof> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(n) => drop(bytes.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(NoProof::Closed),
        }
    }
    Ok(())
}

/// Reads one record of the stream form with its length, and not a byte more; whether it is whole.
fn read_record(socket: &mut TcpStream, record: &mut Vec<u8>) -> Result<bool, NoProof> {
    loop {
        let len = match record.as_slice() {
            [high, low, ..] => 2 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => 2,
        };
        if len > MAX_WELCOME {
            return Err(NoProof::WrongAnswer);
        }
        if len > 2 && record.len() == len {
            return Ok(true);
        }
        if !read_up_to(socket, record, len)? {
            return Ok(false);
        }
    }
}

/// Reads until `bytes` are `len` long; whether they are.
fn read_up_to(socket: &mut TcpStream, bytes: &mut Vec<u8>, len: usize) -> Result<bool, NoProof> {
    let mut space = [0; WIRE_LEN];
    while bytes.len() < len {
        let room = (len - bytes.len()).min(space.len());
        match socket.read(&mut space[..room]) {
            Ok(0) => return Err(NoProof::Closed),
            Ok(n) => bytes.extend_from_slice(&space[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(NoProof::Closed),
        }
    }
    Ok(true)
}

/// Reads the rest of the cell that is coming, and not a byte more, so that what follows JOINED is
/// left to whose it is. The bytes; none: wait for more.
pub(super) fn read_cell(
    socket: &mut TcpStream,
    link: &CellLink,
) -> Result<Option<Vec<u8>>, NoProof> {
    let mut bytes = Vec::new();
    read_up_to(socket, &mut bytes, link.missing())?;
    Ok((!bytes.is_empty()).then_some(bytes))
}
