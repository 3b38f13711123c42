//! Positions: an answer that claims one reflects every write told a position at or below it.

use std::collections::BTreeMap;

use super::fates::Fates;
use super::log::History;
use super::op::{KeyId, Op, OpId, Outcome};

/// By row and era, the newest write told up to each position.
///
/// Positions before and after a replaced history cannot be compared, so only writes and reads that lie wholly within
/// one era are held against each other.
#[derive(Debug)]
pub(super) struct Positions {
    newest: BTreeMap<(KeyId, usize), Vec<(u64, OpId)>>,
    replaced_at: Vec<usize>,
}

impl Positions {
    pub(super) fn of(history: &History, fates: &Fates) -> Self {
        let mut positions = Self {
            newest: BTreeMap::new(),
            replaced_at: history.replacements().iter().map(|replaced| replaced.index).collect(),
        };
        let mut told = Vec::new();
        for op in history.ops() {
            if let Some(Outcome::Committed { position: Some(position), .. }) = op.outcome() {
                told.extend(positions.era(op).map(|era| (position, op.id, (op.key, era))));
            }
        }
        told.sort_unstable();
        for (position, write, place) in told {
            let newest = positions.newest.entry(place).or_default();
            match newest.last() {
                Some(&(_, old)) if fates.version(old) >= fates.version(write) => {}
                _ => newest.push((position, write)),
            }
        }
        positions
    }

    /// The newest write that an answer to `read` must reflect to claim `position`.
    pub(super) fn newest(&self, read: &Op, position: u64) -> Option<OpId> {
        let newest = self.newest.get(&(read.key, self.era(read)?))?;
        let told = newest.partition_point(|&(at, _)| at <= position);
        newest.get(told.checked_sub(1)?).map(|&(_, write)| write)
    }

    fn era(&self, op: &Op) -> Option<usize> {
        let era = |index: usize| self.replaced_at.partition_point(|&at| at < index);
        let begun = era(op.invoked.index);
        (begun == era(op.finished?.0.index)).then_some(begun)
    }
}
