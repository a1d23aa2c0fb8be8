//! From a host's name to a peer that has proved its key: each address in turn, and message 2 of
//! the handshake from the first that can.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::hub::Hub;
use super::resolve::{HostPort, Lookup};
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::proto::stream::handshake::{Initiator, REPLY_LEN};
use crate::proto::stream::link::{Crossing, Link};
use crate::proto::time::Now;

/// Connecting and the handshake may take this long, all addresses together.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Who is called, and who calls.
pub struct Call<'a> {
    /// The key that calls.
    pub me: &'a KeyPair,
    /// The key that is called.
    pub peer: PublicKey,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// How long it may take: [`CONNECT_TIME`], or the user's own patience if that is shorter.
    pub patience: Duration,
    /// Note what crosses the wire.
    pub trace: bool,
}

/// Why nobody was reached, from the least to the most that is known of the peer.
#[derive(Debug)]
pub enum DialError {
    /// The name of the host has no address.
    NotFound(io::Error),
    /// The system refused or the peer did: no route, connection refused.
    Refused(SocketAddr, io::Error),
    /// TCP never completed.
    NoAnswer(SocketAddr, Duration),
    /// Something accepted the connection and proved nothing.
    NoProof(SocketAddr, NoProof),
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
            Self::NoProof(..) => 3,
        }
    }
}

/// A connection to a peer that has proved its key; message 3 is queued in the link.
pub struct Dialed {
    /// Registered for both directions.
    pub socket: TcpStream,
    /// The peer's address.
    pub address: SocketAddr,
    /// The session.
    pub link: Link,
    /// Until when it may take to let us in.
    pub until: Duration,
}

/// A call under way.
pub struct Dialing<'a> {
    call: &'a Call<'a>,
    token: Token,
    lookup: Option<Lookup>,
    candidates: VecDeque<SocketAddr>,
    attempt: Option<Attempt>,
    until: Duration,
    failure: Option<DialError>,
}

struct Attempt {
    socket: TcpStream,
    address: SocketAddr,
    until: Duration,
    connected: bool,
    initiator: Option<Initiator>,
    hello: Vec<u8>,
    opening: Crossing,
    reply: Vec<u8>,
}

impl<'a> Dialing<'a> {
    /// Starts calling; the connection registers as `token`.
    ///
    /// # Errors
    /// When the look-up cannot be started.
    pub fn start(
        hub: &Hub,
        call: &'a Call<'a>,
        target: &HostPort,
        token: Token,
    ) -> io::Result<Self> {
        let lookup = Some(Lookup::start(target, hub.waker())?);
        let until = hub.clock.now().mono + call.patience;
        let candidates = VecDeque::new();
        Ok(Self { call, token, lookup, candidates, attempt: None, until, failure: None })
    }

    /// When [`Dialing::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.attempt.as_ref().map_or(self.until, |attempt| attempt.until)
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(attempt) = &mut self.attempt {
            attempt.connected |= event.is_writable();
        }
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    ///
    /// # Errors
    /// When every address has failed; the failure that says most.
    pub fn advance(&mut self, registry: &Registry, now: Now) -> Result<Option<Dialed>, DialError> {
        if let Some(lookup) = &mut self.lookup {
            match lookup.poll().map_err(DialError::NotFound)? {
                Some(addresses) => self.candidates = addresses.into(),
                None if now.mono >= self.until => {
                    let silent = "the name server did not answer";
                    return Err(DialError::NotFound(io::Error::new(
                        io::ErrorKind::TimedOut,
                        silent,
                    )));
                }
                None => return Ok(None),
            }
            self.lookup = None;
        }
        loop {
            if self.attempt.is_none() && !self.next_candidate(registry, now) {
                return Err(self.failure.take().unwrap_or_else(no_address));
            }
            let Some(attempt) = &mut self.attempt else { continue };
            match attempt.advance(self.call, now) {
                Ok(None) => return Ok(None),
                Ok(Some(link)) => {
                    let until = self.until;
                    return Ok(self.attempt.take().map(|Attempt { socket, address, .. }| Dialed {
                        socket,
                        address,
                        link,
                        until,
                    }));
                }
                Err(failure) => {
                    self.attempt = None;
                    self.note(failure);
                }
            }
        }
    }

