//! Time as the pure core gets it: handed in, never read.

use std::time::Duration;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed point; never jumps. For time-outs.
    pub mono: Duration,
    /// Milliseconds since 1970, UTC; may jump. For what goes on the wire.
    pub unix_ms: u64,
}

/// How far two clocks may be apart: what is stamped outside it is not answered. PROTOCOL.md, 3 and 4.
pub const CLOCK_WINDOW_MS: u64 = 5 * 60 * 1000;

/// Whether `stamp` is within [`CLOCK_WINDOW_MS`] of `now`, either way (both in Unix ms).
pub fn within_window(stamp: u64, now: u64) -> bool {
    stamp.abs_diff(now) <= CLOCK_WINDOW_MS
}
