//! The tiers in front of the source.

pub(crate) mod codec;
pub(crate) mod envelope;
pub(crate) mod local;
pub(crate) mod pack;
pub(crate) mod redis;
pub(crate) mod shared;

pub use self::redis::RedisTier;
pub use codec::{Bincode, Codec, CodecError};
pub use shared::{Address, Offer, SharedTier, TierError};
