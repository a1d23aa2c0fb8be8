//! Whose a mailbox is: blinded addresses, and the proof of the right to read one. PROTOCOL.md, 5.3.

use super::cell::{Address, PROOF_LEN};
use crate::crypto::noise::HASH_LEN;
use crate::crypto::sodium::{
    KeyPair, PublicKey, Secret, constant_time_eq, keyed_hash, keyed_hash_secret, x25519,
};
use crate::proto::datagram::packet::MessageId;

/// How long an address lasts, in milliseconds: a day.
pub const EPOCH_MS: u64 = 86_400_000;

/// The epoch of a moment, Unix ms.
pub fn epoch(unix_ms: u64) -> u64 {
    unix_ms / EPOCH_MS
}

/// What both ends of a mailbox know and nobody else: `c` of PROTOCOL.md, 5.3. It gives the
/// mailbox's addresses, not the right to read it.
pub struct Channel(Secret<32>);

impl Channel {
    /// From `sender` to `recipient`, of whom `me` is one and `other` the other.
    pub fn pair(
        me: &KeyPair,
        other: &PublicKey,
        sender: &PublicKey,
        recipient: &PublicKey,
    ) -> Option<Self> {
        let shared = me.dh(other).ok()?;
        let label: &[u8] = b"AnonChat v1 pair";
        let pieces = [label, sender.as_bytes(), recipient.as_bytes()];
        Some(Self(keyed_hash_secret(shared.expose(), &pieces)))
    }

    /// To a person from those who are no contacts, or to a group from anybody: `c` is its `access`.
    pub fn open(access: &[u8; 32]) -> Self {
        let mut c = Secret::zeroed();
        c.expose_mut().copy_from_slice(access);
        Self(c)
    }

    /// Back to the sender of the message (or probe) `id`, whose `ack_key` the recipient has read.
    pub fn receipts(ack_key: &[u8; 32], id: MessageId) -> Self {
        Self(keyed_hash_secret(ack_key, &[b"AnonChat v1 receipts", &id.to_bytes()]))
    }

    /// The mailbox that `reader` reads in `epoch`.
    pub fn at(&self, reader: &PublicKey, epoch: u64) -> Option<Mailbox> {
        let label: &[u8] = b"AnonChat v1 blind";
        let pieces = [label, reader.as_bytes(), &epoch.to_be_bytes()];
        let blind: Secret<32> = keyed_hash_secret(self.0.expose(), &pieces);
        let address = *x25519(&blind, reader.as_bytes()).ok()?.expose();
        Some(Mailbox { blind, address })
    }
}

/// One mailbox, as its two ends see it.
pub struct Mailbox {
    blind: Secret<32>,
    /// As the relay sees it.
    pub address: Address,
}

/// What the holder of a key has to prove its right to mailboxes on one link: `DH(R_sk, C)`, which
/// never leaves the process.
pub struct Reader(Secret<32>);

impl Reader {
    /// `challenge` is that of the link's WELCOME; `None` if it is no public key.
    pub fn new(me: &KeyPair, challenge: &[u8; 32]) -> Option<Self> {
        let challenge = PublicKey::from_bytes(challenge).ok()?;
        me.dh(&challenge).ok().map(Self)
    }

    /// The proof for `mailbox` on the link whose handshake hash is `hash`.
    pub fn prove(&self, mailbox: &Mailbox, hash: &[u8; HASH_LEN]) -> Option<[u8; PROOF_LEN]> {
        let shared = x25519(&mailbox.blind, self.0.expose()).ok()?;
        Some(proof(&shared, hash, &mailbox.address))
    }
}

/// A relay's challenge for one link.
pub struct Challenge(KeyPair);

impl Challenge {
    /// A fresh one.
    pub fn generate() -> Self {
        Self(KeyPair::generate())
    }

    /// What goes into WELCOME.
    pub fn public(&self) -> &[u8; 32] {
        self.0.public().as_bytes()
    }

    /// Whether whoever made `claimed` may read `address`: one X25519.
    pub fn admits(&self, address: &PublicKey, hash: &[u8; HASH_LEN], claimed: &[u8]) -> bool {
        let Ok(shared) = self.0.dh(address) else { return false };
        constant_time_eq(claimed, &proof(&shared, hash, address.as_bytes()))
    }
}

fn proof(shared: &Secret<32>, hash: &[u8; HASH_LEN], address: &Address) -> [u8; PROOF_LEN] {
    keyed_hash(shared.expose(), &[b"AnonChat v1 mailbox proof", hash, address])
}
