//! What a run does, by the environment.

use crate::Result;
use crate::fault::Fault;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long the normal tests let faults strike.
const SECONDS: u64 = 80;

/// How many classes of faults a run of the normal tests draws.
const CLASSES: usize = 12;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// All classes, until the goals are reached.
    pub(crate) soak: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) time_max: Option<Duration>,
    pub(crate) reads_wanted: u64,
    pub(crate) faults_wanted: u64,
    pub(crate) results: Option<PathBuf>,
    /// Where the history of a broken promise goes.
    pub(crate) edn: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn from_environment() -> Result<Self> {
        let seed = number("HIGHWATER_SEED")?.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
        let seconds = number("HIGHWATER_RING3_SECONDS")?;
        let (reads, faults) = (number("HIGHWATER_RING3_READS")?, number("HIGHWATER_RING3_FAULTS")?);
        let soak = seconds.is_some() || reads.is_some() || faults.is_some();
        let chosen = env::var("HIGHWATER_RING3_CLASSES").ok();
        let time_max = if soak { seconds } else { Some(SECONDS) };
        Ok(Self {
            seed,
            soak,
            faults: match chosen {
                Some(names) => names.split(',').map(|name| name.trim().parse()).collect::<Result<_>>()?,
                None if soak => Fault::ALL.to_vec(),
                None => draw(seed),
            },
            time_max: time_max.map(Duration::from_secs),
            reads_wanted: reads.unwrap_or(0),
            faults_wanted: faults.unwrap_or(0),
            results: env::var_os("HIGHWATER_RING3_RESULTS").map(PathBuf::from),
            edn: env::var_os("HIGHWATER_EDN").map(PathBuf::from),
        })
    }

    /// Whether enough was done.
    pub(crate) fn is_reached(&self, elapsed: Duration, reads: u64, faults: u64) -> bool {
        let goals = self.reads_wanted > 0 || self.faults_wanted > 0;
        let out_of_time = self.time_max.is_some_and(|longest| elapsed >= longest);
        out_of_time || (goals && reads >= self.reads_wanted && faults >= self.faults_wanted)
    }
}

/// The classes of one run of the normal tests.
fn draw(seed: u64) -> Vec<Fault> {
    let mut faults: Vec<_> = Fault::ALL.iter().copied().filter(|fault| !fault.is_long()).collect();
    faults.shuffle(&mut StdRng::seed_from_u64(seed));
    faults.truncate(CLASSES);
    faults
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.faults.iter().map(Fault::to_string).collect();
        writeln!(f, "seed {}: {}", self.seed, names.join(", "))?;
        write!(f, "again: HIGHWATER_SEED={} ", self.seed)?;
        for name in ["SECONDS", "READS", "FAULTS", "CLASSES"].map(|name| format!("HIGHWATER_RING3_{name}")) {
            if let Ok(value) = env::var(&name) {
                write!(f, "{name}={value} ")?;
            }
        }
        write!(f, "cargo test --all-features --test ring3 -- --nocapture")
    }
}

fn number<T: FromStr>(name: &str) -> Result<Option<T>> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("{name}={text} is no number").into())
}
