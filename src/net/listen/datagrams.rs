//! Datagrams to a listener: sockets, runs and their acks. What a packet means is the pure
//! receiver's business; here a run becomes a source of the mux, and what the output has flushed
//! becomes an ack.

use std::io;
use std::time::Duration;

use mio::net::UdpSocket;

use super::conn::Shared;
use super::ear::{Received, Route, UdpEars};
use super::runs::{Run, Runs};
use super::{Answering, Caller, Heard, Notice, Stage};
use crate::crypto::sodium::OsRandom;
use crate::net::sockets::Transport;
use crate::net::state_file::StateFile;
use crate::proto::datagram::admission::Admission;
use crate::proto::datagram::packet::{LocalKey, PACKET_LEN, Way};
use crate::proto::datagram::past::{Extent, Ran, Recall};
use crate::proto::datagram::receiver::{Arrival, Event, Message, Receiver, RunKey};
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::stream::meta::MessageKind;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Packets that are read before others have their turn.
const PACKETS_A_TURN: usize = 256;
/// A listener that has heard enough stays this long for a sender that lost its last ack, which
/// asks again at intervals that grow with the time it has waited.
const SHORTEST_LINGER: Duration = Duration::from_secs(1);
/// Longer than the longest interval (PROTOCOL.md, section 4.4).
const LONGEST_LINGER: Duration = Duration::from_secs(6);

/// Why a run is cut whose sender says no more.
const SILENT: &str = "the sender fell silent";

/// Which socket a packet came in by, and how.
type Origin = (usize, Route);

/// How far a run is.
struct Progress {
    /// Bytes of it so far.
    total: u64,
    /// The output has not flushed its last message.
    held_since: Option<Duration>,
    /// That message was the last one.
    last: bool,
    /// No message of it was flushed before that one.
    first: bool,
    /// When that message was made, by its sender's clock, Unix ms.
    time_ms: u64,
}

/// Everything of a listener that has to do with datagrams.
pub struct Datagrams {
    ears: UdpEars,
    receiver: Receiver<Origin>,
    runs: Runs<Progress>,
    /// Runs that have begun so far.
    begun: u64,
    events: Vec<Event>,
    linger: Duration,
    /// Something of a run came since the last look.
    news: bool,
}

impl Datagrams {
    /// No sockets yet.
    pub fn new(keys: &[Answering]) -> Self {
        let locals = keys.iter().map(|k| LocalKey::new(k.pair.duplicate(), &k.access)).collect();
        Self {
            ears: UdpEars::default(),
            receiver: Receiver::new(locals),
            runs: Runs::default(),
            begun: 0,
            events: Vec::new(),
            linger: Duration::ZERO,
            news: false,
        }
    }

    /// Adds a socket.
    ///
    /// # Errors
    /// When the system does not tell for which address a packet came.
    pub fn add(&mut self, socket: UdpSocket) -> io::Result<()> {
        self.ears.add(socket)
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        self.ears.count()
    }

    /// Takes note of an event for socket number `ear`.
    pub fn on_event(&mut self, ear: usize) {
        self.ears.on_event(ear);
    }

    /// Whether packets were left so that others have their turn.
    pub fn has_more(&self) -> bool {
        self.ears.has_news()
    }

    /// Whether a run is under way.
    pub fn is_busy(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether something of a run came since the last call.
    pub fn heard_message(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Reads what came, up to a limit, and answers it.
    pub fn drive(
        &mut self,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        for ear in 0..self.ears.count() {
            let mut left = PACKETS_A_TURN;
            while left > 0 && self.ears.is_readable(ear) {
                let Some(Received { route, len, each }) = self.ears.receive(ear, space) else {
                    left -= 1;
                    continue;
                };
                for packet in space[..len].chunks(each) {
                    self.take(packet, (ear, route), now, shared, stage);
                }
                left = left.saturating_sub(len.div_ceil(each).max(1));
            }
        }
        self.receiver.tick(now, &mut self.events);
        self.act(None, now, shared, stage);
        self.cut_silent(now, shared);
        self.send_acks(shared);
    }

    fn take(
        &mut self,
        packet: &[u8],
        origin: Origin,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        let (host, seats) = (&mut *shared.host, &shared.seats);
        let (mut state, keys) = (shared.state.as_mut(), shared.keys);
        let mut admit = |arrival: &Arrival<'_>| {
            let Some(caller) = host.admit(arrival.sender, arrival.local, false) else {
                return Admission::TurnAway;
            };
            let state = state.as_mut().filter(|_| arrival.begins);
            if let Some(before) =
                state.and_then(|state| before(arrival, &caller, state, keys, now.unix_ms))
            {
                return before;
            }
            let limit = seats.forbids(caller.party(None), arrival.more, now.mono);
            if let Some(limit) = limit.filter(|_| arrival.begins) {
                host.notice(Notice::Kept(limit, &caller));
                return Admission::NotNow;
            }
            if caller.known { Admission::Contact } else { Admission::Unknown }
        };
        self.receiver.feed(packet, origin, now, &mut admit, &mut self.events);
        if !self.events.is_empty() {
            self.act(Some((origin, packet)), now, shared, stage);
        }
    }

    /// Does what the receiver wants done.
    fn act(
        &mut self,
        arrived: Option<(Origin, &[u8])>,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.news |= matches!(event, Event::Begun(_) | Event::Message(_));
            match event {
                // What is known of a run comes with its first message.
                Event::Begun(_) => self.linger = self.linger.max(SHORTEST_LINGER),
                Event::Message(message) => {
                    let wire = arrived.map_or(&[][..], |(_, packet)| packet);
                    show_message(&message, wire, shared);
                    self.message(message, now, shared, stage);
                }
                Event::TurnedAway { sender, .. } => {
                    shared.host.notice(Notice::TurnedAway(&sender));
                }
                Event::Probe(probe) => {
                    if let Some(((ear, route), _)) = arrived {
                        let mut answer = [0; PACKET_LEN];
                        self.receiver.here(&probe, now, &mut OsRandom, &mut answer);
                        self.ears.answer(ear, route, &answer);
                    }
                }
                Event::Answered { run, time_ms, mac1, contact } => {
                    // So that a replay of it draws nothing.
                    shared.remember_packet(&ran(&run, time_ms, shared.keys), contact, mac1);
                }
                Event::Abandoned(key) => self.runs.cut(&key, SILENT, now.mono, shared),
            }
        }
        self.events = events;
    }

