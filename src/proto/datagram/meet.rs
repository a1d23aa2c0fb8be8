//! MEET: come to a circuit of a relay. PROTOCOL.md, 5.4 and 5.6.

use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

use super::packet::{FRAGMENT_LEN, Head, Kind, MessageId, Opened, PACKET_LEN, Sealer, Way};
use super::probe::is_void;
use crate::crypto::sodium::Random;
use crate::proto::relay::cell::RENDEZVOUS_LEN;
use crate::proto::time::Now;

/// The most entries that a body's map may have.
const MAX_ENTRIES: u64 = 16;

/// Where to meet, and who is meant.
#[derive(Clone, PartialEq, Eq)]
pub struct Meet {
    /// What both bring to the relay.
    pub rendezvous: [u8; RENDEZVOUS_LEN],
    /// Of several programs under one key the one that is meant.
    pub instance: Option<[u8; 8]>,
}

impl Meet {
    /// Seals it, stamped now, for whomever `to` seals for. Its id comes from the rendezvous, so that
    /// what is sent twice is answered once.
    pub fn seal(&self, to: &Sealer, now: Now, rng: &mut dyn Random, out: &mut [u8; PACKET_LEN]) {
        let mut run = [0; 8];
        run.copy_from_slice(&self.rendezvous[..8]);
        let head = Head {
            kind: Kind::Meet,
            way: Way::Relay,
            more: false,
            id: MessageId { run, sequence: 0 },
            time_ms: now.unix_ms,
            ack_key: &[0; 32],
            fragment: 0,
            of: 1,
        };
        let mut body = [0; FRAGMENT_LEN];
        let len = self.write(&mut body);
        to.seal(&head, &body[..len], rng, out);
    }

    fn write(&self, body: &mut [u8]) -> usize {
        let mut to = Encoder::new(Cursor::new(body));
        let written = (|| {
            to.map(1 + u64::from(self.instance.is_some()))?.u8(0)?.bytes(&self.rendezvous)?;
            if let Some(instance) = &self.instance {
                to.u8(1)?.bytes(instance)?;
            }
            Ok::<_, minicbor::encode::Error<_>>(())
        })();
        debug_assert!(written.is_ok(), "a packet has room for it");
        to.writer().position()
    }

    /// Reads what somebody who is to be heard may have written; `None` if it is no MEET, is void by
    /// now, or breaks a rule.
    pub fn read(packet: &Opened, now: Now) -> Option<Self> {
        if packet.kind() != Kind::Meet || is_void(packet, now) {
            return None;
        }
        let (mut rendezvous, mut instance) = (None, None);
        let mut from = Decoder::new(packet.body());
        let count = from.map().ok()?.filter(|count| *count <= MAX_ENTRIES)?;
        for _ in 0..count {
            match from.u64().ok()? {
                0 if rendezvous.is_none() => {
                    rendezvous = Some(from.bytes().ok()?.try_into().ok()?);
                }
                1 if instance.is_none() => instance = Some(from.bytes().ok()?.try_into().ok()?),
                0 | 1 => return None,
                _ => from.skip().ok()?,
            }
        }
        let whole = from.position() == packet.body().len();
        whole.then_some(Self { rendezvous: rendezvous?, instance })
    }
}
