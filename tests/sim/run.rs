//! One run, from a plan to a verdict.

use crate::chaos;
use crate::client::{Client, stranger};
use crate::instance::Instance;
use crate::plan::{Plan, Trouble};
use crate::world::World;
use highwater::testkit::history::{History, Kind, Limits, Liveness, Tally, Verdict, check};
use highwater::{BusState, Session, Token};
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the stores may take to notice that all is well again, how long an operation may take from then on, and how
/// long that is looked at.
const GRACE: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_millis(1_500);

/// Longer than a store asks after a transaction of unknown outcome.
const LAST_ANSWER: Duration = Duration::from_secs(100);

pub(crate) struct Report {
    history: History,
    verdict: Verdict,
    /// How long it took by its own clock.
    lasted: Duration,
    /// What the servers' logs contradict, and what did not recover.
    complaints: Vec<String>,
    faults: BTreeMap<Trouble, u64>,
    stats: String,
    /// Hits, and those that only the watermark allowed.
    hits: (u64, u64),
    diary: Vec<String>,
}

/// What all runs of a test did together.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) schedules: u64,
    least: Option<u64>,
    lasted: Duration,
    violations: u64,
    tally: Tally,
    hits: (u64, u64),
    faults: BTreeMap<Trouble, u64>,
}

pub(crate) fn run(plan: &Plan) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(plan))
}

async fn live(plan: &Plan) -> Report {
    let world = World::new(plan);
    for _ in 0..plan.instances {
        let instance = Instance::start(&world).await.unwrap();
        world.instances.lock().unwrap().push(instance);
    }
    let mut clients = start_clients(&world);
    chaos::storm(&world).await;
    let healed_at = if plan.healed == 1 { Some(calm(&world).await) } else { None };
    world.end();
    let mut complaints = Vec::new();
    if healed_at.is_some() {
        let ended = timeout(LAST_ANSWER, async { while clients.join_next().await.is_some_and(|end| end.is_ok()) {} });
        if ended.await.is_err() || !clients.is_empty() {
            complaints.push(format!("{} clients did not end, or panicked", clients.len()));
        }
    }
    let instances = world.instances.lock().unwrap().clone();
    let stats: Vec<_> = instances.iter().map(|on| format!("{:?}\n{:?}", on.store.stats(), on.cache.stats())).collect();
    let caches = instances.iter().map(|on| on.cache.stats());
    let hits = caches
        .fold((0, 0), |(all, extended), one| (all + one.hits_local + one.hits_shared, extended + one.hits_extended));
    if healed_at.is_some() {
        complaints.extend(instances.iter().filter(|on| on.store.stats().bus == BusState::Deaf).map(still_deaf));
        for on in &instances {
            on.store.close().await;
        }
    }
    let lasted = Duration::from_micros(world.at());
    let mut history = world.recorder.history();
    history.close(world.at());
    let mut truth = std::mem::take(&mut *world.truth.lock().unwrap());
    plan.servers().for_each(|server| {
        // What was told before its flush has not been lost yet.
        world.cluster.flush(server);
        truth.absorb(&world.cluster, server);
    });
    complaints.extend(truth.judge(&mut history));
    let micros = |time: Duration| time.as_micros() as u64;
    let liveness = healed_at.map(|healed_at| Liveness { healed_at, grace: micros(GRACE), bound: micros(BOUND) });
    let verdict = check(&history, &Limits { liveness, kept: 3 });
    let diary = std::mem::take(&mut *world.diary.lock().unwrap());
    let faults = std::mem::take(&mut *world.faults.lock().unwrap());
    Report { history, verdict, lasted, complaints, faults, stats: stats.join("\n"), hits, diary }
}

fn start_clients(world: &Arc<World>) -> JoinSet<()> {
    let (plan, mut clients) = (&world.plan, JoinSet::new());
    for id in 0..plan.clients {
        let mut dice = plan.dice(id);
        let monotonic = dice.random_range(0..100) < plan.monotonic_percent;
        let session = if monotonic { Session::monotonic() } else { Session::new() };
        let aside = world.source(300 + id, None);
        let place = dice.random_range(0..plan.instances as usize);
        let (on, token) = (world.instance(place), Token::default());
        let (world, road) = (Arc::clone(world), plan.dice(4_000 + id));
        let (wrote, lost, left) = (VecDeque::new(), false, 0);
        let client = Client { id, world, place, on, session, token, dice, road, wrote, lost, left, aside };
        clients.spawn(client.run());
    }
    for id in 0..plan.strangers {
        clients.spawn(stranger(Arc::clone(world), 900 + id, plan.dice(900 + id)));
    }
    clients
}

