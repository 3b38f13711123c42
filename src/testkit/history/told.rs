//! Which writes had been told by a given time, for staleness bounds.

use std::collections::BTreeMap;

use super::fates::Fates;
use super::log::History;
use super::op::{KeyId, OpId};

/// By row and by last era, the newest write told up to each time.
#[derive(Debug)]
pub(super) struct ToldBefore(BTreeMap<KeyId, BTreeMap<usize, Vec<(u64, OpId)>>>);

impl ToldBefore {
    pub(super) fn of(history: &History, fates: &Fates) -> Self {
        let mut told: Vec<(u64, OpId, KeyId)> =
            history.ops().iter().filter_map(|op| op.told().map(|(stamp, _)| (stamp.at, op.id, op.key))).collect();
        told.sort_unstable();
        let mut before: BTreeMap<KeyId, BTreeMap<usize, Vec<(u64, OpId)>>> = BTreeMap::new();
        for (at, write, key) in told {
            let newest = before.entry(key).or_default().entry(fates.last_era(write)).or_default();
            match newest.last() {
                Some(&(_, old)) if fates.version(old) >= fates.version(write) => {}
                _ => newest.push((at, write)),
            }
        }
        Self(before)
    }

    /// The newest write of each era that was told before `time`.
    pub(super) fn newest(&self, key: KeyId, time: u64) -> impl Iterator<Item = OpId> {
        self.0.get(&key).into_iter().flat_map(BTreeMap::values).filter_map(move |newest| {
            let told = newest.partition_point(|&(at, _)| at < time);
            newest.get(told.checked_sub(1)?).map(|&(_, write)| write)
        })
    }
}
