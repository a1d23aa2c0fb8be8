//! Answers those whom it would hear, and is silent otherwise. PROTOCOL.md, 6.3.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::memory::{Memory, Question};
use crate::crypto::sodium::{PublicKey, Random};
use crate::proto::datagram::admission::Admission;
use crate::proto::datagram::cache::BoxCache;
use crate::proto::datagram::packet::{
    Kind, LocalKey, Mac1, MessageId, Opened, PACKET_LEN, Way, mac1_of, recognise,
};
use crate::proto::datagram::presence::{HereBody, MAX_ADDRESSES, ProbeBody};
use crate::proto::datagram::probe::Probe;
use crate::proto::time::{Now, within_window};

/// Probes whose answers could not be sent, of which this is remembered. A flood of these that pushes one
/// out costs openings, of which there is a limit.
const MAX_UNSENT: usize = 1024;

/// What an announcer asks of the program around it.
pub trait Presence {
    /// Whether the holder of `sender`, who asks for key number `local`, is heard.
    fn admit(&mut self, sender: &PublicKey, local: usize) -> Admission;
    /// What is said to whoever asks on the link of this number, in the probe of this id; `None` if
    /// nothing listens there.
    fn here(
        &mut self,
        probe: &ProbeBody,
        id: MessageId,
        local: usize,
        link: u32,
    ) -> Option<HereBody>;
}

/// What comes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Silence,
    /// The answer was written; it goes to the packet's source.
    Answer,
    /// Somebody who holds the public key file is not among those to be heard: silence, too.
    TurnedAway(PublicKey),
}

/// The state of one announcer, for any number of local keys.
pub struct Announcer {
    locals: Vec<LocalKey>,
    /// Of contacts, and of others, so that no flood of these makes those costly.
    caches: [BoxCache; 2],
    memory: Memory,
    /// What was answered last.
    answered: Option<Question>,
    /// Probes of which an answer could not be sent, the newest last; one for each time.
    unsent: VecDeque<Mac1>,
}

impl Announcer {
    /// One that answers for `locals`.
    pub fn new(locals: Vec<LocalKey>) -> Self {
        let caches = [BoxCache::new(), BoxCache::new()];
        let (answered, unsent) = (None, VecDeque::new());
        Self { locals, caches, memory: Memory::new(), answered, unsent }
    }

    /// The answer that [`Announcer::feed`] wrote last could not be sent: another copy of its probe, by
    /// another way, may be answered. So many copies as a seeker has addresses, and no more: whoever
    /// recorded one must not have us open it again and again.
    pub fn not_sent(&mut self) {
        let Some(question) = self.answered.take() else { return };
        let (_, mac1) = question.asked;
        if self.unsent.iter().filter(|unsent| **unsent == mac1).count() >= MAX_ADDRESSES {
            return;
        }
        if self.unsent.len() >= MAX_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(mac1);
        self.memory.forget(&question);
    }

    /// Takes a datagram that came from `from` by the link of number `link`, and writes its answer,
    /// which is as long, to `answer`.
    #[allow(clippy::too_many_arguments)] // one packet, and all that decides about it
    pub fn feed(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        link: u32,
        now: Now,
        presence: &mut dyn Presence,
        rng: &mut dyn Random,
        answer: &mut [u8; PACKET_LEN],
    ) -> Outcome {
        let Some((local, mut packet, probe)) = self.open(datagram, from, now) else {
            return Outcome::Silence;
        };
        if !probe.addresses.contains(&from.ip().to_canonical()) || probe.port != from.port() {
            return Outcome::Silence;
        }
        let sender = *packet.sender();
        let admission = presence.admit(&sender, local);
        if admission == Admission::TurnAway {
            return Outcome::TurnedAway(sender);
        }
        let contact = admission == Admission::Contact;
        if contact {
            self.memory.contact_at(from.ip());
        }
        if let Some(fresh) = packet.take_fresh_key() {
            self.caches[usize::from(!contact)].insert(local, sender, fresh);
        }
        let mac1 = datagram.first_chunk().copied().unwrap_or_default();
        let asked = (packet.time_ms(), mac1);
        if !self.memory.answered.accept((local, sender), contact, asked, now) {
            return Outcome::Silence;
        }
        self.answered = Some(Question { who: (local, sender), contact, asked });
        let Some(here) = presence.here(&probe, packet.id(), local, link) else {
            return Outcome::Silence;
        };
        let (me, body) = (self.locals[local].keys(), here.encode());
        Probe::new(&packet, local).answer(me, Way::Network, body.as_bytes(), now, rng, answer);
        Outcome::Answer
    }

    /// Everything that does not depend on who asks; from cheap to costly.
    fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
    ) -> Option<(usize, Opened, ProbeBody)> {
        let packet: &[u8; PACKET_LEN] = datagram.try_into().ok()?;
        let local = recognise(&self.locals, packet)?;
        let mac1 = mac1_of(packet);
        if !self.memory.may_open(&mac1, from.ip(), now.mono) {
            return None;
        }
        let opened = Opened::open(self.locals[local].keys(), packet, local, &self.caches);
        // One that does not open is not worth a second try either.
        self.memory.opened(mac1);
        let opened = opened?;
        let due = opened.kind() == Kind::Probe
            && opened.way() == Way::Network
            && within_window(opened.time_ms(), now.unix_ms);
        let probe = ProbeBody::decode(opened.body()).filter(|_| due)?;
        Some((local, opened, probe))
    }
}
