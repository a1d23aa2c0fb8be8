//! Listening at relays: what lies in our mailboxes there, and who asks for us. PROTOCOL.md, 5.
//!
//! `uplink` is one relay and the link to it, `letters` are messages that came whole, [`meeting`] is how
//! a circuit becomes a connection like any other. One receiver takes what comes by all relays, so that
//! a message that comes by two is taken once. Nothing is acknowledged, to its sender or to a relay, that
//! was not flushed; what is not acknowledged comes again.

mod letters;
pub mod meeting;
mod uplink;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;

use self::letters::Letters;
use self::meeting::Meetings;
use self::uplink::{Incoming, Uplink};
use super::conn::Shared;
use super::{Answering, Notice, Stage};
use crate::crypto::sodium::{OsRandom, PublicKey, random};
use crate::net::dial::{CONNECT_TIME, DialError};
use crate::net::hub::Hub;
use crate::net::state_file::StateFile;
use crate::net::tokens::Topic;
use crate::net::via::Relay;
use crate::proto::datagram::admission::Admission;
use crate::proto::datagram::held::{Asked, Came, Event as Arrival, Held, Local, Verdict, Wait};
use crate::proto::datagram::packet::{LocalKey, PACKET_LEN, Way};
use crate::proto::datagram::past::{Ran, Recall};
use crate::proto::relay::cell::Address;
use crate::proto::relay::mailbox::Channel;
use crate::proto::relay::reading::{Position, Wanted, Whose};
use crate::proto::stream::link::{Crossing, TRACE_BYTES};
use crate::proto::time::Now;
use crate::sched::limits::Seats;
use crate::sched::party::Source;

/// Cells of one relay that are taken before others have their turn.
const CELLS_A_TURN: usize = 32;
/// How often it is looked whether there are other contacts now.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Which relays, and what is read there.
#[derive(Clone, Default)]
pub struct AtRelays {
    /// The relays.
    pub relays: Vec<Rc<Relay>>,
    /// For each key that answers, whether it is a group's.
    pub groups: Vec<bool>,
    /// Who we are in groups.
    pub own: Option<PublicKey>,
    /// Whether those are read, too, who are no contacts.
    pub public: bool,
}

/// Where a packet came: which relay, and which cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    relay: usize,
    position: Position,
}

/// Everything of a listener that has to do with relays.
pub struct Relays<'a> {
    keys: &'a [Answering],
    uplinks: Vec<Uplink>,
    held: Held<Spot>,
    letters: Letters,
    meetings: Meetings,
    groups: Vec<bool>,
    public: bool,
    contacts: BTreeSet<PublicKey>,
    looked: Option<Duration>,
    events: Vec<Arrival>,
    /// Mailboxes that are not read until their senders' memory has room again, by which relay.
    paused: Vec<(usize, Address, Wait)>,
    since: Duration,
    /// Something of a message came since the last look.
    news: bool,
    /// The output has flushed a message since the last turn: another may follow it.
    spoken: bool,
}

impl<'a> Relays<'a> {
    /// No relay.
    pub fn none(keys: &'a [Answering]) -> Self {
        Self::new(keys, AtRelays::default(), Duration::ZERO)
    }

    /// Listens at those that `at` names.
    pub fn new(keys: &'a [Answering], at: AtRelays, now: Duration) -> Self {
        let AtRelays { relays, groups, own, public } = at;
        let is_group = |n: usize| groups.get(n).copied().unwrap_or(false);
        let locals = keys.iter().enumerate().map(|(n, key)| Local {
            key: LocalKey::new(key.pair.duplicate(), &key.access),
            is_group: is_group(n),
        });
        let held = Held::new(locals.collect(), own, random());
        let uplinks = relays.into_iter().enumerate();
        Self {
            keys,
            uplinks: uplinks
                .map(|(n, relay)| Uplink::new(relay, Topic::Relay(n).token()))
                .collect(),
            held,
            letters: Letters::new(),
            meetings: Meetings::default(),
            groups,
            public,
            contacts: BTreeSet::new(),
            looked: None,
            events: Vec::new(),
            paused: Vec::new(),
            since: now,
            news: false,
            spoken: false,
        }
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.uplinks.is_empty()
    }

