//! Whose turn it is, when many have something and some have much: one turn a party, in a circle.

use std::collections::{BTreeMap, VecDeque};

use super::party::{Party, Source};

/// A place among those who wait: who has the lower one came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// Those who wait for a turn. Whoever leaves is found by halving: places only grow.
#[derive(Default)]
pub struct Turns {
    /// Parties that have somebody waiting, but for the one that had the last turn.
    line: VecDeque<(Place, Party)>,
    waiting: BTreeMap<Party, Queue>,
    /// Who had the last turn: what it has besides comes after everybody else's.
    last: Option<Party>,
    places: u64,
}

/// Those of one party.
#[derive(Default)]
struct Queue {
    /// The party's own, in the line of all, if it is in it.
    at: Option<Place>,
    sources: VecDeque<(Place, Source)>,
}

impl Turns {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// `source` waits, behind others of its party.
    pub fn push(&mut self, party: Party, source: Source) -> Place {
        let place = Place(self.places);
        self.places += 1;
        let queue = self.waiting.entry(party).or_default();
        if queue.sources.is_empty() && self.last != Some(party) {
            queue.at = Some(place);
            self.line.push_back((place, party));
        }
        queue.sources.push_back((place, source));
        place
    }

    /// The former turn is over, and the next one begins: whose it is.
    pub fn pop(&mut self) -> Option<Source> {
        if let Some(last) = self.last.take()
            && let Some(queue) = self.waiting.get_mut(&last)
        {
            queue.at = Some(Place(self.places));
            self.line.push_back((Place(self.places), last));
            self.places += 1;
        }
        let (_, party) = self.line.pop_front()?;
        self.last = Some(party);
        let queue = self.waiting.get_mut(&party)?;
        queue.at = None;
        let (_, source) = queue.sources.pop_front()?;
        if queue.sources.is_empty() {
            self.waiting.remove(&party);
        }
        Some(source)
    }

    /// Whoever has that place among those of `party` does not wait any more.
    pub fn remove(&mut self, party: Party, place: Place) {
        let Some(queue) = self.waiting.get_mut(&party) else { return };
        take_out(&mut queue.sources, place);
        if queue.sources.is_empty() {
            if let Some(at) = queue.at {
                take_out(&mut self.line, at);
            }
            self.waiting.remove(&party);
        }
    }
}

fn take_out<T>(queue: &mut VecDeque<(Place, T)>, place: Place) {
    if let Ok(at) = queue.binary_search_by_key(&place, |(place, _)| *place) {
        queue.remove(at);
    }
}
