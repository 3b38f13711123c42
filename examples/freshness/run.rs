//! One run: sessions do what was planned when it is due, while somebody turns the lag up and down.

use crate::contestant::Contestant;
use crate::lag::Turn;
use crate::log::{Log, seen};
use crate::stage::{Edge, Error, Instance, Result, Row, Rows, Setup, Stage, session};
use crate::workload::{Act, Op, Plan};
use highwater::devices::Visit;
use highwater::testkit::history::{OpId, Outcome};
use highwater::{CacheStats, Freshness, ReadOptions, Session, StoreCounts, WriteError};
use indicatif::ProgressBar;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a run may take beyond its plan.
const GRACE: Duration = Duration::from_secs(30);

/// What a run is told.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) contestant: Contestant,
    pub(crate) setup: Setup,
    pub(crate) bound: Option<Duration>,
    /// What is done to the replicas, by time.
    pub(crate) turns: Vec<(u64, usize, Turn)>,
    /// From when to when Redis is away.
    pub(crate) outage: Option<(u64, u64)>,
    /// Nothing is counted before, but for violations.
    pub(crate) warm: u64,
    /// In virtual time evictions have to happen when they are due, not when moka gets to them.
    pub(crate) tidy: bool,
}

/// What the library and the servers counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) caches: Vec<CacheStats>,
    pub(crate) stores: Vec<StoreCounts>,
    pub(crate) redis_commands: u64,
    pub(crate) loads: u64,
}

/// What a run brought.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) log: Log,
    pub(crate) before: Counts,
    pub(crate) after: Counts,
}

/// What the sessions of one run share.
struct Scene<S: Edge> {
    instances: Vec<Instance<S>>,
    rows: Rows,
    contestant: Contestant,
    body: String,
    log: Mutex<Log>,
    begun: Instant,
    options: ReadOptions,
    tidy: bool,
    done: ProgressBar,
}

/// Runs the plan. `done` counts operations while it goes on.
pub(crate) async fn run<T: Stage>(stage: &T, plan: &Plan, script: &Script, done: ProgressBar) -> Result<Ran> {
    for (_, replica, turn) in script.turns.iter().filter(|(at, ..)| *at == 0) {
        stage.turn(*replica, *turn).await?;
    }
    let (instances, rows) = stage.set(&script.setup).await?;
    let scene = Arc::new(Scene {
        instances,
        rows,
        contestant: script.contestant,
        body: "x".repeat(script.setup.body_bytes),
        log: Mutex::new(Log::with_rows(script.setup.rows)),
        begun: Instant::now(),
        options: script.bound.map_or_else(ReadOptions::default, |bound| ReadOptions::fresh(Freshness::Within(bound))),
        tidy: script.tidy,
        done,
    });
    let mut sessions = JoinSet::new();
    for (number, ops) in plan.by_session().into_iter().enumerate() {
        let client = Client { scene: Arc::clone(&scene), number: number as u32 };
        sessions.spawn(client.work(ops));
    }
    let deadline = scene.begun + Duration::from_micros(plan.micros) + GRACE;
    let mut before = Counts::default();
    let work = async {
        while let Some(ended) = sessions.join_next().await {
            ended?;
        }
        Ok::<(), Error>(())
    };
    let (worked, directed, ()) = tokio::join!(timeout_at(deadline, work), direct(stage, script, scene.begun), async {
        sleep_until(scene.begun + Duration::from_micros(script.warm)).await;
        before = scene.counts(stage).await;
    });
    worked.map_err(|_| format!("{} did not end within {GRACE:?} of its plan", script.contestant.name()))??;
    directed?;
    let after = scene.counts(stage).await;
    for instance in &scene.instances {
        if let Some(devices) = &instance.devices {
            devices.close().await;
        }
        instance.store.close().await;
    }
    let log = std::mem::take(&mut *scene.log());
    Ok(Ran { log, before, after })
}

