//! What comes in packets and has no connection: each run is a source of the output, as a connection
//! is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conn::Shared;
use super::{Heard, Notice};
use crate::proto::datagram::receiver::RunKey;
use crate::proto::mux::Source;

/// One run, and what else its owner has to know of it.
pub struct Run<T> {
    /// Names it.
    pub key: RunKey,
    /// What is known of it.
    pub heard: Heard,
    /// The rest.
    pub state: T,
}

/// The runs of one kind. Their sources have a bit that no others have.
pub struct Runs<T> {
    by_number: BTreeMap<u64, Run<T>>,
    by_key: BTreeMap<RunKey, u64>,
    next: u64,
}

impl<T> Runs<T> {
    /// None yet; their sources begin at `first`.
    pub fn new(first: u64) -> Self {
        Self { by_number: BTreeMap::new(), by_key: BTreeMap::new(), next: first }
    }

    /// A run's first message: it becomes a source. One that is `long` has to be served for a while.
    pub fn begin(
        &mut self,
        key: RunKey,
        heard: Heard,
        state: T,
        long: bool,
        now: Duration,
        shared: &mut Shared<'_>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let (source, party) = (Source(number), heard.caller.party(None));
        shared.seats.enter(source, party, now);
        shared.seats.set_busy(source, long, now);
        shared.mux.introduce(source, party);
        shared.mux.begin(source, heard.clone(), now);
        self.by_key.insert(key, number);
        self.by_number.insert(number, Run { key, heard, state });
        number
    }

    /// The number of a run that is known.
    pub fn number(&self, key: &RunKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// The run that `number` names.
    pub fn get(&self, number: u64) -> Option<&Run<T>> {
        self.by_number.get(&number)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Run<T>> {
        self.by_number.get_mut(&number)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Run<T>)> {
        self.by_number.iter().map(|(number, run)| (*number, run))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// A run is over.
    pub fn end(&mut self, number: u64, now: Duration, shared: &mut Shared<'_>) -> Option<Run<T>> {
        let run = self.by_number.remove(&number)?;
        self.by_key.remove(&run.key);
        shared.seats.leave(Source(number), now);
        shared.mux.forget(Source(number));
        Some(run)
    }

    /// Nothing more comes of a run: what was not whole never will be.
    pub fn cut(&mut self, key: &RunKey, why: &'static str, now: Duration, shared: &mut Shared<'_>) {
        let Some(number) = self.number(key) else { return };
        shared.mux.cut(Source(number));
        if let Some(run) = self.end(number, now, shared) {
            shared.host.notice(Notice::Cut(&run.heard, why));
        }
    }
}
