//! One message to one peer over UDP: a run of datagrams, each acknowledged.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::UdpSocket;
use mio::{Events, Interest, Token};

use super::call::Call;
use super::dial::{DialError, NoProof, silent};
use super::hub::Hub;
use super::input::{Got, Input};
use super::resolve::{HostPort, Lookup};
use super::send::{Cut, Delivered, Limits, PEER, SendError};
use super::several::{Peer, Turn, send_to_one};
use super::sockets::Bind;
use super::via::Place;
use crate::crypto::sodium::OsRandom;
use crate::proto::datagram::ack::ACK_LEN;
use crate::proto::datagram::packet::{MAX_MESSAGE, PACKET_LEN};
use crate::proto::datagram::probe::Prober;
use crate::proto::datagram::sender::{Progress, Reliability, Sender};
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::time::Now;

/// Input that pauses this long goes out, though it would not fill a message.
const GATHER: Duration = Duration::from_millis(20);
/// A run whose input is idle says so this often. Nobody can tell a sender of datagrams to speak up
/// more often, so it is more often than in a stream.
const IDLE: Duration = Duration::from_secs(3);
/// A probe is repeated this often.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Packets that are sealed before acks are looked at.
const PACKETS_A_TURN: usize = 64;
/// Answers that are read before more is sent.
const ANSWERS_A_TURN: usize = 256;
/// Larger than any answer.
const READ_SPACE: usize = 2048;

/// What is to be sent.
pub enum Job {
    /// Is the peer there?
    Ping,
    /// Everything that the input gives, as one run.
    Run(Input, Reliability),
}

/// Sends one message over UDP and waits until it is delivered, unless it is not to be acknowledged.
///
/// # Errors
/// [`SendError`], with the same meaning as over TCP.
pub fn send_datagrams(
    hub: &mut Hub,
    call: &Call<'_>,
    targets: &[Place],
    job: Job,
    limits: &mut Limits<'_>,
) -> Result<Delivered, SendError> {
    send_to_one(hub, Datagrams::new(hub, call, targets, job, PEER), limits)
}

/// A peer that is spoken to over UDP.
pub struct Datagrams<'a> {
    call: &'a Call<'a>,
    token: Token,
    stage: Stage,
}

enum Stage {
    /// Its addresses are looked up.
    Seeking(Search, Option<Job>),
    /// Is it there?
    Pinging(Box<Ping>, Route),
    /// It is told.
    Running(Box<Run>, Route),
}

impl<'a> Datagrams<'a> {
    /// What `call` and `targets` say; its socket registers as `token`.
    pub fn new(hub: &Hub, call: &'a Call<'a>, targets: &[Place], job: Job, token: Token) -> Self {
        let search = Search::new(hub, targets, call.patience);
        Self { call, token, stage: Stage::Seeking(search, Some(job)) }
    }

    fn start(&mut self, addresses: Vec<SocketAddr>, job: Job, limits: &Limits<'_>, now: Now) {
        let route = Route::new(addresses, now, self.call.patience, self.token);
        self.stage = match job {
            Job::Ping => Stage::Pinging(Box::new(Ping::new(self.call)), route),
            Job::Run(input, reliability) => {
                let run = Run::new(self.call, input, reliability, limits.silence, now);
                Stage::Running(Box::new(run), route)
            }
        };
    }

