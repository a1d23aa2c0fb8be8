//! One message as its receiver sees it.

use std::time::Duration;

use crate::proto::datagram::ack::Status;
use crate::proto::datagram::assembly::{Assembly, Shape};

/// A message on its way.
pub(super) struct Open<S> {
    pub shape: Shape,
    pub is_item: bool,
    /// `None`: the caller has it.
    pub assembly: Option<Assembly>,
    /// Where its packets lie: what may go when it is over.
    pub cells: Vec<S>,
    /// The cell that came last: answers go by its relay.
    pub latest: S,
    pub live: bool,
    pub touched: Duration,
    /// Its sender is told until then that it is here.
    pub told_until: Duration,
}

pub(super) enum State<S> {
    Open(Box<Open<S>>),
    /// It is answered whenever it comes again.
    Over(Status),
    /// It draws nothing.
    Lost,
}

pub(super) struct Letter<S> {
    pub time_ms: u64,
    pub state: State<S>,
}

impl<S> Letter<S> {
    /// Whether anything may still come of it.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether the caller has it.
    pub fn is_held(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.assembly.is_none())
    }

    /// What came of it, if it is not whole.
    pub fn partial(&self) -> Option<&Open<S>> {
        match &self.state {
            State::Open(open) => Some(&**open).filter(|open| open.assembly.is_some()),
            _ => None,
        }
    }
}
