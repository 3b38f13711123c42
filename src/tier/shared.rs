//! The edge to the tier that instances share.

use crate::digest::Digest;
use crate::sealed::Sealed;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::time::Duration;

/// Where an entry lies in the shared tier: within one history, at one key.
///
/// When history is replaced its fingerprint changes, and with it the address of every entry: nothing has to be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Address {
    /// [`History::fingerprint`](crate::History::fingerprint).
    pub history: u64,
    /// The key.
    pub key: Digest,
}

/// An entry on its way into the shared tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Where it goes.
    pub address: Address,
    /// The sealed envelope, whose header the tier compares by the Admit rule.
    pub envelope: Vec<u8>,
    /// How long it may stay.
    pub life: Duration,
}

/// The tier that instances share: [`RedisTier`](super::RedisTier), or in memory [`Shared`](crate::memory::Shared). It may be down, slow, wiped, or hold an older copy of itself: that costs hits, never
/// an answer. Every operation is bounded in time by the adapter.
///
/// Sealed: an adapter compares headers and admits by a rule that this crate keeps to itself.
pub trait SharedTier: Sealed + Send + Sync + 'static {
    /// Reads the envelopes at these addresses in one round trip, in the same order. Dropping the future changes nothing.
    fn fetch(&self, addresses: &[Address]) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>, TierError>> + Send;

    /// Admits these entries, each in one atomic step under the Admit rule: over nothing, over a lower rank, over a
    /// marker not above the tag. Dropped, it may have happened or not.
    fn admit(&self, offers: Vec<Offer>) -> impl Future<Output = Result<(), TierError>> + Send;
}

/// [`SharedTier`] as an object: one allocation is nothing beside a round trip.
pub(crate) trait DynSharedTier: Send + Sync {
    fn fetch<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, TierError>>;
    fn admit(&self, offers: Vec<Offer>) -> BoxFuture<'_, Result<(), TierError>>;
}

impl<T: SharedTier> DynSharedTier for T {
    fn fetch<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, TierError>> {
        Box::pin(SharedTier::fetch(self, addresses))
    }

    fn admit(&self, offers: Vec<Offer>) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(SharedTier::admit(self, offers))
    }
}

/// Why the shared tier or the ledger did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct TierError {
    what: String,
    #[source]
    cause: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl TierError {
    /// An error in these words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    /// The same error with the client library's error behind it.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(std::sync::Arc::new(cause));
        self
    }
}
