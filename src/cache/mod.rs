//! A cache of one kind of row.

mod builder;
mod demand;
mod fill;
mod load;
mod name;
mod older;
mod read;
mod wait;

pub use builder::CacheBuilder;
pub(crate) use name::Name;
pub use read::KEYS_MAX;

use crate::clock::Clock;
use crate::digest::Digest;
use crate::entry::{Entry, Floor, Short};
use crate::epoch::Epoch;
use crate::fleet::Rung;
use crate::flight::Flights;
use crate::freshness::Fallback;
use crate::repository::Repository;
use crate::rules::{Rule, holds};
use crate::sights::Seen;
use crate::source::Source;
use crate::stats::{CacheCounters, CacheStats};
use crate::store::Store;
use crate::tier::local::LocalTier;
use crate::tier::pack::Packer;
use crate::{Error, Position, Postgres};
use load::Landing;
use older::Older;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A cache of one kind of row, made by [`Highwater::cache`](crate::Highwater::cache). Cheap to clone; clones are the same
/// cache.
pub struct Cache<R: Repository<S::Conn>, S: Source = Postgres>(pub(crate) Arc<Shelf<R, S>>);

impl<R: Repository<S::Conn>, S: Source> Clone for Cache<R, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What the handles of one cache share.
pub(crate) struct Shelf<R: Repository<S::Conn>, S: Source> {
    pub(crate) name: String,
    repository: R,
    pub(crate) store: Arc<Store<S>>,
    local: LocalTier<R::Key, R::Value>,
    /// Whether the watermark counts.
    extends: bool,
    /// Whether a session is asked only for what it wrote of the key.
    scoped: bool,
    /// Where the cache does not go by position.
    older: Option<Box<Older<R::Key, R::Value>>>,
    flights: Flights<(R::Key, Fallback), Landing<R::Value, R::Error>>,
    /// How values are put into the shared tier, where the cache uses it.
    packer: Option<Arc<dyn Packer<R::Value>>>,
    lives: Lives,
    /// The slot of the group that every entry of this cache belongs to.
    group: u32,
    counters: CacheCounters,
}

/// How long entries live.
#[derive(Debug, Clone, Copy)]
struct Lives {
    present: Duration,
    absent: Duration,
}

/// The answer to one read.
pub struct Read<V> {
    /// The row, or `None` where there is none.
    pub value: Option<Arc<V>>,
    /// Where the answer came from.
    pub rung: Rung,
    /// The position that the answer is known to reflect. An answer of the primary reflects more than it says: everything
    /// that was visible when it was asked.
    pub position: Position,
    /// The answer is below what the read asked for, and the read's policy allowed that.
    pub stale: bool,
    /// How long ago the row was read from the database, by wall clocks where another instance did it.
    pub age: Duration,
}

impl<V> fmt::Debug for Read<V> {
    /// Without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read")
            .field("present", &self.value.is_some())
            .field("rung", &self.rung)
            .field("position", &self.position)
            .field("stale", &self.stale)
            .field("age", &self.age)
            .finish()
    }
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E: std::error::Error + 'static> {
    /// The loader's own error, shared by all who waited for the same load.
    #[error("the loader failed")]
    Load(#[source] Arc<E>),
    /// highwater could not keep its promise in time.
    #[error(transparent)]
    Cache(#[from] Error),
}

impl<E: std::error::Error + 'static> ReadError<E> {
    /// The error of highwater itself, to be asked what is wrong: timed out, overloaded, unavailable, a lost write. `None`
    /// where the loader failed. A read may always be tried again.
    #[must_use]
    pub fn as_cache(&self) -> Option<&Error> {
        match self {
            Self::Cache(error) => Some(error),
            Self::Load(_) => None,
        }
    }
}

/// Why an entry does not answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    Absent,
    OtherHistory,
    Expired,
    Retracted,
    BelowFloor,
    NotMonotonic,
    Deaf,
}

