//! What the best possible cache would have done: it knows when every row changes, so no hit is stale and no miss is needless.

use crate::log::{Log, Told};
use crate::stage::Setup;
use highwater::Rung;
use highwater::testkit::history::{Call, KeyId, Outcome};
use moka::sync::Cache;
use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

type Tier = Cache<KeyId, u64, BuildHasherDefault<DefaultHasher>>;

/// One answer of the oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rung: Rung,
    /// The in-process tier held the row as it was before it changed.
    pub(crate) changed: bool,
}

/// What the oracle answers to each read, in the order of [`Log::operations`]; `None` for writes. It has the same
/// room and evicts by the same policy, and who misses everywhere asks a server: called a replica, since all would do.
pub(crate) fn answers(log: &Log, setup: &Setup) -> Vec<Option<Answer>> {
    let versions = log.versions();
    let tier = || Cache::builder().max_capacity(setup.capacity).build_with_hasher(BuildHasherDefault::default());
    let tiers: Vec<Tier> = (0..setup.instances).map(|_| tier()).collect();
    let mut shared: BTreeMap<KeyId, u64> = BTreeMap::new();
    log.operations()
        .map(|(op, extra)| {
            if !matches!((op.call, op.finished), (Call::Read(_), Some((_, Outcome::Saw(_))))) {
                return None;
            }
            let newest = versions.get(&op.key).map_or(0, |told| newest(told, op.invoked.index));
            let local = tiers.get(extra.instance)?;
            let held = local.get(&op.key);
            let rung = if held == Some(newest) {
                Rung::Local
            } else {
                local.insert(op.key, newest);
                match shared.insert(op.key, newest) {
                    Some(known) if known == newest && setup.shared => Rung::Shared,
                    _ => Rung::Replica,
                }
            };
            local.run_pending_tasks();
            Some(Answer { rung, changed: held.is_some_and(|held| held != newest) })
        })
        .collect()
}

/// The newest version that was told before the event.
pub(crate) fn newest(told: &[Told], index: usize) -> u64 {
    told.iter().rev().find(|it| it.index < index).map_or(0, |it| it.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Act, Op};
    use highwater::Strategy;
    use highwater::testkit::history::{OpId, Seen};
    use std::time::Duration;

    fn setup(capacity: u64, shared: bool) -> Setup {
        Setup {
            strategy: Strategy::Position,
            scoped: false,
            time_to_live: Duration::from_secs(1),
            capacity,
            instances: 2,
            rows: 3,
            shared,
            seed: 1,
            body_bytes: 0,
        }
    }

    /// A log of reads and writes of one client: by instance and key.
    fn log(steps: &[(bool, usize, u64)]) -> Log {
        let mut log = Log::with_rows(3);
        let mut versions = [1, 1, 1];
        for (at, &(write, instance, key)) in steps.iter().enumerate() {
            let act = if write { Act::Write } else { Act::Read };
            let op = Op { at: at as u64, session: 0, act, key, instance, token: true };
            let id = log.begin(op.at, &op, write);
            let version = &mut versions[key as usize];
            *version += u64::from(write);
            let saw = Outcome::Saw(Seen::row(*version, OpId(key), Rung::Primary));
            log.finish(op.at, id, if write { Outcome::committed(*version) } else { saw });
        }
        log
    }

    fn rungs(log: &Log, setup: &Setup) -> Vec<Option<Rung>> {
        answers(log, setup).into_iter().map(|answer| answer.map(|answer| answer.rung)).collect()
    }

    #[test]
    fn only_a_change_of_the_row_itself_makes_the_oracle_miss() {
        let log = log(&[
            (false, 0, 0),
            (false, 0, 0),
            (true, 0, 1),
            (false, 0, 0),
            (true, 0, 0),
            (false, 0, 0),
            (false, 0, 0),
        ]);
        let expected = [Rung::Replica, Rung::Local].map(Some).into_iter().chain([None, Some(Rung::Local), None]);
        let expected: Vec<_> = expected.chain([Rung::Replica, Rung::Local].map(Some)).collect();
        assert_eq!(rungs(&log, &setup(10, true)), expected);
        let changed: Vec<_> =
            answers(&log, &setup(10, true)).iter().map(|it| it.is_some_and(|it| it.changed)).collect();
        assert_eq!(changed, [false, false, false, false, false, true, false]);
    }

    #[test]
    fn what_another_instance_read_is_in_the_shared_tier_if_there_is_one() {
        let log = log(&[(false, 0, 0), (false, 1, 0), (true, 0, 0), (false, 1, 0), (false, 0, 0)]);
        let found = |shared| rungs(&log, &setup(10, shared)).into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(found(true), [Rung::Replica, Rung::Shared, Rung::Replica, Rung::Shared]);
        assert_eq!(found(false), [Rung::Replica; 4]);
    }

    #[test]
    fn room_is_bounded() {
        let steps: Vec<_> = (0..30).map(|at| (false, 0, at % 3)).collect();
        let hits = |capacity| {
            rungs(&log(&steps), &setup(capacity, false)).iter().filter(|rung| **rung == Some(Rung::Local)).count()
        };
        assert_eq!(hits(3), 27);
        assert!(hits(1) < 15);
    }
}
