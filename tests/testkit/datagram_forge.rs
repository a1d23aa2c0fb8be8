//! Packets made field by field, so that each field can be wrong.

use std::time::Duration;

use anonchat::crypto::sodium::{
    BoxKey, KeyPair, PublicKey, Secret, SeededRandom, keyed_hash, random, seal_anonymous,
};
use anonchat::proto::datagram::admission::Admission;
use anonchat::proto::datagram::packet::{LocalKey, PACKET_LEN, mac1, mac1_key};
use anonchat::proto::datagram::receiver::{Event, Receiver};
use anonchat::proto::datagram::sender::{Reliability, Sender};
use anonchat::proto::time::Now;

/// When the tests begin.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
pub const ACCESS: [u8; 32] = [7; 32];
pub const ACK_KEY: [u8; 32] = [9; 32];

pub fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), unix_ms: EPOCH_MS + ms }
}

/// A key pair for each name.
pub fn pair(name: &str) -> KeyPair {
    let secret: [u8; 32] = keyed_hash(b"AnonChat test keys", &[name.as_bytes()]);
    KeyPair::from_secret(Secret::from_slice(&secret).unwrap())
}

pub fn listener() -> Receiver<u16> {
    Receiver::new(vec![LocalKey::new(pair("bob"), &ACCESS)])
}

pub fn sender(me: &str, rng: &mut SeededRandom) -> Sender {
    Sender::new(&pair(me), pair("bob").public(), &ACCESS, Reliability::Acked, rng)
}

/// Feeds one packet whose sender is admitted as `admission`; the beginnings of runs left out.
pub fn feed(bob: &mut Receiver<u16>, packet: &[u8], now: Now, admission: Admission) -> Vec<Event> {
    let mut events = Vec::new();
    bob.feed(packet, 1, now, &mut |_| admission, &mut events);
    events.retain(|event| !matches!(event, Event::Begun(_) | Event::Answered { .. }));
    events
}

/// A packet of one message, every field open.
#[derive(Clone)]
pub struct Forge {
    pub from: &'static str,
    pub claimed: Option<[u8; 32]>,
    pub access: [u8; 32],
    pub version: u8,
    pub kind: u8,
    pub flags: u16,
    pub run: [u8; 8],
    pub sequence: u64,
    pub time_ms: u64,
    pub ack_key: [u8; 32],
    pub fragment: u16,
    pub of: u16,
    pub len: Option<u16>,
    pub body: Vec<u8>,
    pub padding: u8,
}

impl Default for Forge {
    fn default() -> Self {
        Self {
            from: "alice",
            claimed: None,
            access: ACCESS,
            version: 1,
            kind: 0,
            flags: 0,
            run: *b"run-name",
            sequence: 0,
            time_ms: EPOCH_MS,
            ack_key: ACK_KEY,
            fragment: 0,
            of: 1,
            len: None,
            body: b"hi\n".to_vec(),
            padding: 0,
        }
    }
}

impl Forge {
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = self.run.to_vec();
        payload.extend(self.sequence.to_be_bytes());
        payload.extend(self.time_ms.to_be_bytes());
        payload.extend(self.ack_key);
        payload.extend(self.fragment.to_be_bytes());
        payload.extend(self.of.to_be_bytes());
        payload.extend(self.len.unwrap_or(self.body.len() as u16).to_be_bytes());
        payload.extend(&self.body);
        assert!(payload.len() <= 1060);
        payload.resize(1060, 0);
        if self.padding != 0 {
            payload[1059] = self.padding;
        }
        payload
    }

    /// Sealed anew at each call.
    pub fn seal(&self) -> [u8; PACKET_LEN] {
        let (me, to) = (pair(self.from), *pair("bob").public());
        let nonce: [u8; 24] = random();
        let mut inner = vec![self.version, self.kind];
        inner.extend(self.flags.to_be_bytes());
        inner.extend(self.claimed.unwrap_or(*me.public().as_bytes()));
        inner.extend(nonce);
        inner.extend(BoxKey::new(&me, &to).seal(&nonce, &self.payload()));
        seal_inner(&to, &self.access, &inner)
    }
}

pub fn seal_inner(to: &PublicKey, access: &[u8; 32], inner: &[u8]) -> [u8; PACKET_LEN] {
    let sealed = seal_anonymous(to, inner);
    let mut packet = mac1(&mac1_key(access, to), &sealed).to_vec();
    packet.extend(sealed);
    packet.try_into().unwrap()
}
