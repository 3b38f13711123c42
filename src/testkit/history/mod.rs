//! Histories of operations, and the checker that holds them against the promise.
//!
//! The checker sees what clients saw and nothing else: who asked for what, when, and what they were told. It knows
//! the promise and not how the promise is kept, so a simulator, a test on real servers and a benchmark can share it,
//! and a mistake in the protocol cannot hide in the checker as well.
//!
//! # What a harness must arrange
//!
//! - Each row holds a version, raised by one under the row lock by every write, and the [`OpId`] of the write that
//!   made it. An absent row is version 0. A row that can be deleted keeps a tombstone with a version, and rows that
//!   exist from the start are recorded as writes too.
//! - An operation is recorded before it begins and again after it has ended. Precedence is the order of recording;
//!   times only serve staleness bounds and liveness. A read that was abandoned is recorded as
//!   [`Outcome::Failed`], an abandoned write as [`Outcome::Unknown`].
//! - [`History::replaced`] is recorded before a failover is set off, so that no effect can precede it. Which writes it
//!   lost can be added whenever that is known ([`History::lose`]).
//! - Where the version of a write is learned although its outcome is not, [`Outcome::Unknown`] carries it. A write
//!   whose version nobody ever learned does not exist for the checker, which may then miss that a lost value was
//!   built on it; it never accuses wrongly for that.
//!
//! # What is decided
//!
//! See [`Kind`] for each promise. An answer labelled stale breaks no promise of freshness and is counted; an error
//! breaks none either, except [`Liveness`]. The cost is O(n log n) for n events, times the number of replaced
//! histories, and each handover costs the number of keys that the giver had been told about.
//!
//! ```
//! use highwater::Rung;
//! use highwater::testkit::history::{Ask, History, KeyId, Kind, Limits, Outcome, Seen, SessionId, check};
//!
//! let (alice, row) = (SessionId(1), KeyId(7));
//! let mut history = History::new();
//! let write = history.write(10, alice, row);
//! history.finish(20, write, Outcome::committed(1));
//! let read = history.read(30, alice, row, Ask::session());
//! history.finish(40, read, Outcome::Saw(Seen::absent(Rung::Replica)));
//!
//! let verdict = check(&history, &Limits::default());
//! assert_eq!(verdict.count(Kind::ReadYourWrites), 1);
//! println!("{verdict}");
//! ```

mod check;
mod edn;
mod fates;
mod findings;
mod liveness;
mod log;
mod needs;
mod op;
mod positions;
mod promises;
mod recorder;
mod sessions;
mod tally;
mod told;
mod values;
mod verdict;
mod violation;

pub use check::check;
pub use log::{History, Replacement};
pub use op::{Ask, Call, InstanceId, KeyId, Op, OpId, Outcome, Seen, SessionId, Stamp};
pub use recorder::Recorder;
pub use verdict::{Limits, Liveness, Tally, Verdict};
pub use violation::{Kind, Violation};
