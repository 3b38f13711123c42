//! What is compared.

use clap::ValueEnum;
use highwater::Strategy;
use std::time::Duration;

/// One strategy with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    /// every read asks the primary
    Primary,
    /// the primary for a time after a write of the session (--window), any replica otherwise
    Window,
    /// one replica for each session
    Sticky,
    /// the replicas by turns
    Replica,
    /// a replica that has reached the session's position, no cache
    Routed,
    /// the same, with each user's position kept in Redis and fetched for each request
    Stored,
    /// cache-aside with a time to live of 1 s
    #[value(name = "ttl-1s")]
    Ttl1,
    /// cache-aside with a time to live of 10 s
    #[value(name = "ttl-10s")]
    Ttl10,
    /// cache-aside with a time to live of 60 s
    #[value(name = "ttl-60s")]
    Ttl60,
    /// a time to live of 60 s, and a write deletes its key by pub/sub
    Delete,
    /// a time to live of 60 s, and a writer puts what it wrote into its tier and Redis
    WriteThrough,
    /// highwater
    Highwater,
    /// highwater without its watermark: whoever wrote misses on what was filled before
    Tags,
    /// the same, with caches that ask a session only for what it wrote of the key that is read
    Keys,
    /// highwater, for sessions that ask for monotonic reads too
    Monotonic,
    /// never stale and no needless miss: computed from the log of the versions, with the same room
    Oracle,
}

/// How long an entry may be used where invalidation and not time is to end it.
const LONG: Duration = Duration::from_secs(60);

impl Contestant {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The library's strategy, and the time to live; `None` where nothing is run.
    pub(crate) fn strategy(self, window: Duration, ours: Duration) -> Option<(Strategy, Duration)> {
        Some(match self {
            Self::Primary => (Strategy::Primary, ours),
            Self::Window => (Strategy::PrimaryAfterWrite(window), ours),
            Self::Sticky => (Strategy::StickyReplica, ours),
            Self::Replica => (Strategy::AnyReplica, ours),
            Self::Routed | Self::Stored => (Strategy::PositionUncached, ours),
            Self::Ttl1 => (Strategy::TimeToLive, Duration::from_secs(1)),
            Self::Ttl10 => (Strategy::TimeToLive, Duration::from_secs(10)),
            Self::Ttl60 => (Strategy::TimeToLive, LONG),
            Self::Delete => (Strategy::DeleteOnWrite, LONG),
            Self::WriteThrough => (Strategy::WriteThrough, LONG),
            Self::Highwater | Self::Monotonic => (Strategy::Position, ours),
            Self::Tags | Self::Keys => (Strategy::PositionByTags, ours),
            Self::Oracle => return None,
        })
    }

    /// Whether its caches are scoped.
    pub(crate) fn is_scoped(self) -> bool {
        self == Self::Keys
    }

    /// Whether it promises that a session sees its own writes. Positions in Redis are as good as Redis, and no better.
    pub(crate) fn promises_own_writes(self) -> bool {
        let ours = matches!(self, Self::Highwater | Self::Tags | Self::Keys | Self::Monotonic);
        ours || matches!(self, Self::Primary | Self::Routed | Self::Oracle)
    }

    /// Whether it keeps what it read.
    pub(crate) fn caches(self) -> bool {
        !matches!(self, Self::Primary | Self::Window | Self::Sticky | Self::Replica | Self::Routed | Self::Stored)
    }

    /// Whether it must miss own writes where replicas lag for seconds: if it does not, something is wrong here.
    pub(crate) fn must_miss(self) -> bool {
        matches!(self, Self::Replica | Self::Window | Self::Ttl1 | Self::Ttl10 | Self::Ttl60)
    }

    pub(crate) fn promises_monotonic(self) -> bool {
        matches!(self, Self::Primary | Self::Monotonic | Self::Oracle)
    }
}
