//! Throw-away PostgreSQL clusters, Redis servers, PgBouncers and TCP proxies, with lag, pauses,
//! kills and cuts.
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
//! by a panic; their folder goes with them. Where `setpriv` of util-linux is installed they also
//! end when the test process is killed, and the next run removes their folder. What stays in the
//! system's temporary folder is one data folder per PostgreSQL version, which the next run copies,
//! and the logs of the last failures.
mod binaries;
mod builder;
mod cluster;
mod error;
mod faults;
mod home;
mod node;
mod port;
mod process;
mod process_table;
mod recipe;
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
pub use node::Node;
