//! From a host's name to a connection that is what its caller wants: each address in turn, until one
//! has opened. What that takes is the [`Opening`]'s business: [`super::call`], for a peer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::hub::Hub;
use super::resolve::Lookup;
use super::via::{Place, Relay};
use crate::proto::stream::link::Link;
use crate::proto::time::Now;

/// Connecting and the handshake may take this long, all addresses together.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);

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
    fn at(self, address: SocketAddr, relay: Option<&Relay>) -> DialError {
        let name = || relay.map_or_else(String::new, |relay| relay.name.clone());
        match self {
            Self::NoProof(why) => DialError::NoProof(address, why),
            Self::Relay(why) => DialError::Relay(name(), DialError::NoProof(address, why).into()),
            Self::Nobody => DialError::Nobody(name()),
            Self::RelayFull => DialError::RelayFull(name()),
        }
    }
}

/// What a connection needs beyond TCP before it is one: the handshake of a [`super::call::Call`], or nothing.
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

    fn late(&self, underway: &T::Underway, waited: Duration) -> NotOpened {
        (**self).late(underway, waited)
    }
}

/// A connection. To a peer that has proved its key: message 3 is queued in the link.
pub struct Dialed<L = Link> {
    /// Registered for both directions.
    pub socket: TcpStream,
    /// The peer's address.
    pub address: SocketAddr,
    /// The session, if the [`Opening`] makes one.
    pub link: L,
    /// Until when it may take to let us in.
    pub until: Duration,
}

/// A call to somebody who may be at several places: each in turn.
pub struct Calling<O: Opening + Clone> {
    opening: O,
    token: Token,
    targets: VecDeque<Place>,
    dialing: Option<Dialing<O>>,
    failure: Option<DialError>,
}

impl<O: Opening + Clone> Calling<O> {
    /// A call to `targets` that begins with [`Calling::advance`]; its connection registers as
    /// `token`.
    pub fn new(opening: O, targets: &[Place], token: Token) -> Self {
        let targets = targets.iter().cloned().collect();
        Self { opening, token, targets, dialing: None, failure: None }
    }

    /// When [`Calling::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.dialing.as_ref().map_or(Duration::ZERO, Dialing::deadline)
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(dialing) = &mut self.dialing {
            dialing.on_event(event);
        }
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    ///
    /// # Errors
    /// When every place has failed; of all failures the one that says most.
    pub fn advance(&mut self, hub: &Hub) -> Result<Option<Dialed<O::Opened>>, DialError> {
        loop {
            let Some(dialing) = &mut self.dialing else {
                let Some(target) = self.targets.pop_front() else {
                    return Err(self.failure.take().unwrap_or_else(no_address));
                };
                let dialing = Dialing::start(hub, self.opening.clone(), &target, self.token);
                self.dialing = Some(dialing.map_err(DialError::Local)?);
                continue;
            };
            match dialing.advance(hub.registry(), hub.clock.now()) {
                Err(failure) => {
                    self.failure = Some(failure.or_better(self.failure.take()));
                    self.dialing = None;
                }
                Ok(Some(dialed)) => {
                    // From here on somebody is to be told if a signal ends it.
                    hub.signals.arm().map_err(DialError::Local)?;
                    return Ok(Some(dialed));
                }
                Ok(None) => return Ok(None),
            }
        }
    }

    /// Nobody waits for it any longer, as if its time were over: of all failures the one that says
    /// most.
    pub fn give_up(&mut self, now: Now) -> DialError {
        let failure = self.dialing.take().map(|dialing| dialing.give_up(now));
        failure.map_or_else(no_address, |failure| failure.or_better(self.failure.take()))
    }
}

/// A call to one place under way.
pub struct Dialing<O: Opening> {
    opening: O,
    token: Token,
    place: Place,
    lookup: Option<Lookup>,
    candidates: VecDeque<SocketAddr>,
    attempt: Option<Attempt<O::Underway>>,
    until: Duration,
    failure: Option<DialError>,
}

struct Attempt<U> {
    socket: TcpStream,
    address: SocketAddr,
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

impl<O: Opening> Dialing<O> {
    /// Starts calling; the connection registers as `token`.
    ///
    /// # Errors
    /// When the look-up cannot be started.
    pub fn start(hub: &Hub, opening: O, place: &Place, token: Token) -> io::Result<Self> {
        let lookup = Some(Lookup::start(&place.at, hub.waker())?);
        let until = hub.clock.now().mono + opening.patience();
        let candidates = VecDeque::new();
        let place = place.clone();
        Ok(Self { opening, token, place, lookup, candidates, attempt: None, until, failure: None })
    }

    /// When [`Dialing::advance`] has something to do without news.
    pub fn deadline(&self) -> Duration {
        self.attempt.as_ref().map_or(self.until, |attempt| attempt.until)
    }

    /// Takes note of an event for its token.
    pub fn on_event(&mut self, event: &Event) {
        if let Some(attempt) = &mut self.attempt
            && attempt.tcp == Tcp::Waiting
            && event.is_writable()
        {
            attempt.tcp = Tcp::Maybe;
        }
    }

    /// Goes as far as it can. `None`: wait for events or the deadline.
    ///
    /// # Errors
    /// When every address has failed; the failure that says most.
    pub fn advance(
        &mut self,
        registry: &Registry,
        now: Now,
    ) -> Result<Option<Dialed<O::Opened>>, DialError> {
        if let Some(lookup) = &mut self.lookup {
            match lookup.poll() {
                Ok(Some(addresses)) => self.candidates = addresses.into(),
                Ok(None) if now.mono < self.until => return Ok(None),
                Ok(None) => return Err(self.way(DialError::NotFound(silent()))),
                Err(e) => return Err(self.way(DialError::NotFound(e))),
            }
            self.lookup = None;
        }
        loop {
            if self.attempt.is_none() && !self.next_candidate(registry, now) {
                return Err(self.failure.take().unwrap_or_else(no_address));
            }
            let Some(attempt) = &mut self.attempt else { continue };
            match attempt.advance(&self.opening, &self.place, now) {
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

    fn give_up(mut self, now: Now) -> DialError {
        let waited = self.opening.patience().saturating_sub(self.until.saturating_sub(now.mono));
        match self.attempt.take() {
            Some(attempt) => self.note(attempt.no_answer(&self.opening, &self.place, waited)),
            None => self.note(self.way(DialError::NotFound(silent()))),
        }
        self.failure.unwrap_or_else(no_address)
    }

    /// A failure of TCP on the way to the place: to the relay, if that is what is dialled.
    fn way(&self, failure: DialError) -> DialError {
        self.place.on_the_way(failure)
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
            Err(e) => self.note(self.way(DialError::Refused(address, e))),
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
    ) -> io::Result<Attempt<O::Underway>> {
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, self.token, Interest::READABLE | Interest::WRITABLE)?;
        let underway = self.opening.begin(&self.place, now)?;
        // Close by it is connected before the first message is made.
        Ok(Attempt { socket, address, until, tcp: Tcp::Maybe, underway })
    }
}

impl<U> Attempt<U> {
    fn advance<O: Opening<Underway = U>>(
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

    fn no_answer<O: Opening<Underway = U>>(
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
}

/// What is said of a name server that does not answer.
pub(super) fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the name server did not answer")
}

fn no_address() -> DialError {
    DialError::NotFound(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}
