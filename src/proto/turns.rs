//! Whose turn it is, when many have something and some have much: one turn a party, in a circle.

use std::collections::{BTreeMap, VecDeque};

use super::limits::Party;
use super::mux::Source;

/// Those who wait for a turn.
#[derive(Default)]
pub struct Turns {
    /// Parties that have somebody waiting, but for the one that had the last turn.
    line: VecDeque<Party>,
    waiting: BTreeMap<Party, VecDeque<Source>>,
    /// Who had the last turn: what it has besides comes after everybody else's.
    last: Option<Party>,
}

impl Turns {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// `source` waits, behind others of its party.
    pub fn push(&mut self, party: Party, source: Source) {
        let queue = self.waiting.entry(party).or_default();
        if queue.is_empty() && self.last != Some(party) {
            self.line.push_back(party);
        }
        queue.push_back(source);
    }

    /// The former turn is over, and the next one begins: whose it is.
    pub fn pop(&mut self) -> Option<Source> {
        if let Some(last) = self.last.take().filter(|last| self.waiting.contains_key(last)) {
            self.line.push_back(last);
        }
        let party = self.line.pop_front()?;
        self.last = Some(party);
        let queue = self.waiting.get_mut(&party)?;
        let source = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&party);
        }
        source
    }

    /// `source` does not wait any more.
    pub fn remove(&mut self, party: Party, source: Source) {
        let Some(queue) = self.waiting.get_mut(&party) else { return };
        queue.retain(|s| *s != source);
        if queue.is_empty() {
            self.waiting.remove(&party);
            self.line.retain(|p| *p != party);
        }
    }
}