    fn message(
        &mut self,
        message: Message,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        let known = self.runs.source(&message.run);
        let Some(source) = known.or_else(|| self.begin(&message, now, shared)) else {
            self.receiver.declined(&message.run);
            return;
        };
        let Some(Run { state: run, .. }) = self.runs.get_mut(source) else { return };
        run.total += message.body.len() as u64;
        run.held_since = Some(now.mono);
        shared.seats.heard(source, now.mono);
        run.last = !message.more;
        run.time_ms = message.time_ms;
        shared.mux.data(source, &message.body, now.mono, stage);
        match message.more {
            // A sign of life is nothing to write: it keeps the run, and no turn while others wait.
            true if message.body.is_empty() => {
                self.confirm(source, shared);
            }
            true => shared.mux.confirm_part(source),
            false => shared.mux.end(source),
        }
    }

    /// A run's first message: it becomes a source.
    fn begin(&mut self, message: &Message, now: Now, shared: &mut Shared<'_>) -> Option<Source> {
        let key = message.run;
        let caller = shared.host.admit(key.sender(), key.local(), false)?;
        let heard = Heard {
            id: message.id.to_bytes(),
            caller,
            sent_ms: message.time_ms,
            arrived_ms: now.unix_ms,
            kind: MessageKind::Message as u8,
            transport: Transport::Udp,
        };
        let state = Progress {
            total: 0,
            held_since: None,
            last: false,
            first: true,
            time_ms: message.time_ms,
        };
        // What is whole and the only one needs no more serving.
        let source = Source::Run(self.begun);
        self.begun += 1;
        self.runs.begin(source, Run { key, heard, state }, message.more, now.mono, shared);
        Some(source)
    }

    /// The output has flushed a run's message.
    pub fn flushed(&mut self, source: Source, now: Now, shared: &mut Shared<'_>) {
        let Some(since) = self.confirm(source, shared) else { return };
        let Some(run) = self.runs.get_mut(source) else { return };
        if run.state.last {
            let waited = now.mono - since;
            self.linger = (2 * waited).clamp(SHORTEST_LINGER, LONGEST_LINGER);
            shared.host.notice(Notice::Delivered(&run.heard, run.state.total));
            self.runs.end(source, now.mono, shared);
        } else {
            // Only from here on is it the sender's turn to say something.
            shared.mux.alive(source, now.mono);
        }
        self.send_acks(shared);
    }

    /// All of a run's message is written: remembers and acknowledges it. Since when it was held.
    fn confirm(&mut self, source: Source, shared: &mut Shared<'_>) -> Option<Duration> {
        let run = self.runs.get_mut(source)?;
        if !remember(run, &self.receiver, shared) {
            return None;
        }
        self.receiver.delivered(&run.key);
        run.state.held_since.take()
    }

    /// Whether a run's message waits for the output: its sender may say nothing before it is there.
    pub fn is_held(&self, source: Source) -> bool {
        self.runs.get(source).is_some_and(|run| run.state.held_since.is_some())
    }

    /// Declines a run that is not over, and says why.
    pub fn refuse(&mut self, source: Source, why: &'static str, now: Now, shared: &mut Shared<'_>) {
        let Some(run) = self.runs.get(source) else { return };
        let key = run.key;
        self.receiver.declined(&key);
        self.runs.cut(&key, why, now.mono, shared);
        self.send_acks(shared);
    }

