//! The command line, and what it comes to.

use crate::contestant::Contestant;
use crate::lag::{Lag, duration};
use crate::run::Script;
use crate::stage::Setup;
use crate::sweep::Sweep;
use crate::trace;
use crate::workload::{Amount, Mix, Plan, Workload};
use clap::{Parser, ValueEnum};
use highwater::Strategy;
use highwater::testkit::available;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

/// Compares what hit rate is given up for which freshness, and what that does to the primary.
///
/// By default it starts a primary, replicas and Redis for itself, and runs every strategy side by side, in about two minutes.
/// With --simulate it does the same in memory and in virtual time: the same seed gives the same figures.
///
/// Results go to --out: report.html with all plots, figures.csv, and report.json.
#[derive(Debug, Clone, Parser)]
#[command(name = "freshness")]
pub(crate) struct Args {
    /// Simulate servers in memory, in virtual time, instead of starting real ones
    #[arg(long)]
    pub(crate) simulate: bool,
    /// What clients do
    #[arg(long, value_enum, default_value = "ycsb-b")]
    pub(crate) workload: Workload,
    /// What clients did: a CSV file of your own with the columns time (seconds), session, operation (read, write, read-write) and key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "tokens", "writes", "own_reads", "sessions", "keys", "rate", "seconds"])]
    pub(crate) trace: Option<PathBuf>,
    /// How far replicas are behind: none, a time such as 10ms, spikes (80 ms, and 2 s for 3 s in every 20 s), pause (2 s in every 20 s)
    #[arg(long, default_value = "spikes")]
    pub(crate) lag: Lag,
    /// What is compared; all that is there where nothing is said
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) strategies: Vec<Contestant>,
    /// Besides, what is varied, once and in simulation: one plot each. `outage` takes place on the servers where there are some
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) sweep: Vec<Sweep>,
    /// Seconds for each strategy [default: 7, simulated 30]
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Operations in a second
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Sessions; each thinks for this many divided by the rate, in seconds, on average
    #[arg(long, default_value_t = 200)]
    pub(crate) sessions: u32,
    /// Rows
    #[arg(long, default_value_t = 10_000)]
    pub(crate) keys: u64,
    /// Entries in the in-process tier of each instance
    #[arg(long, default_value_t = 1_000)]
    pub(crate) capacity: u64,
    /// Instances of the service, each asked by turns of chance
    #[arg(long, default_value_t = 2)]
    pub(crate) instances: usize,
    /// Replicas [default: 2, and 5 for spikes]
    #[arg(long)]
    pub(crate) replicas: Option<usize>,
    /// The share of reads that carry their session's token
    #[arg(long, default_value_t = 1.0)]
    pub(crate) tokens: f64,
    /// The share of writes [default: the workload's]
    #[arg(long)]
    pub(crate) writes: Option<f64>,
    /// How probably a session reads what it wrote within 2 s [default: the workload's]
    #[arg(long)]
    pub(crate) own_reads: Option<f64>,
    /// Reads also ask for everything older than this
    #[arg(long, value_parser = duration)]
    pub(crate) bound: Option<Duration>,
    /// The time to live of highwater's entries
    #[arg(long, value_parser = duration, default_value = "300s")]
    pub(crate) time_to_live: Duration,
    /// How long the strategy `window` stays with the primary after a write
    #[arg(long, value_parser = duration, default_value = "1s")]
    pub(crate) window: Duration,
    /// Nothing is shared between instances but retractions
    #[arg(long)]
    pub(crate) no_shared_tier: bool,
    /// Redis is away from one second to another, such as 12-18
    #[arg(long, value_name = "FROM-TO", value_parser = seconds)]
    pub(crate) redis_outage: Option<(u64, u64)>,
    /// Bytes of each row [default: the workload's]
    #[arg(long)]
    pub(crate) row_bytes: Option<usize>,
    /// How often each strategy is run, by turns, each time from the next seed: the report has medians and ranges
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: usize,
    /// Chance begins here
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where results go
    #[arg(long, default_value = "target/freshness")]
    pub(crate) out: PathBuf,
}

/// From one second to another, in microseconds.
fn seconds(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('-').and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    let (from, to) = parts.ok_or_else(|| format!("{text:?} is not two seconds such as 12-18"))?;
    if from < to && to <= 1_000_000 {
        Ok((from * 1_000_000, to * 1_000_000))
    } else {
        Err(format!("{text:?}: the outage must end after it has begun"))
    }
}

/// The most that fits into the memory of one machine.
const OPS_MAX: f64 = 20e6;

