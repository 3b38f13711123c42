//! What became of each write: its version, and the eras during which it was part of history.
//!
//! Era `i` lies between the `i`th replacement of history and the next. What a replacement loses of one key is
//! everything from some version on, so within an era the versions of a key form one chain. One write is therefore
//! reflected by the value of another exactly if its version is not higher and some era had both.

use std::collections::BTreeMap;

use super::log::{History, What, slot};
use super::op::{Call, KeyId, OpId, Outcome};

/// A write that is known to have made a version.
#[derive(Clone, Copy, Debug)]
struct Fate {
    key: KeyId,
    version: u64,
    /// The first event that proves that it happened; `None` where only a version was told.
    evident: Option<usize>,
    first_era: usize,
    /// `usize::MAX` where nothing ever lost it.
    last_era: usize,
}

/// The fates of all writes of a history.
#[derive(Debug)]
pub(super) struct Fates {
    fates: Vec<Option<Fate>>,
    /// By key, from the lowest version to the highest.
    chains: BTreeMap<KeyId, Vec<OpId>>,
    /// By key and replacement (from 1), the lowest version lost.
    cuts: BTreeMap<KeyId, BTreeMap<usize, u64>>,
    /// The event of each replacement.
    replaced_at: Vec<usize>,
}

impl Fates {
    pub(super) fn of(history: &History) -> Self {
        let mut fates = Self {
            fates: versions(history),
            chains: BTreeMap::new(),
            cuts: BTreeMap::new(),
            replaced_at: history.replacements().iter().map(|replaced| replaced.index).collect(),
        };
        fates.order();
        fates.lose_named(history);
        fates.lose_above_cuts();
        fates.lose_twins_of_told(history);
        fates.date();
        fates
    }

    /// The version that a write is known to have made.
    pub(super) fn version(&self, write: OpId) -> Option<u64> {
        self.get(write).map(|fate| fate.version)
    }

    /// Whether the value made by `value` (`None`: the absent row) has `write` among what led to it.
    pub(super) fn reflects(&self, value: Option<OpId>, write: OpId) -> bool {
        let (Some(value), Some(write)) = (value.and_then(|value| self.get(value)), self.get(write)) else {
            return false;
        };
        write.version <= value.version && share_an_era(write, value)
    }

    /// The last era that had this write.
    pub(super) fn last_era(&self, write: OpId) -> usize {
        self.get(write).map_or(usize::MAX, |fate| fate.last_era)
    }

    /// The event of the replacement that lost this write.
    pub(super) fn lost_at(&self, write: OpId) -> Option<usize> {
        self.replaced_at.get(self.last_era(write)).copied()
    }

    /// What is left of a lost value: the newest write below the point where its history was cut off.
    pub(super) fn stump(&self, write: OpId) -> Option<OpId> {
        let lost = self.get(write)?;
        let cut = *self.cuts.get(&lost.key)?.get(&lost.last_era.checked_add(1)?)?;
        let stood = |id: &&OpId| {
            self.get(**id).is_some_and(|fate| {
                fate.version < cut && fate.first_era <= lost.last_era && lost.last_era < fate.last_era
            })
        };
        self.chains.get(&lost.key)?.iter().rev().find(stood).copied()
    }

    /// Writes that hold one version of one key in one era, in pairs.
    pub(super) fn twins(&self) -> impl Iterator<Item = (OpId, OpId)> {
        self.chains.values().flat_map(|chain| chain.windows(2)).filter_map(|pair| {
            let &[one, other] = pair else { return None };
            let (a, b) = (self.get(one)?, self.get(other)?);
            (a.version == b.version && share_an_era(a, b)).then_some((one, other))
        })
    }

    /// How many writes were lost.
    pub(super) fn lost(&self) -> u64 {
        self.fates.iter().flatten().filter(|fate| fate.last_era != usize::MAX).count() as u64
    }

    fn get(&self, write: OpId) -> Option<&Fate> {
        self.fates.get(slot(write)?)?.as_ref()
    }

    fn order(&mut self) {
        let mut all: Vec<(KeyId, u64, OpId)> = Vec::new();
        for (id, fate) in (0..).map(OpId).zip(&self.fates) {
            all.extend(fate.map(|fate| (fate.key, fate.version, id)));
        }
        all.sort_unstable();
        for (key, _, id) in all {
            self.chains.entry(key).or_default().push(id);
        }
    }

    fn lose_named(&mut self, history: &History) {
        for (era, replaced) in history.replacements().iter().enumerate() {
            for &(write, _) in &replaced.lost {
                self.lose(write, era);
            }
        }
    }

