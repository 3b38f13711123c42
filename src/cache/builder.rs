//! How a cache is made.

use super::older::Older;
use super::{Cache, Lives, Shelf};
use crate::digest::{Digest, KEY_BYTES_MAX};
use crate::flight::Flights;
use crate::repository::Repository;
use crate::source::Source;
use crate::store::Store;
use crate::tier::codec::{Bincode, Codec};
use crate::tier::envelope::Limits;
use crate::tier::local::{LocalTier, Weigher};
use crate::tier::pack::{Packer, Packing};
use crate::{Error, Postgres, Strategy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Makes a [`Cache`]; begun by [`Highwater::cache`](crate::Highwater::cache). Checked once, in [`build`](Self::build).
#[must_use = "a cache is made by build()"]
pub struct CacheBuilder<R: Repository<S::Conn>, S: Source = Postgres> {
    name: String,
    repository: R,
    store: Arc<Store<S>>,
    capacity: u64,
    weigher: Option<Arc<Weigher<R::Key, R::Value>>>,
    time_to_live: Duration,
    absent_time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    schema: u32,
    strategy: Strategy,
    scoped: bool,
    packing: Option<MakePacker<R::Value>>,
}

/// Makes the packer once the schema number is known.
type MakePacker<V> = Box<dyn FnOnce(u32) -> Arc<dyn Packer<V>>>;

/// The shortest life that may be asked for.
const LIFE_MIN: Duration = Duration::from_millis(1);

/// The longest life that may be asked for. It bounds how long retractions must be remembered.
const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl<R: Repository<S::Conn>, S: Source> CacheBuilder<R, S> {
    pub(crate) fn new(name: impl Into<String>, repository: R, store: Arc<Store<S>>) -> Self {
        Self {
            name: name.into(),
            repository,
            store,
            capacity: 10_000,
            weigher: None,
            time_to_live: Duration::from_secs(300),
            absent_time_to_live: None,
            time_to_idle: None,
            schema: 0,
            strategy: Strategy::Position,
            scoped: false,
            packing: None,
        }
    }

    /// How much the in-process tier holds: entries, or what the weigher counts. An entry whose life is over counts until
    /// it is replaced or evicted, or until the longest life in the cache has passed. Defaults to 10,000.
    pub fn max_capacity(mut self, capacity: u64) -> Self {
        self.capacity = capacity;
        self
    }

    /// Counts what an entry takes of the capacity; `None` is a row known to be absent. Defaults to 1 each.
    pub fn weigher(mut self, weigh: impl Fn(&R::Key, Option<&R::Value>) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigh));
        self
    }

    /// How long an entry may be used after it was filled, in whatever tier, less a jitter of up to a tenth. It bounds
    /// what a write that was never announced can leave behind. Defaults to 5 minutes; at most 30 days.
    pub fn time_to_live(mut self, life: Duration) -> Self {
        self.time_to_live = life;
        self
    }

    /// The same for rows known to be absent. Defaults to a tenth of the time to live, at least 1 ms.
    pub fn absent_time_to_live(mut self, life: Duration) -> Self {
        self.absent_time_to_live = Some(life);
        self
    }

    /// Drops entries of the in-process tier that nobody has read for this long. Defaults to never.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.time_to_idle = Some(idle);
        self
    }

    /// A number for the shape of the value's type, to be raised when the type changes in a way that its codec would not
    /// notice: entries of another number are misses. Defaults to 0.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema = version;
        self
    }

    /// Also keeps entries in the tier that instances share, in bincode's form, of at most 1 MiB each. Without it the
    /// cache is this process's own, and still hears the retractions of others.
    pub fn shared(self) -> Self
    where
        R::Value: Serialize + DeserializeOwned,
    {
        self.shared_as(Bincode::<{ 1 << 20 }>)
    }

    /// As [`shared`](Self::shared), in the form of this codec.
    pub fn shared_as(mut self, codec: impl Codec) -> Self
    where
        R::Value: Serialize + DeserializeOwned,
    {
        self.packing = Some(Box::new(|schema| Arc::new(Packing::new(codec, schema, Limits::default()))));
        self
    }

    /// How the cache answers: by position, or as it was done before. Defaults to [`Strategy::Position`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Asks an answer to reach only what the session wrote of the key that is read, as far as its token knows: the last
    /// eight keys or so, where the store that wrote has a scoped cache too. Everything else that the token holds is demanded of
    /// every key: writes that named a group or a cache, or more keys than that, and what was captured, has an unknown
    /// outcome, or came from elsewhere without keys. Without this an answer must reach all that the session wrote.
    ///
    /// This trusts that a write names every key that it changes, where the default trusts positions alone: a row changed by a
    /// trigger or a cascade that no write names is then read as it was before, by its own writer too. In return a write costs
    /// its session nothing on other keys, also where no watermark can help. What a monotonic session saw is demanded of every key
    /// either way, and so is [`Freshness::AtLeast`](crate::Freshness::AtLeast): with the session's own token it asks for everything.
    pub fn scoped(mut self) -> Self {
        self.scoped = true;
        self
    }

    /// Makes the cache.
    ///
    /// # Errors
    ///
    /// A configuration error that names the setting: an empty or overlong name, a capacity or life of zero, a life over
    /// 30 days, a cache that shares in a store without a shared tier, or a scoped one whose strategy does not go by position.
    pub fn build(self) -> Result<Cache<R, S>, Error> {
        let Self { name, repository, store, capacity, weigher, time_to_live, strategy, .. } = self;
        let refuse = |problem: String| Err(Error::configuration(format!("cache {name:?}: {problem}")));
        if name.is_empty() || name.len() > KEY_BYTES_MAX {
            return refuse(format!("a name has 1 to {KEY_BYTES_MAX} bytes"));
        }
        if capacity == 0 {
            return refuse("max_capacity is zero; give it room for at least one entry".to_owned());
        }
        // Not below the least life, of which nobody has said anything.
        let tenth = (time_to_live / 10).max(LIFE_MIN.min(time_to_live));
        let absent = self.absent_time_to_live.unwrap_or(tenth);
        for (setting, life) in [("time_to_live", time_to_live), ("absent_time_to_live", absent)] {
            if life < LIFE_MIN || life > LIFE_MAX {
                return refuse(format!("{setting} is {life:?}; it must lie between 1 ms and 30 days"));
            }
        }
        if self.time_to_idle.is_some_and(|idle| idle.is_zero()) {
            return refuse("time_to_idle is zero; give it a positive duration".to_owned());
        }
        if self.packing.is_some() && !store.is_sharing() {
            return refuse(
                "it is to be shared, but the store has no shared tier; give the store a Redis URL".to_owned(),
            );
        }
        if self.scoped && !strategy.is_ours() {
            return refuse(format!("it is scoped, and {strategy:?} asks no entry how far it reaches"));
        }
        if self.scoped {
            store.name_keys();
        }
        let lives = Lives { present: time_to_live, absent };
        store.remember_life(lives.longest());
        let group = store.epochs.slots().group(&Digest::of_cache(&name));
        let hash_keys = store.hash_keys.clone();
        let older = |weigher| Older::new(strategy, &name, capacity, lives.longest(), weigher, hash_keys.clone());
        let older = (!strategy.is_ours()).then(|| Box::new(older(weigher.clone())));
        Ok(Cache(Arc::new(Shelf {
            local: LocalTier::new(capacity, lives.longest(), self.time_to_idle, weigher, hash_keys),
            extends: strategy == Strategy::Position,
            scoped: self.scoped,
            older,
            flights: Flights::new(),
            packer: self.packing.map(|packing| packing(self.schema)),
            lives,
            counters: crate::stats::CacheCounters::default(),
            name,
            repository,
            store,
            group,
        })))
    }
}

impl<R: Repository<S::Conn>, S: Source> fmt::Debug for CacheBuilder<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