impl Args {
    /// Refuses what cannot be, before anything starts.
    pub(crate) fn check(&self) -> Result<(), String> {
        let shares = [("--tokens", Some(self.tokens)), ("--writes", self.writes), ("--own-reads", self.own_reads)];
        for (name, share) in shares {
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(format!("{name} is a share, from 0 to 1"));
            }
        }
        let counts = [
            ("--keys", self.keys, 1..=10_000_000),
            ("--capacity", self.capacity, 1..=100_000_000),
            ("--sessions", u64::from(self.sessions), 1..=1_000_000),
            ("--instances", self.instances as u64, 1..=16),
            ("--replicas", self.replicas() as u64, 1..=16),
            ("--seconds", self.seconds(), 1..=trace::SECONDS_MAX),
            ("--row-bytes", self.row_bytes() as u64, 0..=100_000),
            ("--runs", self.runs as u64, 1..=100),
        ];
        for (name, count, range) in counts {
            if !range.contains(&count) {
                return Err(format!("{name} is {count}; it must lie between {} and {}", range.start(), range.end()));
            }
        }
        if !(self.rate > 0.0 && self.rate * self.seconds() as f64 <= OPS_MAX) {
            return Err(format!("--rate times --seconds must lie above 0 and at {OPS_MAX} operations at most"));
        }
        let fit = |life: Duration| life >= Duration::from_millis(1) && life <= Duration::from_secs(86_400);
        if !fit(self.time_to_live) || !fit(self.window) || self.bound.is_some_and(|bound| !fit(bound)) {
            return Err("--time-to-live, --window and --bound must lie between 1ms and a day".to_owned());
        }
        let twice = |(at, it): &(usize, &Contestant)| self.strategies.iter().take(*at).any(|before| before == *it);
        if let Some((_, it)) = self.strategies.iter().enumerate().find(twice) {
            return Err(format!("--strategies names {} twice", it.name()));
        }
        if self.trace.is_some() && !self.sweep.is_empty() {
            return Err("--sweep varies standard workloads: it cannot be had with --trace".to_owned());
        }
        Ok(())
    }

    /// Refuses to begin without the servers that are asked for.
    pub(crate) fn check_servers(&self) -> Result<(), String> {
        let found = available();
        let servers = [("PostgreSQL", found.has_postgres()), ("Redis", found.has_redis())];
        let missing: Vec<_> = servers.iter().filter(|(_, found)| !found).map(|(name, _)| *name).collect();
        if self.simulate || missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} cannot be found. Install it (Debian: `apt install postgresql redis-server`), or name it in HIGHWATER_PG_BIN or \
             HIGHWATER_REDIS_SERVER; or do without servers, with --simulate",
            missing.join(" and ")
        ))
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.simulate { 30 } else { 7 })
    }

    fn row_bytes(&self) -> usize {
        self.row_bytes.unwrap_or_else(|| self.workload.row_bytes())
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas.unwrap_or_else(|| self.lag.replicas())
    }

    /// What is run, in the order in which it is told.
    pub(crate) fn contestants(&self) -> Vec<Contestant> {
        if self.strategies.is_empty() { Contestant::value_variants().to_vec() } else { self.strategies.clone() }
    }

    /// The same for one of the runs, counted from 0.
    pub(crate) fn of_run(&self, run: usize) -> Self {
        Self { seed: self.seed.wrapping_add(run as u64), ..self.clone() }
    }

    /// The operations, planned or as the trace has them.
    pub(crate) fn plan(&self) -> Result<Plan, String> {
        let plan = match &self.trace {
            None => Plan::of(&self.mix(), &self.amount())?,
            Some(path) => {
                let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let file = File::open(path).map_err(|error| told(&error))?;
                trace::read(BufReader::new(file), self.instances).map_err(|error| told(&error))?
            }
        };
        match self.redis_outage {
            Some((_, to)) if to > plan.micros => {
                let seconds = plan.micros as f64 / 1e6;
                Err(format!("--redis-outage ends after the operations, which take {seconds:.1} s"))
            }
            _ => Ok(plan),
        }
    }

    fn mix(&self) -> Mix {
        let mix = self.workload.mix();
        Mix { writes: self.writes.unwrap_or(mix.writes), own_reads: self.own_reads.unwrap_or(mix.own_reads), ..mix }
    }

    fn amount(&self) -> Amount {
        Amount {
            seed: self.seed,
            rate: self.rate,
            micros: self.seconds() * 1_000_000,
            sessions: self.sessions,
            rows: self.keys,
            instances: self.instances,
            tokens: self.tokens,
        }
    }

    /// What one contestant's run is told; `None` where nothing is run.
    pub(crate) fn script(&self, contestant: Contestant, plan: &Plan, simulated: bool) -> Option<Script> {
        let (strategy, time_to_live) = contestant.strategy(self.window, self.time_to_live)?;
        let ours = matches!(strategy, Strategy::Position | Strategy::PositionByTags);
        let setup = Setup {
            strategy,
            scoped: contestant.is_scoped(),
            time_to_live,
            capacity: self.capacity,
            instances: self.instances,
            rows: plan.rows,
            shared: !self.no_shared_tier,
            devices: contestant == Contestant::Stored,
            seed: self.seed,
            body_bytes: if simulated { 0 } else { self.row_bytes() },
        };
        Some(Script {
            contestant,
            setup,
            bound: self.bound.filter(|_| ours),
            turns: self.lag.turns(self.replicas(), plan.micros),
            outage: self.redis_outage,
            // Caches begin empty; the first fifth fills them.
            warm: plan.micros / 5,
            tidy: simulated,
        })
    }

    pub(crate) fn workload_name(&self) -> String {
        match &self.trace {
            Some(path) => path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            None => self.workload.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        }
    }
}
