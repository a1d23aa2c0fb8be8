//! Who is here, who was lately, and when that changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::crypto::sodium::PublicKey;
use crate::proto::datagram::presence::{Claim, Endpoint, INSTANCE_LEN};

/// Without an answer for this long somebody is *away*.
pub const AWAY: Duration = Duration::from_secs(10);
/// Without an answer for this long somebody is forgotten.
pub const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// Names one announcer: whom it answers for, and which of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The place of the sought key among those that are sought.
    pub sought: usize,
    /// The member of a group that introduced itself.
    pub member: Option<PublicKey>,
    /// What tells announcers under one key apart.
    pub instance: [u8; INSTANCE_LEN],
}

/// How present somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Answered within [`AWAY`].
    Online,
    /// Did not.
    Away,
    /// Not for [`FORGOTTEN`]: the last that is heard of it.
    Forgotten,
}

impl Status {
    /// `online`, `away` or `forgotten`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Somebody who was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// How present.
    pub status: Status,
    /// An address that a round trip has checked; the port is discovery's. By a relay: the relay's.
    pub address: SocketAddr,
    /// Where the listener listens at that address; by a relay nowhere.
    pub endpoints: Vec<Endpoint>,
    /// Who they say they are, in a group: the key is proven, the name is not.
    pub claim: Option<Claim>,
    /// When the last answer came, on the monotonic clock.
    pub heard: Duration,
}

/// Everybody who was found and is not forgotten.
#[derive(Default)]
pub struct Roster {
    entries: BTreeMap<Id, Entry>,
}

impl Roster {
    /// Somebody answered. Whether anything but the time is new.
    pub fn heard(&mut self, id: Id, entry: Entry) -> bool {
        let timeless = |entry: &Entry| Entry { heard: Duration::ZERO, ..entry.clone() };
        let news = self.entries.get(&id).map(timeless) != Some(timeless(&entry));
        self.entries.insert(id, entry);
        news
    }

    /// What time alone has changed. Who is forgotten is given with its last entry.
    pub fn tick(&mut self, now: Duration) -> Vec<(Id, Entry)> {
        let mut changed = Vec::new();
        self.entries.retain(|id, entry| {
            let silent = now.saturating_sub(entry.heard);
            let status = match silent {
                _ if silent >= FORGOTTEN => Status::Forgotten,
                _ if silent >= AWAY => Status::Away,
                _ => entry.status,
            };
            if status != entry.status {
                entry.status = status;
                changed.push((*id, entry.clone()));
            }
            status != Status::Forgotten
        });
        changed
    }

    /// When [`Roster::tick`] has something to say.
    pub fn next_timeout(&self) -> Option<Duration> {
        let at = |entry: &Entry| match entry.status {
            Status::Online => entry.heard + AWAY,
            _ => entry.heard + FORGOTTEN,
        };
        self.entries.values().map(at).min()
    }

    /// Everybody, in the order in which they are sought.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Entry)> {
        self.entries.iter()
    }

    /// One of them.
    pub fn get(&self, id: &Id) -> Option<&Entry> {
        self.entries.get(id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(heard: u64) -> Entry {
        let address = "10.0.0.5:6000".parse().unwrap();
        let heard = Duration::from_secs(heard);
        Entry { status: Status::Online, address, endpoints: vec![], claim: None, heard }
    }

    #[test]
    fn online_turns_to_away_after_ten_seconds_and_is_forgotten_after_fifteen_minutes() {
        let id = Id { sought: 0, member: None, instance: [1; 8] };
        let mut roster = Roster::default();
        assert_eq!(roster.next_timeout(), None);
        assert!(roster.heard(id, entry(5)));
        assert!(!roster.heard(id, entry(7)));
        assert_eq!(roster.next_timeout(), Some(Duration::from_secs(17)));
        assert!(roster.tick(Duration::from_millis(16_999)).is_empty());
        let away = roster.tick(Duration::from_secs(17));
        assert_eq!(away[0].1.status, Status::Away);
        assert!(roster.tick(Duration::from_secs(18)).is_empty());
        assert!(roster.heard(id, entry(60)), "it is back");
        assert_eq!(roster.tick(Duration::from_secs(70)).len(), 1);
        assert_eq!(roster.next_timeout(), Some(Duration::from_secs(60 + 900)));
        let gone = roster.tick(Duration::from_secs(960));
        assert_eq!(gone[0].1.status, Status::Forgotten);
        assert_eq!(roster.iter().count(), 0);
    }
}
