//! The read path of every strategy but ours. What each of them breaks is told at [`Strategy`].

use super::load::One;
use super::read::{Answer, GATHERING, ROUNDS_MAX, gathering, overloaded};
use super::{Demand, Miss, Name, ReadError, Shelf};
use crate::digest::Digest;
use crate::entry::{Entry, Floor, Origin, Slots};
use crate::fleet::{LoadError, Loaded, Need, Rung};
use crate::freshness::ReadOptions;
use crate::repository::{GROUPS_MAX, Repository};
use crate::session::Session;
use crate::sights::Seen;
use crate::source::{NodeId, Source};
use crate::tier::local::{HashKeys, Weigher};
use crate::write::Receipt;
use crate::{Error, Lsn, Stamp, Strategy};
use moka::sync::Cache as Moka;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout_at;

/// What a cache of an older strategy has of its own.
pub(crate) struct Older<K, V> {
    strategy: Strategy,
    /// Its name in the shared tier: entries that prove nothing must never be found by a cache that goes by position.
    shared_name: String,
    /// Counts loads, so that replicas take turns.
    turns: AtomicUsize,
    kept: Moka<K, Kept<V>, HashKeys>,
}

/// An entry as it was put, and how far its names were retracted then: a deletion is a retraction that came since.
struct Kept<V> {
    entry: Entry<V>,
    slots: Slots,
    floor: Lsn,
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), slots: self.slots.clone(), floor: self.floor }
    }
}

/// Which server a read goes to.
enum Route {
    Primary,
    Replica(Option<NodeId>),
    ByPosition,
}