impl From<Short> for Miss {
    fn from(short: Short) -> Self {
        match short {
            Short::BelowFloor => Self::BelowFloor,
            Short::NotMonotonic => Self::NotMonotonic,
        }
    }
}

/// What one read demands, resolved to one epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// The history that the floor is counted in: an entry of another one proves nothing about it.
    pub(crate) history: u64,
    pub(crate) floor: Floor,
    pub(crate) seen: Seen,
}

/// The Answer rule.
pub(crate) fn judge<V>(
    entry: &Entry<V>,
    demand: &Demand,
    epoch: &Epoch,
    cache_group: u32,
    now_ms: u64,
    deaf_age_max: Duration,
) -> Result<(), Miss> {
    let other = entry.history != epoch.fingerprint || entry.history != demand.history;
    if other && holds(Rule::EntryOfHistory) {
        return Err(Miss::OtherHistory);
    }
    if entry.life.is_over(now_ms) {
        return Err(Miss::Expired);
    }
    // Before the floors, which are raised first: what is not below them then was not retracted up to here.
    let reach = epoch.reach(entry.stamp.tag, demand.floor.vouched);
    if !epoch.is_live(entry, cache_group) {
        return Err(Miss::Retracted);
    }
    let first = holds(Rule::WatermarkIsReadFirst);
    let reach = if first { reach } else { epoch.reach(entry.stamp.tag, demand.floor.vouched) };
    let shown = demand.seen.fill == Some(entry.fill);
    let floor = if shown { demand.floor.for_what_was_seen() } else { demand.floor };
    floor.is_met_by(&entry.stamp, reach, entry.sent_ms())?;
    // A read that asks for something was judged by tag. For one that asks for nothing, only what was heard keeps the entry
    // from being older than anybody would want.
    let heard = epoch.heard_from.is_some_and(|from| entry.stamp.tag >= from);
    if !heard && holds(Rule::UnheardIsShort) && demand.floor.asks_nothing() && entry.life.age(now_ms) > deaf_age_max {
        return Err(Miss::Deaf);
    }
    Ok(())
}

impl<V> Entry<V> {
    fn answer(self, rung: Rung, stale: bool, now_ms: u64) -> Read<V> {
        Read {
            value: self.value,
            rung,
            position: Position { timeline: self.stamp.timeline, lsn: self.stamp.tag },
            stale,
            age: self.life.age(now_ms),
        }
    }
}

impl<R: Repository<S::Conn>, S: Source> Cache<R, S> {
    /// The name that the cache was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the cache has done so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.0.counters.snapshot()
    }

    /// How many entries the in-process tier holds. Walks the tier's pending work first: for tests and tools.
    #[must_use]
    pub fn local_entries(&self) -> u64 {
        self.0.local.len() + self.0.older.as_ref().map_or(0, |older| older.entries())
    }

    /// What a write of this key retracts: the key itself, and where the cache's strategy deletes, its place in the shared
    /// tier as well.
    pub(crate) fn names_of(&self, key: &R::Key) -> Result<impl Iterator<Item = Digest>, Error> {
        let name = Name::of(&self.0.name, key)?;
        let deleted = self.0.older.as_ref().and_then(|older| older.deleted_name(key)).transpose()?;
        Ok(std::iter::once(name).chain(deleted).map(|name| name.digest))
    }
}

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    fn clock(&self) -> &Clock {
        &self.store.fleet.clock
    }

    fn count(&self, miss: Miss) {
        let counters = &self.counters;
        let counter = match miss {
            Miss::Absent => &counters.misses_absent,
            Miss::OtherHistory => &counters.misses_other_history,
            Miss::Expired => &counters.misses_expired,
            Miss::Retracted => &counters.misses_retracted,
            Miss::BelowFloor => &counters.misses_below_floor,
            Miss::NotMonotonic => &counters.misses_not_monotonic,
            Miss::Deaf => &counters.misses_deaf,
        };
        counter.add_one();
    }
}

impl<R: Repository<S::Conn>, S: Source> fmt::Debug for Cache<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
