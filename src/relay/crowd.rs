//! Who is there from where, so that one address does not take every place.

use std::collections::{BTreeMap, BTreeSet};

use crate::sched::party::Party;

/// Clients by party.
#[derive(Default)]
pub struct Crowd {
    parties: BTreeMap<Party, BTreeSet<usize>>,
    by_count: BTreeSet<(usize, Party)>,
    len: usize,
}

impl Crowd {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number `client` of `party` comes.
    pub fn enter(&mut self, party: Party, client: usize) {
        self.change(party, |clients| clients.insert(client));
    }

    /// It goes.
    pub fn leave(&mut self, party: Party, client: usize) {
        self.change(party, |clients| clients.remove(&client));
    }

    fn change(&mut self, party: Party, change: impl FnOnce(&mut BTreeSet<usize>) -> bool) {
        let clients = self.parties.entry(party).or_default();
        let before = clients.len();
        change(clients);
        let after = clients.len();
        self.len = self.len + after - before;
        self.by_count.remove(&(before, party));
        if after > 0 {
            self.by_count.insert((after, party));
        } else {
            self.parties.remove(&party);
        }
    }

    /// Who gives way to a newcomer of `party` when there is no room: one of the party that has
    /// most, if that is more than the newcomer's will have; else nobody.
    pub fn yields_to(&self, party: Party) -> Option<usize> {
        let own = self.parties.get(&party).map_or(0, BTreeSet::len);
        let (most, crowded) = self.by_count.last()?;
        let clients = (*most > own + 1).then(|| self.parties.get(crowded)).flatten()?;
        clients.last().copied()
    }
}
