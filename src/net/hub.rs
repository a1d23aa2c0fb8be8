//! The poll that a program waits in, what wakes it from elsewhere, and its clock.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::clock::Clock;
use super::signals::Signals;

/// The token of [`Hub::waker`]: stdio threads, the resolver, signals.
pub const WAKE: Token = Token(0);

/// Wakes [`Hub::wait`]: from other threads, and when a descriptor has news.
#[derive(Clone)]
pub struct Bell {
    waker: Arc<Waker>,
    registry: Arc<Registry>,
}

impl Bell {
    /// Wakes who polls what `registry` belongs to, by events of the token [`WAKE`]; there is one bell
    /// for each.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(registry, WAKE)?);
        Ok(Self { waker, registry: Arc::new(registry.try_clone()?) })
    }

    /// For what only another thread tells.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// News of `fd` wake the loop from now on, as edges; epoll must be able to watch it.
    pub(super) fn watch(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&fd), WAKE, interest)
    }

    /// They do no more. Closing `fd` would not be enough: who shares what is behind it keeps it open.
    pub(super) fn ignore(&self, fd: RawFd) {
        // What is not watched need not be ignored.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
    }
}

/// One event loop's common parts.
pub struct Hub {
    poll: Poll,
    bell: Bell,
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
        let bell = Bell::new(poll.registry())?;
        let signals = Signals::new(bell.waker());
        Ok(Self { poll, bell, clock: Clock::default(), signals })
    }

    /// Wakes [`Hub::wait`] from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.bell.waker()
    }

    /// What wakes [`Hub::wait`].
    pub fn bell(&self) -> Bell {
        self.bell.clone()
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
