//! What the caches and writers of one cluster share.

use crate::epoch::Epochs;
use crate::fleet::Fleet;
use crate::ledger::announcer::Announcer;
use crate::ledger::bus::Bus;
use crate::source::Source;
use crate::stats::{StoreCounters, StoreStats};
use crate::tasks::Tasks;
use crate::tier::TierError;
use crate::tier::shared::DynSharedTier;
use crate::trace;
use crate::{BusState, Error};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the caches and writers of one cluster share.
pub(crate) struct Store<S> {
    pub(crate) fleet: Arc<Fleet<S>>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) shared: Option<Arc<dyn DynSharedTier>>,
    pub(crate) announcer: Option<Arc<Announcer>>,
    pub(crate) bus: Option<Arc<Bus<S>>>,
    pub(crate) counters: Arc<StoreCounters>,
    tasks: Tasks,
    loading: AtomicUsize,
    fills: AtomicU64,
    /// The longest life that any cache gives: how long a retraction must be remembered for.
    life_max_ms: AtomicU64,
    chance: Mutex<StdRng>,
}

/// Lives are shortened by up to this share, so that what was filled together does not end together.
const JITTER: f64 = 0.1;

impl<S: Source> Store<S> {
    pub(crate) fn new(
        fleet: Arc<Fleet<S>>,
        shared: Option<Arc<dyn DynSharedTier>>,
        announcer: Option<Arc<Announcer>>,
        bus: Option<Arc<Bus<S>>>,
        seed: u64,
    ) -> Self {
        Self {
            epochs: Arc::clone(&fleet.epochs),
            counters: Arc::clone(&fleet.counters),
            fleet,
            shared,
            announcer,
            bus,
            tasks: Tasks::default(),
            loading: AtomicUsize::new(0),
            fills: AtomicU64::new(0),
            life_max_ms: AtomicU64::new(0),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Sets the tasks going that live as long as the store.
    pub(crate) fn run(&self) {
        self.tasks.spawn_forever(self.fleet.clock.clone().run());
        for node in 0..self.fleet.source.nodes().len() {
            self.tasks.spawn_forever(Arc::clone(&self.fleet).watch(node));
        }
        if let Some(announcer) = &self.announcer {
            self.tasks.spawn_forever(Arc::clone(announcer).run());
        }
    }

    pub(crate) fn run_forever(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_forever(task);
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The system identifier of the cluster, which never changes.
    pub(crate) fn cluster(&self) -> u64 {
        self.epochs.current().history.system_identifier()
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.tasks.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    pub(crate) async fn close(&self) {
        self.epochs.end();
        self.tasks.close().await;
    }

    /// Whether one more key may be loading. What is taken must be given back.
    pub(crate) fn take_load_permit(&self) -> bool {
        let max = self.fleet.settings.loads_max;
        let taken = self.loading.fetch_add(1, Ordering::Relaxed) < max;
        if !taken {
            self.give_back_load_permit();
        }
        taken
    }

    pub(crate) fn give_back_load_permit(&self) {
        self.loading.fetch_sub(1, Ordering::Relaxed);
    }

    /// A number that no other fill of this process has.
    pub(crate) fn next_fill(&self) -> u64 {
        self.fills.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn jitter(&self, life: Duration) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        life.mul_f64(1.0 - chance.random::<f64>() * JITTER)
    }

    pub(crate) fn remember_life(&self, life: Duration) {
        self.life_max_ms.fetch_max(life.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long a retraction must be remembered for: until every entry that it could reach has ended its life.
    pub(crate) fn life_max(&self) -> Duration {
        Duration::from_millis(self.life_max_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn count_shared_error(&self, error: &TierError) {
        self.counters.shared_errors.add_one();
        trace::shared_tier_failed(error);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let (bus, deaf_time) = match &self.bus {
            Some(bus) => bus.state(),
            None => (BusState::None, Duration::ZERO),
        };
        StoreStats { counts: self.counters.snapshot(), bus, deaf_time, nodes: self.fleet.stats() }
    }
}
