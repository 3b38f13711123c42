//! What really happened: every operation with its answer, in order, as the checker wants it.

use crate::stage::Row;
use crate::workload::Op;
use highwater::testkit::history::{Ask, History, KeyId, OpId, Outcome, Seen, SessionId};
use highwater::{Read, Rung};
use std::collections::BTreeMap;

/// What the history does not hold of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra {
    /// When it was due, in microseconds.
    pub(crate) due: u64,
    pub(crate) instance: usize,
    pub(crate) token: bool,
}

/// The log of one run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) history: History,
    /// By operation, from the first that is not the making of a row.
    extras: Vec<Extra>,
    rows: u64,
    strangers: u64,
}

/// Above every session of a plan: who reads without a token is nobody twice.
const STRANGERS: u64 = 1 << 40;

impl Log {
    /// A log that begins with the making of these rows.
    pub(crate) fn with_rows(rows: u64) -> Self {
        let mut log = Self { rows, ..Self::default() };
        for key in 0..rows {
            let op = log.history.write(0, SessionId(u64::MAX), KeyId(key));
            log.history.finish(0, op, Outcome::committed(1));
        }
        log
    }

    /// An operation begins.
    pub(crate) fn begin(&mut self, at: u64, op: &Op, write: bool) -> OpId {
        let session = if op.token {
            u64::from(op.session)
        } else {
            self.strangers += 1;
            STRANGERS + self.strangers
        };
        self.extras.push(Extra { due: op.at, instance: op.instance, token: op.token });
        let (session, key) = (SessionId(session), KeyId(op.key));
        // Everybody is held to the promise, whether the strategy makes it or not.
        let ask = if op.token { Ask::session().monotonic() } else { Ask::none() };
        if write { self.history.write(at, session, key) } else { self.history.read(at, session, key, ask) }
    }

    pub(crate) fn finish(&mut self, at: u64, op: OpId, outcome: Outcome) {
        self.history.finish(at, op, outcome);
    }

    /// The operations that were measured, with what else is known of them.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&highwater::testkit::history::Op, &Extra)> {
        self.history.ops().iter().skip(self.rows as usize).zip(&self.extras)
    }

    /// By row, its versions in order: when the write of each was told, by event and by time.
    pub(crate) fn versions(&self) -> BTreeMap<KeyId, Vec<Told>> {
        let mut versions: BTreeMap<KeyId, Vec<Told>> = BTreeMap::new();
        for op in self.history.ops() {
            if let Some((stamp, Outcome::Committed { version, .. })) = op.finished {
                versions.entry(op.key).or_default().push(Told { version, index: stamp.index, at: stamp.at });
            }
        }
        versions.values_mut().for_each(|told| told.sort_unstable_by_key(|told| told.version));
        versions
    }
}

/// A version, and when its writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) version: u64,
    pub(crate) index: usize,
    pub(crate) at: u64,
}

/// What a read showed. A label is kept only where the strategy is one that has labels: where there were none before, users
/// saw what they saw.
pub(crate) fn seen(read: &Read<Row>, labels: bool) -> Seen {
    let seen = Seen::of(read, |row| (row.version, OpId(row.write)));
    Seen { labelled_stale: seen.labelled_stale && labels, ..seen }
}

/// How far behind an answer was when it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Staleness {
    /// Versions told before the read began that it does not show.
    pub(crate) versions: u64,
    /// How long ago the first of them was told, in microseconds.
    pub(crate) micros: u64,
}

impl Staleness {
    /// Of an answer that shows `version`, asked for at `index` and `at`.
    pub(crate) fn of(told: &[Told], version: u64, index: usize, at: u64) -> Self {
        let missed = told.iter().rev().take_while(|it| it.version > version).filter(|it| it.index < index);
        missed.fold(Self::default(), |sum, it| Self {
            versions: sum.versions + 1,
            micros: sum.micros.max(at.saturating_sub(it.at)),
        })
    }
}

/// The four rungs, cheapest first.
pub(crate) const RUNGS: [Rung; 4] = [Rung::Local, Rung::Shared, Rung::Replica, Rung::Primary];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staleness_counts_what_was_told_before_the_read() {
        let told = [(1, 0, 0), (2, 10, 100), (3, 20, 250), (4, 40, 400)];
        let told = told.map(|(version, index, at)| Told { version, index, at });
        assert_eq!(Staleness::of(&told, 4, 50, 500), Staleness::default());
        assert_eq!(Staleness::of(&told, 3, 30, 300), Staleness::default(), "version 4 was told later");
        assert_eq!(Staleness::of(&told, 1, 30, 300), Staleness { versions: 2, micros: 200 });
        assert_eq!(Staleness::of(&told, 0, 30, 300), Staleness { versions: 3, micros: 300 });
    }
}
