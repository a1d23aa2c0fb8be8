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
    /// Cells that gave way to somebody who held less, when there was no room.
    pub displaced: u64,
    /// Requests that were refused: a mailbox, the relay or the link was full.
    pub refused: u64,
    /// Links that were closed because the client broke a rule.
    pub violations: u64,
    /// Circuits that were made.
    pub joined: u64,
    /// Bytes that circuits carried.
    pub carried: u64,
}

/// The name of a number, what it says, and the number.
pub type Metric = (&'static str, &'static str, u64);

impl Counts {
    /// What there is now.
    pub fn now(&self) -> [Metric; 8] {
        [
            ("clients", "Clients that are there.", self.clients),
            ("strangers", "Connections whose handshake is not over.", self.strangers),
            ("mailboxes", "Mailboxes that there are.", self.mailboxes),
            ("subscriptions", "Readers of all mailboxes.", self.subscriptions),
            ("held_cells", "Cells that are held.", self.held),
            ("memory_bytes", "What mailboxes, readers and cells cost.", self.memory),
            ("waiting", "Clients that wait to be joined.", self.waiting),
            ("circuits", "Circuits that there are.", self.circuits),
        ]
    }

    /// What there was since the start.
    pub fn since_start(&self) -> [Metric; 11] {
        [
            ("admitted", "Clients that were let in.", self.admitted),
            ("posted_cells", "Cells that came to be held.", self.posted),
            ("volatile_cells", "Cells that came for whoever was there.", self.volatile),
            ("delivered_cells", "Cells that were handed to readers.", self.delivered),
            ("freed_cells", "Cells that readers had freed.", self.freed),
            ("expired_cells", "Cells that became too old.", self.expired),
            ("displaced_cells", "Cells that gave way to somebody who held less.", self.displaced),
            ("refused", "Requests that found something full.", self.refused),
            ("violations", "Links closed because the client broke a rule.", self.violations),
            ("joined", "Circuits that were made.", self.joined),
            ("carried_bytes", "Bytes that circuits carried.", self.carried),
        ]
    }
}
