//! What comes in packets and has no connection: each run is a source of the output, as a connection
//! is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conn::Shared;
use super::{Heard, Notice};
use crate::proto::datagram::receiver::RunKey;
use crate::sched::party::Source;

/// One run, and what else its owner has to know of it.
pub struct Run<T> {
    /// Names it.
    pub key: RunKey,
    /// What is known of it.
    pub heard: Heard,
    /// The rest.
    pub state: T,
}

/// The runs of one kind, each a source of the output.
pub struct Runs<T> {
    by_source: BTreeMap<Source, Run<T>>,
    by_key: BTreeMap<RunKey, Source>,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { by_source: BTreeMap::new(), by_key: BTreeMap::new() }
    }
}

impl<T> Runs<T> {
    /// A run's first message: the run becomes `source`, which no other had. One that is `long` is
    /// served for a while.
    pub fn begin(
        &mut self,
        source: Source,
        run: Run<T>,
        long: bool,
        now: Duration,
        shared: &mut Shared<'_>,
    ) {
        let party = run.heard.caller.party(None);
        shared.seats.enter(source, party, now);
        shared.seats.set_busy(source, long, now);
        shared.mux.introduce(source, party);
        shared.mux.begin(source, run.heard.clone(), now);
        self.by_key.insert(run.key, source);
        self.by_source.insert(source, run);
    }

    /// The source that a run is, if it has begun.
    pub fn source(&self, key: &RunKey) -> Option<Source> {
        self.by_key.get(key).copied()
    }

    /// The run that `source` is.
    pub fn get(&self, source: Source) -> Option<&Run<T>> {
        self.by_source.get(&source)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, source: Source) -> Option<&mut Run<T>> {
        self.by_source.get_mut(&source)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Source, &Run<T>)> {
        self.by_source.iter().map(|(source, run)| (*source, run))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// A run is over.
    pub fn end(
        &mut self,
        source: Source,
        now: Duration,
        shared: &mut Shared<'_>,
    ) -> Option<Run<T>> {
        let run = self.by_source.remove(&source)?;
        self.by_key.remove(&run.key);
        shared.seats.leave(source, now);
        shared.mux.forget(source);
        Some(run)
    }

    /// Nothing more comes of a run: what was not whole never will be.
    pub fn cut(&mut self, key: &RunKey, why: &'static str, now: Duration, shared: &mut Shared<'_>) {
        let Some(source) = self.source(key) else { return };
        shared.mux.cut(source);
        if let Some(run) = self.end(source, now, shared) {
            shared.host.notice(Notice::Cut(&run.heard, why));
        }
    }
}
