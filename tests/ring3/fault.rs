//! The classes of faults.

use crate::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// One class of faults. The numbers are rows of the table in `docs/testing.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

faults! {
    /// A replica is killed and started again.
    KillReplica,
    /// The primary is killed and started again; nothing that was told is lost.
    KillPrimary,
    /// The same while commits do not wait for the flush. What it loses was never promised, so the round's history ends.
    CrashUnflushed,
    FreezePrimary,
    FreezeReplica,
    /// Some backends of one server stand still, with the locks they hold.
    FreezeBackends,
    PauseReplay,
    ApplyDelay,
    /// Recovery cancels what reads on the replicas at once.
    ConflictStorm,
    TerminateBackends,
    /// A replica that lacks the last writes becomes the primary; the others are rebuilt from it.
    Promote,
    /// A column comes and goes under load.
    AlterTable,
    CutPostgres,
    /// The network loses what a server sends, or what it is sent, and says so to nobody.
    HalfOpenPostgres,
    /// Answers to COMMIT are lost, one after another.
    LoseCommitReplies,
    CutRedis,
    HalfOpenRedis,
    KillRedis,
    /// Longer than any client's budget of retries.
    KillRedisLong,
    FreezeRedis,
    WipeRedis,
    ForgetScripts,
    RefuseSubscription,
    /// Redis closes subscriptions instead of delivering what is too large for them.
    SmallOutputBuffer,
    EvictAnyLru,
    EvictAnyLfu,
    EvictVolatileLru,
    EvictVolatileTtl,
    /// Redis is full and takes nothing.
    RedisFull,
    KillWorker,
}

/// Faults of one lane strike one after the other, those of two lanes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Postgres,
    Rest,
}

impl Fault {
    pub(crate) fn lane(self) -> Lane {
        if self <= Self::AlterTable { Lane::Postgres } else { Lane::Rest }
    }

    /// It takes longer than a round of the normal tests has.
    pub(crate) fn is_long(self) -> bool {
        self == Self::KillRedisLong
    }

    /// Only one of these in a round: after it, what was lost can be told from the table alone.
    pub(crate) fn loses_writes(self) -> bool {
        matches!(self, Self::Promote | Self::CrashUnflushed)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Fault {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(name: &str) -> Result<Self> {
        let named = Self::ALL.iter().copied().find(|fault| fault.to_string() == name);
        named.ok_or_else(|| format!("there is no fault {name}; there are {:?}", Self::ALL).into())
    }
}

/// The faults of one lane in random order, each once before any comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    pub(crate) fn new(faults: &[Fault], lane: Lane) -> Self {
        Self { all: faults.iter().copied().filter(|fault| fault.lane() == lane).collect(), left: Vec::new() }
    }

    /// The next one; one that may lose writes stays in the deck where `spare` says that there was one.
    pub(crate) fn draw(&mut self, spare: bool, chance: &mut StdRng) -> Option<Fault> {
        let fits = |fault: &Fault| !(spare && fault.loses_writes());
        if !self.left.iter().any(fits) {
            let mut more = self.all.clone();
            more.retain(|fault| !self.left.contains(fault));
            more.shuffle(chance);
            more.append(&mut self.left);
            self.left = more;
        }
        let place = self.left.iter().rposition(fits)?;
        Some(self.left.remove(place))
    }
}
