//! What the caches and writers of one cluster share.

use crate::epoch::Epochs;
use crate::fleet::Fleet;
use crate::ledger::Notice;
use crate::ledger::announcer::Announcer;
use crate::ledger::bus::Bus;
use crate::named::{Brief, PAIRS_MAX};
use crate::retraction::Names;
use crate::rules::{Rule, holds};
use crate::source::Source;
use crate::stats::{StoreCounters, StoreStats};
use crate::tasks::Tasks;
use crate::tier::TierError;
use crate::tier::local::HashKeys;
use crate::tier::shared::DynSharedTier;
use crate::trace;
use crate::{BusState, Error, History, Lsn, Position};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What the caches and writers of one cluster share.
pub(crate) struct Store<S> {
    pub(crate) fleet: Arc<Fleet<S>>,
    pub(crate) epochs: Arc<Epochs>,
    shared: Option<Arc<dyn DynSharedTier>>,
    /// Offers to the shared tier that are under way.
    pub(crate) offering: Semaphore,
    pub(crate) announcer: Option<Arc<Announcer>>,
    pub(crate) bus: Option<Arc<Bus<S>>>,
    pub(crate) counters: Arc<StoreCounters>,
    tasks: Tasks,
    loading: AtomicUsize,
    /// The longest life that any cache gives: how long a retraction must be remembered for.
    life_max_ms: AtomicU64,
    /// A cache is scoped: sessions remember which keys they wrote.
    names_keys: AtomicBool,
    chance: Mutex<StdRng>,
    pub(crate) hash_keys: HashKeys,
}

/// Numbers the fills of the process and not of one store: a session may be used with several, and knows what it saw by
/// this number alone.
static FILLS: AtomicU64 = AtomicU64::new(0);

/// How many offers to the shared tier may be under way.
const OFFERS_MAX: usize = 256;

/// Lives are shortened by up to this share, so that what was filled together does not end together.
const JITTER: f64 = 0.1;

impl<S: Source> Store<S> {
    pub(crate) fn new(
        fleet: Arc<Fleet<S>>,
        shared: Option<Arc<dyn DynSharedTier>>,
        announcer: Option<Arc<Announcer>>,
        bus: Option<Arc<Bus<S>>>,
        tasks: Tasks,
        seed: u64,
        hash_keys: HashKeys,
    ) -> Self {
        Self {
            epochs: Arc::clone(&fleet.epochs),
            counters: Arc::clone(&fleet.counters),
            fleet,
            shared,
            offering: Semaphore::new(OFFERS_MAX),
            announcer,
            bus,
            tasks,
            loading: AtomicUsize::new(0),
            life_max_ms: AtomicU64::new(0),
            names_keys: AtomicBool::new(false),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            hash_keys,
        }
    }

    /// Sets the tasks going that live as long as the store.
    pub(crate) fn run(&self) {
        self.tasks.spawn_forever(self.fleet.clock.clone().run());
        for node in 0..self.fleet.source.nodes().len() {
            self.tasks.spawn_forever(Arc::clone(&self.fleet).watch(node));
        }
        if let Some(announcer) = &self.announcer {
            self.tasks.spawn(Arc::clone(announcer).run(self.tasks.closing()));
        }
    }

    pub(crate) fn run_forever(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_forever(task);
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Cancelled when the store closes.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.tasks.closing()
    }

    /// The history that the instance is in.
    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.epochs.current().history)
    }

    /// The shared tier, once its log was heard: until then it is not known whether history was replaced, and so at which
    /// addresses entries of the present one lie.
    pub(crate) fn shared(&self) -> Option<&Arc<dyn DynSharedTier>> {
        let heard = self.bus.as_ref().is_some_and(|bus| bus.was_heard());
        self.shared.as_ref().filter(|_| heard)
    }

    pub(crate) fn is_sharing(&self) -> bool {
        self.shared.is_some()
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

    /// The same, given back when dropped.
    pub(crate) fn load_permit(&self) -> Option<LoadPermit<'_>> {
        self.take_load_permit().then_some(LoadPermit(&self.loading))
    }

    pub(crate) fn give_back_load_permit(&self) {
        self.loading.fetch_sub(1, Ordering::Relaxed);
    }

    /// A number that no other fill of this process has.
    pub(crate) fn next_fill(&self) -> u64 {
        FILLS.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn jitter(&self, life: Duration) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        life.mul_f64(1.0 - chance.random::<f64>() * JITTER)
    }

    /// What tells the log that a transaction begun there may commit. `None` where it names nothing, since nobody could say then
    /// what it changed, and on another timeline than this instance's: the log is of one history.
    pub(crate) fn announcement(&self, begun: Position, names: Names) -> Option<(Arc<Announcer>, Notice)> {
        let announcer = self.announcer.as_ref().filter(|_| !names.is_empty())?;
        let (pulse, epoch) = (self.epochs.pulse(), self.epochs.current());
        // What has been flushed meanwhile lies below the commit too, which was not sent yet, and holds the watermark less.
        let flush = if pulse.history == epoch.fingerprint { pulse.flush } else { Lsn::ZERO };
        let above = Position { lsn: begun.lsn.max(flush), ..begun };
        let ours = epoch.history.timeline() == begun.timeline;
        ours.then(|| (Arc::clone(announcer), names.notice(epoch.fingerprint, above)))
    }

    /// Sixteen bytes that nobody can guess.
    pub(crate) fn random_id(&self) -> [u8; 16] {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// From now on sessions remember which keys they wrote.
    pub(crate) fn name_keys(&self) {
        self.names_keys.store(true, Ordering::Relaxed);
    }

    /// The keys that a write is remembered by; none where it is to be demanded of every key. What names a group is: an entry
    /// that was filled before cannot tell whether its row is in the group now.
    pub(crate) fn briefs(&self, names: &Names) -> Vec<Brief> {
        let Names { keys, groups } = names;
        if !self.names_keys.load(Ordering::Relaxed) {
            return Vec::new();
        }
        if !holds(Rule::GroupIsOfAll) {
            return keys.iter().chain(groups).map(Brief::of).collect();
        }
        let named = groups.is_empty() && keys.len() <= PAIRS_MAX;
        if named { keys.iter().map(Brief::of).collect() } else { Vec::new() }
    }

    pub(crate) fn remember_life(&self, life: Duration) {
        self.life_max_ms.fetch_max(life.as_millis() as u64, Ordering::Relaxed);
    }

    /// The longest life of an entry in any cache of this store; zero where there is none.
    pub(crate) fn entry_life_max(&self) -> Duration {
        Duration::from_millis(self.life_max_ms.load(Ordering::Relaxed))
    }

    /// How long a retraction must be remembered for: until every entry that it could reach has ended its life.
    pub(crate) fn life_max(&self) -> Duration {
        Some(self.entry_life_max()).filter(|life| !life.is_zero()).unwrap_or(LIFE_ELSEWHERE)
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
        let watermark = self.bus.as_ref().map(|bus| bus.watermark());
        StoreStats { counts: self.counters.snapshot(), bus, deaf_time, watermark, nodes: self.fleet.stats() }
    }
}

/// How long entries of other instances are taken to live where this one has no cache of its own: a job that retracts groups.
const LIFE_ELSEWHERE: Duration = Duration::from_secs(24 * 3_600);

/// One key that is loading.
pub(crate) struct LoadPermit<'a>(&'a AtomicUsize);

impl Drop for LoadPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
