//! What is run, one after the other or, where nothing can disturb, side by side.

use crate::args::Args;
use crate::contestant::Contestant;
use crate::figures::Cell;
use crate::log::Log;
use crate::memory::Memory;
use crate::real::Real;
use crate::report::Report;
use crate::run::{Ran, Script, run};
use crate::stage::Result;
use crate::sweep::{Point, Sweep};
use crate::workload::Plan;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;

/// All strategies once, on the same operations.
struct Round<'a> {
    args: Args,
    plan: Arc<Plan>,
    real: Option<&'a Real>,
    /// Counted from 0.
    run: usize,
    /// What it is for.
    sweep: Option<Sweep>,
    bar: &'a ProgressBar,
}

/// Runs all that was asked for. What was measured by the time that this is dropped or fails is in the report.
pub(crate) async fn work(args: &Args, plan: Plan, report: &mut Report, bar: &ProgressBar) -> Result {
    let plan = Arc::new(plan);
    let contestants = args.contestants();
    let runs = contestants.iter().filter(|it| args.script(**it, &plan, args.simulate).is_some()).count();
    bar.set_length((args.runs * runs * plan.ops.len()) as u64 + sweep_ops(args)?);
    bar.set_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed} of about {duration}  {msg}")?);
    let real = match args.simulate {
        true => None,
        false => {
            bar.set_message("starting servers");
            let real = Real::start(args.replicas()).await?;
            report.versions = real.versions().await?;
            Some(real)
        }
    };
    for run in 0..args.runs {
        let args = args.of_run(run);
        let plan = if run == 0 { Arc::clone(&plan) } else { Arc::new(args.plan()?) };
        report.begin("The strategies", run, bar);
        let round = Round { args, plan, real: real.as_ref(), run, sweep: None, bar };
        round.go(&contestants, report).await?;
    }
    report.tell_summary(bar)?;
    let mut sweeps = args.sweep.clone();
    if let Some(real) = real.filter(|_| sweeps.contains(&Sweep::Outage)) {
        sweeps.retain(|it| *it != Sweep::Outage);
        through_an_outage(&real, args, report, bar).await?;
    }
    for sweep in sweeps {
        sweep_one(sweep, args, report, bar).await?;
    }
    Ok(())
}

/// What the servers are there for besides: time passes, and things happen to them.
async fn through_an_outage(real: &Real, args: &Args, report: &mut Report, bar: &ProgressBar) -> Result {
    for run in 0..args.runs {
        for Point { args, .. } in Sweep::Outage.points(&args.of_run(run)) {
            report.begin("Through a lag spike and a Redis outage", run, bar);
            let plan = Arc::new(args.plan()?);
            let round = Round { args, plan, real: Some(real), run, sweep: Some(Sweep::Outage), bar };
            round.go(Sweep::Outage.contestants(), report).await?;
        }
    }
    Ok(())
}

impl Round<'_> {
    async fn go(&self, contestants: &[Contestant], report: &mut Report) -> Result {
        let mut oracle: Option<(Log, Script)> = None;
        for contestant in contestants {
            self.bar.set_message(contestant.name());
            let cell = match self.args.script(*contestant, &self.plan, self.args.simulate) {
                Some(script) => {
                    let ran = self.run(&script).await?;
                    let cell = Cell::of(&ran, &script, self.plan.micros)?;
                    // Of whichever is nearest to a healthy run of a cache.
                    if oracle.is_none() || *contestant == Contestant::Highwater {
                        oracle = Some((ran.log, script));
                    }
                    cell
                }
                None if *contestant == Contestant::Oracle => {
                    let (log, script) = match oracle.take() {
                        Some(known) => known,
                        None => self.log_for_oracle().await?,
                    };
                    Cell::of_oracle(&log, &script, self.plan.micros)?
                }
                None => {
                    report.not_available(*contestant, self.bar);
                    continue;
                }
            };
            let sweep = self.sweep.map_or_else(String::new, Sweep::name);
            report.add(cell.of_run(&self.args, self.run).of_sweep(sweep, 0.0), Some(self.bar))?;
        }
        Ok(())
    }

    async fn run(&self, script: &Script) -> Result<Ran> {
        match self.real {
            Some(real) => run(real, &self.plan, script, self.bar.clone()).await,
            None => simulate(Arc::clone(&self.plan), self.args.replicas(), script.clone(), self.bar.clone()).await,
        }
    }

    /// The oracle needs to know what happened to whom.
    async fn log_for_oracle(&self) -> Result<(Log, Script)> {
        let script = self.args.script(Contestant::Highwater, &self.plan, true);
        let script = script.ok_or("there is nothing to compute an oracle from")?;
        let (plan, bar) = (Arc::clone(&self.plan), self.bar.clone());
        let ran = simulate(plan, self.args.replicas(), script.clone(), bar).await?;
        Ok((ran.log, script))
    }
}

fn sweep_ops(args: &Args) -> Result<u64> {
    let mut ops = 0;
    for sweep in &args.sweep {
        for Point { args, .. } in sweep.points(args) {
            args.check()?;
            let runs = sweep.contestants().iter().filter(|it| **it != Contestant::Oracle).count();
            let times = if args.simulate { 1 } else { args.runs };
            ops += (runs * times) as u64 * (args.rate * args.seconds() as f64) as u64;
        }
    }
    Ok(ops)
}

/// All values of one sweep, as many at a time as there are cores.
async fn sweep_one(sweep: Sweep, args: &Args, report: &mut Report, bar: &ProgressBar) -> Result {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    bar.set_message(format!("varying {}", sweep.name()));
    let runs = sweep.points(args).into_iter().map(|point| sweep_point(sweep, point, bar.clone()));
    let mut runs = stream::iter(runs).buffered(cores);
    while let Some(cells) = runs.try_next().await? {
        for cell in cells {
            report.add(cell, None)?;
        }
    }
    Ok(())
}

async fn sweep_point(sweep: Sweep, Point { x, args }: Point, bar: ProgressBar) -> Result<Vec<Cell>> {
    let plan = Arc::new(args.plan()?);
    let mut cells = Vec::new();
    let mut logged = None;
    for contestant in sweep.contestants() {
        let cell = match (args.script(*contestant, &plan, true), logged.take()) {
            (Some(mut script), _) => {
                sweep.change(&mut script, &args);
                let ran = simulate(Arc::clone(&plan), args.replicas(), script.clone(), bar.clone()).await?;
                let cell = Cell::of(&ran, &script, plan.micros)?;
                logged = Some((ran.log, script));
                cell
            }
            (None, Some((log, script))) => Cell::of_oracle(&log, &script, plan.micros)?,
            (None, None) => continue,
        };
        cells.push(cell.of_run(&args, 0).of_sweep(sweep.name(), x));
    }
    Ok(cells)
}

/// One run in memory and in virtual time, on a thread of its own.
pub(crate) async fn simulate(plan: Arc<Plan>, replicas: usize, script: Script, bar: ProgressBar) -> Result<Ran> {
    let simulate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async { run(&Memory::new(replicas, script.setup.seed), &plan, &script, bar).await })
    };
    tokio::task::spawn_blocking(simulate).await?
}
