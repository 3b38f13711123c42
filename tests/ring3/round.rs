//! Rounds: faults strike while clients work, then all is healed, everybody must be answered, and what they saw is judged.

use crate::client::ROWS;
use crate::crew::Crew;
use crate::fault::{Deck, Fault, Lane};
use crate::judge::{Evidence, Judgement, judge};
use crate::messages::{Order, Report, now};
use crate::plan::Plan;
use crate::results::Results;
use crate::scene::Scene;
use crate::strike::{Aftermath, Target};
use crate::{Result, told};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long faults strike in one round. Histories are kept in memory, so that rounds are short.
const STRIKES: Duration = Duration::from_secs(22);
const STRIKES_IN_SOAK: Duration = Duration::from_secs(40);

/// Everybody must be answered this long after all is healed, and have ended what they began. A guard: what is measured is
/// far below it.
const CALM_TIME_MAX: Duration = Duration::from_secs(30);
const END_TIME_MAX: Duration = Duration::from_secs(40);

/// A write must be heard by all instances in this time, once every bus is live.
const HEARING_TIME_MAX: Duration = Duration::from_secs(10);

/// How long clients go on after all is calm.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How far the rows of two rounds are apart.
const ROWS_APART: i64 = 10_000;

/// What is drawn from for each lane.
struct Decks {
    postgres: (Deck, StdRng),
    rest: (Deck, StdRng),
}

/// What the faults of one lane have done.
#[derive(Default)]
struct Struck {
    faults: BTreeMap<Fault, u64>,
    aftermath: Option<Aftermath>,
}

/// When faults cease to strike.
struct Until {
    at: Instant,
    over: AtomicBool,
}

struct Ring<'a> {
    plan: &'a Plan,
    scene: Scene,
    crew: Crew,
    results: Results,
    /// The last round's history, while the next one is under way.
    judging: Option<JoinHandle<Judgement>>,
}

/// Runs until the plan's goals are reached or a promise is broken.
pub(crate) async fn all(plan: &Plan) -> Result {
    let scene = Scene::set().await?;
    let crew = Crew::hire_all(&scene)?;
    let deck = |lane| (Deck::new(&plan.faults, lane), StdRng::seed_from_u64(plan.seed ^ (lane as u64) << 32));
    let mut decks = Decks { postgres: deck(Lane::Postgres), rest: deck(Lane::Rest) };
    let mut ring = Ring { plan, scene, crew, results: Results::new(), judging: None };
    ring.crew.ask_all(&Order::Calm, CALM_TIME_MAX).await?;
    for number in 1.. {
        if let Err(error) = ring.round(number, &mut decks).await {
            ring.results.violated(format!("round {number}: {}", told(&*error)));
        }
        for odd in ring.crew.take_odd() {
            ring.results.violated(odd);
        }
        ring.results.write(plan)?;
        let results = &ring.results;
        let reached = plan.is_reached(results.elapsed(), results.reads_checked, results.faults_injected());
        if reached || !results.violations.is_empty() {
            break;
        }
    }
    ring.take_judgement().await?;
    ring.results.write(plan)?;
    ring.results.print();
    println!("{} sessions went to another process", ring.crew.moves());
    let violations = &ring.results.violations;
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
}

impl Ring<'_> {
    async fn round(&mut self, number: i64, decks: &mut Decks) -> Result {
        let row = number * ROWS_APART;
        self.scene.clear().await?;
        self.crew.begin(row);
        let strikes = if self.plan.soak { STRIKES_IN_SOAK } else { STRIKES };
        let left = self.plan.time_max.map_or(strikes, |longest| longest.saturating_sub(self.results.elapsed()));
        let until = Instant::now() + strikes.min(left.max(Duration::from_secs(5)));
        let target = Target { scene: &self.scene, crew: &self.crew, soak: self.plan.soak };
        let until = Until { at: until, over: AtomicBool::new(false) };
        let (postgres, rest) =
            tokio::try_join!(lane(&target, &mut decks.postgres, &until), lane(&target, &mut decks.rest, &until))?;
        for (fault, count) in postgres.faults.into_iter().chain(rest.faults) {
            *self.results.faults.entry(fault).or_default() += count;
        }
        self.scene.heal().await?;
        let healed = Instant::now();
        self.crew.ask_all(&Order::Calm, CALM_TIME_MAX).await?;
        let (calm_after, calm_at) = (healed.elapsed(), now());
        sleep(AFTERWARDS).await;
        self.crew.ask_all(&Order::End, END_TIME_MAX).await?;
        let ended_at = now();
        let heard_after = self.hearing(row + ROWS).await?;
        println!("round {number}: everybody answered after {calm_after:?}, a write heard after {heard_after:?}");
        self.results.recovered(calm_after, heard_after);
        let aftermath = postgres.aftermath.unwrap_or(Aftermath::None);
        let (deeds, truth) = (self.crew.take_deeds(), self.scene.truth().await?);
        let evidence = Evidence { deeds, aftermath, truth, calm_at, ended_at };
        self.take_judgement().await?;
        self.judging = Some(tokio::task::spawn_blocking(move || judge(&evidence)));
        self.results.measure(&self.scene, &self.crew).await
    }

    /// A write that one instance makes reaches what all others hold.
    async fn hearing(&mut self, row: i64) -> Result<Duration> {
        self.look(row).await?;
        let writer = rand::rng().random_range(0..self.crew.size());
        let Report::Wrote(version) = self.crew.ask(writer, &Order::Write { row }, HEARING_TIME_MAX).await? else {
            return Err("a worker said something else than what it wrote".into());
        };
        let written = Instant::now();
        loop {
            let seen = self.look(row).await?;
            if seen.iter().all(|seen| *seen >= version) {
                return Ok(written.elapsed());
            }
            if written.elapsed() > HEARING_TIME_MAX {
                self.results
                    .violated(format!("after {HEARING_TIME_MAX:?} a write of version {version} is seen as {seen:?}"));
                return Ok(written.elapsed());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn look(&self, row: i64) -> Result<Vec<u64>> {
        let reports = self.crew.ask_all(&Order::Look { row }, HEARING_TIME_MAX).await?;
        let seen = reports.into_iter().map(|report| if let Report::Looked(seen) = report { seen } else { Vec::new() });
        Ok(seen.flatten().collect())
    }

    async fn take_judgement(&mut self) -> Result {
        let Some(judging) = self.judging.take() else { return Ok(()) };
        let judgement = judging.await?;
        if let Some(path) = self.plan.edn.as_ref().filter(|_| !judgement.verdict.is_ok()) {
            std::fs::write(path, judgement.history.to_edn())?;
        }
        self.results.take_in(&judgement);
        Ok(())
    }
}

/// Strikes with one fault after the other.
async fn lane(target: &Target<'_>, (deck, chance): &mut (Deck, StdRng), until: &Until) -> Result<Struck> {
    let mut struck = Struck::default();
    while Instant::now() < until.at && !until.over.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(chance.random_range(200..800))).await;
        let Some(fault) = deck.draw(struck.aftermath.is_some(), chance) else { break };
        let begun = Instant::now();
        let aftermath = target.strike(fault, chance).await.map_err(|error| format!("{fault}: {}", told(&*error)))?;
        println!("  {fault} ({:.1?})", begun.elapsed());
        *struck.faults.entry(fault).or_default() += 1;
        if matches!(aftermath, Aftermath::Void(_)) {
            // What is seen from now on is held against nothing.
            until.over.store(true, Ordering::SeqCst);
        }
        if aftermath != Aftermath::None {
            struck.aftermath = Some(aftermath);
        }
    }
    Ok(struck)
}
