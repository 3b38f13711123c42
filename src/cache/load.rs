//! What happens below the in-process tier: the shared tier, then the source, then the offers.

use super::{Demand, Name, Shelf};
use crate::digest::Digest;
use crate::entry::{Entry, Floor};
use crate::epoch::Epoch;
use crate::fleet::{LoadError, Loaded, Need, Rung, Work};
use crate::flight::Flight;
use crate::freshness::Fallback;
use crate::named::Brief;
use crate::repository::{GROUPS_MAX, Repository};
use crate::rules::{Rule, holds};
use crate::sights::Seen;
use crate::source::Source;
use crate::tier::{Address, Offer};
use crate::trace;
use crate::{Error, Lsn};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;

/// How a flight ended.
pub(super) enum Landing<V, E> {
    Answer { entry: Entry<V>, rung: Rung, stale: bool },
    Loader(Arc<E>),
    HistoryMoved,
    Failed(Error),
}

impl<V, E> Clone for Landing<V, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Answer { entry, rung, stale } => Self::Answer { entry: entry.clone(), rung: *rung, stale: *stale },
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::HistoryMoved => Self::HistoryMoved,
            Self::Failed(error) => Self::Failed(error.clone()),
        }
    }
}

type CacheFlight<R, C> = Flight<Landing<<R as Repository<C>>::Value, <R as Repository<C>>::Error>>;

/// Loads one key.
pub(super) struct One<'a, R, K>(pub(super) &'a R, pub(super) &'a K);

impl<C: Sync, R: Repository<C>> Work<C> for One<'_, R, R::Key> {
    type Value = Option<R::Value>;
    type Error = R::Error;

    async fn run(&self, on: &C) -> Result<Self::Value, Self::Error> {
        self.0.load(on, self.1).await
    }
}

/// Loads many keys.
struct Many<'a, R, K>(&'a R, &'a [K]);