/// Mends everything, and gives it time to recover. Returns when that began.
async fn calm(world: &Arc<World>) -> u64 {
    chaos::heal(world).await;
    let healed_at = world.at();
    sleep(GRACE + WATCHED).await;
    healed_at
}

fn still_deaf(instance: &Instance) -> String {
    format!("instance {} is deaf {GRACE:?} after all was mended", instance.number)
}

impl Report {
    pub(crate) fn is_ok(&self) -> bool {
        self.verdict.is_ok() && self.complaints.is_empty()
    }

    /// The first promise that was broken; `None` for what only the servers' logs or the instances' states tell.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.verdict.counts().keys().next().copied()
    }

    /// Everything that two runs of one seed must have in common.
    pub(crate) fn trace(&self) -> String {
        format!("{}\n{}", self.history.to_edn(), self.verdict)
    }

    /// What a human wants to know of a run that failed.
    pub(crate) fn story(&self) -> String {
        format!("{}{}\n{}", self.verdict, self.complaints.join("\n"), self.stats)
    }

    /// All that went wrong, in order.
    pub(crate) fn diary(&self) -> String {
        self.diary.join("\n")
    }
}

impl Sum {
    pub(crate) fn add(&mut self, report: &Report) {
        self.schedules += 1;
        self.lasted += report.lasted;
        let (sum, more) = (&mut self.tally, report.verdict.tally());
        let operations = more.reads + more.writes;
        self.least = Some(self.least.map_or(operations, |least| least.min(operations)));
        self.violations += report.verdict.counts().values().sum::<u64>() + report.complaints.len() as u64;
        let pairs = [
            (&mut sum.reads, more.reads),
            (&mut sum.reads_failed, more.reads_failed),
            (&mut sum.stale_labelled, more.stale_labelled),
            (&mut sum.labels_needed, more.labels_needed),
            (&mut sum.behind, more.behind),
            (&mut sum.ghosts, more.ghosts),
            (&mut sum.writes, more.writes),
            (&mut sum.committed, more.committed),
            (&mut sum.rolled_back, more.rolled_back),
            (&mut sum.unknown, more.unknown),
            (&mut sum.lost, more.lost),
            (&mut sum.loss_reports, more.loss_reports),
            (&mut sum.needless_loss_reports, more.needless_loss_reports),
            (&mut sum.held_to_bound, more.held_to_bound),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
        self.hits = (self.hits.0 + report.hits.0, self.hits.1 + report.hits.1);
        for (&rung, &count) in &more.answered {
            *sum.answered.entry(rung).or_default() += count;
        }
        for (&trouble, &count) in &report.faults {
            *self.faults.entry(trouble).or_default() += count;
        }
    }

    /// The least number of operations in any schedule.
    pub(crate) fn least(&self) -> u64 {
        self.least.unwrap_or(0)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, tally, violations, lasted, .. } = self;
        let operations = tally.reads + tally.writes;
        let answered: Vec<String> = tally.answered.iter().map(|(rung, count)| format!("{rung:?} {count}")).collect();
        let faults: Vec<String> = self.faults.iter().map(|(trouble, count)| format!("{trouble:?} {count}")).collect();
        writeln!(
            f,
            "{schedules} schedules, {operations} operations (at least {}), {violations} violations",
            self.least()
        )?;
        writeln!(f, "{:.1} hours by the servers' clocks", lasted.as_secs_f64() / 3_600.0)?;
        writeln!(f, "{} reads checked: {}", tally.reads_answered(), answered.join(", "))?;
        writeln!(
            f,
            "{} reads failed, {} labelled stale ({} needed it), {} behind a write that somebody was told, {} ghosts",
            tally.reads_failed, tally.stale_labelled, tally.labels_needed, tally.behind, tally.ghosts
        )?;
        writeln!(
            f,
            "{} writes: {} committed, {} rolled back, {} unknown, {} lost; {} losses told, {} of them needless",
            tally.writes,
            tally.committed,
            tally.rolled_back,
            tally.unknown,
            tally.lost,
            tally.loss_reports,
            tally.needless_loss_reports
        )?;
        writeln!(f, "{} hits, {} of them extended by the watermark", self.hits.0, self.hits.1)?;
        writeln!(f, "{} operations held to a bound once all was mended", tally.held_to_bound)?;
        write!(f, "{} faults: {}", self.faults.values().sum::<u64>(), faults.join(", "))
    }
}
