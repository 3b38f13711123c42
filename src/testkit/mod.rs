//! Throw-away PostgreSQL clusters, Redis servers, PgBouncers and TCP proxies, with lag, pauses,
//! kills and cuts.
//!
//! ```no_run
//! # async fn example() -> Result<(), highwater::testkit::TestkitError> {
//! use highwater::testkit::Cluster;
//!
//! let cluster = Cluster::start(1).await?;
//! let (primary, replica) = (cluster.primary(), cluster.replica(0));
//! primary.execute("create table t (n int)").await?;
//! replica.wait_for_catchup(primary).await?;
//!
//! replica.pause_replay().await?;
//! primary.execute("insert into t values (1)").await?;
//! // The replica is behind for exactly as long as the test wants.
//! assert_eq!(replica.value("select count(*) from t").await?.as_deref(), Some("0"));
//! # Ok(())
//! # }
//! ```
//!
//! # Words
//!
//! - A [`Cluster`] is a primary and its streaming replicas; each is a [`Node`].
//! - A *stop* is clean, a *kill* is a crash, a *freeze* keeps sockets open and answers nothing.
//! - A [`Proxy`] stands between client and server and spoils what passes.
//!
//! # What is left behind
//!
//! Servers are our own children, ended by their process numbers when their owner is dropped, also
//! by a panic; their folder goes with them. They also end when the test process is killed, or exits
//! with a cluster in a `static`; then the next run removes their folder. What stays in the system's
//! temporary folder is one data folder per PostgreSQL version, which the next run copies, and the
//! logs of the last failures.
//!
//! # Speed
//!
//! Most of a start is copying a thousand small files. With `TMPDIR` set to a folder in memory, such
//! as `/dev/shm` on Linux, a primary with two replicas is up in a fraction of a second. For tests
//! that are [`durable`](ClusterBuilder::durable) leave it on a disk.

mod binaries;
mod builder;
mod cluster;
mod error;
mod faults;
mod file_copy;
mod guardian;
pub mod history;
mod home;
mod node;
mod pgbouncer;
mod port;
mod process;
mod process_table;
mod proxy;
mod recipe;
mod redis_cluster;
mod redis_server;
mod replication;
mod server;
mod settings;
mod shm;
mod spawner;
mod template;
mod user;

pub use binaries::{Availability, available};
pub use builder::ClusterBuilder;
pub use cluster::Cluster;
pub use error::TestkitError;
pub use file_copy::FileCopy;
pub use node::Node;
pub use pgbouncer::PgBouncer;
pub use proxy::Proxy;
pub use redis_cluster::{RedisCluster, RedisClusterBuilder};
pub use redis_server::{RedisServer, RedisServerBuilder};
