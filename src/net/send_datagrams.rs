//! One message to one peer over UDP: a run of datagrams, each acknowledged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest};

use super::dial::{Call, DialError, NoProof};
use super::hub::Hub;
use super::input::{Got, Input};
use super::resolve::{HostPort, Lookup};
use super::send::{Cut, Delivered, Limits, PEER, SendError};
use super::sockets::Bind;
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
    targets: &[HostPort],
    job: Job,
    limits: &mut Limits<'_>,
) -> Result<Delivered, SendError> {
    let mut events = Events::with_capacity(16);
    let addresses = look_up(hub, targets, call.patience, &mut events)?;
    let mut peer = Peer::new(addresses, hub.clock.now(), call.patience);
    match job {
        Job::Ping => ping(hub, call, &mut peer, &mut events),
        Job::Run(input, reliability) => {
            Run::new(call, input, reliability).send(hub, &mut peer, &mut events, limits)
        }
    }
}

/// All addresses of all targets, in order.
pub(super) fn look_up(
    hub: &mut Hub,
    targets: &[HostPort],
    patience: Duration,
    events: &mut Events,
) -> Result<Vec<SocketAddr>, SendError> {
    let until = hub.clock.now().mono + patience;
    let mut found = Vec::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in targets {
        let mut lookup = Lookup::start(target, hub.waker()).map_err(SendError::Local)?;
        loop {
            match lookup.poll() {
                Ok(Some(addresses)) => break found.extend(addresses),
                Err(e) => break failure = e,
                Ok(None) if hub.clock.now().mono >= until => {
                    let silent = "the name server did not answer";
                    failure = io::Error::new(io::ErrorKind::TimedOut, silent);
                    break;
                }
                Ok(None) => {}
            }
            wait(hub, events, Some(until))?;
        }
    }
    if found.is_empty() { Err(SendError::Dial(DialError::NotFound(failure))) } else { Ok(found) }
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
struct Peer {
    untried: std::vec::IntoIter<SocketAddr>,
    current: Option<(UdpSocket, SocketAddr)>,
    /// Until when a proof must have come from the current address.
    until: Duration,
    patience: Duration,
    share: Duration,
    failure: Option<DialError>,
}

impl Peer {
    fn new(addresses: Vec<SocketAddr>, now: Now, patience: Duration) -> Self {
        let share = patience / (addresses.len().max(1) as u32);
        let untried = addresses.into_iter();
        Self { untried, current: None, until: now.mono, patience, share, failure: None }
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
            match connect(hub, address) {
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

/// A socket that is registered as [`PEER`] and sends to `address` alone.
pub(super) fn connect(hub: &Hub, address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = Bind { address: Some(any), port: 0 }.udp()?;
    socket.connect(address)?;
    hub.registry().register(&mut socket, PEER, Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

fn ping(
    hub: &mut Hub,
    call: &Call<'_>,
    peer: &mut Peer,
    events: &mut Events,
) -> Result<Delivered, SendError> {
    let prober = Prober::new(call.me, &call.peer, &call.access, &mut OsRandom);
    let mut packet = [0; PACKET_LEN];
    let mut space = [0; READ_SPACE];
    let mut next = Duration::ZERO;
    loop {
        let now = hub.clock.now();
        peer.check_proof(now);
        let socket = peer.socket(hub)?;
        let mut failed = None;
        if now.mono >= next {
            prober.packet(now, &mut OsRandom, &mut packet);
            failed = socket.send(&packet).err();
            next = now.mono + PROBE_EVERY;
        }
        for _ in 0..ANSWERS_A_TURN {
            match socket.recv(&mut space) {
                Ok(n) if prober.is_answer(&space[..n], now) => {
                    return Ok(Delivered { address: Some(peer.address()), total: 0 });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        if let Some(e) = failed.filter(is_final) {
            peer.give_up(DialError::Refused(peer.address(), e));
            next = Duration::ZERO;
            continue;
        }
        wait(hub, events, Some(next.min(peer.until)))?;
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
    fn new(call: &Call<'_>, input: Input, reliability: Reliability) -> Self {
        let sender = Sender::new(call.me, &call.peer, &call.access, reliability, &mut OsRandom);
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
            offered: Duration::ZERO,
            drained: true,
        }
    }

    fn send(
        mut self,
        hub: &mut Hub,
        peer: &mut Peer,
        events: &mut Events,
        limits: &mut Limits<'_>,
    ) -> Result<Delivered, SendError> {
        self.offered = hub.clock.now().mono;
        self.sender.ask_at_least_every(limits.silence / 3);
        loop {
            let now = hub.clock.now();
            self.gather(now)?;
            if self.sender.progress() == Progress::Ready {
                peer.restart(now);
                self.offer(now, limits);
            }
            let full = self.exchange(hub, peer, now, limits)?;
            match self.sender.progress() {
                Progress::Finished => {
                    let address = (!self.is_unheard()).then(|| peer.address());
                    return Ok(Delivered { address, total: self.total });
                }
                Progress::Declined => return Err(SendError::Declined(0, String::new())),
                Progress::Expired => return Err(self.silence(peer, limits)),
                Progress::Ready | Progress::InFlight => {}
            }
            self.check_silence(peer, now, limits)?;
            let until = if full { self.next_look(peer, limits) } else { now.mono };
            wait(hub, events, Some(until))?;
        }
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
        peer: &mut Peer,
        now: Now,
        limits: &mut Limits<'_>,
    ) -> Result<bool, SendError> {
        let proven = self.sender.last_proof().is_some() || self.is_unheard();
        if !proven {
            peer.check_proof(now);
        }
        let socket = peer.socket(hub)?;
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
            peer.give_up(DialError::Refused(peer.address(), e));
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

    /// Nobody answers what asks for no ack.
    fn is_unheard(&self) -> bool {
        self.reliability == Reliability::FireAndForget
    }

    /// While a message is in flight, somebody must show that it arrives.
    fn check_silence(&self, peer: &Peer, now: Now, limits: &Limits<'_>) -> Result<(), SendError> {
        match self.silence_at(limits) {
            Some(at) if now.mono >= at => Err(self.silence(peer, limits)),
            _ => Ok(()),
        }
    }

    fn silence_at(&self, limits: &Limits<'_>) -> Option<Duration> {
        let in_flight = self.sender.progress() == Progress::InFlight && !self.is_unheard();
        let since = self.sender.last_proof().filter(|_| in_flight)?.max(self.offered);
        Some(since + limits.silence)
    }

    fn silence(&self, peer: &Peer, limits: &Limits<'_>) -> SendError {
        match self.sender.last_proof() {
            Some(_) => SendError::CutOff(peer.address(), Cut::Silence(limits.silence)),
            None => {
                let silence = NoProof::Silence(peer.patience);
                SendError::Dial(DialError::NoProof(peer.address(), silence))
            }
        }
    }

    fn next_look(&self, peer: &Peer, limits: &Limits<'_>) -> Duration {
        let ready = self.sender.progress() == Progress::Ready;
        let offer = ready.then(|| self.offer_at(limits));
        let in_flight = self.sender.progress() == Progress::InFlight;
        let unproven = in_flight && self.sender.last_proof().is_none() && !self.is_unheard();
        let proof = unproven.then_some(peer.until);
        let looks = [self.sender.next_timeout(), offer, proof, self.silence_at(limits)];
        looks.into_iter().flatten().min().unwrap_or(peer.until)
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
