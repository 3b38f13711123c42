//! How a store is put together from its edges.

use crate::clock::Clock;
use crate::epoch::{Epochs, SlotMap};
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::ledger::announcer::Announcer;
use crate::ledger::bus::Bus;
use crate::resolve::{ABANDONED_MAX, retract_abandoned};
use crate::source::{Fault, FaultKind, Probe, Role, Source};
use crate::stats::StoreCounters;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::tier::SharedTier;
use crate::tier::local::HashKeys;
use crate::tier::shared::DynSharedTier;
use crate::{Error, Highwater, History, Lsn, Settings};
use futures_util::future::BoxFuture;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Puts a store together from its edges; begun by [`Highwater::over`]. For PostgreSQL and Redis by URL there is
/// [`Highwater::builder`], which ends here.
#[must_use = "a store is made by start()"]
pub struct StoreBuilder<S: Source> {
    source: S,
    settings: Settings,
    shared: Option<Arc<dyn DynSharedTier>>,
    join_bus: Option<JoinBus<S>>,
    world: Option<World>,
}

/// Where time begins and chance comes from.
#[derive(Debug, Clone, Copy)]
struct World {
    seed: u64,
    unix_ms: u64,
}

/// What a store holds of its ledger, and the task that listens to it.
struct BusParts<S> {
    announcer: Arc<Announcer>,
    bus: Arc<Bus<S>>,
    listen: BoxFuture<'static, ()>,
    abandoned: mpsc::Receiver<Vec<u8>>,
}

type JoinBus<S> = Box<dyn FnOnce(&Arc<Fleet<S>>, u64) -> BusParts<S> + Send>;

/// How long the servers are asked for a primary when a store starts.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// How long one of them may take to answer meanwhile, and the pause before all are asked again.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
const START_PAUSE: Duration = Duration::from_millis(200);

impl<S: Source> Highwater<S> {
    /// Begins a store over any source, such as the in-memory one.
    pub fn over(source: S) -> StoreBuilder<S> {
        StoreBuilder { source, settings: Settings::default(), shared: None, join_bus: None, world: None }
    }
}

impl<S: Source> StoreBuilder<S> {
    /// Replaces the settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Puts a shared tier behind the in-process one, for caches that share: [`RedisTier`](crate::tier::RedisTier) or
    /// [`memory::Shared`](crate::memory::Shared). It needs a [`ledger`](Self::ledger) over the same server.
    pub fn shared_tier<T: SharedTier>(mut self, tier: T) -> Self {
        self.shared = Some(Arc::new(tier));
        self
    }

    /// Tells retractions to other instances, and hears theirs, through this log:
    /// [`RedisLedger`](crate::ledger::RedisLedger) or [`memory::Shared`](crate::memory::Shared).
    pub fn ledger<L: Ledger>(mut self, ledger: L) -> Self {
        self.join_bus = Some(Box::new(|fleet, seed| {
            let ledger = Arc::new(ledger);
            let (epochs, counters) = (Arc::clone(&fleet.epochs), Arc::clone(&fleet.counters));
            let deferred_max = fleet.settings.retry_queue_max;
            let (give_up, abandoned) = mpsc::channel(ABANDONED_MAX);
            let announcer =
                Arc::new(Announcer::new(Arc::clone(&ledger), epochs, counters, deferred_max, give_up.clone()));
            let bus = Arc::new(Bus::new(Arc::clone(fleet), give_up));
            let (listening, finding, pushing) = (Arc::clone(&bus), Arc::clone(&bus), Arc::clone(&bus));
            let (pushed, mut chance) = (Arc::clone(&ledger), StdRng::seed_from_u64(seed));
            let mut more = StdRng::seed_from_u64(chance.random());
            let listen = Box::pin(async move {
                tokio::select! {
                    biased;
                    () = listening.listen(ledger, move || chance.random()) => {}
                    () = finding.find_starts() => {}
                    () = pushing.push(pushed, move || more.random()) => {}
                }
            });
            BusParts { announcer, bus, listen, abandoned }
        }));
        self
    }

    /// Fixes where time begins and what chance brings, so that a simulation can be repeated. Left out, both are real.
    pub fn world(mut self, seed: u64, unix_ms: u64) -> Self {
        self.world = Some(World { seed, unix_ms });
        self
    }

