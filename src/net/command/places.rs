//! How many commands run at once: who comes first has the first place that is free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::Waker;

use super::run::{GRACE, Order};

/// How often somebody who waits for commands looks whether to give up.
const LOOK: Duration = Duration::from_millis(50);

/// The places, and who waits for one.
pub struct Places(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    freed: Condvar,
    at_once: usize,
    waker: Arc<Waker>,
}

#[derive(Default)]
struct State {
    /// Who runs, and how each is told to end.
    running: BTreeMap<u64, Sender<Order>>,
    waiting: VecDeque<u64>,
    next: u64,
}

/// A place that is taken; dropped, it is free.
pub struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Places {
    /// So many places.
    pub fn new(at_once: usize, waker: Arc<Waker>) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { state, freed: Condvar::new(), at_once, waker }))
    }

    /// A number in the queue.
    pub fn queue_up(&self) -> u64 {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(number);
        number
    }

    /// This number waits no longer.
    pub fn leave(&self, number: u64) {
        self.0.lock().waiting.retain(|waiting| *waiting != number);
        self.0.wake();
    }

    /// A place for this number, if it is its turn. `orders` reach who runs there.
    pub fn take(&self, number: u64, orders: &Sender<Order>) -> Option<Place> {
        let mut state = self.0.lock();
        let is_next = state.waiting.front() == Some(&number);
        if !is_next || state.running.len() >= self.0.at_once {
            return None;
        }
        state.waiting.pop_front();
        state.running.insert(number, orders.clone());
        // There may be a place for the next one, too.
        if !state.waiting.is_empty() {
            self.0.wake();
        }
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A loop that is gone needs no waking.
        let _ = self.waker.wake();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().running.remove(&self.number);
        self.shared.freed.notify_all();
        self.shared.wake();
    }
}
