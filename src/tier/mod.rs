//! The tiers in front of the source.

pub(crate) mod envelope;
pub(crate) mod shared;

pub use shared::{Address, Offer, SharedTier, TierError};
