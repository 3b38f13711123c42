//! What a user wrote on one device, their others must see: a store of tokens by the application's user id.
//!
//! A token travels with one device. Where a person writes on the phone and reads on the laptop, the laptop's request carries
//! nothing of it; [`Devices`] keeps, for each user, what all of their devices hold together.
//!
//! ```
//! use highwater::devices::{Devices, Remembered};
//! use highwater::memory::{Cluster, Shared};
//! use highwater::{Highwater, Session};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = Cluster::new(1);
//! # let store = Highwater::over(cluster.source()).start().await?;
//! // With Redis: RedisDevices::open(RedisLink::connect("redis://..".into()).await?).await?
//! let devices = Devices::builder(Shared::default()).store(&store).build()?;
//!
//! let phone = Session::new();
//! let visit = devices.visit(&phone, "user 7"); // asks, and does not wait
//! store.begin(&phone).await?.commit().await?; // reads and writes go on meanwhile
//! assert_eq!(visit.remember().await, Remembered::Stored); // before the answer goes out
//!
//! let laptop = Session::new();
//! devices.visit(&laptop, "user 7"); // reads wait for what is still on its way
//! laptop.gathered().await;
//! assert_eq!(laptop.token(), phone.token());
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, `TokenLayer::devices` does this for a service. [The guide](crate::_docs::tokens) has what holds when the store
//! is away or has lost data, and how to run it.

mod deferred;
mod eras;
pub(crate) mod record;
mod redis;
mod store;
mod visit;

pub use self::redis::RedisDevices;
pub use store::{Devices, DevicesBuilder, DevicesStats};
pub use visit::{Remembered, Visit};

pub(crate) use record::Record;

use crate::Digest;
use crate::sealed::Sealed;
use crate::tier::TierError;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::time::Duration;

/// One look at a user's record, with what is to be merged into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// What is to be merged, or nothing.
    pub record: Vec<u8>,
    /// The record that it was made from, or nothing. Where that is still there it is replaced.
    pub from: Vec<u8>,
    /// How long the record lives from now on.
    pub life: Duration,
    /// An era that the caller has reason not to believe: where it is the present one, another is begun.
    pub disbelieved: Option<u64>,
}

/// What the store answers to an [`Exchange`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchanged {
    /// The era that the store is in: it has lost nothing since that was begun. Never zero.
    pub era: u64,
    /// When the era began, in milliseconds by the store's clock.
    pub begun_ms: u64,
    /// It began a life ago or more: whatever was lost before it has ended by now.
    pub is_old: bool,
    /// This call began it.
    pub is_new: bool,
    /// The record as it is now, undecoded; nothing where there is none.
    pub record: Vec<u8>,
}

/// The edge to where users' records are kept: [`RedisDevices`], or in memory [`Shared`](crate::memory::Shared).
///
/// Sealed: an adapter merges records by a rule that this crate keeps to itself.
pub trait DeviceStore: Sealed + Send + Sync + 'static {
    /// In one atomic step and one round trip: merges into the record of `user`, if there is something to be merged, and
    /// returns it. Bounded in time by the adapter. Dropped, it may have happened or not.
    fn exchange(&self, user: Digest, exchange: Exchange) -> impl Future<Output = Result<Exchanged, TierError>> + Send;
}

/// [`DeviceStore`] as an object.
trait DynDeviceStore: Send + Sync {
    fn exchange_boxed(&self, user: Digest, exchange: Exchange) -> BoxFuture<'_, Result<Exchanged, TierError>>;
}

impl<D: DeviceStore> DynDeviceStore for D {
    fn exchange_boxed(&self, user: Digest, exchange: Exchange) -> BoxFuture<'_, Result<Exchanged, TierError>> {
        Box::pin(DeviceStore::exchange(self, user, exchange))
    }
}

#[cfg(test)]
mod tests;
