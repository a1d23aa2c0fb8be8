//! Where the packets lie that mailboxes hold.

use crate::crypto::sodium::wipe;
use crate::proto::datagram::packet::PACKET_LEN;

/// A sealed packet, as it came.
pub type Packet = [u8; PACKET_LEN];

/// Keeps packets, and forgets them without a trace.
pub trait Store {
    /// Names a packet that is kept.
    type Key;

    /// What one packet costs of the memory that a relay may use, in bytes.
    const COST: usize;

    /// Keeps a copy; `None` if it cannot.
    fn put(&mut self, packet: &Packet) -> Option<Self::Key>;

    /// A packet that is kept; `None` if it is lost.
    fn get<'a>(&'a mut self, key: &'a Self::Key) -> Option<&'a Packet>;

    /// Forgets a packet: its bytes are overwritten.
    fn remove(&mut self, key: Self::Key);
}

/// Keeps packets in memory, each on the heap by itself.
#[derive(Default)]
pub struct Memory;

/// A packet in memory: overwritten when it goes, whichever way.
pub struct Kept(Box<Packet>);

impl Drop for Kept {
    fn drop(&mut self) {
        wipe(&mut self.0[..]);
    }
}

impl Store for Memory {
    type Key = Kept;

    /// The allocator rounds up to 16 bytes, and adds as much.
    const COST: usize = PACKET_LEN + 16;

    fn put(&mut self, packet: &Packet) -> Option<Kept> {
        Some(Kept(Box::new(*packet)))
    }

    fn get<'a>(&'a mut self, key: &'a Kept) -> Option<&'a Packet> {
        Some(&key.0)
    }

    fn remove(&mut self, key: Kept) {
        drop(key);
    }
}
