//! RECEIPT: what came of a message that went by a relay. PROTOCOL.md, 5.4.

use super::ack::{Ack, Status, WHOLE, ack};
use super::packet::{
    Head, Kind, MAC1_LEN, MessageId, Opened, PACKET_LEN, Sealer, Way, mac1, mac1_key,
};
use crate::crypto::sodium::{KeyPair, PublicKey, Random, Secret, constant_time_eq};
use crate::proto::time::Now;

/// Which message it is about, as its recipient read it.
pub struct Receipted<'a> {
    /// Whose it is.
    pub sender: &'a PublicKey,
    /// The message.
    pub id: MessageId,
    /// Its ack key, 32 bytes.
    pub ack_key: &'a [u8; 32],
}

/// Seals a RECEIPT by the recipient `me` into `out`.
pub fn seal(
    me: &KeyPair,
    of: &Receipted<'_>,
    status: Status,
    now: Now,
    rng: &mut dyn Random,
    out: &mut [u8; PACKET_LEN],
) {
    let head = Head {
        kind: Kind::Receipt,
        way: Way::Relay,
        more: false,
        id: of.id,
        time_ms: now.unix_ms,
        ack_key: &[0; 32],
        fragment: 0,
        of: 1,
    };
    let body = ack(of.ack_key, of.id, WHOLE, status);
    Sealer::new(me, of.sender, of.ack_key).seal(&head, &body, rng, out);
}

/// What recognises the receipts of one message.
pub struct Awaited {
    id: MessageId,
    answer_key: Secret<32>,
    statuses: [(Ack, Status); 3],
}

impl Awaited {
    /// Those of the message `id` of the holder of `me`.
    pub fn new(me: &PublicKey, id: MessageId, ack_key: &[u8; 32]) -> Self {
        let one = |status| (ack(ack_key, id, WHOLE, status), status);
        let statuses = [Status::Received, Status::Delivered, Status::Declined].map(one);
        Self { id, answer_key: mac1_key(ack_key, me), statuses }
    }

    /// What `packet` says, if the holder of `from` made it for `me` about this message.
    pub fn read(
        &self,
        me: &KeyPair,
        from: &PublicKey,
        packet: &[u8; PACKET_LEN],
    ) -> Option<Status> {
        let (claimed, sealed) = packet.split_at(MAC1_LEN);
        if !constant_time_eq(claimed, &mac1(&self.answer_key, sealed)) {
            return None;
        }
        let receipt = Opened::open(me, packet, 0, &[])?;
        let is_ours = receipt.kind() == Kind::Receipt
            && receipt.sender() == from
            && receipt.id() == self.id
            && *receipt.ack_key() == [0; 32];
        let said = self.statuses.iter().find(|(ack, _)| ack[..] == *receipt.body());
        said.filter(|_| is_ours).map(|(_, status)| *status)
    }
}
