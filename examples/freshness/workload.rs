//! What clients do: operations planned before anything runs, so that every strategy is asked the same.

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, Zipf};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Read,
    Write,
    /// Reads the row and then writes it, as YCSB F does.
    ReadThenWrite,
}

/// One planned operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Op {
    /// When it is due, in microseconds from the start.
    pub(crate) at: u64,
    pub(crate) session: u32,
    pub(crate) act: Act,
    pub(crate) key: u64,
    pub(crate) instance: usize,
    /// The request carries its session. Without it a read is anybody's and asks for nothing.
    pub(crate) token: bool,
}

/// All operations of one run, in the order in which they are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<Op>,
    pub(crate) sessions: u32,
    /// The rows that exist from the start: 0 to here.
    pub(crate) rows: u64,
    pub(crate) micros: u64,
}

/// The standard workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 50 % reads, 50 % writes, Zipf 0.99
    YcsbA,
    /// 95 % reads, 5 % writes, Zipf 0.99
    YcsbB,
    /// reads only
    YcsbC,
    /// 95 % reads of the newest rows, 5 % new rows
    YcsbD,
    /// 50 % reads, 50 % read and then write
    YcsbF,
    /// Twitter cluster 52: 94 % reads, Zipf 1.21 (the one recommended for hit rates)
    #[value(name = "twitter-52")]
    Twitter52,
    /// Twitter cluster 14: 65 % reads, the rest writes and deletions, Zipf 1.30
    #[value(name = "twitter-14")]
    Twitter14,
    /// Twitter cluster 29: 87 % reads, Zipf 1.23
    #[value(name = "twitter-29")]
    Twitter29,
    /// Twitter cluster 34: 94 % reads, Zipf 1.14
    #[value(name = "twitter-34")]
    Twitter34,
    /// Twitter cluster 17: 99 % reads, Zipf 2.11
    #[value(name = "twitter-17")]
    Twitter17,
    /// Twitter cluster 50: 52 % reads, 48 % writes, Zipf 1.28
    #[value(name = "twitter-50")]
    Twitter50,
    /// a social feed: 100 reads to 1 write, half of the writers look at what they wrote within 2 s
    Feed,
}

/// A workload as numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mix {
    pub(crate) writes: f64,
    /// Shares of the writes: of those that read first, and of those that make a new row.
    pub(crate) reading_first: f64,
    pub(crate) new_rows: f64,
    pub(crate) zipf: f64,
    /// Reads prefer the newest rows.
    pub(crate) latest: bool,
    /// How probably a session reads what it has written within [`OWN_READ_MICROS`], besides what the mix lets it read.
    pub(crate) own_reads: f64,
}

/// Within this time a session looks at what it wrote, if it does.
pub(crate) const OWN_READ_MICROS: u64 = 2_000_000;

impl Workload {
    /// Deletions of a cache's keys are writes here: what makes a service delete a key is that its row changed.
    pub(crate) fn mix(self) -> Mix {
        let plain =
            |writes, zipf| Mix { writes, reading_first: 0.0, new_rows: 0.0, zipf, latest: false, own_reads: 0.1 };
        match self {
            Self::YcsbA => plain(0.5, 0.99),
            Self::YcsbB => plain(0.05, 0.99),
            Self::YcsbC => plain(0.0, 0.99),
            Self::YcsbD => Mix { new_rows: 1.0, latest: true, ..plain(0.05, 0.99) },
            Self::YcsbF => Mix { reading_first: 1.0, ..plain(0.5, 0.99) },
            Self::Twitter52 => plain(0.06, 1.2117),
            Self::Twitter14 => plain(0.35, 1.2959),
            Self::Twitter29 => plain(0.13, 1.2323),
            Self::Twitter34 => plain(0.06, 1.1401),
            Self::Twitter17 => plain(0.01, 2.1106),
            Self::Twitter50 => plain(0.48, 1.2816),
            Self::Feed => Mix { own_reads: 0.5, ..plain(1.0 / 101.0, 0.99) },
        }
    }
}

impl Workload {
    /// What a row weighs: YCSB's, and the mean value of each cluster. Its times to live, a quarter of an hour to two weeks, are longer
    /// than any run.
    pub(crate) fn row_bytes(self) -> usize {
        match self {
            Self::Twitter52 => 273,
            Self::Twitter14 => 414,
            Self::Twitter29 => 799,
            Self::Twitter34 => 322,
            Self::Twitter17 => 212,
            Self::Twitter50 => 67_485,
            _ => 1_000,
        }
    }
}

/// How much of a mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Amount {
    pub(crate) seed: u64,
    /// Operations in a second, over all sessions.
    pub(crate) rate: f64,
    pub(crate) micros: u64,
    pub(crate) sessions: u32,
    pub(crate) rows: u64,
    pub(crate) instances: usize,
    /// The share of reads that carry their session.
    pub(crate) tokens: f64,
}