impl<K, V> Older<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(
        strategy: Strategy,
        cache: &str,
        capacity: u64,
        life_max: Duration,
        weigher: Option<Arc<Weigher<K, V>>>,
        hash_keys: HashKeys,
    ) -> Self {
        let mut kept = Moka::builder().max_capacity(capacity);
        if hash_keys.are_random() {
            kept = kept.time_to_live(life_max);
        }
        if let Some(weigher) = weigher {
            kept = kept.weigher(move |key, kept: &Kept<V>| weigher(key, kept.entry.value.as_deref()));
        }
        let (shared_name, turns) = (format!("{cache}\0{strategy:?}"), AtomicUsize::new(0));
        Self { strategy, shared_name, turns, kept: kept.build_with_hasher(hash_keys) }
    }

    pub(super) fn entries(&self) -> u64 {
        self.kept.run_pending_tasks();
        self.kept.entry_count()
    }

    /// The key's name in the shared tier, where a write deletes it there.
    pub(super) fn deleted_name(&self, key: &impl serde::Serialize) -> Option<Result<Name, Error>> {
        (self.strategy == Strategy::DeleteOnWrite).then(|| Name::of(&self.shared_name, key))
    }

    fn route(&self, session: &Session, replicas: &[NodeId]) -> Route {
        let next = || {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            replicas.get(turn % replicas.len().max(1)).copied()
        };
        match self.strategy {
            Strategy::Primary => Route::Primary,
            Strategy::PrimaryAfterWrite(window) if session.wrote_within(window) => Route::Primary,
            Strategy::StickyReplica => Route::Replica(session.stick(|own| replicas.contains(&own), next)),
            Strategy::Position | Strategy::PositionByTags | Strategy::PositionUncached => Route::ByPosition,
            _ => Route::Replica(next()),
        }
    }
}

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// Answers as the older strategy does.
    pub(super) async fn answer_as(
        &self,
        older: &Older<R::Key, R::Value>,
        session: &Session,
        key: &R::Key,
        options: &ReadOptions,
    ) -> Answer<R, S::Conn> {
        self.store.check_open()?;
        if older.strategy.keeps()
            && let Some((entry, rung)) = self.find_kept(older, key).await?
        {
            return Ok(self.tell(older, session, options, entry, rung));
        }
        let deadline = self.deadline(options);
        if older.strategy == Strategy::PositionUncached
            && let Some(gathered) = gathering(session, options)
        {
            timeout_at(deadline, gathered).await.map_err(|_| Error::timed_out(GATHERING))?;
        }
        let _permit = self.store.load_permit().ok_or_else(overloaded)?;
        for _ in 0..ROUNDS_MAX {
            let demand = match older.strategy {
                Strategy::PositionUncached => self.demand(session, options, &[], deadline).await?,
                _ => self.nothing(),
            };
            let epoch = self.store.epochs.current().clone();
            let timeline = epoch.history.timeline();
            let route = older.route(session, &self.store.fleet.replicas(timeline));
            let need = self.need(&epoch, demand.floor, Lsn::ZERO, options.fallback, deadline);
            let (fleet, work) = (&self.store.fleet, One(&self.repository, key));
            let loaded = match route {
                Route::Primary => {
                    let latest = Need { floor: Floor { latest: true, ..need.floor }, ..need };
                    fleet.load(&latest, &work, &|| {}).await
                }
                Route::Replica(first) => fleet.load_anything(first, &need, &work, &|| {}).await,
                Route::ByPosition => fleet.load(&need, &work, &|| {}).await,
            };
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(LoadError::Loader(error)) => {
                    self.counters.load_errors.add_one();
                    return Err(ReadError::Load(Arc::new(error)));
                }
                Err(LoadError::HistoryMoved) => {
                    fleet.look_for_primary(timeline.next(), deadline).await;
                    continue;
                }
                Err(LoadError::Failed(error)) => return Err(error.into()),
            };
            let (rung, stale) = (loaded.rung, loaded.stale);
            let (row, loaded) = loaded.split();
            let name = Name::of(&older.shared_name, key)?;
            let filled = self.fill(key, &name, row, &loaded, &epoch);
            if older.strategy.keeps() {
                self.keep(older, key, &filled.entry)?;
                self.offer_kept(&name, &filled.entry, &filled.groups).await;
            }
            return Ok(match older.strategy {
                Strategy::PositionUncached => self.answered(session, options, &demand, filled.entry, rung, stale),
                _ => self.tell(older, session, options, filled.entry, rung),
            });
        }
        Err(Error::not_fresh("the history changed faster than it could be read").into())
    }

    /// Puts what was written where the strategy says so.
    pub(super) async fn write_through(
        &self,
        key: &R::Key,
        value: Option<R::Value>,
        receipt: &Receipt,
    ) -> Result<(), Error> {
        let Some(older) = self.older.as_deref().filter(|older| older.strategy == Strategy::WriteThrough) else {
            return Ok(());
        };
        // No tag: a writer of the same row that committed a moment earlier may have been told a higher position. It orders what
        // is put into the shared tier, and is never told.
        let position = receipt.position;
        let stamp = Stamp { timeline: position.timeline, tag: position.lsn, origin: Origin::Primary, upper: None };
        let now_ms = self.clock().now_ms();
        let name = Name::of(&older.shared_name, key)?;
        let epoch = self.store.epochs.current().clone();
        let loaded = Loaded { value: (), stamp, rung: Rung::Primary, filled_ms: now_ms, stale: true };
        let filled = self.fill(key, &name, value, &loaded, &epoch);
        self.keep(older, key, &filled.entry)?;
        self.offer_kept(&name, &filled.entry, &filled.groups).await;
        Ok(())
    }

    /// What the tiers hold, and where it lay.
    async fn find_kept(
        &self,
        older: &Older<R::Key, R::Value>,
        key: &R::Key,
    ) -> Result<Option<(Entry<R::Value>, Rung)>, Error> {
        let now_ms = self.clock().coarse_ms();
        match older.kept.get(key) {
            None => self.count(Miss::Absent),
            Some(kept) if kept.entry.life.is_over(now_ms) => self.count(Miss::Expired),
            Some(kept) if self.is_deleted(older, &kept) => self.count(Miss::Retracted),
            Some(kept) => return Ok(Some((kept.entry, Rung::Local))),
        }
        let name = Name::of(&older.shared_name, key)?;
        let fetched = self.fetch(std::slice::from_ref(&name)).await.into_iter().flatten().next();
        let Some(entry) = fetched.filter(|entry| !entry.life.is_over(self.clock().now_ms())) else {
            return Ok(None);
        };
        self.keep(older, key, &entry)?;
        Ok(Some((entry, Rung::Shared)))
    }

    fn is_deleted(&self, older: &Older<R::Key, R::Value>, kept: &Kept<R::Value>) -> bool {
        older.strategy == Strategy::DeleteOnWrite
            && self.store.epochs.current().floor(&kept.slots, self.group) > kept.floor
    }

    /// Puts an entry into the in-process tier, whatever lies there.
    fn keep(&self, older: &Older<R::Key, R::Value>, key: &R::Key, entry: &Entry<R::Value>) -> Result<(), Error> {
        // By the name that retractions use, whatever strategy the instance has that tells them.
        let name = Name::of(&self.name, key)?;
        let groups = self.repository.groups(key, entry.value.as_deref()).into_iter().take(GROUPS_MAX);
        let groups: Vec<Digest> = groups.map(|group| Digest::of_group(&group)).collect();
        let slots = self.slots(&name, &groups);
        let floor = self.store.epochs.current().floor(&slots, self.group);
        older.kept.insert(key.clone(), Kept { entry: entry.clone(), slots, floor });
        Ok(())
    }

    /// Awaited, as a service does that sets what it has read.
    async fn offer_kept(&self, name: &Name, entry: &Entry<R::Value>, groups: &[Digest]) {
        if let Some(offer) = self.seal(name, entry, groups, self.clock().now_ms()) {
            self.offer(vec![offer]).await;
        }
    }

    /// The answer, labelled unless its position proves what the read asks for.
    fn tell(
        &self,
        older: &Older<R::Key, R::Value>,
        session: &Session,
        options: &ReadOptions,
        mut entry: Entry<R::Value>,
        rung: Rung,
    ) -> super::Read<R::Value> {
        let hit = matches!(rung, Rung::Local | Rung::Shared);
        if hit && older.strategy == Strategy::WriteThrough {
            entry.stamp.tag = Lsn::ZERO;
        }
        let epoch = self.store.epochs.current().clone();
        let met = self.floor(session, options, &epoch, &[]).is_ok_and(|demand| {
            demand.history == entry.history
                && demand.floor.is_met_by(&entry.stamp, entry.stamp.tag, entry.sent_ms()).is_ok()
        });
        let proven = met || rung == Rung::Primary;
        self.answered(session, options, &self.nothing(), entry, rung, !proven)
    }

    fn nothing(&self) -> Demand {
        let history = self.store.epochs.current().fingerprint;
        Demand { history, floor: Floor::default(), seen: Seen::default() }
    }
}