/// Does to the servers what the script says.
async fn direct<T: Stage>(stage: &T, script: &Script, begun: Instant) -> Result {
    let lag = async {
        for (at, replica, turn) in script.turns.iter().filter(|(at, ..)| *at > 0) {
            sleep_until(begun + Duration::from_micros(*at)).await;
            stage.turn(*replica, *turn).await?;
        }
        Ok::<(), Error>(())
    };
    let outage = async {
        if let Some((from, to)) = script.outage {
            sleep_until(begun + Duration::from_micros(from)).await;
            stage.redis_down(true).await?;
            sleep_until(begun + Duration::from_micros(to)).await;
            stage.redis_down(false).await?;
        }
        Ok::<(), Error>(())
    };
    tokio::try_join!(lag, outage).map(drop)
}

impl<S: Edge> Scene<S> {
    async fn counts<T: Stage<Source = S>>(&self, stage: &T) -> Counts {
        Counts {
            caches: self.instances.iter().map(|instance| instance.cache.stats()).collect(),
            stores: self.instances.iter().map(|instance| instance.store.stats().counts).collect(),
            redis_commands: stage.redis_commands().await,
            loads: self.rows.loads.load(Ordering::Relaxed),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn begin(&self, op: &Op, write: bool) -> OpId {
        let at = self.at();
        self.log().begin(at, op, write)
    }

    fn finish(&self, op: OpId, outcome: Outcome) {
        let at = self.at();
        self.log().finish(at, op, outcome);
    }
}

/// One client.
struct Client<S: Edge> {
    scene: Arc<Scene<S>>,
    number: u32,
}

impl<S: Edge> Client<S> {
    async fn work(self, ops: Vec<Op>) {
        let own = session(self.scene.contestant == Contestant::Monotonic);
        for op in ops {
            // What is due while the last one is under way is late by that, and its latency says so.
            sleep_until(self.scene.begun + Duration::from_micros(op.at)).await;
            let Some(instance) = self.scene.instances.get(op.instance) else { continue };
            let session = match op.token {
                true if instance.devices.is_none() => own.clone(),
                _ => Session::new(),
            };
            let user = format!("{} {}", self.scene.rows.table, self.number);
            let devices = instance.devices.as_ref().filter(|_| op.token);
            let visit = devices.map(|devices| devices.visit(&session, user));
            if op.act != Act::Write {
                self.read(instance, &session, &op).await;
            }
            if op.act != Act::Read {
                self.write(instance, &session, &op, visit).await;
            }
            if self.scene.tidy {
                let _ = instance.cache.local_entries();
            }
            self.scene.done.inc(1);
        }
    }

    async fn read(&self, instance: &Instance<S>, session: &Session, op: &Op) {
        let id = self.scene.begin(op, false);
        let labels = self.scene.contestant.promises_own_writes();
        let outcome = match instance.cache.get_with(session, &op.key, &self.scene.options).await {
            Ok(read) => Outcome::Saw(seen(&read, labels)),
            Err(_) => Outcome::Failed,
        };
        self.scene.finish(id, outcome);
    }

    async fn write(&self, instance: &Instance<S>, session: &Session, op: &Op, visit: Option<Visit>) {
        let id = self.scene.begin(op, true);
        let outcome = self.try_write(instance, session, op.key, id).await.unwrap_or(Outcome::RolledBack);
        if let Some(visit) = visit {
            // Before the user is told. Where Redis does not take it, the write is made all the same.
            visit.remember().await;
        }
        self.scene.finish(id, outcome);
    }

    async fn try_write(&self, instance: &Instance<S>, session: &Session, key: u64, id: OpId) -> Result<Outcome> {
        let (scene, write) = (&self.scene, id.0);
        let mut tx = instance.store.begin(session).await?;
        let version = S::raise(&tx, &scene.rows.table, key, write, &scene.body).await?;
        tx.retract(&instance.cache, &key);
        let receipt = match tx.commit().await {
            Ok(receipt) => receipt,
            Err(WriteError::Unknown(_)) => return Ok(Outcome::Unknown { version: Some(version) }),
            Err(error) => return Err(error.into()),
        };
        let row = Row { version, write, body: scene.body.clone() };
        instance.cache.write_through(&key, Some(row), &receipt).await?;
        Ok(Outcome::committed(version))
    }
}
