//! The two clocks, read here and handed to the pure core.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::proto::time::Now;

/// Reads the clocks; its monotonic time starts with it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock {
    /// This moment.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: self.start.elapsed(), unix_ms: unix.as_millis() as u64 }
    }
}
