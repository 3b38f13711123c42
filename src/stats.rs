//! Counters, and the snapshots of them that are handed out.

use crate::Lsn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A set of counters and its snapshot, declared once.
macro_rules! counters {
    ($(#[$set_doc:meta])* $live:ident => $snapshot:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        #[derive(Debug, Default)]
        pub(crate) struct $live { $(pub(crate) $name: Counter,)* }

        $(#[$set_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl $live {
            pub(crate) fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.read(),)* }
            }
        }
    };
}
pub(crate) use counters;

/// One number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// What one cache has done since it was built. A key that `get_many` asks for counts as one read.
    CacheCounters => CacheStats {
        /// Reads answered by the in-process tier.
        hits_local,
        /// Reads answered by the shared tier.
        hits_shared,
        /// Those of both that the watermark made possible: their entry's tag is below the read's floor.
        hits_extended,
        /// Hits that waited for the watermark first ([`Settings::watermark_wait`](crate::Settings::watermark_wait)). They are
        /// counted among the local ones, and as a miss below the floor from before they waited.
        hits_awaited,
        /// Reads answered by a replica.
        loads_replica,
        /// Reads answered by the primary.
        loads_primary,
        /// Reads answered below their floor because their policy allowed it, and labelled so.
        stale_labelled,
        /// Misses of the local tier because the key was not there.
        misses_absent,
        /// Misses because the entry's life was over.
        misses_expired,
        /// Misses because the entry was retracted.
        misses_retracted,
        /// Misses because the entry's tag was below the read's floor.
        misses_below_floor,
        /// Misses because a monotonic session could not be shown the entry.
        misses_not_monotonic,
        /// Misses because the entry was filled in a history that was replaced.
        misses_other_history,
        /// Misses because the entry was too old to be trusted while the bus was not live.
        misses_deaf,
        /// Entries of the shared tier that could not be used: malformed, too long, or of another format, type or key.
        undecodable,
        /// Fills that no tier was offered, because a retraction reached further than their tag.
        fills_refused,
        /// Fills that the shared tier was not offered, because they are larger than it takes, and those that no tier was
        /// offered, because they belong to more groups, or to groups of longer names, than an entry can remember.
        fills_oversized,
        /// Reads that waited for a load that another read had begun.
        joined,
        /// Loads that failed with the loader's own error.
        load_errors,
    }
}

counters! {
    /// What a store has done since it started, over all its caches.
    StoreCounters => StoreCounts {
        /// Loads that waited for a replica to reach their floor.
        waits,
        /// Loads that went to the primary because no replica was there in time.
        fallbacks_primary,
        /// Loads that were answered below their floor, labelled.
        fallbacks_stale,
        /// Loads that failed because no replica was there in time.
        fallbacks_error,
        /// Answers thrown away because the server was not as far as it was believed to be.
        disbelieved,
        /// Loads tried again on another server after a fault.
        retries,
        /// Times that the primary's log was moved so that a fill could be cached.
        nudges,
        /// Transactions committed.
        commits,
        /// Transactions rolled back: on request, or instead of a commit. Those that were dropped are not counted.
        rollbacks,
        /// Transactions whose outcome was unknown when their caller was told.
        unknown_outcomes,
        /// Writes that were committed without being announced, so that their tokens are pinned: Redis did not take it in time, or they
        /// named nothing.
        unannounced,
        /// Announcements that this instance found to be given up because their writer died or dawdled, of whichever instance it
        /// was. What they named is retracted, if they named 240 keys and groups or fewer.
        abandoned,
        /// Retractions that the shared log took.
        retractions_told,
        /// Retractions that the shared log did not take at first; they are told again in the background.
        retractions_deferred,
        /// Retractions that were never told: the retry queue was full, the entries' time to live had passed, or the
        /// store was closed and Redis did not take them at the last try either.
        retractions_dropped,
        /// Retractions heard and applied, from all instances: what this one told comes back to it too.
        retractions_heard,
        /// Messages heard that are none of ours, or of another release.
        messages_unreadable,
        /// Gaps noticed in what was heard.
        gaps,
        /// Gaps and deaf times of which the log had kept everything that was missed.
        repairs,
        /// Epochs begun: from then on entries can be extended by the watermark, and none that is older. Why is told by the
        /// event `epoch_begun`.
        epochs,
        /// Times that the bus went deaf.
        deaf,
        /// Fills that were not offered to the shared tier because too many offers were under way.
        offers_dropped,
        /// Errors of the shared tier, each of which cost a miss or an offer.
        shared_errors,
        /// Crashes of the primary noticed, after which floors were clamped.
        crashes,
        /// Reads whose token lay above the primary's log, as after a crash, and was taken for the log's end.
        tokens_clamped,
        /// Times that history was replaced, after which every entry was dropped.
        replaced,
    }
}

/// A snapshot of a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreStats {
    /// What it has done.
    pub counts: StoreCounts,
    /// Whether retractions of other instances are heard.
    pub bus: BusState,
    /// How long the bus has been other than live in all.
    pub deaf_time: Duration,
    /// How far the watermark is; `None` without a bus.
    pub watermark: Option<WatermarkStats>,
    /// The servers, in the order in which they were given.
    pub nodes: Vec<NodeStats>,
}

/// Whether retractions of other instances are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusState {
    /// There is no bus: this instance knows only its own writes.
    None,
    /// Live: our own heartbeat comes back. A message that is missing is asked for, and extends nothing until it is there.
    Live,
    /// Not heard at present. Reads go by tag, and age is bounded.
    Deaf,
}

/// How far the watermark is: up to it, an entry that nothing retracted is known to be what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatermarkStats {
    /// Where it is; `None` while no epoch has begun, and entries answer by their tags alone.
    pub position: Option<Lsn>,
    /// How many bytes of log the primary has flushed beyond it, as far as is known.
    pub lag_bytes: Option<u64>,
    /// For how long the primary has been seen beyond it: exact to an eighth, for half a day at least, and since its last crash at most.
    pub lag: Option<Duration>,
    /// Commits of all instances that were announced and hold it back, when the log was asked last (about once a second).
    pub announced: u64,
    /// For how long the oldest of them had been announced then.
    pub announced_for: Duration,
}

/// What is believed of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Its name, without credentials.
    pub name: String,
    /// `primary`, `standby`, `unknown`, or why it is out.
    pub state: String,
    /// How far it is: what a replica has replayed, what a primary has written.
    pub position: Option<Lsn>,
    /// How many bytes of log it has still to replay, as far as is known.
    pub lag_bytes: Option<u64>,
    /// How far behind in time it says it is.
    pub lag: Option<Duration>,
    /// Smoothed time of one question and its answer.
    pub latency: Duration,
    /// Loads under way there.
    pub loads: usize,
}
