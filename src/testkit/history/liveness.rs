//! Liveness: once the faults are healed, operations end and sessions are answered.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Findings;
use super::log::{Event, History, What};
use super::op::{Call, Op, OpId, SessionId};
use super::verdict::{Liveness, Tally};
use super::violation::Kind;

pub(super) fn check(history: &History, limits: &Liveness, findings: &mut Findings<'_>, tally: &mut Tally) {
    let (ended_at, held_from) = (history.ended_at(), limits.healed_at.saturating_add(limits.grace));
    let mut waiting: BTreeMap<SessionId, Waiting> = BTreeMap::new();
    for op in history.ops().iter().filter(|op| op.invoked.at > held_from) {
        let due = op.invoked.at.saturating_add(limits.bound);
        let in_time = op.finished.is_some_and(|(stamp, _)| stamp.at <= due);
        if !in_time && ended_at <= due {
            // Cut off by the end of the run: it says nothing.
            continue;
        }
        tally.held_to_bound += 1;
        if !in_time {
            findings.add(Kind::Stuck, op.id, None, || took(op, limits.bound));
        }
        if matches!(op.call, Call::Read(_)) {
            let session = waiting.entry(op.session).or_insert(Waiting { first: op.id, reads: 0, answered: false });
            session.reads += 1;
            session.answered |= op.seen().is_some();
        }
    }
    // Of a read that fails because a write is lost, the loss is the answer; whoever reads on wants another.
    let told_of_loss: BTreeSet<SessionId> =
        history.events().iter().filter(|event| event.at > held_from).filter_map(loss).collect();
    for (session, Waiting { first, reads, answered }) in waiting {
        if answered || (reads == 1 && told_of_loss.contains(&session)) {
            continue;
        }
        findings.add(Kind::Starved, first, None, || format!("It was the first of {reads}, and none was answered"));
    }
}

fn loss(event: &Event) -> Option<SessionId> {
    if let What::Reported(session) = event.what { Some(session) } else { None }
}

struct Waiting {
    first: OpId,
    reads: u64,
    answered: bool,
}

fn took(op: &Op, bound: u64) -> String {
    match op.finished {
        Some((stamp, _)) => {
            format!("It took {} us and was allowed {bound}", stamp.at.saturating_sub(op.invoked.at))
        }
        None => format!("It was allowed {bound} us"),
    }
}
