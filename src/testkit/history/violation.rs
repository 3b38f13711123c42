//! Violations, told so that a human can follow them.

use std::fmt;

use super::op::{Call, Op, Outcome, name};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A read missed a write that its session had been told of, or had been handed.
    ReadYourWrites,
    /// A read was answered, without a label, as if a write that the session had been told of, or a value that it had
    /// seen and must not fall behind, had never been: history was replaced, and nobody had said so to the session.
    LossPaperedOver,
    /// A read reflected less than an earlier one of its session.
    MonotonicReads,
    /// A read missed a write told longer ago than its bound.
    BoundedStaleness,
    /// A read missed a write told before it began.
    Latest,
    /// A read missed a write that had been retracted at the instance that was asked.
    Retraction,
    /// A value that names no write, or names none where there must be one.
    NeverWritten,
    /// A value of a write that was rolled back.
    RolledBack,
    /// A value of another row.
    WrongRow,
    /// A value whose version is not the one that its write made.
    WrongVersion,
    /// A value read before its write was begun.
    TooEarly,
    /// An answer claims a position and misses a write below it.
    PositionOverstated,
    /// Two writes contradict the order of versions though no replaced history explains it: a split brain, or a loss
    /// that the harness did not name.
    ForkedHistory,
    /// An operation begun after the faults were healed did not end in time.
    Stuck,
    /// A session read after the faults were healed and was never answered.
    Starved,
    /// The history contradicts itself, so that nothing can be concluded from it.
    Malformed,
}

/// One broken promise, with the operations that show it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// The operation that broke it.
    pub op: Option<Op>,
    /// The operation that it contradicts.
    pub against: Option<Op>,
    /// What else is needed to understand it.
    pub note: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.kind)?;
        if let Some(op) = &self.op {
            write!(f, " {op}.")?;
        }
        if let Some(against) = &self.against {
            write!(f, " Against it stands: {against}.")?;
        }
        if !self.note.is_empty() {
            write!(f, " {}.", self.note)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadYourWrites => "Read your writes: the answer misses a write that the session had been told of",
            Self::LossPaperedOver => "Loss papered over: the session was never told that what it knew is lost",
            Self::MonotonicReads => "Monotonic reads: the answer reflects less than an earlier one",
            Self::BoundedStaleness => "Bounded staleness: the answer misses a write older than the bound",
            Self::Latest => "Latest: the answer misses a write told before the read began",
            Self::Retraction => "Retraction: the answer misses a write that was retracted at the instance",
            Self::NeverWritten => "Never written: no write can have made this value",
            Self::RolledBack => "Rolled back: the value comes from a write that never happened",
            Self::WrongRow => "Wrong row: the value belongs to another key",
            Self::WrongVersion => "Wrong version: the write behind this value made another version",
            Self::TooEarly => "Too early: the value was read before its write began",
            Self::PositionOverstated => "Position overstated: the answer misses a write below the position it claims",
            Self::ForkedHistory => "Forked history: two writes contradict the order of versions",
            Self::Stuck => "Stuck: the operation did not end in time after the faults were healed",
            Self::Starved => "Starved: no read of the session was answered after the faults were healed",
            Self::Malformed => "Malformed history",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, session, key, call, invoked, finished } = self;
        match call {
            Call::Write => write!(f, "Write {id} of {key} by {session}, begun at {invoked}")?,
            Call::Read(ask) => {
                write!(f, "Read {id} of {key} by {session}, asking for")?;
                let mut asked = false;
                for (name, wanted) in
                    [("own writes", ask.own_writes), ("monotonic", ask.monotonic), ("latest", ask.latest)]
                {
                    if wanted {
                        write!(f, "{} {name}", if asked { " and" } else { "" })?;
                        asked = true;
                    }
                }
                if let Some(instance) = ask.at {
                    write!(f, " (of {instance})")?;
                }
                match ask.within {
                    Some(bound) => write!(f, "{} at most {bound} us stale", if asked { " and" } else { "" })?,
                    None if !asked => write!(f, " nothing")?,
                    None => {}
                }
                write!(f, ", begun at {invoked}")?;
            }
        }
        match finished {
            Some((stamp, outcome)) => write!(f, ", at {stamp} {outcome}"),
            None => write!(f, ", never ended"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { version, .. } => write!(f, "told committed as version {version}"),
            Self::RolledBack => write!(f, "told rolled back"),
            Self::Unknown { .. } => write!(f, "ended with its outcome unknown"),
            Self::Failed => write!(f, "ended in an error"),
            Self::Saw(seen) => {
                write!(f, "answered by the {} rung with ", name(seen.rung))?;
                match seen.write {
                    Some(write) => write!(f, "version {} made by {write}", seen.version)?,
                    None => write!(f, "version {} made by nobody", seen.version)?,
                }
                if let Some(position) = seen.position {
                    write!(f, ", reflecting position {position}")?;
                }
                f.write_str(if seen.labelled_stale { ", labelled stale" } else { ", not labelled" })
            }
        }
    }
}
