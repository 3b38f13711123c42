//! Large histories, generated: a right store passes, a wrong one is found, and the time grows as it should.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::Rung;
use highwater::testkit::history::{Ask, History, KeyId, Kind, Limits, OpId, Outcome, Seen, SessionId, check};
use proptest::prelude::*;

/// A store of one version chain for each key, which answers some reads from the past.
struct Store {
    random: u64,
    chains: BTreeMap<u64, Vec<OpId>>,
    keys: u64,
    /// How many versions an answer may lag behind the newest.
    lag: u64,
}

impl Store {
    fn new(seed: u64, keys: u64, lag: u64) -> Self {
        Self { random: seed | 1, chains: BTreeMap::new(), keys, lag }
    }

    /// A number below `bound`, by xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn run(mut self, ops: u64, sessions: u64, ask: Ask) -> History {
        let mut history = History::new();
        for turn in 0..ops {
            let (at, session) = (turn * 10, SessionId(self.below(sessions)));
            let key = KeyId(self.below(self.keys));
            if self.below(3) == 0 {
                let write = history.write(at, session, key);
                let chain = self.chains.entry(key.0).or_default();
                chain.push(write);
                history.finish(at + 5, write, Outcome::committed(chain.len() as u64));
            } else {
                let read = history.read(at, session, key, ask);
                let behind = self.below(self.lag + 1);
                let chain = self.chains.entry(key.0).or_default();
                let version = (chain.len() as u64).saturating_sub(behind);
                let write = version.checked_sub(1).and_then(|place| chain.get(place as usize)).copied();
                let seen =
                    write.map_or_else(|| Seen::absent(Rung::Replica), |write| Seen::row(version, write, Rung::Replica));
                history.finish(at + 5, read, Outcome::Saw(seen));
            }
        }
        history
    }
}

fn everything() -> Ask {
    Ask { own_writes: true, monotonic: true, within: Some(100), latest: true, at: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_store_that_never_lags_keeps_every_promise(seed: u64, keys in 1_u64..20, sessions in 1_u64..9) {
        let history = Store::new(seed, keys, 0).run(300, sessions, everything());
        let verdict = check(&history, &Limits::default());
        prop_assert!(verdict.is_ok(), "{verdict}");
        prop_assert_eq!(verdict.tally().behind, 0);
    }

    #[test]
    fn a_store_that_lags_breaks_the_latest_exactly_as_often_as_it_lags(seed: u64, keys in 1_u64..5, sessions in 1_u64..9) {
        let history = Store::new(seed, keys, 2).run(300, sessions, everything());
        let verdict = check(&history, &Limits::default());
        let mut newest = vec![0; keys as usize];
        let mut behind = 0;
        for op in history.ops() {
            match op.finished {
                Some((_, Outcome::Committed { version, .. })) => newest[op.key.0 as usize] = version,
                Some((_, Outcome::Saw(seen))) => behind += u64::from(seen.version < newest[op.key.0 as usize]),
                _ => {}
            }
        }
        prop_assert_eq!(verdict.count(Kind::Latest), behind);
        prop_assert_eq!(verdict.tally().behind, behind);
    }

    #[test]
    fn every_promise_agrees_with_its_own_words(seed: u64, keys in 1_u64..4, sessions in 1_u64..5) {
        let history = Store::new(seed, keys, 2).run(200, sessions, everything());
        let verdict = check(&history, &Limits::default());
        for kind in [Kind::ReadYourWrites, Kind::MonotonicReads, Kind::BoundedStaleness] {
            prop_assert_eq!(verdict.count(kind), by_the_letter(&history, kind), "{:?}", kind);
        }
    }
}

/// A promise decided as it is worded, by comparing every read with every earlier operation.
fn by_the_letter(history: &History, kind: Kind) -> u64 {
    let ops = history.ops();
    let version = |outcome| match outcome {
        Outcome::Committed { version, .. } => (true, version),
        Outcome::Saw(seen) => (false, seen.version),
        _ => (false, 0),
    };
    let reads = ops.iter().filter_map(|op| match op.finished {
        Some((_, Outcome::Saw(seen))) => Some((op, seen)),
        _ => None,
    });
    let broken = reads.filter(|(read, seen)| {
        ops.iter().filter(|op| op.key == read.key).any(|op| {
            let Some((stamp, outcome)) = op.finished else {
                return false;
            };
            let (is_write, version) = version(outcome);
            let counts = match kind {
                Kind::ReadYourWrites => is_write && op.session == read.session,
                Kind::MonotonicReads => !is_write && op.session == read.session,
                _ => is_write && stamp.at + 100 < read.invoked.at,
            };
            counts && stamp.index < read.invoked.index && seen.version < version
        })
    });
    broken.count() as u64
}

#[test]
fn the_time_grows_as_n_log_n() {
    let histories = [25_000, 100_000].map(|ops| Store::new(7, ops / 100, 1).run(ops, 64, everything()));
    // In turns, and the fastest of each: what the neighbours on the machine disturb least.
    let mut fastest = [f64::MAX; 2];
    let mut ratio = f64::MAX;
    // 4 x log 100,000 / log 25,000 is 4.5; a quadratic checker would take 16 times as long however often it is asked.
    for _ in 0..20 {
        for (fastest, history) in fastest.iter_mut().zip(&histories) {
            *fastest = fastest.min(time(history).as_secs_f64());
        }
        ratio = fastest[1] / fastest[0];
        println!("25,000 operations {:.3} s, 100,000 operations {:.3} s: ratio {ratio:.2}", fastest[0], fastest[1]);
        if ratio < 8.0 {
            return;
        }
    }
    panic!("four times the operations took {ratio:.2} times as long");
}

fn time(history: &History) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this measures the checker itself, in real time")]
    let begun = std::time::Instant::now();
    let verdict = check(history, &Limits::default());
    let took = begun.elapsed();
    assert!(verdict.count(Kind::Latest) > 0);
    took
}
