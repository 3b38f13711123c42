//! One run, from a plan to a verdict.

use crate::chaos;
use crate::client::{Client, stranger};
use crate::edge::Mutant;
use crate::plan::Plan;
use crate::world::World;
use highwater::Session;
use highwater::testkit::history::{History, Limits, Liveness, Tally, Verdict, check};
use rand::RngExt;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the stores may take to notice that all is well again, and how long an operation may take from then on.
const GRACE: Duration = Duration::from_secs(10);
const BOUND: Duration = Duration::from_secs(2);

/// Longer than a store asks after a transaction of unknown outcome.
const LAST_ANSWER: Duration = Duration::from_secs(100);

pub(crate) struct Report {
    history: History,
    verdict: Verdict,
    /// What the servers' logs contradict.
    lies: Vec<String>,
    stats: String,
    diary: Vec<String>,
}

/// What all runs of a test did together.
#[derive(Default)]
pub(crate) struct Sum {
    tally: Tally,
}

pub(crate) fn run(plan: &Plan, mutant: Mutant) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(plan, mutant))
}

async fn live(plan: &Plan, mutant: Mutant) -> Report {
    let world = World::new(plan);
    let mut instances = Vec::new();
    for instance in 0..plan.instances {
        instances.push(world.start(instance, mutant).await);
    }
    let mut clients = JoinSet::new();
    for id in 0..plan.clients {
        let mut dice = plan.dice(id);
        let monotonic = dice.random_range(0..100) < plan.monotonic_percent;
        let session = if monotonic { Session::monotonic() } else { Session::new() };
        let aside = world.source(300 + id);
        let on = instances[dice.random_range(0..instances.len())].clone();
        clients.spawn(Client { id, world: Arc::clone(&world), on, session, dice, left: 0, aside }.run());
    }
    for id in 0..plan.strangers {
        clients.spawn(stranger(Arc::clone(&world), 900 + id, plan.dice(900 + id)));
    }
    chaos::storm(&world).await;
    chaos::heal(&world).await;
    let healed_at = world.at();
    sleep(GRACE + plan.calm).await;
    world.end();
    let ended = timeout(LAST_ANSWER, async { while clients.join_next().await.is_some_and(|end| end.is_ok()) {} }).await;
    let stats: Vec<_> = instances.iter().map(|on| format!("{:?}\n{:?}", on.store.stats(), on.cache.stats())).collect();
    for on in &instances {
        on.store.close().await;
    }
    let mut history = world.recorder.history();
    history.close(world.at());
    let mut truth = std::mem::take(&mut *world.truth.lock().unwrap());
    (0..=plan.standbys).for_each(|server| truth.absorb(&world.cluster, server));
    let mut lies = truth.judge(&mut history);
    if ended.is_err() || !clients.is_empty() {
        lies.push(format!("{} clients did not end, or panicked", clients.len()));
    }
    let micros = |time: Duration| time.as_micros() as u64;
    let liveness = Liveness { healed_at, grace: micros(GRACE), bound: micros(BOUND) };
    let verdict = check(&history, &Limits { liveness: Some(liveness), ..Limits::default() });
    let diary = std::mem::take(&mut *world.diary.lock().unwrap());
    Report { history, verdict, lies, stats: stats.join("\n"), diary }
}

impl Report {
    pub(crate) fn is_ok(&self) -> bool {
        self.verdict.is_ok() && self.lies.is_empty()
    }

    /// Everything that two runs of one seed must have in common.
    pub(crate) fn trace(&self) -> String {
        format!("{}\n{}", self.history.to_edn(), self.verdict)
    }

    /// What a human wants to know of a run that failed.
    pub(crate) fn story(&self) -> String {
        format!("{}{}\n{}", self.verdict, self.lies.join("\n"), self.stats)
    }

    /// All that went wrong, in order.
    pub(crate) fn diary(&self) -> String {
        self.diary.join("\n")
    }
}

impl Sum {
    pub(crate) fn add(&mut self, report: &Report) {
        let (sum, more) = (&mut self.tally, report.verdict.tally());
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
        for (&rung, &count) in &more.answered {
            *sum.answered.entry(rung).or_default() += count;
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#?}", self.tally)
    }
}
