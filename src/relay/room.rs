//! Where those wait who want to be joined with somebody else: CONNECT of PROTOCOL.md, section 5.6.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::proto::relay::cell::RENDEZVOUS_LEN;

/// How long a CONNECT waits for the other one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What both bring.
pub type Rendezvous = [u8; RENDEZVOUS_LEN];

/// Clients that wait, by number: each at one rendezvous at most.
#[derive(Default)]
pub struct Room {
    by_rendezvous: HashMap<Rendezvous, usize>,
    by_client: HashMap<usize, (Rendezvous, Duration)>,
    by_time: BTreeSet<(Duration, usize)>,
}

impl Room {
    /// `client`, which waits nowhere yet, comes to `rendezvous`: whom it finds there, who then
    /// waits no more; else it waits itself.
    pub fn meet(&mut self, client: usize, at: &Rendezvous, now: Duration) -> Option<usize> {
        if let Some(other) = self.by_rendezvous.get(at).copied() {
            self.leave(other);
            return Some(other);
        }
        let until = now + PATIENCE;
        self.by_rendezvous.insert(*at, client);
        self.by_client.insert(client, (*at, until));
        self.by_time.insert((until, client));
        None
    }

    /// `client` waits no more.
    pub fn leave(&mut self, client: usize) {
        if let Some((at, until)) = self.by_client.remove(&client) {
            self.by_rendezvous.remove(&at);
            self.by_time.remove(&(until, client));
        }
    }

    /// Whether `client` waits.
    pub fn has(&self, client: usize) -> bool {
        self.by_client.contains_key(&client)
    }

    /// Somebody to whom nobody came in time, and who waits no more.
    pub fn expired(&mut self, now: Duration) -> Option<usize> {
        let (_, client) = self.by_time.first().copied().filter(|(until, _)| *until <= now)?;
        self.leave(client);
        Some(client)
    }

    /// When [`Room::expired`] has somebody.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }
}
