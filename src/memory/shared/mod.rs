//! The shared tier and the ledger, in one server as in Redis.

mod bus;
mod edge;
mod faults;
mod log;
mod redis;

pub use bus::{Delivery, Subscription};
pub use edge::{Call, Line, Shared, Way};
#[cfg(feature = "internals")]
pub(crate) use log::Log;
pub use redis::Copy;
