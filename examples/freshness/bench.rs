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

/// Runs all that was asked for. What was measured by the time that this is dropped or fails is in the report.
pub(crate) async fn work(args: &Args, plan: Plan, report: &mut Report, bar: &ProgressBar) -> Result {
    let plan = Arc::new(plan);
    let contestants = args.contestants();
    let runs = contestants.iter().filter(|it| args.script(**it, &plan, args.simulate).is_some()).count();
    let sweeping = sweep_ops(args)?;
    bar.set_length(runs as u64 * plan.ops.len() as u64 + sweeping);
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
    let mut oracle: Option<(Log, Script)> = None;
    for contestant in contestants {
        bar.set_message(contestant.name());
        let Some(script) = args.script(contestant, &plan, args.simulate) else {
            if contestant == Contestant::Oracle {
                let (log, script) = match oracle.take() {
                    Some(known) => known,
                    None => log_for_oracle(args, &plan, bar).await?,
                };
                report.add(Cell::of_oracle(&log, &script, plan.micros)?, bar)?;
            } else {
                report.not_available(contestant, bar);
            }
            continue;
        };
        let ran = match &real {
            Some(real) => run(real, &plan, &script, bar.clone()).await?,
            None => simulate(Arc::clone(&plan), args.replicas(), script.clone(), bar.clone()).await?,
        };
        report.add(Cell::of(&ran, &script, plan.micros)?, bar)?;
        // Of whichever is nearest to a healthy run of a cache.
        if oracle.is_none() || contestant == Contestant::Highwater {
            oracle = Some((ran.log, script));
        }
    }
    drop(real);
    for sweep in &args.sweep {
        sweep_one(*sweep, args, report, bar).await?;
    }
    Ok(())
}

fn sweep_ops(args: &Args) -> Result<u64> {
    let mut ops = 0;
    for sweep in &args.sweep {
        for Point { args, .. } in sweep.points(args) {
            args.check()?;
            let runs = sweep.contestants().iter().filter(|it| **it != Contestant::Oracle).count();
            ops += runs as u64 * (args.rate * args.seconds() as f64) as u64;
        }
    }
    Ok(ops)
}

/// The oracle needs to know what happened to whom.
async fn log_for_oracle(args: &Args, plan: &Arc<Plan>, bar: &ProgressBar) -> Result<(Log, Script)> {
    let script = args.script(Contestant::Highwater, plan, true).ok_or("there is nothing to compute an oracle from")?;
    let ran = simulate(Arc::clone(plan), args.replicas(), script.clone(), bar.clone()).await?;
    Ok((ran.log, script))
}

/// All values of one sweep, as many at a time as there are cores.
async fn sweep_one(sweep: Sweep, args: &Args, report: &mut Report, bar: &ProgressBar) -> Result {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    bar.set_message(format!("varying {}", sweep.name()));
    let runs = sweep.points(args).into_iter().map(|point| sweep_point(sweep, point, bar.clone()));
    let mut runs = stream::iter(runs).buffered(cores);
    while let Some(cells) = runs.try_next().await? {
        for cell in cells {
            report.add(cell, bar)?;
        }
    }
    Ok(())
}

async fn sweep_point(sweep: Sweep, Point { x, args }: Point, bar: ProgressBar) -> Result<Vec<Cell>> {
    let plan = Arc::new(args.plan()?);
    let mut cells = Vec::new();
    let mut logged = None;
    for contestant in sweep.contestants() {
        let mut cell = match (args.script(*contestant, &plan, true), logged.take()) {
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
        let figures = &mut cell.figures;
        (figures.sweep, figures.x) = (sweep.name(), x);
        (figures.workload, figures.lag) = (args.workload_name(), args.lag.to_string());
        cells.push(cell);
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