    fn advance(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Result<Turn, SendError> {
        let now = hub.clock.now();
        if let Stage::Seeking(search, job) = &mut self.stage {
            let Some(addresses) = search.advance(hub)? else { return Ok(Turn::Wait) };
            if let Some(job) = job.take() {
                self.start(addresses, job, limits, now);
            }
        }
        match &mut self.stage {
            Stage::Seeking(..) => Ok(Turn::Wait),
            Stage::Pinging(ping, route) => ping.turn(hub, route, now),
            Stage::Running(run, route) => run.turn(hub, route, now, limits),
        }
    }
}

impl Peer for Datagrams<'_> {
    /// Every turn tries everything.
    fn on_event(&mut self, _: &Event) {}

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        self.advance(hub, limits).unwrap_or_else(|e| Turn::Over(Err(e)))
    }

    fn deadline(&self, limits: &Limits<'_>) -> Duration {
        match &self.stage {
            Stage::Seeking(search, _) => search.until,
            Stage::Pinging(ping, route) => ping.next.min(route.until),
            Stage::Running(run, route) => run.next_look(route, limits),
        }
    }

    /// Datagrams have no word for it.
    fn stop(&mut self, _: &Hub) {}

    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError {
        match &self.stage {
            Stage::Seeking(..) => SendError::Dial(DialError::NotFound(silent())),
            Stage::Running(run, route) if run.is_proven() => {
                SendError::CutOff(route.address(), Cut::TooSlow(behind))
            }
            Stage::Pinging(_, route) | Stage::Running(_, route) => {
                let silence = NoProof::Silence(hub.clock.now().mono.saturating_sub(route.since()));
                SendError::Dial(DialError::NoProof(route.address(), silence))
            }
        }
    }
}

/// All addresses of all targets, in order.
pub(super) struct Search {
    targets: VecDeque<HostPort>,
    lookup: Option<Lookup>,
    found: Vec<SocketAddr>,
    failure: Option<io::Error>,
    until: Duration,
}

impl Search {
    fn new(hub: &Hub, targets: &[Place], patience: Duration) -> Self {
        let until = hub.clock.now().mono + patience;
        let targets = direct(targets).collect();
        Self { targets, lookup: None, found: Vec::new(), failure: None, until }
    }

    /// Goes as far as it can. `None`: wait for the waker, or `until`.
    fn advance(&mut self, hub: &Hub) -> Result<Option<Vec<SocketAddr>>, SendError> {
        loop {
            let Some(lookup) = &mut self.lookup else {
                let Some(target) = self.targets.pop_front() else { break };
                let started = Lookup::start(&target, hub.waker()).map_err(SendError::Local)?;
                self.lookup = Some(started);
                continue;
            };
            match lookup.poll() {
                Ok(Some(addresses)) => self.found.extend(addresses),
                Err(e) => self.failure = Some(e),
                Ok(None) if hub.clock.now().mono < self.until => return Ok(None),
                Ok(None) => self.failure = Some(silent()),
            }
            self.lookup = None;
        }
        if self.found.is_empty() {
            let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            let failure = self.failure.take().unwrap_or_else(none);
            return Err(SendError::Dial(DialError::NotFound(failure)));
        }
        Ok(Some(std::mem::take(&mut self.found)))
    }
}

/// Datagrams go to addresses, not to relays.
fn direct(places: &[Place]) -> impl Iterator<Item = HostPort> {
    places.iter().filter(|place| place.via.is_none()).map(|place| place.at.clone())
}

/// All addresses of all targets, in order.
pub(super) fn look_up(
    hub: &mut Hub,
    targets: &[Place],
    patience: Duration,
    events: &mut Events,
) -> Result<Vec<SocketAddr>, SendError> {
    let mut search = Search::new(hub, targets, patience);
    loop {
        if let Some(found) = search.advance(hub)? {
            return Ok(found);
        }
        wait(hub, events, Some(search.until))?;
    }
}

/// Waits for events; a signal is an error.
pub(super) fn wait(
    hub: &mut Hub,
    events: &mut Events,
    until: Option<Duration>,
) -> Result<(), SendError> {
    hub.wait(events, until).map_err(SendError::Local)?;
    hub.signals.arrived().map_or(Ok(()), |signal| Err(SendError::Signal(signal)))
}

/// The addresses of a peer, and the socket to the one that is tried.
struct Route {
    token: Token,
    untried: std::vec::IntoIter<SocketAddr>,
    current: Option<(UdpSocket, SocketAddr)>,
    /// Until when a proof must have come from the current address.
    until: Duration,
    patience: Duration,
    share: Duration,
    failure: Option<DialError>,
}

