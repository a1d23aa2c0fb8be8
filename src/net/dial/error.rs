//! Why a call came to nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use crate::net::via::Relay;

/// Why nobody was reached, from the least to the most that is known of the peer.
#[derive(Debug)]
pub enum DialError {
    /// The name of the host has no address.
    NotFound(io::Error),
    /// There is no route, or the peer refused.
    Refused(SocketAddr, io::Error),
    /// TCP never completed.
    NoAnswer(SocketAddr, Duration),
    /// Something accepted the connection and proved nothing.
    NoProof(SocketAddr, NoProof),
    /// The relay of this name was not reached, or not joined.
    Relay(String, Box<DialError>),
    /// At the relay of this name: nobody came to the circuit.
    Nobody(String),
    /// The relay of this name has no room for more.
    RelayFull(String),
    /// At the relay of this name: as much waits for the peer as may.
    MailboxFull(String),
    /// The system failed us.
    Local(io::Error),
}

/// What whoever answered did instead of proving its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoProof {
    /// It said nothing for so long.
    Silence(Duration),
    /// It closed the connection.
    Closed,
    /// It answered, and the answer does not open.
    WrongAnswer,
    /// It proved its key, and did not let us in.
    NotLetIn(Duration),
}

impl DialError {
    /// `address` could not be spoken to: because this machine did not let us, or for what the network
    /// or the peer said.
    pub fn refused(address: SocketAddr, e: io::Error) -> Self {
        if is_local(&e) { Self::Local(e) } else { Self::Refused(address, e) }
    }

    /// The addresses of a host were not found.
    pub fn not_found(e: io::Error) -> Self {
        if is_local(&e) { Self::Local(e) } else { Self::NotFound(e) }
    }

    /// This one, unless `older` says more.
    pub fn or_better(self, older: Option<Self>) -> Self {
        match older {
            Some(older) if older.rank() > self.rank() => older,
            _ => self,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::NotFound(_) => 0,
            Self::Refused(..) => 1,
            Self::NoAnswer(..) => 2,
            Self::Relay(_, why) => why.rank(),
            Self::RelayFull(_) | Self::MailboxFull(_) => 3,
            Self::Nobody(_) => 4,
            Self::NoProof(..) => 5,
            Self::Local(_) => 6,
        }
    }
}

/// Whether this machine is short of something, or its rules forbid it: no word of the network.
fn is_local(e: &io::Error) -> bool {
    let local = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::PERM,
        Errno::ACCESS,
    ];
    local.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// Why a connection did not become one to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// Whoever answered did not prove its key.
    NoProof(NoProof),
    /// The same of the relay on the way.
    Relay(NoProof),
    /// The relay did what it should, and nobody came.
    Nobody,
    /// The relay has no room.
    RelayFull,
}

impl From<NoProof> for NotOpened {
    fn from(why: NoProof) -> Self {
        Self::NoProof(why)
    }
}

impl NotOpened {
    /// The same of a connection to `address`, with the relay on the way, if there is one.
    pub(super) fn at(self, address: SocketAddr, relay: Option<&Relay>) -> DialError {
        let name = || relay.map_or_else(String::new, |relay| relay.name.clone());
        match self {
            Self::NoProof(why) => DialError::NoProof(address, why),
            Self::Relay(why) => DialError::Relay(name(), DialError::NoProof(address, why).into()),
            Self::Nobody => DialError::Nobody(name()),
            Self::RelayFull => DialError::RelayFull(name()),
        }
    }
}

/// What is said of a name server that does not answer.
pub(in crate::net) fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the name server did not answer")
}

/// What is said of a name without addresses.
pub(in crate::net) fn no_address() -> DialError {
    DialError::NotFound(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}
