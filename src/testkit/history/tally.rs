//! Counting what needs no judgement.

use super::fates::Fates;
use super::log::{History, What};
use super::op::{Call, Outcome};
use super::verdict::Tally;

pub(super) fn count(history: &History, fates: &Fates) -> Tally {
    let mut tally = Tally { lost: fates.lost(), ..Tally::default() };
    for op in history.ops() {
        match op.call {
            Call::Write => tally.writes += 1,
            Call::Read(_) => tally.reads += 1,
        }
        match (op.call, op.outcome()) {
            (_, Some(Outcome::Committed { .. })) => tally.committed += 1,
            (_, Some(Outcome::RolledBack)) => tally.rolled_back += 1,
            (Call::Write, _) => tally.unknown += 1,
            (_, Some(Outcome::Failed)) => tally.reads_failed += 1,
            (_, Some(Outcome::Saw(seen))) => {
                *tally.answered.entry(seen.rung).or_default() += 1;
                tally.stale_labelled += u64::from(seen.labelled_stale);
                let lost_at = seen.write.and_then(|write| fates.lost_at(write));
                tally.ghosts += u64::from(lost_at.is_some_and(|at| at < op.invoked.index));
            }
            _ => {}
        }
    }
    let reported = |event: &&super::log::Event| matches!(event.what, What::Reported(_));
    tally.loss_reports = history.events().iter().filter(reported).count() as u64;
    tally
}
