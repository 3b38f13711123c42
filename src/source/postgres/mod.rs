//! PostgreSQL as the source: one pool for each server, and positions read on the connection that answers.
//!
//! ```no_run
//! use highwater::source::postgres::{Postgres, PostgresNode};
//!
//! # fn build() -> Result<(), highwater::Error> {
//! let source = Postgres::builder()
//!     .node("postgres://app@db1/shop")
//!     .node(PostgresNode::new("postgres://app@db2/shop").zone("eu-1a"))
//!     .pool_size(20)
//!     .build()?;
//! # let _ = source;
//! # Ok(())
//! # }
//! ```
//!
//! The role needs `pg_read_all_stats`, without which a standby's timeline cannot be confirmed.

mod builder;
mod dial;
mod encryption;
mod held;
mod keyword;
mod lease;
mod link;
mod node;
mod query_error;
mod routed;
mod side;
mod sqlstate;
mod standing;
mod switches;
mod transaction;
mod writer;

pub use builder::{PostgresBuilder, PostgresNode};
pub use lease::PostgresLease;
pub use query_error::QueryError;
pub use routed::Routed;
pub use tokio_postgres::{Row, types};
pub use transaction::PostgresTransaction;
pub use writer::Writer;

use super::{Ask, Fault, FaultKind, NodeId, NodeInfo, Outcome, Probe, Source};
use crate::Timeline;
use node::Node;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// One PostgreSQL cluster: a primary and its streaming replicas.
#[derive(Debug)]
pub struct Postgres {
    nodes: Vec<Arc<Node>>,
    infos: Vec<NodeInfo>,
}

impl Postgres {
    /// Begins the description of a cluster.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }

    fn node(&self, node: NodeId) -> Result<&Arc<Node>, Fault> {
        let unknown =
            || Fault::new(FaultKind::Misconfigured, "PostgreSQL", format!("there is no server of index {node}"));
        self.nodes.get(node).ok_or_else(unknown)
    }
}

impl Source for Postgres {
    type Conn = Routed;
    type Lease = PostgresLease;
    type Tx = PostgresTransaction;

    fn nodes(&self) -> &[NodeInfo] {
        &self.infos
    }

    /// As the trait says, on a connection of its own. Dropped, that connection is closed.
    async fn probe(&self, node: NodeId) -> Result<Probe, Fault> {
        Box::pin(self.node(node)?.probe()).await
    }

    /// As the trait says. Dropped, nothing is held.
    async fn lease(&self, node: NodeId, ask: Ask) -> Result<PostgresLease, Fault> {
        let node = self.node(node)?;
        let held = Box::pin(node.acquire(ask.deadline)).await?;
        let lease = PostgresLease::new(Routed::new(held, Arc::clone(node), ask));
        if ask.primary {
            Box::pin(lease.confirm_primary()).await?;
            if ask.quiesce {
                Box::pin(lease.quiesce()).await?;
            }
        }
        Ok(lease)
    }

    /// As the trait says. Dropped, the connection is closed.
    async fn begin(&self, node: NodeId, deadline: Instant) -> Result<PostgresTransaction, Fault> {
        let node = self.node(node)?;
        let held = Box::pin(node.acquire(deadline)).await?;
        Box::pin(PostgresTransaction::begin(Arc::clone(node), held, deadline)).await
    }

    /// As the trait says. Dropped, the connection is closed.
    async fn outcome(&self, node: NodeId, xid: u64, timeline: Timeline) -> Result<Outcome, Fault> {
        Box::pin(self.node(node)?.outcome(xid, timeline)).await
    }

    /// As the trait says. Dropped, the log may have moved or not.
    async fn nudge(&self, node: NodeId) -> Result<(), Fault> {
        Box::pin(self.node(node)?.nudge()).await
    }
}

/// Locks a value that no code that panics leaves half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
