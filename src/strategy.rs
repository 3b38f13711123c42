//! How a cache answers: by position, or as it was done before.

use std::time::Duration;

/// How a cache answers reads. Set by [`CacheBuilder::strategy`](crate::CacheBuilder::strategy), so that one line switches a
/// service over, or back, and both can be compared; the example `freshness` does that.
///
/// All but the three by position break the promise of this crate, each
/// in its own way, and none of them looks at [`Freshness`](crate::Freshness) and [`Fallback`](crate::Fallback). What they answer
/// says what it is: [`Read::rung`](crate::Read::rung) tells where it came from, and it is labelled
/// [`stale`](crate::Read::stale) unless its position happens to prove what the read asked for. They read that position as
/// the others do, so their loads cost a little more here than without this crate. They join no loads.
///
/// Writes are the same under every strategy: begin, change, retract, commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// The first rung that provably reaches the read's floor, by its tag or by the watermark. The default.
    #[default]
    Position,
    /// As [`Position`](Self::Position), by tags alone: whoever wrote misses on everything that was filled before. Keeps the
    /// promise too, and shows what the watermark is worth.
    PositionByTags,
    /// As [`Position`](Self::Position), without tiers: each read goes to a replica that has reached the floor, or waits for
    /// one, or falls back. Breaks nothing, and saves the servers nothing.
    PositionUncached,
    /// Every read asks the primary. Breaks nothing while there is one primary, and replicas do nothing.
    Primary,
    /// The primary for this long after a write of the session, any replica otherwise.
    ///
    /// Breaks read-your-writes whenever the lag is longer than the window, and monotonic reads always. It counts writes made
    /// through this [`Session`](crate::Session) and its clones: one that was made anew from a token does not know when it
    /// wrote.
    PrimaryAfterWrite(Duration),
    /// One replica for each session, another only when that is out. The session keeps it in this process.
    ///
    /// Breaks read-your-writes for as long as that replica lags. Monotonic until the session has to change over.
    StickyReplica,
    /// The replicas by turns. Breaks read-your-writes and monotonic reads for as long as any of them lags.
    AnyReplica,
    /// Cache-aside: an entry is used until its time to live is over, and filled by any replica. Writes reach nobody.
    ///
    /// Breaks read-your-writes for the time to live and the lag after it.
    TimeToLive,
    /// Cache-aside, and a write deletes what it names: here at once, in Redis, and elsewhere when its message is heard.
    ///
    /// Breaks read-your-writes when a fill that began before the deletion, or that came from a replica which is behind it,
    /// puts the old row back for a whole time to live; and where the message is late or lost. Redis still refuses what was
    /// filled below a retraction, so this is better here than it is by hand.
    DeleteOnWrite,
    /// Cache-aside, and a writer puts what it wrote into its own tier and into Redis
    /// ([`Cache::write_through`](crate::Cache::write_through)). Other instances keep what they have.
    ///
    /// Breaks read-your-writes for who is answered by another instance, and for who reads after the entry was evicted, by the
    /// lag. Two writers of one row may leave the older one's value behind.
    WriteThrough,
}

impl Strategy {
    /// Whether it answers from the tiers as this crate does.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Position | Self::PositionByTags)
    }

    /// Whether it keeps what it loaded.
    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::TimeToLive | Self::DeleteOnWrite | Self::WriteThrough)
    }
}