    /// Circuits that are to be joined.
    pub fn meetings(&mut self) -> &mut Meetings {
        &mut self.meetings
    }

    /// Whether a message is on its way to the output, or to whoever takes it.
    pub fn is_busy(&self) -> bool {
        self.letters.is_busy()
    }

    /// Whether something of a message came since the last call.
    pub fn heard_message(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Takes note of an event for relay number `number`.
    pub fn on_event(&mut self, number: usize, event: &Event) {
        if let Some(uplink) = self.uplinks.get_mut(number) {
            uplink.on_event(event);
        }
    }

    /// One turn for every relay.
    pub fn drive(
        &mut self,
        hub: &Hub,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        if self.is_empty() {
            return;
        }
        let now = hub.clock.now();
        self.look_at_contacts(now, shared);
        for number in 0..self.uplinks.len() {
            self.uplinks[number].advance(hub, self.keys, shared.host);
            self.read(number, now, space, shared, stage);
        }
        self.resume(now);
        let not_read = self.uplinks.iter().any(Uplink::is_stuck) || !self.paused.is_empty();
        self.held.tick(not_read, now, &mut self.events);
        self.act(0, now, shared, stage);
        while self.letters.work(&mut self.held, now, shared) {
            self.has_room();
        }
        self.letters.speak(now, shared, stage);
        self.spoken = false;
        self.settle(now, shared);
    }

    /// Goes on with mailboxes for which there is room again.
    fn resume(&mut self, now: Now) {
        let Self { paused, held, uplinks, .. } = self;
        paused.retain(|(relay, address, wait)| {
            !held.is_over(wait, now) || !uplinks[*relay].reading.resume(address)
        });
    }

    /// Contacts come and go while we listen.
    fn look_at_contacts(&mut self, now: Now, shared: &mut Shared<'_>) {
        if self.looked.is_some_and(|looked| now.mono < looked + LOOK_EVERY) {
            return;
        }
        let first = self.looked.replace(now.mono).is_none();
        let contacts: BTreeSet<_> = shared.host.correspondents().into_iter().collect();
        if !first && contacts == self.contacts {
            return;
        }
        for key in 0..self.keys.len() {
            if self.groups.get(key).copied().unwrap_or(false) {
                self.want((key, Whose::Group));
                continue;
            }
            let gone: Vec<_> = self.contacts.difference(&contacts).copied().collect();
            for contact in gone {
                let wanted = (key, Whose::Pair(contact));
                self.uplinks.iter_mut().for_each(|uplink| uplink.reading.unwant(&wanted));
            }
            let new: Vec<_> = contacts.difference(&self.contacts).copied().collect();
            new.into_iter().for_each(|contact| self.want((key, Whose::Pair(contact))));
            if self.public {
                self.want((key, Whose::Public));
            }
        }
        self.contacts = contacts;
    }

    fn want(&mut self, wanted: Wanted) {
        let Answering { pair, access } = &self.keys[wanted.0];
        for uplink in &mut self.uplinks {
            let me = pair.public();
            let channel = match &wanted.1 {
                Whose::Pair(contact) => Channel::pair(pair, contact, contact, me),
                Whose::Group | Whose::Public => Some(Channel::open(access)),
            };
            if let Some(channel) = channel {
                uplink.reading.want(wanted, channel, *me);
            }
        }
    }

    /// Takes what came from a relay, as long as there is room for it.
    fn read(
        &mut self,
        number: usize,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        let uplink = &mut self.uplinks[number];
        uplink.has_more = false;
        for _ in 0..CELLS_A_TURN {
            let uplink = &mut self.uplinks[number];
            let Some(incoming) = uplink.take(now, space, shared.host) else { return };
            if incoming.packet().is_none() {
                uplink.live(&incoming);
            } else if !self.take(number, &incoming, now, shared) {
                return self.uplinks[number].put_back(incoming, now);
            }
            self.show(&incoming, shared);
            self.act(number, now, shared, stage);
        }
        self.uplinks[number].has_more = true;
    }

    /// Takes a packet in; `false` if there is no room.
    fn take(
        &mut self,
        number: usize,
        incoming: &Incoming,
        now: Now,
        shared: &mut Shared<'_>,
    ) -> bool {
        let uplink = &mut self.uplinks[number];
        let Some((position, live)) = uplink.reading.cell(&incoming.cell()) else { return true };
        let Some(packet) = incoming.packet() else { return true };
        // Who has heard enough takes nothing in: what is left alone comes again another time.
        let underway = || shared.mux.underway() + self.letters.for_hire() + shared.open_runs;
        let sated = shared.mux.left().is_some_and(|left| underway() >= left);
        let full = sated || shared.refusing.is_some();
        let host = &mut *shared.host;
        let reading = &uplink.reading;
        let (mut state, keys) = (shared.state.as_mut(), shared.keys);
        let mut admit = |asked: &Asked<'_>| {
            let Some(caller) = host.admit(asked.sender, asked.local, false) else {
                return Admission::TurnAway;
            };
            // The first copy may have been delivered and freed by another program before this one.
            if asked.begins && reading.is_copy(&position.address, asked.sender) {
                return Admission::Gone;
            }
            let state = state.as_mut().filter(|_| asked.begins && asked.is_message);
            let recall = |state: &mut &mut StateFile| {
                state.recall(&ran(asked, keys), caller.known, now.unix_ms)
            };
            match state.map_or(Recall::New, recall) {
                Recall::New => {}
                Recall::Delivered => return Admission::DeliveredBefore(caller.known),
                Recall::Gone => return Admission::Gone,
                Recall::Full => return Admission::NoRoom,
            }
            match caller.known {
                _ if full && asked.begins => Admission::NotNow,
                true => Admission::Contact,
                false => Admission::Unknown,
            }
        };
        let cell = Spot { relay: number, position };
        let came = Came { cell, live, ttl_ms: uplink.ttl_ms() };
        match self.held.feed(packet, came, now, &mut admit, &mut self.events) {
            Verdict::NotNow => {
                let Some(wait) = self.held.take_wait() else { return false };
                uplink.reading.pause(&position);
                let address = position.address;
                if !self.paused.iter().any(|(relay, at, _)| (*relay, *at) == (number, address)) {
                    self.paused.push((number, address, wait));
                }
            }
            verdict => uplink.reading.took(&position, verdict == Verdict::Decided),
        }
        true
    }