impl Route {
    fn new(addresses: Vec<SocketAddr>, now: Now, patience: Duration, token: Token) -> Self {
        let share = patience / (addresses.len().max(1) as u32);
        let untried = addresses.into_iter();
        Self { token, untried, current: None, until: now.mono, patience, share, failure: None }
    }

    /// When the current address was first tried, or its time began anew.
    fn since(&self) -> Duration {
        self.until.saturating_sub(self.share)
    }

    /// The socket, connected to the address that is tried.
    fn socket(&mut self, hub: &Hub) -> Result<&mut UdpSocket, SendError> {
        while self.current.is_none() {
            let Some(address) = self.untried.next() else {
                let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let failure = self.failure.take().unwrap_or(DialError::NotFound(none));
                return Err(SendError::Dial(failure));
            };
            self.until = hub.clock.now().mono + self.share;
            match connect(hub, address, self.token) {
                Ok(socket) => self.current = Some((socket, address)),
                Err(e) => self.give_up(DialError::Refused(address, e)),
            }
        }
        match &mut self.current {
            Some((socket, _)) => Ok(socket),
            None => unreachable!("the loop above ends with a socket"),
        }
    }

    /// The current address failed: the next one is tried.
    fn give_up(&mut self, failure: DialError) {
        self.failure = Some(failure.or_better(self.failure.take()));
        self.current = None;
    }

    fn address(&self) -> SocketAddr {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.current.as_ref().map_or(nowhere, |(_, address)| *address)
    }

    /// Nothing is asked of the current address: its time for a proof has not begun.
    fn restart(&mut self, now: Now) {
        self.until = now.mono + self.share;
    }

    /// Nobody has proved anything yet: is it time for the next address?
    fn check_proof(&mut self, now: Now) {
        if self.current.is_some() && now.mono >= self.until {
            self.give_up(DialError::NoProof(self.address(), NoProof::Silence(self.patience)));
        }
    }
}

/// A socket that is registered as `token` and sends to `address` alone.
pub(super) fn connect(hub: &Hub, address: SocketAddr, token: Token) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = Bind { address: Some(any), port: 0 }.udp()?;
    socket.connect(address)?;
    hub.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

/// The question whether the peer is there.
struct Ping {
    prober: Prober,
    next: Duration,
}

impl Ping {
    fn new(call: &Call<'_>) -> Self {
        let prober = Prober::new(call.me, &call.peer, &call.access, &mut OsRandom);
        Self { prober, next: Duration::ZERO }
    }

    fn turn(&mut self, hub: &Hub, route: &mut Route, now: Now) -> Result<Turn, SendError> {
        loop {
            route.check_proof(now);
            match self.ask(route.socket(hub)?, now) {
                Ok(true) => {
                    let address = Some(route.address());
                    return Ok(Turn::Over(Ok(Delivered { address, total: 0 })));
                }
                Err(e) if is_final(&e) => {
                    route.give_up(DialError::Refused(route.address(), e));
                    self.next = Duration::ZERO;
                }
                _ => return Ok(Turn::Wait),
            }
        }
    }

