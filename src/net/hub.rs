//! The poll that a program waits in, what wakes it from elsewhere, and its clock.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::clock::Clock;
use super::signals::Signals;
use crate::sched::party::Source;

/// The token of a [`Bell`] that rings for nobody in particular: the resolver, signals, an output that
/// all share.
pub const WAKE: Token = Token(0);
/// Events of descriptors that ring for one session have its number, and this bit.
const RINGS_FOR_ONE: usize = 1 << (usize::BITS - 2);

/// Wakes [`Hub::wait`]: from other threads, and when a descriptor has news.
#[derive(Clone)]
pub struct Bell {
    rope: Arc<Rope>,
    /// For which session, by its number.
    whose: Option<usize>,
}

/// What all bells of one loop pull.
struct Rope {
    waker: Waker,
    registry: Registry,
    /// The sessions that it was pulled for since the loop looked.
    rung: Mutex<Vec<usize>>,
}

impl Bell {
    /// Wakes who polls what `registry` belongs to, by events of the token [`WAKE`]; there is one bell
    /// for each.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let waker = Waker::new(registry, WAKE)?;
        let (registry, rung) = (registry.try_clone()?, Mutex::default());
        Ok(Self { rope: Arc::new(Rope { waker, registry, rung }), whose: None })
    }

    /// A bell for the news of one session: the loop need not look at the others. A session without a
    /// connection has the bell that rings for all.
    #[must_use]
    pub fn of(&self, session: Source) -> Self {
        let whose = session.connection().map(|number| number & !RINGS_FOR_ONE);
        Self { rope: Arc::clone(&self.rope), whose }
    }

    /// Wakes the loop.
    pub fn ring(&self) {
        let mut unheard = false;
        if let Some(whose) = self.whose {
            let mut rung = self.rope.rung();
            unheard = !rung.is_empty();
            // One that rings on and on is told of once.
            if rung.last() != Some(&whose) {
                rung.push(whose);
            }
        }
        if !unheard {
            // A loop that is gone needs no waking.
            let _ = self.rope.waker.wake();
        }
    }

    /// News of `fd` wake the loop from now on, as edges; epoll must be able to watch it.
    pub(super) fn watch(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        let token = self.whose.map_or(WAKE, |whose| Token(whose | RINGS_FOR_ONE));
        self.rope.registry.register(&mut SourceFd(&fd), token, interest)
    }

    /// They do no more. Closing `fd` would not be enough: who shares what is behind it keeps it open.
    pub(super) fn ignore(&self, fd: RawFd) {
        // What is not watched need not be ignored.
        let _ = self.rope.registry.deregister(&mut SourceFd(&fd));
    }
}

impl Rope {
    fn rung(&self) -> MutexGuard<'_, Vec<usize>> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For which session a descriptor rang, if that is what an event of this token says.
pub fn rung_for(token: Token) -> Option<usize> {
    (token.0 & RINGS_FOR_ONE != 0).then_some(token.0 & !RINGS_FOR_ONE)
}

/// One event loop's common parts.
pub struct Hub {
    poll: Poll,
    bell: Bell,
    /// The sessions for which bells rang before the last wait was over.
    rung: Vec<usize>,
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
        let signals = Signals::new(bell.clone());
        Ok(Self { poll, bell, rung: Vec::new(), clock: Clock::default(), signals })
    }

    /// What wakes [`Hub::wait`].
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The sessions that bells rang for until the last [`Hub::wait`] was over, since this was asked.
    pub fn rung(&mut self) -> impl Iterator<Item = usize> {
        self.rung.drain(..)
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
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        if events.iter().any(|event| event.token() == WAKE) {
            self.rung.append(&mut self.bell.rope.rung());
        }
        Ok(())
    }
}
