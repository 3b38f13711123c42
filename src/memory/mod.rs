//! A cluster, a shared tier and a ledger in memory: for unit tests of what is built on this crate, and for its own
//! simulator.
//!
//! [`Cluster`] stands for the PostgreSQL servers and [`Shared`] for the Redis server; both are made to misbehave in all
//! the ways that the real ones were seen to. Everything runs on tokio's clock, so a test with paused time is quick and
//! always runs the same way.

mod cluster;
mod connection;
mod faults;
mod lease;
mod life;
mod network;
mod primary;
mod rows;
mod server;
mod shared;
mod source;
mod standby;
mod state;
mod tx;
mod view;
mod wal;
mod world;
mod writer;

pub use cluster::{Cluster, Logged};
pub use lease::Lease;
pub use life::Backup;
pub use network::{Fate, Network, Step};
pub use rows::Value;
#[cfg(feature = "internals")]
pub(crate) use shared::Log;
pub use shared::{Call, Copy, Delivery, Line, Shared, Subscription, Way};
pub use source::Source;
pub use tx::Tx;
pub use view::View;
pub use writer::Writer;