    /// Declines every run that is not over.
    pub fn refuse_all(&mut self, now: Now, shared: &mut Shared<'_>) {
        let sources: Vec<_> = self.runs.iter().map(|(source, _)| source).collect();
        sources
            .into_iter()
            .for_each(|source| self.refuse(source, "the listener ends", now, shared));
    }

    /// A run whose next message does not come is cut; one that waits for the output is not silent.
    fn cut_silent(&mut self, now: Now, shared: &mut Shared<'_>) {
        let silent = |(source, at): (Source, Duration)| (at <= now.mono).then_some(source);
        let sources: Vec<_> = self.deadlines(shared.silence).filter_map(silent).collect();
        for source in sources {
            if let Some(key) = self.runs.get(source).map(|run| run.key) {
                self.receiver.cut(&key);
                self.runs.cut(&key, SILENT, now.mono, shared);
            }
        }
    }

    fn deadlines(&self, silence: Duration) -> impl Iterator<Item = (Source, Duration)> + '_ {
        let waiting = self.runs.iter().filter(|(_, run)| run.state.held_since.is_none());
        waiting.filter_map(move |(source, run)| {
            self.receiver.last_heard(&run.key).map(|heard| (source, heard + silence))
        })
    }

    /// When [`Datagrams::drive`] has something to do without news.
    pub fn deadline(&self, silence: Duration) -> Option<Duration> {
        let silent = self.deadlines(silence).map(|(_, at)| at);
        silent.chain(self.receiver.next_timeout()).min()
    }

    /// How long to stay for a sender that lost its last ack; not at all before anybody was heard.
    pub fn linger(&self) -> Duration {
        self.linger
    }

    fn send_acks(&mut self, shared: &mut Shared<'_>) {
        for ack in self.receiver.take_acks() {
            let (ear, route) = ack.to;
            if shared.trace {
                let wire_head = ack.bytes[..TRACE_BYTES].to_vec();
                let count = ack.bytes.len() / 32;
                shared.host.notice(Notice::Crossed(&Crossing {
                    outgoing: true,
                    wire_len: ack.bytes.len(),
                    wire_head,
                    meaning: format!("acknowledgements: {count}"),
                    content: Vec::new(),
                }));
            }
            self.ears.answer(ear, route, &ack.bytes);
        }
    }
}

/// What is done with a packet that seems to begin a run, if its run is from before this listener
/// began, or the packet itself.
fn before(
    arrival: &Arrival<'_>,
    caller: &Caller,
    state: &mut StateFile,
    keys: &[Answering],
    now_ms: u64,
) -> Option<Admission> {
    let ran = Ran {
        way: Way::Network,
        local: keys[arrival.local].pair.public(),
        sender: arrival.sender,
        run: arrival.run,
        time_ms: arrival.time_ms,
    };
    if state.has_packet(arrival.mac1) {
        return Some(Admission::NotNow);
    }
    match state.recall(&ran, caller.known, now_ms) {
        Recall::New => None,
        Recall::Delivered if !arrival.more => Some(Admission::DeliveredBefore(caller.known)),
        Recall::Delivered => Some(Admission::NotNow),
        Recall::Gone => Some(Admission::Gone),
        Recall::Full => Some(Admission::NoRoom),
    }
}

/// How a run is called that came for one of `keys`.
fn ran<'a>(key: &'a RunKey, time_ms: u64, keys: &'a [Answering]) -> Ran<'a> {
    let local = keys[key.local()].pair.public();
    Ran { way: Way::Network, local, sender: key.sender(), run: key.run(), time_ms }
}

/// Remembers a run whose first or last message was flushed: of those between, a listener that knows
/// nothing of the run takes none. Whether it may be acknowledged.
fn remember(run: &mut Run<Progress>, receiver: &Receiver<Origin>, shared: &mut Shared<'_>) -> bool {
    let first = std::mem::take(&mut run.state.first);
    let (extent, packets) = match (run.state.last, first) {
        (true, _) => (Extent::Whole, receiver.packets(&run.key)),
        (false, true) => (Extent::Begun, &[][..]),
        (false, false) => return true,
    };
    let ran = ran(&run.key, run.state.time_ms, shared.keys);
    shared.remember(&ran, extent, run.heard.caller.known, packets)
}

fn show_message(message: &Message, wire: &[u8], shared: &mut Shared<'_>) {
    if shared.trace {
        shared.host.notice(Notice::Crossed(&Crossing {
            outgoing: false,
            wire_len: wire.len(),
            wire_head: wire[..wire.len().min(TRACE_BYTES)].to_vec(),
            meaning: format!("the last packet of MESSAGE, {} bytes", message.body.len()),
            content: message.body[..message.body.len().min(TRACE_BYTES)].to_vec(),
        }));
    }
}
