//! What makes of a TCP connection what its caller wants.

use std::io;
use std::time::Duration;

use mio::net::TcpStream;

use super::error::{NoProof, NotOpened};
use crate::net::via::Place;
use crate::proto::time::Now;

/// What a connection needs beyond TCP before it is one: the handshake of a [`crate::net::call::Call`], or nothing.
pub trait Opening {
    /// How far it is.
    type Underway;
    /// What comes of it.
    type Opened;
    /// How long it may take.
    fn patience(&self) -> Duration;
    /// Before the first byte of a connection to `place`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    fn begin(&self, place: &Place, now: Now) -> io::Result<Self::Underway>;
    /// Goes on over a socket that is connected. `None`: wait for events.
    ///
    /// # Errors
    /// What whoever answered did instead.
    fn advance(
        &self,
        underway: &mut Self::Underway,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<Self::Opened>, NotOpened>;

    /// When it wants to go on without news, if before its time is over.
    fn deadline(&self, underway: &Self::Underway) -> Option<Duration> {
        let _ = underway;
        None
    }

    /// Nothing has come of it in all of `waited`.
    fn late(&self, underway: &Self::Underway, waited: Duration) -> NotOpened {
        let _ = underway;
        NoProof::Silence(waited).into()
    }
}

impl<T: Opening> Opening for &T {
    type Underway = T::Underway;
    type Opened = T::Opened;

    fn patience(&self) -> Duration {
        (**self).patience()
    }

    fn begin(&self, place: &Place, now: Now) -> io::Result<T::Underway> {
        (**self).begin(place, now)
    }

    fn advance(
        &self,
        underway: &mut T::Underway,
        socket: &mut TcpStream,
        now: Now,
    ) -> Result<Option<T::Opened>, NotOpened> {
        (**self).advance(underway, socket, now)
    }

    fn deadline(&self, underway: &T::Underway) -> Option<Duration> {
        (**self).deadline(underway)
    }

    fn late(&self, underway: &T::Underway, waited: Duration) -> NotOpened {
        (**self).late(underway, waited)
    }
}
