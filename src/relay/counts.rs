//! What a relay tells of itself: numbers, and nothing that names anybody.

use serde::Serialize;

/// How much there is now, and how much there was since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Clients that are there.
    pub clients: u64,
    /// Connections whose handshake is not over.
    pub strangers: u64,
    /// Mailboxes that there are.
    pub mailboxes: u64,
    /// Readers of all mailboxes.
    pub subscriptions: u64,
    /// Cells that are held.
    pub held: u64,
    /// What mailboxes, readers and cells cost, in bytes.
    pub memory: u64,
    /// Clients that wait for another one to be joined with.
    pub waiting: u64,
    /// Circuits that there are.
    pub circuits: u64,
    /// Clients that were let in.
    pub admitted: u64,
    /// Cells that came to be held.
    pub posted: u64,
    /// Cells that came for whoever was there.
    pub volatile: u64,
    /// Cells that were handed to readers.
    pub delivered: u64,
    /// Cells that readers had freed.
    pub freed: u64,
    /// Cells that became too old.
    pub expired: u64,
    /// Requests that were refused: a mailbox, the relay or the link was full.
    pub refused: u64,
    /// Links that were closed because the client broke a rule.
    pub violations: u64,
    /// Circuits that were made.
    pub joined: u64,
    /// Bytes that circuits carried.
    pub carried: u64,
}
