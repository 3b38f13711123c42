//! What all parts of a run share: the servers, the clock, the history, and the way between them.

use crate::edge::{Edge, Mutant};
use crate::plan::Plan;
use crate::truth::Truth;
use highwater::memory::{self, Cluster, Delivery, Fate, Line, Network, Shared, Step};
use highwater::source::Fault;
use highwater::testkit::history::{Recorder, SessionId};
use highwater::{Cache, Highwater, Repository, Settings, Token};
use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const TABLE: &str = "rows";

/// A row: its version, and the operation that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: u64,
    pub(crate) write: u64,
}

/// How rows are loaded.
pub(crate) struct Rows;

impl Repository<memory::View> for Rows {
    type Key = u64;
    type Value = Row;
    type Error = Fault;

    async fn load(&self, on: &memory::View, key: &u64) -> Result<Option<Row>, Fault> {
        Ok(on.get::<Row>(TABLE, key).await?.map(|row| *row))
    }

    fn groups(&self, key: &u64, _: Option<&Row>) -> impl IntoIterator<Item = Cow<'static, str>> {
        [Cow::Owned(group(*key))]
    }
}

/// The group of a key.
pub(crate) fn group(key: u64) -> String {
    format!("group:{}", key % 3)
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) cluster: Cluster,
    pub(crate) shared: Shared,
    pub(crate) recorder: Recorder,
    pub(crate) truth: Mutex<Truth>,
    pub(crate) roles: tokio::sync::Mutex<Roles>,
    /// Tokens that clients have left for each other, by the client, each under a session of its own for the checker.
    pub(crate) tokens: Mutex<BTreeMap<u64, (SessionId, Token)>>,
    /// What went wrong when, for whoever reads about a failure.
    pub(crate) diary: Mutex<Vec<String>>,
    began: Instant,
    /// The faults have not begun, or are over.
    calm: AtomicBool,
    /// Clients end.
    over: AtomicBool,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        let cluster = Cluster::new(plan.standbys);
        let ms = Duration::from_millis;
        cluster.set_commit_pace(ms(plan.flush_ms), ms(plan.visible_ms));
        let world = Arc::new(Self {
            plan: plan.clone(),
            cluster,
            shared: Shared::new(plan.seed),
            recorder: Recorder::new(),
            truth: Mutex::default(),
            roles: tokio::sync::Mutex::new(Roles { primary: 0 }),
            tokens: Mutex::default(),
            diary: Mutex::default(),
            began: Instant::now(),
            calm: AtomicBool::new(true),
            over: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&world);
        let dice = Mutex::new(plan.dice(1_000));
        world.shared.set_delivery(Delivery::new(move |_, _| match weak.upgrade() {
            Some(world) if !world.is_calm() => world.deliver(&mut dice.lock().unwrap()),
            _ => vec![Duration::ZERO],
        }));
        let weak = Arc::downgrade(&world);
        let dice = Mutex::new(plan.dice(1_001));
        world.shared.set_line(Line::new(move |_, _, _| match weak.upgrade() {
            Some(world) => world.fate(&mut dice.lock().unwrap(), true),
            None => Fate::Pass(Duration::ZERO),
        }));
        world
    }

    /// Microseconds since the run began.
    pub(crate) fn at(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, what: impl fmt::Display) {
        let line = format!("{:>10} us: {what}", self.at());
        self.diary.lock().unwrap().push(line);
    }

    /// The primary, or the server that will be it when the failover under way is over.
    pub(crate) async fn primary(&self) -> usize {
        self.roles.lock().await.primary
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// One instance's way to the servers.
    pub(crate) fn source(self: &Arc<Self>, part: u64) -> memory::Source {
        let weak = Arc::downgrade(self);
        let dice = Mutex::new(self.plan.dice(2_000 + part));
        self.cluster.source_over(Network::new(move |_, step| match weak.upgrade() {
            Some(world) => {
                let dear = matches!(step, Step::Acknowledge | Step::Commit);
                match world.fate(&mut dice.lock().unwrap(), dear) {
                    // Time stands still while anybody can go on, so what asks without end must take some.
                    Fate::Pass(time) if matches!(step, Step::Probe | Step::Connect) => {
                        Fate::Pass(time.max(Duration::from_millis(1)))
                    }
                    fate => fate,
                }
            }
            None => Fate::Pass(Duration::ZERO),
        }))
    }

    /// Starts one instance.
    pub(crate) async fn start(self: &Arc<Self>, instance: usize, mutant: Mutant) -> Instance {
        let plan = &self.plan;
        let settings = Settings {
            wait_budget: plan.wait_budget,
            probe_interval: plan.probe_interval,
            deaf_age_max: plan.deaf_age_max,
            floor_slots: plan.floor_slots,
            ..Settings::default()
        };
        let edge = Edge { inner: self.source(instance as u64), cluster: self.cluster.clone(), mutant };
        // Each instance is ahead by its own part of the skew, told by the seed.
        let skew = (plan.seed.rotate_left(instance as u32 * 7) ^ instance as u64) % (plan.clock_skew_ms_max + 1);
        let mut builder =
            Highwater::over(edge).settings(settings).world(plan.seed ^ instance as u64, 1_700_000_000_000 + skew);
        let shared = self.shared.client(instance);
        if plan.shared {
            builder = builder.shared_tier(shared.clone());
        }
        if plan.ledger {
            builder = builder.ledger(shared);
        }
        let store = builder.start().await.unwrap();
        let cache = store.cache("rows", Rows).time_to_live(plan.time_to_live).absent_time_to_live(plan.time_to_live);
        let cache = if plan.shared { cache.shared() } else { cache };
        Instance { cache: cache.build().unwrap(), store }
    }

    fn fate(&self, dice: &mut StdRng, dear: bool) -> Fate {
        let calm = self.is_calm();
        // A lost answer to a commit is worth more than a lost question.
        let cut = self.plan.cut_permille * if dear { 3 } else { 1 };
        if !calm && cut > 0 && dice.random_range(0..1_000) < cut {
            return Fate::Cut;
        }
        let most = if calm { self.plan.latency_ms_max.min(2) } else { self.plan.latency_ms_max };
        Fate::Pass(Duration::from_millis(dice.random_range(0..=most)))
    }

    fn deliver(&self, dice: &mut StdRng) -> Vec<Duration> {
        let plan = &self.plan;
        if dice.random_range(0..100) < plan.messages_lost_percent {
            return Vec::new();
        }
        let copies = 1 + usize::from(dice.random_range(0..100) < plan.messages_doubled_percent);
        (0..copies).map(|_| Duration::from_millis(dice.random_range(0..=plan.message_delay_ms_max))).collect()
    }
}

/// Who is what, as whoever sets off failovers knows it.
#[derive(Debug)]
pub(crate) struct Roles {
    pub(crate) primary: usize,
}

/// One instance of the library.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) store: Highwater<Edge>,
    pub(crate) cache: Cache<Rows, Edge>,
}
