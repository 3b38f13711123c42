//! No invented values: every value read was made by the write that it names.

use super::fates::Fates;
use super::log::History;
use super::op::{Call, Op, Outcome, Seen};
use super::violation::Kind;

/// Why the answer to `read` cannot be real.
pub(super) fn invented(history: &History, fates: &Fates, read: &Op, seen: &Seen) -> Option<Kind> {
    let Some(id) = seen.write else {
        return (seen.version != 0).then_some(Kind::NeverWritten);
    };
    let Some(write) = history.op(id).filter(|op| matches!(op.call, Call::Write)) else {
        return Some(Kind::NeverWritten);
    };
    let answered = read.finished.map(|(stamp, _)| stamp.index);
    if write.key != read.key {
        Some(Kind::WrongRow)
    } else if answered < Some(write.invoked.index) {
        Some(Kind::TooEarly)
    } else if matches!(write.outcome(), Some(Outcome::RolledBack)) {
        Some(Kind::RolledBack)
    } else if fates.version(id) != Some(seen.version) {
        Some(Kind::WrongVersion)
    } else {
        None
    }
}