impl Plan {
    /// Sessions think for exponential times whose mean is the number of sessions over the rate, which together arrive as one
    /// Poisson stream. It does not wait for answers: an operation is due when it is due, however long the last one took.
    pub(crate) fn of(mix: &Mix, amount: &Amount) -> Result<Self, String> {
        let said = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let gap = Exp::new(amount.rate / 1e6).map_err(|error| said("--rate", &error))?;
        let rank = Zipf::new(amount.rows as f64, mix.zipf).map_err(|error| said("--keys", &error))?;
        let chance = &mut StdRng::seed_from_u64(amount.seed);
        let (mut ops, mut at, mut rows) = (Vec::new(), 0.0, amount.rows);
        // What sessions will look at again: by time, the earliest first.
        let mut own: BinaryHeap<Reverse<(u64, u32, u64)>> = BinaryHeap::new();
        loop {
            at += gap.sample(chance);
            let due = at as u64;
            while let Some(Reverse((again, session, key))) = own.peek().copied().filter(|next| next.0.0 <= due) {
                own.pop();
                let instance = chance.random_range(0..amount.instances);
                ops.push(Op { at: again, session, act: Act::Read, key, instance, token: true });
            }
            if due >= amount.micros {
                break;
            }
            let session = chance.random_range(0..amount.sessions);
            let popular = rank.sample(chance) as u64 - 1;
            let mut key = if mix.latest { rows - 1 - popular.min(rows - 1) } else { popular };
            let act = match chance.random_bool(mix.writes) {
                true if chance.random_bool(mix.reading_first) => Act::ReadThenWrite,
                true => Act::Write,
                false => Act::Read,
            };
            if act != Act::Read && chance.random_bool(mix.new_rows) {
                (key, rows) = (rows, rows + 1);
            }
            let token = act != Act::Read || chance.random_bool(amount.tokens);
            let instance = chance.random_range(0..amount.instances);
            ops.push(Op { at: due, session, act, key, instance, token });
            if act != Act::Read && chance.random_bool(mix.own_reads) {
                own.push(Reverse((due + chance.random_range(0..OWN_READ_MICROS), session, key)));
            }
        }
        ops.retain(|op| op.at < amount.micros);
        Ok(Self { ops, sessions: amount.sessions, rows: amount.rows, micros: amount.micros })
    }

    /// The operations of each session.
    pub(crate) fn by_session(&self) -> Vec<Vec<Op>> {
        let mut sessions = vec![Vec::new(); self.sessions as usize];
        for op in &self.ops {
            if let Some(own) = sessions.get_mut(op.session as usize) {
                own.push(*op);
            }
        }
        sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMOUNT: Amount =
        Amount { seed: 7, rate: 2_000.0, micros: 50_000_000, sessions: 50, rows: 1_000, instances: 2, tokens: 1.0 };

    fn share(plan: &Plan, of: impl Fn(&Op) -> bool) -> f64 {
        plan.ops.iter().filter(|op| of(op)).count() as f64 / plan.ops.len() as f64
    }

    #[test]
    fn a_plan_has_the_shares_that_it_was_asked_for() {
        for workload in Workload::value_variants() {
            let mix = Mix { own_reads: 0.0, ..workload.mix() };
            let plan = Plan::of(&mix, &AMOUNT).unwrap();
            assert!(
                (plan.ops.len() as f64 / 100_000.0 - 1.0).abs() < 0.02,
                "{workload:?}: {} operations",
                plan.ops.len()
            );
            let writes = share(&plan, |op| op.act != Act::Read);
            assert!((writes - mix.writes).abs() < 0.01, "{workload:?}: {writes}");
        }
        let plan = Plan::of(&Workload::YcsbB.mix(), &Amount { tokens: 0.2, ..AMOUNT }).unwrap();
        let tokened = share(&plan, |op| op.token && op.act == Act::Read);
        assert!((tokened - 0.2 * 0.95).abs() < 0.01, "{tokened}");
    }

    #[test]
    fn keys_are_as_popular_as_zipf_says() {
        let plan = Plan::of(&Workload::YcsbC.mix(), &AMOUNT).unwrap();
        let sum: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for key in [0_u64, 1, 9, 99] {
            let (expected, seen) = ((key as f64 + 1.0).powf(-0.99) / sum, share(&plan, |op| op.key == key));
            assert!((seen / expected - 1.0).abs() < 0.15, "key {key}: {seen} and not {expected}");
        }
    }

    #[test]
    fn the_newest_rows_are_read_where_that_was_asked_for() {
        let plan = Plan::of(&Workload::YcsbD.mix(), &AMOUNT).unwrap();
        let mut newest = AMOUNT.rows - 1;
        let (mut near, mut reads) = (0, 0);
        for op in &plan.ops {
            match op.act {
                Act::Read => {
                    assert!(op.key <= newest, "a row is read that nobody has made");
                    (near, reads) = (near + u64::from(newest - op.key < 10), reads + 1);
                }
                _ => {
                    assert_eq!(op.key, newest + 1);
                    newest = op.key;
                }
            }
        }
        assert!(near * 3 > reads, "{near} of {reads}");
    }

    #[test]
    fn writers_look_at_what_they_wrote() {
        let mix = Mix { own_reads: 1.0, ..Workload::Feed.mix() };
        let plan = Plan::of(&mix, &AMOUNT).unwrap();
        let looked_at = |write: &Op| {
            let end = write.at + OWN_READ_MICROS;
            let own = |op: &&Op| op.session == write.session && op.key == write.key && op.act == Act::Read;
            end > AMOUNT.micros || plan.ops.iter().filter(own).any(|op| (write.at..end).contains(&op.at))
        };
        let writes: Vec<_> = plan.ops.iter().filter(|op| op.act == Act::Write).collect();
        assert!(writes.len() > 500 && writes.iter().all(|write| looked_at(write)));
    }

    #[test]
    fn a_seed_plans_the_same_again_and_time_goes_forward() {
        let plan = |seed| Plan::of(&Workload::YcsbA.mix(), &Amount { seed, ..AMOUNT }).unwrap();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert!(plan(1).ops.windows(2).all(|two| two[0].at <= two[1].at));
        assert_eq!(plan(1).by_session().iter().map(Vec::len).sum::<usize>(), plan(1).ops.len());
    }
}
