//! Operations: what was asked, by whom, when, and what the client was told.

use crate::{Read, Rung};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A client's session.
    SessionId,
    "session "
);
id!(
    /// One instance of the system, which answers reads and is told what was retracted.
    InstanceId,
    "instance "
);
id!(
    /// A row, as the cache is asked for it.
    KeyId,
    "key "
);
id!(
    /// One operation. Unique in a history, so that a value can name the write that made it.
    OpId,
    "#"
);

/// When something was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its place in the total order of events.
    pub index: usize,
    /// Microseconds on the history's one clock.
    pub at: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} us (event {})", self.at, self.index)
    }
}

/// The promises one read asks for; they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Reflect every write that the session had been told of.
    pub own_writes: bool,
    /// Reflect no less than the session's earlier reads, but for those that asked for nothing and answers labelled stale.
    pub monotonic: bool,
    /// Reflect every write told longer ago than this many microseconds.
    pub within: Option<u64>,
    /// Reflect every write told to anybody.
    pub latest: bool,
    /// Reflect every write that was retracted at this instance, which is asked.
    pub at: Option<InstanceId>,
}

impl Ask {
    /// Anything that was ever committed will do.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Read your writes.
    #[must_use]
    pub fn session() -> Self {
        Self { own_writes: true, ..Self::default() }
    }

    /// Bounded staleness alone; add [`Ask::own_writes`] where the reader has both.
    #[must_use]
    pub fn within(micros: u64) -> Self {
        Self { within: Some(micros), ..Self::default() }
    }

    /// Everything told before the read began.
    #[must_use]
    pub fn latest() -> Self {
        Self { latest: true, ..Self::default() }
    }

    /// Asks this instance, which must reflect what it was told is retracted.
    #[must_use]
    pub fn at(mut self, instance: InstanceId) -> Self {
        self.at = Some(instance);
        self
    }

    /// Asks for monotonic reads as well.
    #[must_use]
    pub fn monotonic(mut self) -> Self {
        self.monotonic = true;
        self
    }

    /// Asks for the session's own writes as well.
    #[must_use]
    pub fn own_writes(mut self) -> Self {
        self.own_writes = true;
        self
    }
}

/// What a story and a notation call a rung.
pub(super) fn name(rung: Rung) -> &'static str {
    match rung {
        Rung::Local => "local",
        Rung::Shared => "shared",
        Rung::Replica => "replica",
        Rung::Primary => "primary",
    }
}

/// The answer to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The row's version, 0 where there is none.
    pub version: u64,
    /// The write that the row names as its maker.
    pub write: Option<OpId>,
    /// Where the answer came from.
    pub rung: Rung,
    /// Whether the answer says that it may be too old.
    pub labelled_stale: bool,
    /// The position that the answer claims to reflect.
    pub position: Option<u64>,
}

impl Seen {
    /// What a read showed, with its label and without its position; `row` tells the version of the value and its maker.
    #[must_use]
    pub fn of<V>(read: &Read<V>, row: impl FnOnce(&V) -> (u64, OpId)) -> Self {
        let value = read.value.as_deref().map(row);
        let (version, write) = (value.map_or(0, |(version, _)| version), value.map(|(_, write)| write));
        Self { version, write, rung: read.rung, labelled_stale: read.stale, position: None }
    }

    /// A row at `version`, made by `write`, not labelled.
    #[must_use]
    pub fn row(version: u64, write: OpId, rung: Rung) -> Self {
        Self { version, write: Some(write), rung, labelled_stale: false, position: None }
    }

    /// No such row, not labelled.
    #[must_use]
    pub fn absent(rung: Rung) -> Self {
        Self { version: 0, write: None, rung, labelled_stale: false, position: None }
    }

    /// Labels the answer as stale.
    #[must_use]
    pub fn stale(mut self) -> Self {
        self.labelled_stale = true;
        self
    }

    /// Claims that the answer reflects `position`.
    #[must_use]
    pub fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Raise the row's version by one.
    Write,
    /// Read the row.
    Read(Ask),
}

/// How an operation ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The write was told to be committed.
    Committed {
        /// The version that it gave the row.
        version: u64,
        /// The position it was told, if positions are to be checked too.
        position: Option<u64>,
    },
    /// The write did not happen, and never will.
    RolledBack,
    /// The write may have happened, or may yet.
    Unknown {
        /// The version it would have, where the statement had answered.
        version: Option<u64>,
    },
    /// The read was answered.
    Saw(Seen),
    /// The read ended in an error.
    Failed,
}

impl Outcome {
    /// A committed write whose position is not checked.
    #[must_use]
    pub fn committed(version: u64) -> Self {
        Self::Committed { version, position: None }
    }

    pub(super) fn suits(&self, call: Call) -> bool {
        let of_read = matches!(self, Self::Saw(_) | Self::Failed);
        of_read == matches!(call, Call::Read(_))
    }
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its identity.
    pub id: OpId,
    /// Who asked.
    pub session: SessionId,
    /// Which row.
    pub key: KeyId,
    /// What for.
    pub call: Call,
    /// When it began.
    pub invoked: Stamp,
    /// When and how it ended, if it did.
    pub finished: Option<(Stamp, Outcome)>,
}

impl Op {
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.finished.map(|(_, outcome)| outcome)
    }

    /// When a commit was told, and the version told with it.
    pub(super) fn told(&self) -> Option<(Stamp, u64)> {
        match self.finished {
            Some((stamp, Outcome::Committed { version, .. })) => Some((stamp, version)),
            _ => None,
        }
    }

    /// When a read was answered, and with what.
    pub(super) fn seen(&self) -> Option<(Stamp, Seen)> {
        match self.finished {
            Some((stamp, Outcome::Saw(seen))) => Some((stamp, seen)),
            _ => None,
        }
    }
}
