//! Listening sockets, and whom they hear next.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::sockets::canonical;

/// How soon accepting is tried again when descriptors had run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Listening TCP sockets, by number.
#[derive(Default)]
pub struct Ears(Vec<Ear>);

struct Ear {
    socket: TcpListener,
    readable: bool,
    retry: Option<Duration>,
    left: usize,
}

impl Ears {
    /// Adds a socket, whose events have `token`.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn add(
        &mut self,
        mut socket: TcpListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        registry.register(&mut socket, token, Interest::READABLE)?;
        self.0.push(Ear { socket, readable: true, retry: None, left: 0 });
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of an event of socket `number`.
    pub fn on_event(&mut self, number: usize) {
        if let Some(ear) = self.0.get_mut(number) {
            ear.readable = true;
        }
    }

    /// Whether somebody may have called.
    pub fn are_called(&self) -> bool {
        self.0.iter().any(|ear| ear.readable)
    }

    /// Looks at all of them, whatever events have told.
    pub fn look_again(&mut self) {
        self.0.iter_mut().for_each(|ear| ear.readable = true);
    }

    /// A turn begins, in which each socket accepts `most` connections.
    pub fn begin_turn(&mut self, now: Duration, most: usize) {
        for ear in &mut self.0 {
            ear.readable |= ear.retry.take_if(|at| *at <= now).is_some();
            ear.left = most;
        }
    }

    /// Somebody who has called, and how many sockets come before that one: `None` when this turn is
    /// over.
    pub fn accept(&mut self, now: Duration) -> Option<(TcpStream, SocketAddr, usize)> {
        for (number, ear) in self.0.iter_mut().enumerate() {
            if let Some((socket, address)) = ear.accept(now) {
                return Some((socket, canonical(address), number));
            }
        }
        None
    }

    /// There is no room for more: whoever calls waits for a while.
    pub fn rest(&mut self, now: Duration) {
        for ear in self.0.iter_mut().filter(|ear| ear.readable) {
            ear.readable = false;
            ear.retry = Some(now + ACCEPT_AGAIN);
        }
    }

    /// When [`Ears::begin_turn`] has something to do without news.
    pub fn deadline(&self) -> Option<Duration> {
        self.0.iter().filter_map(|ear| ear.retry).min()
    }

    /// Nobody is heard any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Ear {
    fn accept(&mut self, now: Duration) -> Option<(TcpStream, SocketAddr)> {
        while self.readable && self.left > 0 {
            self.left -= 1;
            match self.socket.accept() {
                Ok(accepted) => return Some(accepted),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // The caller gave up between its SYN and now: the next may be fine.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.readable = false;
                    self.retry = Some(now + ACCEPT_AGAIN);
                }
            }
        }
        if self.readable {
            self.readable = false;
            self.retry = Some(now);
        }
        None
    }
}
