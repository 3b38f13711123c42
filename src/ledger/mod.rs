//! The edge that retractions travel on: one round trip tells the shared tier and every instance.

pub(crate) mod announcer;
pub(crate) mod bus;
pub(crate) mod hearing;
pub(crate) mod listener;
pub(crate) mod message;
pub(crate) mod order;
pub(crate) mod place;
mod redis;

use crate::digest::Digest;
use crate::sealed::Sealed;
use crate::tier::TierError;
use crate::{Lsn, Position};
use std::future::Future;
use std::time::Duration;

pub use self::redis::{RedisLedger, RedisSubscription};
pub use crate::lineage::Lineage;

/// The most keys and groups that one notice carries; a larger retraction is told in several.
pub const NOTICE_NAMES_MAX: usize = 1024;

/// A write's notice that keys and groups changed, at a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The history that the position lies in ([`History::fingerprint`](crate::History::fingerprint)).
    pub history: u64,
    /// The token of the write: every entry of these names with a lower tag is retracted.
    pub position: Position,
    /// The keys that changed.
    pub keys: Vec<Digest>,
    /// The groups that changed.
    pub groups: Vec<Digest>,
}

/// A commit that may come: told before COMMIT, so that the watermark stays below it until it is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Tells it from every other: 16 bytes that nobody can guess.
    pub id: [u8; 16],
    /// What will be retracted, at a position of the log that the commit will be above. Of more than 240 names none are kept for
    /// whoever finds that the writer is gone.
    pub notice: Notice,
    /// The transaction's id, where it is known, for whoever finds that its writer is gone.
    pub xid: Option<u64>,
    /// How long the watermark waits for it, by the log's clock.
    pub lease: Duration,
    /// Only more is told of what stands: no place of its own, and no longer a wait. What was given up must not stand again: the
    /// watermark may have passed the commit meanwhile, and the settlement would find nothing wrong.
    pub renews: bool,
}

/// The end of an announcement: the commit is at or below its notice's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The announcement's.
    pub id: [u8; 16],
    /// What the primary had flushed when the token was read.
    pub flush: Lsn,
}

/// What the log answers to a retraction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retracted {
    /// The log that had the announcement until now, and has the retraction: it vouches for the write. `None` where there was
    /// none, or it had been given up.
    pub vouched_by: Option<Lineage>,
    /// Announcements whose writers are gone, as they are kept: each is told when it is given up, and once more after some
    /// seconds, since whoever was told may have died of the same.
    pub abandoned: Vec<Vec<u8>>,
    /// How many were given up just now, those of which nothing is kept included.
    pub given_up: u64,
}

/// What an instance says with its heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pulse {
    /// How often history was replaced without a new timeline, as far as the instance knows.
    pub generation: u64,
    /// The instance's history ([`History::fingerprint`](crate::History::fingerprint)).
    pub history: u64,
    /// What its primary has flushed, as far as the instance knows.
    pub flush: Lsn,
}

/// What the log answers to a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beat {
    /// How often history was replaced without a new timeline, as far as this log knows.
    pub generation: u64,
    /// As of a retraction ([`Retracted::abandoned`]).
    pub abandoned: Vec<Vec<u8>>,
    /// How many were given up just now, those of which nothing is kept included.
    pub given_up: u64,
    /// How many announcements are open.
    pub open: u64,
    /// When the first of them is given up, from now; zero where there is none.
    pub first_ends: Duration,
}

/// The log of retractions that instances share: [`RedisLedger`], or in memory [`Shared`](crate::memory::Shared).
///
/// Sealed: an adapter writes messages and markers in a form that this crate keeps to itself, and that instances of
/// several releases have to agree on.
///
/// The adapter only carries bytes and runs scripts; whether the bus is live, whether a message is missing and what that
/// means is decided above it. Every operation is bounded in time by the adapter.
pub trait Ledger: Sealed + Send + Sync + 'static {
    /// What [`subscribe`](Self::subscribe) returns.
    type Subscription: Subscription;

    /// Tells the log that a commit may come. Returns the log's lineage, or `None` where it does not take the announcement:
    /// too many are open, it was settled before it arrived, or another stands under its id. Dropped, it may have happened or not.
    fn announce(&self, announcement: &Announcement) -> impl Future<Output = Result<Option<Lineage>, TierError>> + Send;

    /// Takes an announcement back: nothing was committed.
    fn withdraw(&self, id: [u8; 16]) -> impl Future<Output = Result<(), TierError>> + Send;

    /// In one atomic step: leaves a marker at each key in the shared tier, to stay for `keep`, takes the log's next
    /// sequence number, ends the announcement, raises the watermark as far as that and all others allow, keeps the message
    /// for those who miss it, and publishes it. In a cluster the markers are left in steps of their own, before. Dropped, it
    /// may have happened or not.
    fn retract(
        &self,
        notice: &Notice,
        keep: Duration,
        settlement: Option<Settlement>,
    ) -> impl Future<Output = Result<Retracted, TierError>> + Send;

    /// Publishes a heartbeat that carries `nonce` and the log's current sequence number, after raising the log's
    /// generation to the pulse's, and the watermark as far as the open announcements allow.
    fn beat(&self, nonce: u64, pulse: Pulse) -> impl Future<Output = Result<Beat, TierError>> + Send;

    /// The messages of the log of `lineage` after sequence number `after`, to its end; `None` where it is another log, or
    /// has not kept all of them.
    fn repair(
        &self,
        lineage: Lineage,
        after: u64,
    ) -> impl Future<Output = Result<Option<Vec<Vec<u8>>>, TierError>> + Send;

    /// Opens a new subscription; it is confirmed by the server when this returns.
    fn subscribe(&self) -> impl Future<Output = Result<Self::Subscription, TierError>> + Send;
}

/// One open subscription. Sealed, as [`Ledger`] is.
pub trait Subscription: Sealed + Send + 'static {
    /// The next message, undecoded; `None` once the subscription has ended for whatever reason. May be dropped at any
    /// await without losing a message.
    fn next(&mut self) -> impl Future<Output = Option<Vec<u8>>> + Send;
}