    fn show(&self, incoming: &Incoming, shared: &mut Shared<'_>) {
        let Some(packet) = incoming.packet().filter(|_| shared.trace) else { return };
        let messages = self.events.iter().filter_map(|event| match event {
            Arrival::Message(message) => Some(&message.body),
            _ => None,
        });
        for body in messages {
            shared.host.notice(Notice::Crossed(&Crossing {
                outgoing: false,
                wire_len: packet.len(),
                wire_head: packet[..TRACE_BYTES].to_vec(),
                meaning: format!("the last packet of a message by a relay, {} bytes", body.len()),
                content: body[..body.len().min(TRACE_BYTES)].to_vec(),
            }));
        }
    }

    /// Does what the receiver wants done about what came from relay `number`.
    fn act(&mut self, number: usize, now: Now, shared: &mut Shared<'_>, stage: &mut dyn Stage) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Arrival::Message(message) => {
                    self.news = true;
                    self.letters.arrived(message, &mut self.held, now, shared);
                    // At once: who counts must know what is on its way.
                    self.letters.speak(now, shared, stage);
                }
                Arrival::TurnedAway { sender, .. } => {
                    shared.host.notice(Notice::TurnedAway(&sender));
                }
                Arrival::Probe(probe) => {
                    let mut here = [0; PACKET_LEN];
                    let to = self.held.here(&probe, now, &mut OsRandom, &mut here);
                    if let Some(address) = to {
                        self.uplinks[number].post(address, &here, true, now);
                    }
                }
                Arrival::Meet { sender, local, rendezvous } => {
                    if let Some(caller) = shared.host.admit(&sender, local, false) {
                        let relay = self.uplinks[number].relay();
                        self.meetings.ask(caller.party(None), relay, rendezvous, now);
                    }
                }
                // Its sender has never heard that it came.
                Arrival::GivenUp(_) => {}
            }
        }
        self.events = events;
    }

    /// The output has flushed a message.
    pub fn flushed(&mut self, source: Source, now: Now, shared: &mut Shared<'_>) {
        self.letters.flushed(source, &mut self.held, now, shared);
        self.spoken = true;
        self.has_room();
    }

    /// What there was no room for may have some now.
    fn has_room(&mut self) {
        self.uplinks.iter_mut().for_each(Uplink::retry);
    }

    /// Says what came of what was delivered, and all else there is to say.
    pub fn settle(&mut self, now: Now, shared: &mut Shared<'_>) {
        if self.is_empty() {
            return;
        }
        let Self { held, uplinks, .. } = self;
        held.receipts(now, &mut OsRandom, |posting| {
            let uplink = &mut uplinks[posting.answers.relay];
            uplink.post(posting.address, posting.packet, posting.volatile, now);
        });
        for spot in held.take_decided() {
            uplinks[spot.relay].reading.decided(&spot.position);
        }
        uplinks.iter_mut().for_each(|uplink| uplink.say(now, shared.host));
    }

    /// Whether something was left so that others have their turn.
    pub fn has_more(&self) -> bool {
        let speaks = self.spoken && self.letters.is_resting();
        speaks || self.uplinks.iter().any(|uplink| uplink.has_more)
    }

    /// When [`Relays::drive`] has something to do without news.
    pub fn deadline(&self, now: Now, seats: &Seats) -> Option<Duration> {
        if self.is_empty() {
            return None;
        }
        let uplinks = self.uplinks.iter().filter_map(|uplink| uplink.deadline(now));
        let own = uplinks.chain(self.meetings.deadline()).chain(self.held.next_timeout());
        let own = own.chain(self.letters.deadline(seats));
        let waits = self.paused.iter().map(|(_, _, wait)| wait.until);
        let own = own.chain(waits.filter(|until| *until > now.mono));
        own.chain(self.looked.map(|looked| looked + LOOK_EVERY)).min()
    }

    /// No relay was ever reached, and it is long enough now: why that is.
    pub fn hopeless(&mut self, now: Duration) -> Option<(String, DialError)> {
        let late = !self.is_empty() && now >= self.since + CONNECT_TIME;
        let unreached = |uplink: &Uplink| !uplink.was_live && uplink.unreached.is_some();
        if !late || !self.uplinks.iter().all(unreached) {
            return None;
        }
        let first = self.uplinks.first_mut()?;
        Some((first.relay().name.clone(), first.unreached.take()?))
    }

    /// We end: nothing more is taken in, and what is not delivered comes again another time.
    pub fn close(&mut self, now: Now, shared: &mut Shared<'_>) {
        self.letters.clear(now, shared);
        self.meetings.clear();
        self.settle(now, shared);
        self.uplinks.iter_mut().for_each(Uplink::leave);
    }

    /// Whether every relay has read what we said.
    pub fn have_left(&mut self) -> bool {
        self.uplinks.iter_mut().all(Uplink::has_left)
    }
}

/// What a listener remembers a message by when it is restarted.
fn ran<'a>(asked: &Asked<'a>, keys: &'a [Answering]) -> Ran<'a> {
    let Asked { sender, local, run, time_ms, .. } = *asked;
    Ran { way: Way::Relay, local: keys[local].pair.public(), sender, run, time_ms }
}
