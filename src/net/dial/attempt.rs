//! One address that is tried: TCP, and then the [`Opening`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;

use super::error::{DialError, NoProof};
use super::opening::Opening;
use crate::net::via::Place;
use crate::proto::time::Now;

/// A connection that is not open yet.
pub(super) struct Attempt<U> {
    pub socket: TcpStream,
    pub address: SocketAddr,
    /// Until when it may take.
    until: Duration,
    tcp: Tcp,
    underway: U,
}

/// How far TCP is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tcp {
    /// It may be connected by now.
    Maybe,
    /// It was not when last asked; an event will tell.
    Waiting,
    /// It is.
    Connected,
}

impl<U> Attempt<U> {
    /// Over `socket`, which connects to `address`.
    pub fn new(socket: TcpStream, address: SocketAddr, until: Duration, underway: U) -> Self {
        // Close by it is connected before the first message is made.
        Self { socket, address, until, tcp: Tcp::Maybe, underway }
    }

    /// Takes note of an event for it.
    pub fn on_event(&mut self, event: &Event) {
        if self.tcp == Tcp::Waiting && event.is_writable() {
            self.tcp = Tcp::Maybe;
        }
    }

    /// When [`Attempt::advance`] has something to do without news.
    pub fn deadline<O: Opening<Underway = U>>(&self, opening: &O) -> Duration {
        opening.deadline(&self.underway).map_or(self.until, |at| at.min(self.until))
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    pub fn advance<O: Opening<Underway = U>>(
        &mut self,
        opening: &O,
        place: &Place,
        now: Now,
    ) -> Result<Option<O::Opened>, DialError> {
        if self.tcp == Tcp::Maybe {
            let connected = self.is_connected().map_err(|e| place.on_the_way(e))?;
            self.tcp = if connected { Tcp::Connected } else { Tcp::Waiting };
        }
        if self.tcp == Tcp::Connected {
            let opened = opening.advance(&mut self.underway, &mut self.socket, now);
            if let Some(link) = opened.map_err(|why| why.at(self.address, place.relay()))? {
                return Ok(Some(link));
            }
        }
        if now.mono < self.until {
            return Ok(None);
        }
        Err(self.no_answer(opening, place, opening.patience()))
    }

    /// That nothing came of it in all of `waited`.
    pub fn no_answer<O: Opening<Underway = U>>(
        &self,
        opening: &O,
        place: &Place,
        waited: Duration,
    ) -> DialError {
        match self.tcp == Tcp::Connected {
            true => opening.late(&self.underway, waited).at(self.address, place.relay()),
            false => place.on_the_way(DialError::NoAnswer(self.address, waited)),
        }
    }

    /// A socket is writable when it is connected, when it failed, or spuriously.
    fn is_connected(&self) -> Result<bool, DialError> {
        let refused = |e: io::Error| match e.kind() {
            // Only what was connected can be reset: whoever refuses a connection says so otherwise.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                DialError::NoProof(self.address, NoProof::Closed)
            }
            _ => DialError::refused(self.address, e),
        };
        if let Some(e) = self.socket.take_error().map_err(refused)? {
            return Err(refused(e));
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                // Without it small records wait for acknowledgements; slower, not wrong.
                let _ = self.socket.set_nodelay(true);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(refused(e)),
        }
    }
}
