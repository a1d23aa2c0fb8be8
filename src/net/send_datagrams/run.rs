//! A run: the input, in messages of datagrams that are acknowledged.

use std::io;
use std::time::Duration;

use mio::net::UdpSocket;

use super::route::{Route, is_final};
use super::{ANSWERS_A_TURN, READ_SPACE};
use crate::crypto::sodium::OsRandom;
use crate::net::call::Call;
use crate::net::dial::{DialError, NoProof};
use crate::net::hub::Hub;
use crate::net::input::{Got, Input};
use crate::net::send::{Cut, Delivered, Limits, SendError};
use crate::net::several::Turn;
use crate::proto::datagram::ack::ACK_LEN;
use crate::proto::datagram::packet::{MAX_MESSAGE, PACKET_LEN};
use crate::proto::datagram::sender::{MESSAGE_LIFE, Progress, Reliability, Sender};
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::time::Now;

/// Input that pauses this long goes out, though it would not fill a message.
const GATHER: Duration = Duration::from_millis(20);
/// A run whose input is idle says so this often. Nobody can tell a sender of datagrams to speak up
/// more often, so it is more often than in a stream.
const IDLE: Duration = Duration::from_secs(3);
/// Packets that are sealed before acks are looked at.
const PACKETS_A_TURN: usize = 64;

/// One run on its way.
pub(super) struct Run {
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
    /// Sends what `input` gives; a recipient may be silent for `silence`.
    pub fn new(
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

    /// Goes as far as it can.
    pub fn turn(
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
            Progress::Expired => return Err(self.expired(route, now)),
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
        if !self.is_proven() && !self.is_unheard() {
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
        // By now all that came before the failure was read: it may have been a proof.
        if let Some(e) = failed.filter(is_final)
            && !self.is_proven()
            && !self.is_unheard()
        {
            route.give_up(DialError::refused(route.address(), e));
            return Ok(false);
        }
        Ok(all_sent && self.drained)
    }

    /// Takes what came, also behind an error that something sent earlier drew: the error.
    fn receive(
        &mut self,
        socket: &UdpSocket,
        now: Now,
        limits: &mut Limits<'_>,
    ) -> Option<io::Error> {
        let mut space = [0; READ_SPACE];
        let mut failed = None;
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
                    return failed;
                }
                Err(e) => failed = Some(e),
            }
        }
        self.drained = false;
        failed
    }

    /// Whether somebody showed that the peer's key opens what is sent.
    pub fn is_proven(&self) -> bool {
        self.sender.last_proof().is_some()
    }

    /// Nobody answers what asks for no ack.
    fn is_unheard(&self) -> bool {
        self.reliability == Reliability::FireAndForget
    }

    /// While a message is in flight, somebody must show that it arrives.
    fn check_silence(&self, route: &Route, now: Now, limits: &Limits<'_>) -> Result<(), SendError> {
        match self.silence_at(limits) {
            Some(at) if now.mono >= at => Err(self.silence(route, now)),
            _ => Ok(()),
        }
    }

    fn silence_at(&self, limits: &Limits<'_>) -> Option<Duration> {
        let in_flight = self.sender.progress() == Progress::InFlight && !self.is_unheard();
        let since = self.sender.last_proof().filter(|_| in_flight)?.max(self.offered);
        Some(since + limits.silence)
    }

    /// A message is too old to be sent any longer.
    fn expired(&self, route: &Route, now: Now) -> SendError {
        match self.sender.last_proof() {
            Some(_) => SendError::CutOff(route.address(), Cut::Undelivered(MESSAGE_LIFE)),
            None => self.silence(route, now),
        }
    }

    fn silence(&self, route: &Route, now: Now) -> SendError {
        match self.sender.last_proof() {
            Some(proof) => {
                let silence = now.mono.saturating_sub(proof.max(self.offered));
                SendError::CutOff(route.address(), Cut::Silence(silence))
            }
            None => {
                let silence = NoProof::Silence(route.patience);
                SendError::Dial(DialError::NoProof(route.address(), silence))
            }
        }
    }

    /// When [`Run::turn`] has something to do without news.
    pub fn next_look(&self, route: &Route, limits: &Limits<'_>) -> Duration {
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