impl<C: Sync, R: Repository<C>> Work<C> for Many<'_, R, R::Key> {
    type Value = Vec<Option<R::Value>>;
    type Error = R::Error;

    async fn run(&self, on: &C) -> Result<Self::Value, Self::Error> {
        self.0.load_many(on, self.1).await
    }
}

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// Flies one flight after the other until nobody waits for the key. Not the reader's to drop: from whoever drives it,
    /// it is handed on until it has ended.
    pub(super) async fn fly(
        self: Arc<Self>,
        lane: (R::Key, Fallback),
        name: Name,
        mut flight: Arc<CacheFlight<R, S::Conn>>,
    ) {
        loop {
            let flown = AssertUnwindSafe(self.fly_once(&lane, &name, &flight).instrument(trace::load(&self.name)));
            let flown = flown.catch_unwind().await;
            let offer = flown.unwrap_or_else(|_| {
                flight.land(Landing::Failed(Error::loader_panicked()));
                None
            });
            let next = self.flights.end(&lane);
            if let Some(offer) = offer {
                let shelf = Arc::clone(&self);
                self.store.spawn(async move { shelf.offer(vec![offer]).await });
            }
            match next {
                Some(next) => flight = next,
                None => break,
            }
        }
        self.store.give_back_load_permit();
    }

    async fn fly_once(
        self: &Arc<Self>,
        lane: &(R::Key, Fallback),
        name: &Name,
        flight: &CacheFlight<R, S::Conn>,
    ) -> Option<Offer> {
        let (key, fallback) = lane;
        if self.land_from_shared(key, name, flight).await {
            return None;
        }
        let (floor, awaited_until) = flight.close();
        let epoch = self.store.epochs.current().clone();
        let retracted = epoch.floor(&self.key_slots(name), self.group);
        let mut need = self.need(&epoch, floor, retracted, *fallback, awaited_until);
        let work = One(&self.repository, key);
        let mut loaded = self.store.fleet.load(&need, &work, &|| flight.depart()).await;
        let passed_by =
            loaded.as_ref().ok().and_then(|loaded| self.passed_by(loaded, [(key, name, loaded.value.as_ref())]));
        if let Some(floor) = passed_by.filter(|floor| *floor > need.retracted) {
            need.retracted = floor;
            loaded = self.store.fleet.load(&need, &work, &|| flight.depart()).await;
        }
        match loaded {
            Ok(loaded) => {
                let (rung, stale) = (loaded.rung, loaded.stale);
                let (row, loaded) = loaded.split();
                let filled = self.fill(key, name, row, &loaded, &epoch);
                let offer = if stale { None } else { self.take_in(key, name, &filled, rung, &need) };
                flight.land(Landing::Answer { entry: filled.entry, rung, stale });
                offer
            }
            Err(LoadError::Loader(error)) => {
                self.counters.load_errors.add_one();
                flight.land(Landing::Loader(Arc::new(error)));
                None
            }
            Err(LoadError::HistoryMoved) => {
                self.store.fleet.look_for_primary(need.timeline.next(), need.deadline).await;
                flight.land(Landing::HistoryMoved);
                None
            }
            Err(LoadError::Failed(error)) => {
                flight.land(Landing::Failed(error));
                None
            }
        }
    }

    /// How far the rows of a replica's answer were retracted, where that is further than the replica is: which groups they
    /// are in is known only once they are there, and who came on board while a connection was waited for may have been told
    /// of more than the load was asked for. One more load will do, since who comes after the first is judged by tag.
    ///
    /// By the floors of now: since a crash, those of when the load began are raised no more.
    fn passed_by<'a, T>(
        &self,
        loaded: &Loaded<T>,
        rows: impl IntoIterator<Item = (&'a R::Key, &'a Name, Option<&'a R::Value>)>,
    ) -> Option<Lsn> {
        if loaded.rung != Rung::Replica || loaded.stale {
            return None;
        }
        let epoch = self.store.epochs.current();
        let floor = |(key, name, row)| {
            let groups = self.repository.groups(key, row).into_iter().take(GROUPS_MAX);
            let groups: Vec<Digest> = groups.map(|group| Digest::of_group(&group)).collect();
            epoch.floor(&self.slots(name, &groups), self.group)
        };
        rows.into_iter().map(floor).max().filter(|floor| loaded.stamp.tag < *floor && holds(Rule::GroupFloorIsAsked))
    }

    /// What a load must reach, for readers who wait until `awaited_until`. It may itself take longer: others may join.
    pub(super) fn need(
        &self,
        epoch: &Epoch,
        floor: Floor,
        retracted: Lsn,
        fallback: Fallback,
        awaited_until: Instant,
    ) -> Need {
        let (now, settings) = (Instant::now(), &self.store.fleet.settings);
        // Waiting for a replica must leave the fallback time to answer: at most half of what the readers have left.
        let wait = settings.wait_budget.min(awaited_until.saturating_duration_since(now) / 2);
        let deadline = awaited_until.max(now + settings.load_time_max);
        let timeline = epoch.history.timeline();
        Need { timeline, floor, retracted, fallback, wait_until: now + wait, deadline }
    }

    /// Ends the flight with what the shared tier holds, if that answers everybody on board.
    async fn land_from_shared(&self, key: &R::Key, name: &Name, flight: &CacheFlight<R, S::Conn>) -> bool {
        let Some(entry) = self.fetch(std::slice::from_ref(name)).await.into_iter().flatten().next() else {
            return false;
        };
        let epoch = self.store.epochs.current().clone();
        let demand = |floor: &Floor| Demand { history: entry.history, floor: *floor, seen: Seen::default() };
        let answers = |floor: &Floor| self.answers(&entry, &demand(floor), &epoch).is_ok();
        // First, so that whoever is answered finds it there the next time.
        let lives = |present: &Entry<R::Value>| epoch.is_live(present, self.group);
        self.local.admit(key.clone(), &entry, self.clock().now_ms(), lives);
        let landing = Landing::Answer { entry: entry.clone(), rung: Rung::Shared, stale: false };
        flight.land_if(answers, landing)
    }

    /// What the shared tier holds of these names. Its errors are misses.
    pub(super) async fn fetch(&self, names: &[Name]) -> Vec<Option<Entry<R::Value>>> {
        let nothing = || names.iter().map(|_| None).collect();
        let (Some(packer), Some(shared)) = (&self.packer, self.store.shared()) else { return nothing() };
        let epoch = self.store.epochs.current().clone();
        let addresses: Vec<Address> =
            names.iter().map(|name| Address { history: epoch.fingerprint, key: name.digest }).collect();
        let envelopes = match shared.fetch(&addresses).await {
            Ok(envelopes) => envelopes,
            Err(error) => {
                self.store.count_shared_error(&error);
                return nothing();
            }
        };
        let open = |(name, envelope): (&Name, Option<Vec<u8>>)| {
            let opened = packer.open(&envelope?, &name.canonical, epoch.fingerprint);
            let unpacked = match opened {
                Ok(unpacked) => unpacked?,
                Err(_) => {
                    self.counters.undecodable.add_one();
                    return None;
                }
            };
            let slots = self.slots(name, if holds(Rule::GroupsTravel) { &unpacked.groups } else { &[] });
            let (stamp, life) = (unpacked.stamp, unpacked.life);
            let (fill, brief) = (self.store.next_fill(), Brief::of(&name.digest));
            let (value, history, filled_here) = (unpacked.value, epoch.fingerprint, false);
            Some(Entry { value, stamp, history, slots, brief, life, fill, filled_here })
        };
        names.iter().zip(envelopes).map(open).collect()
    }

    /// Loads rows for readers who joined nobody. `None` where history moved.
    pub(super) async fn load_many(
        self: &Arc<Self>,
        rows: Vec<(R::Key, Name)>,
        demand: &Demand,
        fallback: Fallback,
        deadline: Instant,
    ) -> Result<Option<Vec<(Entry<R::Value>, Rung, bool)>>, super::ReadError<R::Error>> {
        let epoch = self.store.epochs.current().clone();
        if epoch.fingerprint != demand.history && holds(Rule::BatchOfHistory) {
            return Ok(None);
        }
        let (keys, names): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let floors = names.iter().map(|name| epoch.floor(&self.key_slots(name), self.group));
        let retracted = floors.max().unwrap_or(Lsn::ZERO);
        let mut need = self.need(&epoch, demand.floor, retracted, fallback, deadline);
        let work = Many(&self.repository, &keys);
        let mut loaded = self.store.fleet.load(&need, &work, &|| {}).await;
        let passed_by = loaded.as_ref().ok().and_then(|loaded| {
            let rows = keys.iter().zip(&names).zip(&loaded.value);
            self.passed_by(loaded, rows.map(|((key, name), row)| (key, name, row.as_ref())))
        });
        if let Some(floor) = passed_by.filter(|floor| *floor > need.retracted) {
            need.retracted = floor;
            loaded = self.store.fleet.load(&need, &work, &|| {}).await;
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError::Loader(error)) => {
                self.counters.load_errors.add_one();
                return Err(super::ReadError::Load(Arc::new(error)));
            }
            Err(LoadError::HistoryMoved) => {
                self.store.fleet.look_for_primary(need.timeline.next(), deadline).await;
                return Ok(None);
            }
            Err(LoadError::Failed(error)) => return Err(error.into()),
        };
        // A timeline of the same number may be another history.
        if self.store.epochs.current().fingerprint != demand.history && holds(Rule::BatchOfHistory) {
            return Ok(None);
        }
        let (rung, stale) = (loaded.rung, loaded.stale);
        let (rows, loaded) = loaded.split();
        if rows.len() != keys.len() {
            let text = format!("load_many of cache {:?} gave {} rows for {} keys", self.name, rows.len(), keys.len());
            return Err(Error::configuration(text).into());
        }
        let mut answers = Vec::with_capacity(rows.len());
        let mut offers = Vec::new();
        for ((key, name), row) in keys.iter().zip(&names).zip(rows) {
            let filled = self.fill(key, name, row, &loaded, &epoch);
            if !stale {
                offers.extend(self.take_in(key, name, &filled, rung, &need));
            }
            answers.push((filled.entry, rung, stale));
        }
        let shelf = Arc::clone(self);
        self.store.spawn(async move { shelf.offer(offers).await });
        Ok(Some(answers))
    }
}
