//! The knobs of a store, checked once when it starts.

use crate::Error;
use std::time::Duration;

/// Bounds and budgets of a store. Every default suits a service with a handful of replicas in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a read waits for a replica to reach its floor before it falls back; zero is not at all. Defaults to
    /// 100 ms.
    pub wait_budget: Duration,
    /// How long a read waits for the watermark where that is all that keeps an entry of this process from answering, before it
    /// loads; zero is not at all. Who reads right after a write, on this instance or on another, is ahead of it by a
    /// millisecond or so. Defaults to 2 ms.
    pub watermark_wait: Duration,
    /// How long one load may take in all, and a read without a deadline of its own. Defaults to 5 s.
    pub load_time_max: Duration,
    /// How many loads may be at the primary at once; more wait for their turn, within their deadline. Defaults to 64.
    pub primary_loads_max: usize,
    /// How many keys may be loading at once, over all caches; more fail as overloaded. Defaults to 65,536.
    pub loads_max: usize,
    /// How often each server is asked how far it is when nobody waits for it. Defaults to 250 ms.
    pub probe_interval: Duration,
    /// How often a server is asked while reads wait for it. Defaults to 2 ms.
    pub wait_interval: Duration,
    /// The oldest entry that is served to a read that asks for nothing while retractions of other instances may have been
    /// missed; zero is none. Defaults to 5 s.
    pub deaf_age_max: Duration,
    /// Slots of the floors table, 8 bytes each, rounded up to a power of two. A collision costs a miss. Defaults to
    /// 2^20.
    pub floor_slots: usize,
    /// How many retractions that Redis did not take are kept to be told again. Beyond it the oldest is dropped, counted,
    /// and left to the entries' time to live. Defaults to 10,000.
    pub retry_queue_max: usize,
    /// How long a transaction of unknown outcome is asked after; then its session stays with the primary. Defaults to
    /// 60 s.
    pub resolve_time_max: Duration,
    /// The zone that this instance is in: replicas of the same zone are preferred. Defaults to none.
    pub zone: Option<String>,
}

/// The longest of them all.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            wait_budget: Duration::from_millis(100),
            watermark_wait: Duration::from_millis(2),
            load_time_max: Duration::from_secs(5),
            primary_loads_max: 64,
            loads_max: 65_536,
            probe_interval: Duration::from_millis(250),
            wait_interval: Duration::from_millis(2),
            deaf_age_max: Duration::from_secs(5),
            floor_slots: 1 << 20,
            retry_queue_max: 10_000,
            resolve_time_max: Duration::from_secs(60),
            zone: None,
        }
    }
}

impl Settings {
    /// Refuses what cannot work, by name.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let durations = [
            ("load_time_max", self.load_time_max),
            ("probe_interval", self.probe_interval),
            ("wait_interval", self.wait_interval),
            ("resolve_time_max", self.resolve_time_max),
        ];
        for (name, duration) in durations {
            if duration.is_zero() {
                return Err(Error::configuration(format!("settings.{name} is zero; give it a positive duration")));
            }
        }
        let waits = [
            ("wait_budget", self.wait_budget),
            ("watermark_wait", self.watermark_wait),
            ("deaf_age_max", self.deaf_age_max),
        ];
        for (name, duration) in durations.into_iter().chain(waits) {
            if duration > DURATION_MAX {
                return Err(Error::configuration(format!("settings.{name} is {duration:?}; the limit is one day")));
            }
        }
        let counts = [
            ("primary_loads_max", self.primary_loads_max),
            ("loads_max", self.loads_max),
            ("floor_slots", self.floor_slots),
            ("retry_queue_max", self.retry_queue_max),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(Error::configuration(format!("settings.{name} is zero; it must be at least 1")));
            }
        }
        if self.floor_slots > 1 << 28 {
            return Err(Error::configuration(format!(
                "settings.floor_slots is {}, which would take {} MB; the limit is 2^28",
                self.floor_slots,
                self.floor_slots / (1 << 17)
            )));
        }
        Ok(())
    }
}
