//! The one place where time comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

/// How coarse the time of a hit is: a hit reads a number that a task writes this often.
pub(crate) const COARSE: Duration = Duration::from_millis(10);

/// Milliseconds of unix time, read once and from then on counted by tokio's monotonic clock: a stepped wall clock does
/// not move it, tests can stop it, and lives mean the same to every instance as far as their wall clocks agree.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    origin: Instant,
    origin_ms: u64,
    coarse: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts at `origin_ms`. [`run`](Self::run) must be running for [`coarse_ms`](Self::coarse_ms) to move.
    pub(crate) fn start(origin_ms: u64) -> Self {
        Self { origin: Instant::now(), origin_ms, coarse: Arc::new(AtomicU64::new(origin_ms)) }
    }

    /// Precise, for whatever waits for a network anyway.
    pub(crate) fn now_ms(&self) -> u64 {
        self.origin_ms.saturating_add(self.origin.elapsed().as_millis() as u64)
    }

    /// At most [`COARSE`] and a task switch behind, for the path of a hit.
    pub(crate) fn coarse_ms(&self) -> u64 {
        self.coarse.load(Ordering::Relaxed)
    }

    /// Moves the coarse time, for ever.
    pub(crate) async fn run(self) {
        let mut tick = tokio::time::interval(COARSE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            self.coarse.store(self.now_ms(), Ordering::Relaxed);
        }
    }
}

/// Unix time by the wall clock.
#[expect(clippy::disallowed_methods, reason = "this is where wall time comes in")]
pub(crate) fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