    /// A harness can name only the losses that it knows of. What was evident before a replacement and stood above a
    /// lost version went with it.
    fn lose_above_cuts(&mut self) {
        let found: Vec<(OpId, usize)> = (0..)
            .map(OpId)
            .zip(&self.fates)
            .filter_map(|(id, fate)| {
                let fate = fate.as_ref().filter(|fate| fate.last_era == usize::MAX)?;
                let (evident, cuts) = (fate.evident?, self.cuts.get(&fate.key)?);
                let cut = cuts.iter().find(|&(&replacement, &cut)| {
                    fate.version >= cut && self.replaced_at.get(replacement - 1).is_some_and(|&at| evident < at)
                });
                cut.map(|(&replacement, _)| (id, replacement - 1))
            })
            .collect();
        for (write, era) in found {
            self.lose(write, era);
        }
    }

    /// A write of unknown outcome whose version another write was told to have made after a replacement belonged to
    /// the history that was replaced.
    fn lose_twins_of_told(&mut self, history: &History) {
        let unknown = |id: OpId| history.op(id).filter(|op| op.told().is_none());
        let told = |id: OpId| history.op(id).is_some_and(|op| op.told().is_some());
        let mut found = Vec::new();
        for pair in self.chains.values().flat_map(|chain| chain.windows(2)) {
            let &[one, other] = pair else { continue };
            let (Some(a), Some(b)) = (self.get(one), self.get(other)) else {
                continue;
            };
            if a.version != b.version || a.last_era != usize::MAX || b.last_era != usize::MAX {
                continue;
            }
            let candidate = if told(other) { unknown(one) } else { unknown(other).filter(|_| told(one)) };
            let Some(op) = candidate else { continue };
            let after = self.replaced_at.partition_point(|&at| at < op.invoked.index);
            if after < self.replaced_at.len() {
                found.push((op.id, after));
            }
        }
        for (write, era) in found {
            self.lose(write, era);
        }
    }

    /// A write that a replacement did not lose, although its version is one that was lost then, came after it.
    fn date(&mut self) {
        for fate in self.fates.iter_mut().flatten() {
            let cuts = self.cuts.get(&fate.key).into_iter().flatten();
            fate.first_era = cuts
                .filter(|&(&replacement, &cut)| replacement <= fate.last_era && cut <= fate.version)
                .map(|(&replacement, _)| replacement)
                .max()
                .unwrap_or(0);
        }
    }

    fn lose(&mut self, write: OpId, last_era: usize) {
        let fate = slot(write).and_then(|slot| self.fates.get_mut(slot)).and_then(Option::as_mut);
        let Some(fate) = fate else { return };
        fate.last_era = fate.last_era.min(last_era);
        let cuts = self.cuts.entry(fate.key).or_default();
        let cut = cuts.entry(fate.last_era + 1).or_insert(fate.version);
        *cut = fate.version.min(*cut);
    }
}

fn share_an_era(a: &Fate, b: &Fate) -> bool {
    a.first_era.max(b.first_era) <= a.last_era.min(b.last_era)
}

/// The versions that writes were told, or else were first seen with, or else were lost with.
fn versions(history: &History) -> Vec<Option<Fate>> {
    let new = |key, version, evident| {
        (version > 0).then_some(Fate { key, version, evident, first_era: 0, last_era: usize::MAX })
    };
    let mut fates: Vec<Option<Fate>> = history
        .ops()
        .iter()
        .map(|op| match op.finished {
            Some((at, Outcome::Committed { version, .. })) => new(op.key, version, Some(at.index)),
            Some((_, Outcome::Unknown { version: Some(version) })) => new(op.key, version, None),
            _ => None,
        })
        .collect();
    for (index, event) in history.events().iter().enumerate() {
        let What::Finished(read) = event.what else {
            continue;
        };
        let Some((key, seen)) = history.op(read).and_then(|op| Some((op.key, op.seen()?.1))) else {
            continue;
        };
        let Some(write) = seen.write.and_then(|write| history.op(write)) else {
            continue;
        };
        let made = matches!(write.call, Call::Write) && !matches!(write.outcome(), Some(Outcome::RolledBack));
        if !made || write.key != key || write.invoked.index > index {
            continue;
        }
        let Some(fate) = slot(write.id).and_then(|slot| fates.get_mut(slot)) else {
            continue;
        };
        match fate {
            None => *fate = new(key, seen.version, Some(index)),
            Some(fate) if fate.version == seen.version => {
                fate.evident = Some(fate.evident.map_or(index, |evident| evident.min(index)));
            }
            Some(_) => {}
        }
    }
    for &(write, version) in history.replacements().iter().flat_map(|replaced| &replaced.lost) {
        let Some(op) = history.op(write) else {
            continue;
        };
        if let Some(fate @ None) = slot(write).and_then(|slot| fates.get_mut(slot)) {
            *fate = new(op.key, version, None);
        }
    }
    fates
}
