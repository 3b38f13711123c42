//! What can be varied.

use crate::args::Args;
use crate::contestant::Contestant;
use crate::lag::Lag;
use crate::run::Script;
use crate::workload::Workload;
use clap::ValueEnum;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sweep {
    /// how old an answer may be: a time to live, or highwater's bound
    Bound,
    /// the share of reads that carry a token
    Tokens,
    /// how far replicas are behind
    Lag,
    /// entries in the in-process tier
    Capacity,
    /// the share of writes
    Writes,
    /// nothing but time: spikes of lag, and Redis away from 12 s to 18 s
    Outage,
    /// every workload with every lag profile, for highwater with its watermark and without, and the oracle
    Workloads,
}

/// One value of what is varied.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) args: Args,
}

/// From when to when Redis is away, in microseconds.
pub(crate) const OUTAGE: (u64, u64) = (12_000_000, 18_000_000);

/// How long that is looked at.
pub(crate) const OUTAGE_SECONDS: u64 = 26;

impl Sweep {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn points(self, args: &Args) -> Vec<Point> {
        let with = |x: f64, change: &dyn Fn(&mut Args)| {
            let mut args = Args { simulate: true, redis_outage: None, ..args.clone() };
            change(&mut args);
            Point { x, args }
        };
        let ms = |x: f64| Duration::from_secs_f64(x / 1_000.0);
        match self {
            Self::Bound => [10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 10e3, 30e3, 60e3]
                .map(|x| with(x, &|args| args.bound = Some(ms(x))))
                .to_vec(),
            Self::Tokens => [0.0, 0.1, 0.2, 0.5, 1.0].map(|x| with(x, &|args| args.tokens = x)).to_vec(),
            Self::Lag => {
                [0.0, 10.0, 30.0, 100.0, 300.0, 1e3].map(|x| with(x, &|args| args.lag = Lag::Steady(ms(x)))).to_vec()
            }
            Self::Capacity => {
                [100.0, 300.0, 1e3, 3e3, 10e3].map(|x| with(x, &|args| args.capacity = x as u64)).to_vec()
            }
            Self::Writes => [0.001, 0.01, 0.05, 0.2, 0.5].map(|x| with(x, &|args| args.writes = Some(x))).to_vec(),
            Self::Outage => {
                let (simulate, replicas) =
                    (args.simulate, if args.simulate { args.replicas } else { Some(args.replicas()) });
                let change = |args: &mut Args| {
                    (args.lag, args.redis_outage, args.seconds) = (Lag::Spikes, Some(OUTAGE), Some(OUTAGE_SECONDS));
                    // The servers that are there.
                    (args.simulate, args.replicas) = (simulate, replicas);
                };
                vec![with(0.0, &change)]
            }
            Self::Workloads => {
                let steady = |x| Lag::Steady(ms(x));
                let lags = [steady(0.0), steady(10.0), steady(80.0), Lag::Spikes, steady(1e3), Lag::Pause];
                let workloads = Workload::value_variants();
                let all = workloads.iter().flat_map(|workload| lags.map(|lag| (*workload, lag)));
                let change = |(at, (workload, lag)): (usize, (Workload, Lag))| {
                    with(at as f64, &|args| (args.workload, args.lag, args.replicas) = (workload, lag, None))
                };
                all.enumerate().map(change).collect()
            }
        }
    }

    pub(crate) fn contestants(self) -> &'static [Contestant] {
        use Contestant::{Delete, Highwater, Keys, Monotonic, Oracle, Replica, Stored, Tags, Ttl10, Ttl60};
        match self {
            Self::Bound => &[Highwater, Ttl60, Delete, Oracle],
            Self::Tokens | Self::Lag | Self::Capacity | Self::Writes => {
                &[Highwater, Tags, Keys, Monotonic, Ttl10, Delete, Oracle]
            }
            Self::Outage => &[Highwater, Tags, Delete, Ttl10, Replica, Stored],
            Self::Workloads => &[Tags, Highwater, Oracle],
        }
    }

    /// Where the bound is varied, it is the time to live of caches that know no other.
    pub(crate) fn change(self, script: &mut Script, args: &Args) {
        if self == Self::Bound
            && matches!(script.contestant, Contestant::Ttl60 | Contestant::Delete)
            && let Some(bound) = args.bound
        {
            script.setup.time_to_live = bound;
        }
    }
}
