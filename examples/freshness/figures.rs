//! What a run comes to.

use crate::args::Args;
use serde::{Deserialize, Serialize};

/// One run in numbers. Shares are of the reads that were answered; times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) strategy: String,
    /// Which of the runs; or that this is what lies in the middle of all of them, or at an end, figure by figure.
    pub(crate) run: String,
    pub(crate) workload: String,
    pub(crate) lag: String,
    /// The setting that a sweep varies, and its value.
    pub(crate) sweep: String,
    pub(crate) x: f64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) failed: u64,
    pub(crate) hit_rate: f64,
    /// Hits that were not stale.
    pub(crate) fresh_hit_rate: f64,
    /// Hits whose tag is below the reader's token, and which the watermark made possible.
    pub(crate) extended: f64,
    pub(crate) local: f64,
    pub(crate) shared: f64,
    pub(crate) replica: f64,
    pub(crate) primary: f64,
    pub(crate) stale: f64,
    pub(crate) stale_p50_ms: f64,
    pub(crate) stale_p99_ms: f64,
    pub(crate) stale_max_ms: f64,
    pub(crate) versions_p50: u64,
    pub(crate) versions_p99: u64,
    pub(crate) versions_max: u64,
    pub(crate) own_write_violations: u64,
    pub(crate) own_write_per_million: f64,
    pub(crate) monotonic_violations: u64,
    pub(crate) monotonic_per_million: f64,
    pub(crate) labelled: u64,
    pub(crate) waits: u64,
    /// Reads and writes at the primary, reads at all replicas, and loads of both, in a second.
    pub(crate) primary_per_s: f64,
    pub(crate) replica_per_s: f64,
    pub(crate) loads_per_s: f64,
    /// Misses of the in-process tier by cause, as shares of the reads. Compulsory is the first read of a row at an instance.
    pub(crate) miss_compulsory: f64,
    pub(crate) miss_capacity: f64,
    pub(crate) miss_expired: f64,
    pub(crate) miss_retracted: f64,
    pub(crate) miss_below_token: f64,
    pub(crate) miss_not_monotonic: f64,
    pub(crate) miss_deaf: f64,
    pub(crate) miss_history: f64,
    pub(crate) local_p50_ms: f64,
    pub(crate) local_p99_ms: f64,
    pub(crate) local_p999_ms: f64,
    pub(crate) shared_p50_ms: f64,
    pub(crate) shared_p99_ms: f64,
    pub(crate) shared_p999_ms: f64,
    pub(crate) replica_p50_ms: f64,
    pub(crate) replica_p99_ms: f64,
    pub(crate) replica_p999_ms: f64,
    pub(crate) primary_p50_ms: f64,
    pub(crate) primary_p99_ms: f64,
    pub(crate) primary_p999_ms: f64,
    pub(crate) write_p50_ms: f64,
    pub(crate) write_p99_ms: f64,
    /// By how much operations began later than they were due: much of it says that the machine could not keep up.
    pub(crate) late_p50_ms: f64,
    pub(crate) redis_commands_per_s: f64,
    /// Retractions heard, by all instances.
    pub(crate) redis_messages_per_s: f64,
}

/// A slice of time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Slice {
    pub(crate) second: f64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) hits: u64,
    pub(crate) fresh_hits: u64,
    pub(crate) stale: u64,
    pub(crate) primary: u64,
    pub(crate) replica: u64,
    pub(crate) own_write_violations: u64,
    pub(crate) latency_p99_ms: f64,
}

/// One run, with what its plots need.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cell {
    pub(crate) figures: Figures,
    pub(crate) slices: Vec<Slice>,
    /// The share of reads that were at most so many milliseconds stale.
    pub(crate) staleness: Vec<(f64, f64)>,
    /// Broken promises that have nothing to do with the strategy: the benchmark itself is wrong.
    pub(crate) absurd: Vec<String>,
    /// The first broken promise of this kind, told.
    pub(crate) example: Option<String>,
}

impl Cell {
    /// Says what was asked of it, and which of the runs it is, counted from 0.
    pub(crate) fn of_run(mut self, args: &Args, run: usize) -> Self {
        let it = &mut self.figures;
        (it.workload, it.lag, it.run) = (args.workload_name(), args.lag.to_string(), (run + 1).to_string());
        self
    }

    /// Says which setting was varied, and its value.
    pub(crate) fn of_sweep(mut self, sweep: String, x: f64) -> Self {
        (self.figures.sweep, self.figures.x) = (sweep, x);
        self
    }
}
