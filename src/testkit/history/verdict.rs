//! What the checker is asked and what it answers.

use std::collections::BTreeMap;
use std::fmt;

use super::violation::{Kind, Violation};
use crate::Rung;

/// How a history is to be checked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many violations are kept with their story; all are counted. Defaults to 20.
    pub kept: usize,
    /// When things had to work again. Defaults to never.
    pub liveness: Option<Liveness>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { kept: 20, liveness: None }
    }
}

/// What must happen after the faults are over, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// When the last fault was healed.
    pub healed_at: u64,
    /// How long the system may take to notice.
    pub grace: u64,
    /// How long any operation begun after that may take.
    pub bound: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads begun.
    pub reads: u64,
    /// Reads answered, by the rung that answered.
    pub answered: BTreeMap<Rung, u64>,
    /// Reads that ended in an error.
    pub reads_failed: u64,
    /// Answers labelled stale.
    pub stale_labelled: u64,
    /// Answers labelled stale that did miss something they had been asked for; the other labels were needless.
    pub labels_needed: u64,
    /// Answers, labelled or not, that missed a write told to anybody before the read began, whatever was asked for.
    pub behind: u64,
    /// Answers with the value of a write that a replaced history had lost before the read began.
    pub ghosts: u64,
    /// Writes begun.
    pub writes: u64,
    /// Writes told to be committed.
    pub committed: u64,
    /// Writes told to be rolled back.
    pub rolled_back: u64,
    /// Writes whose outcome their client never learned, cut off at the end or not.
    pub unknown: u64,
    /// Writes that replaced histories lost.
    pub lost: u64,
    /// Reports of a loss, by session and event.
    pub loss_reports: u64,
    /// Reports of a loss to sessions that knew of nothing that was lost.
    pub needless_loss_reports: u64,
    /// Operations held to the bound of [`Liveness`]. Where it is 0, liveness was not checked.
    pub held_to_bound: u64,
}

impl Tally {
    /// Reads answered, by any rung.
    #[must_use]
    pub fn reads_answered(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// Whether the promise was kept, and what was counted on the way.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub(super) violations: Vec<Violation>,
    pub(super) counts: BTreeMap<Kind, u64>,
    pub(super) tally: Tally,
}

impl Verdict {
    /// Whether nothing was broken.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.counts.is_empty()
    }

    /// How often one promise was broken.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// How often each promise was broken; those that were kept are not named.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The first violations found, at most [`Limits::kept`].
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What else was counted.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, broken) = (&self.tally, self.counts.values().sum::<u64>());
        writeln!(
            f,
            "{broken} violations in {} reads ({} answered, {} labelled stale) and {} writes ({} committed, {} lost)",
            tally.reads,
            tally.reads_answered(),
            tally.stale_labelled,
            tally.writes,
            tally.committed,
            tally.lost,
        )?;
        for (kind, count) in &self.counts {
            writeln!(f, "{count:>8} x {kind}")?;
        }
        for violation in &self.violations {
            writeln!(f, "- {violation}")?;
        }
        Ok(())
    }
}