    /// Asks the servers which of them is the primary, and starts.
    ///
    /// # Errors
    ///
    /// A setting that cannot work, wrong credentials, a server of another cluster, two that both take writes, or no primary
    /// within ten seconds.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await; nothing was started then.
    pub async fn start(self) -> Result<Highwater<S>, Error> {
        let Self { source, settings, shared, join_bus, world } = self;
        settings.check()?;
        if shared.is_some() && join_bus.is_none() {
            let text = "a shared tier needs a ledger: without it nobody would hear what was retracted in it";
            return Err(Error::configuration(text));
        }
        let hash_keys = if world.is_some() { HashKeys::fixed() } else { HashKeys::random() };
        let world = world.map_or_else(World::real, Ok)?;
        let history = {
            let until = Instant::now() + START_TIME_MAX;
            loop {
                match first_history(&source).await {
                    Err(error) if error.is_unavailable() && Instant::now() < until => sleep(START_PAUSE).await,
                    found => break found?,
                }
            }
        };
        let mut chance = StdRng::seed_from_u64(world.seed);
        let slots = SlotMap::new(settings.floor_slots, (chance.random(), chance.random()));
        // Without a bus there is nothing to be missed: what other instances write is not heard, by choice.
        let heard_from = if join_bus.is_some() { None } else { Some(Lsn::ZERO) };
        let epochs = Arc::new(Epochs::new(history, slots, heard_from));
        let counters = Arc::new(StoreCounters::default());
        let tasks = Tasks::new();
        let clock = Clock::start(world.unix_ms);
        let fleet = Arc::new(Fleet::new(source, epochs, clock, settings, counters, tasks.closing()));
        let parts = join_bus.map(|join| join(&fleet, chance.random()));
        let (announcer, bus, tasks_of_bus) = match parts {
            Some(parts) => (Some(parts.announcer), Some(parts.bus), Some((parts.listen, parts.abandoned))),
            None => (None, None, None),
        };
        let store = Arc::new(Store::new(fleet, shared, announcer, bus, tasks, chance.random(), hash_keys));
        store.run();
        if let Some((listen, abandoned)) = tasks_of_bus {
            store.run_forever(listen);
            store.run_forever(retract_abandoned(Arc::downgrade(&store), abandoned));
        }
        store.fleet.ask_all(Instant::now() + START_TIME_MAX).await;
        Ok(Highwater(store))
    }
}

impl World {
    fn real() -> Result<Self, Error> {
        let seed = SysRng
            .try_next_u64()
            .map_err(|cause| Error::configuration_because("the system gives no random numbers", cause))?;
        Ok(Self { seed, unix_ms: crate::clock::unix_ms() })
    }
}

/// The history that the primary is in, and that every other server that answers belongs to the same cluster.
async fn first_history<S: Source>(source: &S) -> Result<History, Error> {
    let names = source.nodes();
    if names.is_empty() {
        return Err(Error::configuration("no server was given; a store needs at least its primary"));
    }
    let ask = |node| async move {
        let late = || Fault::new(FaultKind::TimedOut, "", "did not answer in time");
        timeout(ANSWER_TIME_MAX, source.probe(node)).await.unwrap_or_else(|_| Err(late()))
    };
    let answers = futures_util::future::join_all((0..names.len()).map(ask)).await;
    let mut found: Option<(usize, History)> = None;
    let mut problems = Vec::new();
    for (node, answer) in answers.iter().enumerate() {
        let name = names.get(node).map_or("", |node| node.name.as_str());
        match answer {
            // These will not mend by themselves, whatever the other servers say.
            Err(fault) if fault.kind == FaultKind::Misconfigured => return Err(fault.clone().into()),
            Err(fault) if fault.kind == FaultKind::Foreign => {
                return Err(Error::configuration(format!("{name}: {}; check the URLs", fault.message)));
            }
            Err(fault) => problems.push(format!("{name}: {}", fault.message)),
            Ok(Probe { system_identifier, role: Role::Primary { timeline, switches, .. } }) => {
                let history = History::new(*system_identifier, *timeline, switches.clone());
                if let Some((other, _)) = found.as_ref().filter(|(_, known)| known.timeline() == *timeline) {
                    let other = names.get(*other).map_or("", |node| node.name.as_str());
                    return Err(Error::configuration(format!(
                        "{other} and {name} both take writes on timeline {timeline}: if they are one server, give it once; \
                         if not, only one can be the primary, and replicas must be in recovery"
                    )));
                }
                if found.as_ref().is_none_or(|(_, known)| known.timeline() < *timeline) {
                    found = Some((node, history));
                }
            }
            Ok(_) => problems.push(format!("{name}: is in recovery")),
        }
    }
    let Some((primary, history)) = found else {
        let text = format!("no primary answers ({}); the addresses of all servers must be given", problems.join("; "));
        return Err(Error::unavailable(text));
    };
    for (node, answer) in answers.iter().enumerate() {
        if let Ok(probe) = answer
            && probe.system_identifier != history.system_identifier()
        {
            let name = |node: usize| names.get(node).map_or("", |node| node.name.as_str());
            return Err(Error::configuration(format!(
                "{} belongs to another cluster (system identifier {}) than {} ({}); check the URLs",
                name(node),
                probe.system_identifier,
                name(primary),
                history.system_identifier()
            )));
        }
    }
    Ok(history)
}

impl<S: Source> fmt::Debug for StoreBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