    /// Asks if it is time; whether it was answered.
    fn ask(&mut self, socket: &UdpSocket, now: Now) -> io::Result<bool> {
        let mut failed = None;
        if now.mono >= self.next {
            let mut packet = [0; PACKET_LEN];
            self.prober.packet(now, &mut OsRandom, &mut packet);
            failed = socket.send(&packet).err();
            self.next = now.mono + PROBE_EVERY;
        }
        let mut space = [0; READ_SPACE];
        for _ in 0..ANSWERS_A_TURN {
            match socket.recv(&mut space) {
                Ok(n) if self.prober.is_answer(&space[..n], now) => return Ok(true),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        failed.map_or(Ok(false), Err)
    }
}

/// A full buffer passes; that nobody listens, or that there is no route, does not.
fn is_final(e: &io::Error) -> bool {
    !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        && e.raw_os_error() != Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// One run on its way.
struct Run {
    sender: Sender,
    reliability: Reliability,
    input: Input,
    /// What was read and not offered; one byte more than a message holds, to know whether more
    /// follows.
    body: Vec<u8>,
    read: usize,
    /// When the first byte of `body` came.
    since: Option<Duration>,
    input_ended: bool,
    total: u64,
    /// When a message was offered last.
    offered: Duration,
    /// All answers that came were read.
    drained: bool,
}

impl Run {
    fn new(
        call: &Call<'_>,
        input: Input,
        reliability: Reliability,
        silence: Duration,
        now: Now,
    ) -> Self {
        let mut sender = Sender::new(call.me, &call.peer, &call.access, reliability, &mut OsRandom);
        sender.ask_at_least_every(silence / 3);
        input.begin(sender.next_id().to_bytes());
        Self {
            sender,
            reliability,
            input,
            body: vec![0; MAX_MESSAGE + 1],
            read: 0,
            since: None,
            input_ended: false,
            total: 0,
            offered: now.mono,
            drained: true,
        }
    }

    fn turn(
        &mut self,
        hub: &Hub,
        route: &mut Route,
        now: Now,
        limits: &mut Limits<'_>,
    ) -> Result<Turn, SendError> {
        self.gather(now)?;
        if self.sender.progress() == Progress::Ready {
            route.restart(now);
            self.offer(now, limits);
        }
        let full = self.exchange(hub, route, now, limits)?;
        match self.sender.progress() {
            Progress::Finished => {
                let address = (!self.is_unheard()).then(|| route.address());
                return Ok(Turn::Over(Ok(Delivered { address, total: self.total })));
            }
            Progress::Declined => return Err(SendError::Declined(0, String::new())),
            Progress::Expired => return Err(self.silence(route, limits)),
            Progress::Ready | Progress::InFlight => {}
        }
        self.check_silence(route, now, limits)?;
        Ok(if full { Turn::Wait } else { Turn::Busy })
    }

    /// Reads until a message is full, or the input pauses or ends.
    fn gather(&mut self, now: Now) -> Result<(), SendError> {
        while !self.input_ended && self.read < self.body.len() {
            match self.input.read(&mut self.body[self.read..]).map_err(SendError::Input)? {
                Got::Bytes(n) => {
                    self.read += n;
                    self.since.get_or_insert(now.mono);
                }
                Got::Later => return Ok(()),
                Got::End => self.input_ended = true,
            }
        }
        Ok(())
    }

    /// Offers what was gathered, if it is time.
    fn offer(&mut self, now: Now, limits: &mut Limits<'_>) {
        if now.mono < self.offer_at(limits) {
            return;
        }
        let len = self.read.min(MAX_MESSAGE);
        let more = !self.input_ended || self.read > len;
        if self.sender.offer(&self.body[..len], more, now, &mut OsRandom).is_err() {
            return;
        }
        show(limits, true, &[], &self.body[..len], || format!("MESSAGE, {len} bytes"));
        self.body.copy_within(len..self.read, 0);
        self.read -= len;
        self.since = (self.read > 0).then_some(now.mono);
        self.total += len as u64;
        self.offered = now.mono;
    }

    /// When the next message goes out, though nothing more is read: at once if it is full or the
    /// last, soon if the input pauses, and as a sign of life if it has nothing.
    fn offer_at(&self, limits: &Limits<'_>) -> Duration {
        match self.since {
            _ if self.input_ended || self.read > MAX_MESSAGE => Duration::ZERO,
            Some(since) => since + GATHER,
            None => self.offered + keepalive(limits),
        }
    }

    /// Sends what is due and takes what came; whether all that was due is sent.
    fn exchange(
        &mut self,
        hub: &Hub,
        route: &mut Route,
        now: Now,
        limits: &mut Limits<'_>,
    ) -> Result<bool, SendError> {
        let proven = self.is_proven() || self.is_unheard();
        if !proven {
            route.check_proof(now);
        }
        let socket = route.socket(hub)?;
        let mut failed = None;
        let mut packet = [0; PACKET_LEN];
        let mut all_sent = false;
        for _ in 0..PACKETS_A_TURN {
            if !self.sender.transmit(now, &mut OsRandom, &mut packet) {
                all_sent = true;
                break;
            }
            show(limits, true, &packet, &[], || "a packet of it, sealed".into());
            // A packet that the buffer does not take is lost like any other, and sent again.
            failed = socket.send(&packet).err().or(failed);
        }
        failed = self.receive(socket, now, limits).or(failed);
        if let Some(e) = failed.filter(is_final)
            && !proven
        {
            route.give_up(DialError::Refused(route.address(), e));
            return Ok(false);
        }
        Ok(all_sent && self.drained)
    }

    fn receive(
        &mut self,
        socket: &UdpSocket,
        now: Now,
        limits: &mut Limits<'_>,
    ) -> Option<io::Error> {
        let mut space = [0; READ_SPACE];
        // What floods in does not keep us from sending, or from hearing a signal.
        for _ in 0..ANSWERS_A_TURN {
            match socket.recv(&mut space) {
                Ok(n) => {
                    if self.sender.feed_ack(&space[..n], now) {
                        show(limits, false, &space[..n], &[], || {
                            format!("acknowledgements: {}", n / ACK_LEN)
                        });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.drained = true;
                    return None;
                }
                Err(e) => return Some(e),
            }
        }
        self.drained = false;
        None
    }

    /// Whether somebody showed that the peer's key opens what is sent.
    fn is_proven(&self) -> bool {
        self.sender.last_proof().is_some()
    }

    /// Nobody answers what asks for no ack.
    fn is_unheard(&self) -> bool {
        self.reliability == Reliability::FireAndForget
    }

    /// While a message is in flight, somebody must show that it arrives.
    fn check_silence(&self, route: &Route, now: Now, limits: &Limits<'_>) -> Result<(), SendError> {
        match self.silence_at(limits) {
            Some(at) if now.mono >= at => Err(self.silence(route, limits)),
            _ => Ok(()),
        }
    }

    fn silence_at(&self, limits: &Limits<'_>) -> Option<Duration> {
        let in_flight = self.sender.progress() == Progress::InFlight && !self.is_unheard();
        let since = self.sender.last_proof().filter(|_| in_flight)?.max(self.offered);
        Some(since + limits.silence)
    }

    fn silence(&self, route: &Route, limits: &Limits<'_>) -> SendError {
        match self.sender.last_proof() {
            Some(_) => SendError::CutOff(route.address(), Cut::Silence(limits.silence)),
            None => {
                let silence = NoProof::Silence(route.patience);
                SendError::Dial(DialError::NoProof(route.address(), silence))
            }
        }
    }

    fn next_look(&self, route: &Route, limits: &Limits<'_>) -> Duration {
        let ready = self.sender.progress() == Progress::Ready;
        let offer = ready.then(|| self.offer_at(limits));
        let in_flight = self.sender.progress() == Progress::InFlight;
        let unproven = in_flight && self.sender.last_proof().is_none() && !self.is_unheard();
        let proof = unproven.then_some(route.until);
        let looks = [self.sender.next_timeout(), offer, proof, self.silence_at(limits)];
        looks.into_iter().flatten().min().unwrap_or(route.until)
    }
}

/// How often a run with idle input says that it is alive.
fn keepalive(limits: &Limits<'_>) -> Duration {
    IDLE.min(limits.silence / 3)
}

/// Shows a datagram, or what is about to go into several.
fn show(
    limits: &mut Limits<'_>,
    outgoing: bool,
    wire: &[u8],
    content: &[u8],
    meaning: impl FnOnce() -> String,
) {
    if let Some(trace) = &mut limits.trace {
        trace(&Crossing {
            outgoing,
            wire_len: wire.len(),
            wire_head: wire[..wire.len().min(TRACE_BYTES)].to_vec(),
            meaning: meaning(),
            content: content[..content.len().min(TRACE_BYTES)].to_vec(),
        });
    }
}
