//! How many commands run at once: who comes first has the first place that is free.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::run::{GRACE, Order};
use crate::net::hub::Bell;

/// How often somebody who waits for commands looks whether to give up.
const LOOK: Duration = Duration::from_millis(50);

/// The places, and who waits for one.
pub struct Places(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    freed: Condvar,
    at_once: usize,
}

#[derive(Default)]
struct State {
    /// Who runs, and how each is told to end.
    running: BTreeMap<u64, Sender<Order>>,
    /// Who waits, and what tells each that it has a place.
    waiting: BTreeMap<u64, Bell>,
    next: u64,
}

/// A place that is taken; dropped, it is free.
pub struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Places {
    /// So many places.
    pub fn new(at_once: usize) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { state, freed: Condvar::new(), at_once }))
    }

    /// A number in the queue; `bell` rings when it may [`Places::take`] its place.
    pub fn queue_up(&self, bell: Bell) -> u64 {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, bell);
        number
    }

    /// This number waits no longer.
    pub fn leave(&self, number: u64) {
        let mut state = self.0.lock();
        state.waiting.remove(&number);
        state.call_next(self.0.at_once);
    }

    /// A place for this number, if it is its turn. `orders` reach who runs there.
    pub fn take(&self, number: u64, orders: &Sender<Order>) -> Option<Place> {
        let mut state = self.0.lock();
        let next = state.waiting.first_key_value().map(|(next, _)| *next);
        if next != Some(number) || state.running.len() >= self.0.at_once {
            return None;
        }
        state.waiting.pop_first();
        state.running.insert(number, orders.clone());
        state.call_next(self.0.at_once);
        Some(Place { shared: Arc::clone(&self.0), number })
    }

    /// Waits until nobody runs, or `give_up` says so.
    pub fn wait(&self, give_up: impl Fn() -> bool) {
        let mut state = self.0.lock();
        while !state.running.is_empty() && !give_up() {
            let waited = self.0.freed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends all who run, and waits for that; not for one whom not even SIGKILL ends.
    pub fn end(&self) {
        for orders in self.0.lock().running.values() {
            // Who is over already needs no telling.
            let _ = orders.send(Order::End(None));
        }
        let until = Instant::now() + 2 * GRACE;
        self.wait(|| Instant::now() >= until);
    }
}

impl State {
    /// Tells the first who waits, if there is a place.
    fn call_next(&self, at_once: usize) {
        let free = self.running.len() < at_once;
        if let Some((_, bell)) = self.waiting.first_key_value().filter(|_| free) {
            bell.ring();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.running.remove(&self.number);
        state.call_next(self.shared.at_once);
        self.shared.freed.notify_all();
    }
}