    fn note(&mut self, failure: DialError) {
        self.failure = Some(failure.or_better(self.failure.take()));
    }

    /// Starts on the next address; `false` when there is none, or no time.
    fn next_candidate(&mut self, registry: &Registry, now: Now) -> bool {
        let share = self.candidates.len() as u32;
        let Some(address) = self.candidates.pop_front() else { return false };
        let left = self.until.saturating_sub(now.mono);
        if left.is_zero() {
            return false;
        }
        match self.connect(registry, address, now, now.mono + left / share) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(e) => self.note(DialError::Refused(address, e)),
        }
        // Without an attempt the caller's loop comes back for the next address.
        self.attempt.is_some() || self.next_candidate(registry, now)
    }

    fn connect(
        &self,
        registry: &Registry,
        address: SocketAddr,
        now: Now,
        until: Duration,
    ) -> io::Result<Attempt> {
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, self.token, Interest::READABLE | Interest::WRITABLE)?;
        let call = self.call;
        let (initiator, hello) =
            Initiator::start(call.me, &call.peer, &call.access, now.unix_ms)
                .map_err(|_| io::Error::other("the cryptographic library failed"))?;
        Ok(Attempt {
            socket,
            address,
            until,
            connected: false,
            initiator: Some(initiator),
            hello: hello.to_vec(),
            opening: Crossing::handshake(
                true,
                hello.len(),
                &hello[..],
                "handshake 1: I hold your public key file",
            ),
            reply: Vec::with_capacity(REPLY_LEN),
        })
    }
}

impl Attempt {
    fn advance(&mut self, call: &Call<'_>, now: Now) -> Result<Option<Link>, DialError> {
        if self.connected && !self.is_connected()? {
            self.connected = false;
        }
        if self.connected {
            self.write_hello()?;
            if let Some(link) = self.read_reply(call, now)? {
                return Ok(Some(link));
            }
        }
        if now.mono < self.until {
            return Ok(None);
        }
        Err(if self.connected {
            DialError::NoProof(self.address, NoProof::Silence(call.patience))
        } else {
            DialError::NoAnswer(self.address, call.patience)
        })
    }

    /// A socket is writable when it is connected, when it failed, or spuriously.
    fn is_connected(&self) -> Result<bool, DialError> {
        let refused = |e: io::Error| match e.kind() {
            // Only what was connected can be reset: whoever refuses a connection says so otherwise.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                DialError::NoProof(self.address, NoProof::Closed)
            }
            _ => DialError::Refused(self.address, e),
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

    fn write_hello(&mut self) -> Result<(), DialError> {
        while !self.hello.is_empty() {
            match self.socket.write(&self.hello) {
                Ok(n) => drop(self.hello.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(DialError::NoProof(self.address, NoProof::Closed)),
            }
        }
        Ok(())
    }

    fn read_reply(&mut self, call: &Call<'_>, now: Now) -> Result<Option<Link>, DialError> {
        let mut space = [0; REPLY_LEN];
        while self.reply.len() < REPLY_LEN {
            match self.socket.read(&mut space[..REPLY_LEN - self.reply.len()]) {
                Ok(0) => return Err(DialError::NoProof(self.address, NoProof::Closed)),
                Ok(n) => self.reply.extend_from_slice(&space[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(DialError::NoProof(self.address, NoProof::Closed)),
            }
        }
        space.copy_from_slice(&self.reply);
        let wrong = DialError::NoProof(self.address, NoProof::WrongAnswer);
        let Some(Ok((session, confirm))) = self.initiator.take().map(|i| i.confirm(&space)) else {
            return Err(wrong);
        };
        let mut link = Link::new(session, now, call.trace);
        link.note([
            self.opening.clone(),
            Crossing::handshake(false, space.len(), &space, "handshake 2: I hold the key"),
            Crossing::handshake(true, confirm.len(), &confirm[..], "handshake 3: this is who I am"),
        ]);
        link.send_raw(&confirm);
        Ok(Some(link))
    }
}

fn no_address() -> DialError {
    DialError::NotFound(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}
