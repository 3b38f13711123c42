//! The checker's one entry.

use super::fates::Fates;
use super::findings::Findings;
use super::log::History;
use super::op::Outcome;
use super::promises::Walk;
use super::verdict::{Limits, Verdict};
use super::violation::Kind;
use super::{liveness, tally};

/// Holds a history against the promise.
#[must_use]
pub fn check(history: &History, limits: &Limits) -> Verdict {
    let fates = Fates::of(history);
    let mut findings = Findings::new(history, limits.kept);
    let mut tally = tally::count(history, &fates);
    well_formed(history, &fates, &mut findings);
    for (one, other) in fates.twins() {
        findings.add(Kind::ForkedHistory, other, Some(one), || "Both made the same version".to_owned());
    }
    Walk::new(history, &fates, &mut findings, &mut tally).run();
    if let Some(limits) = &limits.liveness {
        liveness::check(history, limits, &mut findings, &mut tally);
    }
    Verdict { violations: findings.kept, counts: findings.counts, tally }
}

fn well_formed(history: &History, fates: &Fates, findings: &mut Findings<'_>) {
    for misuse in history.misuses() {
        findings.malformed(misuse);
    }
    for op in history.ops() {
        if matches!(op.outcome(), Some(Outcome::Committed { version: 0, .. })) {
            findings.malformed(&format!("{} was told version 0, which is that of an absent row", op.id));
        }
    }
    for &(write, version) in history.replacements().iter().flat_map(|replaced| &replaced.lost) {
        if fates.version(write) != Some(version) {
            findings.malformed(&format!("{write} is said to be lost as version {version}, which it did not make"));
        }
    }
}
