//! The poll that a program waits in, what wakes it from elsewhere, and its clock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Registry, Token, Waker};

use super::clock::Clock;
use super::signals::Signals;

/// The token of [`Hub::waker`]: stdio threads, the resolver, signals.
pub const WAKE: Token = Token(0);

/// One event loop's common parts.
pub struct Hub {
    poll: Poll,
    waker: Arc<Waker>,
    /// The clock of this program.
    pub clock: Clock,
    /// Signals that arrived.
    pub signals: Signals,
}

impl Hub {
    /// A poll that signals wake.
    ///
    /// # Errors
    /// When the system has no descriptors or threads left.
    pub fn new() -> io::Result<Self> {
        let hub = Self::unarmed()?;
        hub.signals.arm()?;
        Ok(hub)
    }

    /// The same, for who has nothing to clean up and nobody to tell yet: a signal still ends the program.
    /// Handlers take time and a thread; [`Signals::arm`] installs them where there is nothing better to
    /// do.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn unarmed() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let signals = Signals::new(Arc::clone(&waker));
        Ok(Self { poll, waker, clock: Clock::default(), signals })
    }

    /// Wakes [`Hub::wait`] from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Where sockets register.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events, until the monotonic time `until` at most.
    ///
    /// # Errors
    /// What the system says, interruption by a signal excepted.
    pub fn wait(&mut self, events: &mut Events, until: Option<Duration>) -> io::Result<()> {
        let now = self.clock.now().mono;
        // A timer that fires early would spin: mio rounds up to whole milliseconds.
        let wait = until.map(|at| at.saturating_sub(now));
        match self.poll.poll(events, wait) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }
}
