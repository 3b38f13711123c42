//! A token-aware read-through cache over PostgreSQL with replicas, which never shows a client a state older than its own
//! writes.
//!
//! A cache in front of lagging replicas shows users yesterday's data: the post that vanishes, the old balance. highwater
//! tags every entry with the write-ahead log position that it is known to reflect, and every session carries a token with
//! the position of its last write. A read is answered by the first rung that provably reaches the token: the in-process
//! tier, the shared tier, a replica, the primary. Writes retract the keys that they changed on every instance.
//!
//! ```
//! use highwater::memory::{Cluster, View};
//! use highwater::{Highwater, Repository, Session};
//!
//! struct Users;
//!
//! impl Repository<View> for Users {
//!     type Key = u64;
//!     type Value = String;
//!     type Error = highwater::source::Fault;
//!
//!     async fn load(&self, on: &View, id: &u64) -> Result<Option<String>, Self::Error> {
//!         Ok(on.get::<String>("users", id).await?.map(|name| name.to_string()))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In memory: a primary and one replica. Over PostgreSQL it is Highwater::builder().primary(url).replica(url).
//! let cluster = Cluster::new(1);
//! let store = Highwater::over(cluster.source()).start().await?;
//! let users = store.cache("users", Users).build()?;
//!
//! let session = Session::new();
//! cluster.pause(1, true); // the replica falls behind
//!
//! let mut tx = store.begin(&session).await?;
//! tx.retract(&users, &7);
//! tx.put("users", 7, "Ada".to_owned()).await?;
//! tx.commit().await?;
//!
//! let read = users.get(&session, &7).await?;
//! assert_eq!(read.value.as_deref().map(String::as_str), Some("Ada"));
//! assert_eq!(read.rung, highwater::Rung::Primary);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go from here
//!
//! - A repository layer is wrapped by implementing [`Repository`]; [`Highwater::builder`] connects to PostgreSQL and
//!   Redis, [`Highwater::cache`] makes caches, [`Highwater::begin`] begins writes.
//! - What one read asks for is a [`Freshness`]; what a client has written is its [`Session`].
//! - [`memory`] stands in for the servers in unit tests. The feature `testkit` starts real ones that lag and fail.
//! - [Consistency](_docs::consistency) has the promise, the rules, their proofs, and what is **not** promised: above
//!   all, writers that do not use this library are not seen by retraction.
//! - [Tokens](_docs::tokens) has how a session's token reaches the next instance, service or job: [`wire`] writes it
//!   down and takes it in, and the feature `http` does it for a web service. [`devices`] keeps what a user's devices hold
//!   together.
//! - How a service did it before is a [`Strategy`], to compare and to switch over by one line.
//! - [Migrating](_docs::migrating) is for those who come from time windows, sticky sessions or positions in Redis.
//! - [Architecture](_docs::architecture) has the map of the code.
//!
//! # Words
//!
//! One word per idea, here and everywhere in the crate.
//!
//! | word | meaning |
//! |---|---|
//! | position | a place in the primary's write-ahead log: timeline and LSN |
//! | tag | the position that an entry is known to be at least as new as: a lower bound |
//! | token | a position that a client must not be served below: an upper bound on its own commits |
//! | floor | the least position that one read accepts |
//! | session | one client's token inside the process; it only rises |
//! | rung | local, shared, replica, primary: where an answer can come from, cheapest first |
//! | source | the system of record behind the tiers |
//! | group | a name that many entries share, so that one retraction covers them all |
//! | retraction | a write's notice that keys and groups changed, at a position |
//! | ledger | the edge that retractions travel on |
//! | epoch | one instance's unbroken knowledge: history, floors, from where on it hears |
//! | watermark | the position up to which every announced write has been told |
//! | lineage | which log vouches for a position, on which server |
//! | announce, settle | to tell the log before COMMIT that a write may come; after it, that it came, with what it retracts |
//! | extended | of a hit: older than its floor by its tag, and known to be unchanged by the watermark |
//! | flight | one load that several readers wait for |
//! | pinned | of a token's part: to be covered by the tag alone |
//! | gap | a message of the ledger that is missing |
//! | visit | one request of a user, whose other devices it must not be served below |
//! | era | a time in which the device store has lost nothing |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `http` | middleware of tower for both ends of a call: tokens in and out by header, cookie and trailers |
//! | `axum` | the session as an extractor; with `http` |
//! | `opaque` | encrypted tokens, which do not show how much is written |
//! | `tls` | TLS to PostgreSQL and Redis through rustls, with certificate and host name checked |
//! | `testkit` | [`testkit`](crate#features): throw-away servers with faults, and a history checker |
//! | `mutants` | for this crate's own tests: one rule of the protocol can be broken at run time |

mod builder;
mod bytes;
mod cache;
mod clock;
mod connect;
pub mod devices;
mod digest;
mod early;
mod entry;
mod epoch;
mod error;
mod fleet;
mod flight;
mod freshness;
mod highwater;
mod history;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod ledger;
mod lineage;
mod lives;
mod lsn;
pub mod memory;
mod named;
mod pilot;
mod position;
mod redis_link;
mod repository;
mod resolve;
mod retraction;
#[cfg(feature = "mutants")]
pub mod rules;
#[cfg(not(feature = "mutants"))]
mod rules;
mod sealed;
mod session;
mod settings;
mod sights;
pub mod source;
mod stats;
mod store;
mod strategy;
mod tasks;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tier;
mod token;
mod trace;
mod watched;
pub mod wire;
mod write;

pub use builder::StoreBuilder;
pub use cache::{Cache, CacheBuilder, KEYS_MAX, Read, ReadError};
pub use connect::HighwaterBuilder;
pub use digest::{Digest, KEY_BYTES_MAX};
pub use entry::{Origin, Stamp};
pub use error::Error;
pub use fleet::Rung;
pub use freshness::{Fallback, Freshness, ReadOptions};
pub use highwater::Highwater;
pub use history::{History, Switch};
pub use lsn::{Lsn, ParseLsnError};
pub use position::{Position, Timeline, WalLayout};
pub use redis_link::{RedisLink, RedisSettings};
pub use repository::{GROUPS_MAX, Repository};
pub use retraction::{NAMES_MAX, Retraction};
pub use session::Session;
pub use settings::Settings;
pub use source::postgres::{Postgres, PostgresBuilder, PostgresNode, QueryError, Routed, Writer};
pub use stats::{BusState, CacheStats, NodeStats, StoreCounts, StoreStats, WatermarkStats};
pub use strategy::Strategy;
pub use token::Token;
pub use write::{Receipt, Tx, Unknown, WriteError};

/// The guides, versioned and tested with the code.
pub mod _docs {
    /// Only to compile its code.
    #[cfg(doctest)]
    #[doc = include_str!("../README.md")]
    pub mod readme {}

    #[doc = include_str!("../docs/consistency.md")]
    pub mod consistency {}

    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}

    #[doc = include_str!("../docs/tokens.md")]
    pub mod tokens {}

    #[doc = include_str!("../docs/migrating.md")]
    pub mod migrating {}
}
