//! The in-process tier.

use crate::entry::{Entry, admits};
use moka::ops::compute::Op;
use moka::sync::{Cache, CacheBuilder};
use std::borrow::Borrow;
use std::hash::{BuildHasher, DefaultHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// The in-process tier: moka, with admission by the Admit rule. Whether an entry's life is over is judged by the entry
/// itself. Moka's expiry only frees memory, after the longest life that an entry can have: a life for each entry makes its
/// `get` dearer by 5 % over many keys and by 13 % over few. So an absent or short-lived row keeps its place until it is
/// replaced, evicted for a newer one, or that old; the capacity bounds what lies there.
pub(crate) struct LocalTier<K, V> {
    cache: Cache<K, Entry<V>, HashKeys>,
}

/// How keys are hashed: by chance, or in a simulation always alike, so that it also evicts alike.
#[derive(Clone)]
pub(crate) struct HashKeys(Option<RandomState>);

impl HashKeys {
    pub(crate) fn random() -> Self {
        Self(Some(RandomState::new()))
    }

    pub(crate) fn fixed() -> Self {
        Self(None)
    }

    /// Whether time is real too: moka's always is, so in a simulation it must expire nothing.
    pub(crate) fn are_random(&self) -> bool {
        self.0.is_some()
    }
}

impl BuildHasher for HashKeys {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.as_ref().map_or_else(DefaultHasher::new, RandomState::build_hasher)
    }
}

/// Counts what an entry takes of the capacity.
pub(crate) type Weigher<K, V> = dyn Fn(&K, Option<&V>) -> u32 + Send + Sync;

impl<K, V> LocalTier<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(
        capacity: u64,
        life_max: Duration,
        idle: Option<Duration>,
        weigher: Option<Arc<Weigher<K, V>>>,
        hash_keys: HashKeys,
    ) -> Self {
        let mut builder: CacheBuilder<K, Entry<V>, Cache<K, Entry<V>>> = Cache::builder().max_capacity(capacity);
        if hash_keys.are_random() {
            builder = builder.time_to_live(life_max);
        }
        if let Some(idle) = idle {
            builder = builder.time_to_idle(idle);
        }
        if let Some(weigher) = weigher {
            builder = builder.weigher(move |key, entry| weigher(key, entry.value.as_deref()));
        }
        Self { cache: builder.build_with_hasher(hash_keys) }
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.cache.get(key)
    }

    /// Admits the entry unless the slot holds one that is as new and can still answer: live, and of the same history. Returns false
    /// where that one has the very same tag: until the log moves, nothing newer can be filled.
    pub(crate) fn admit(&self, key: K, entry: &Entry<V>, now_ms: u64, is_live: impl Fn(&Entry<V>) -> bool) -> bool {
        let mut same_tag = false;
        self.cache.entry(key).and_compute_with(|present| match present.map(moka::Entry::into_value) {
            Some(present)
                if present.history == entry.history
                    && !present.life.is_over(now_ms)
                    && is_live(&present)
                    && !admits(present.stamp.rank(), entry.stamp.rank()) =>
            {
                same_tag = present.stamp.tag == entry.stamp.tag;
                Op::Nop
            }
            _ => Op::Put(entry.clone()),
        });
        !same_tag
    }

    pub(crate) fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }
}
