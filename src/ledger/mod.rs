//! The edge that retractions travel on: one round trip tells the shared tier and every instance.

pub(crate) mod announcer;
pub(crate) mod bus;
pub(crate) mod hearing;
pub(crate) mod listener;
pub(crate) mod message;
mod place;
mod redis;

use crate::Position;
use crate::digest::Digest;
use crate::sealed::Sealed;
use crate::tier::TierError;
use std::future::Future;
use std::time::Duration;

pub use self::redis::{RedisLedger, RedisSubscription};

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

/// What the log answers to a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// How often history was replaced without a new timeline, as far as this log knows.
    pub generation: u64,
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

    /// In one atomic step: leaves a marker at each key in the shared tier, to stay for `keep`, takes the log's next
    /// sequence number, and publishes the notice with it. Dropped, it may have happened or not.
    fn retract(&self, notice: &Notice, keep: Duration) -> impl Future<Output = Result<(), TierError>> + Send;

    /// Publishes a heartbeat that carries `nonce` and the log's current sequence number, after raising the log's
    /// generation to at least `generation`.
    fn beat(&self, nonce: u64, generation: u64) -> impl Future<Output = Result<Beat, TierError>> + Send;

    /// Opens a new subscription; it is confirmed by the server when this returns.
    fn subscribe(&self) -> impl Future<Output = Result<Self::Subscription, TierError>> + Send;
}

/// One open subscription. Sealed, as [`Ledger`] is.
pub trait Subscription: Sealed + Send + 'static {
    /// The next message, undecoded; `None` once the subscription has ended for whatever reason. May be dropped at any
    /// await without losing a message.
    fn next(&mut self) -> impl Future<Output = Option<Vec<u8>>> + Send;
}
