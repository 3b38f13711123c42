//! The PostgreSQL source against real servers: what its positions, tokens and verdicts are worth.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use highwater::source::postgres::{Postgres, PostgresBuilder, PostgresNode};
use highwater::source::{Ask, Committed, Fault, Lease, Source, Transaction};
use highwater::testkit::{Cluster, Node};
use highwater::{Lsn, Position, Stamp};
use std::time::Duration;
use tokio::time::Instant;

#[cfg(feature = "tls")]
#[path = "common/authority.rs"]
mod authority;
#[path = "postgres_edge/commits.rs"]
mod commits;
#[cfg(feature = "tls")]
#[path = "postgres_edge/encrypted.rs"]
mod encrypted;
#[path = "postgres_edge/poison.rs"]
mod poison;
#[path = "postgres_edge/pooler.rs"]
mod pooler;
#[path = "postgres_edge/reads.rs"]
mod reads;
#[path = "postgres_edge/timelines.rs"]
mod timelines;
#[path = "postgres_edge/trouble.rs"]
mod trouble;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const PRIMARY: usize = 0;
const REPLICA: usize = 1;

async fn cluster(replicas: usize) -> Result<Cluster> {
    prepared(Cluster::start(replicas).await?).await
}

async fn prepared(cluster: Cluster) -> Result<Cluster> {
    cluster.primary().execute("create table t (id int primary key, v text)").await?;
    cluster.primary().execute("insert into t values (1, 'old')").await?;
    cluster.wait_for_catchup().await?;
    Ok(cluster)
}

fn address(node: &Node) -> PostgresNode {
    PostgresNode::new(node.url())
}

fn builder(cluster: &Cluster) -> PostgresBuilder {
    cluster.nodes().fold(Postgres::builder(), |builder, node| builder.node(address(node)))
}

/// The source over all nodes, which knows the primary's cluster already.
async fn source(cluster: &Cluster) -> Result<Postgres> {
    let source = builder(cluster).build()?;
    source.probe(PRIMARY).await?;
    Ok(source)
}

fn ask(primary: bool) -> Ask {
    Ask { primary, floor: Lsn::ZERO, upper: false, quiesce: false, deadline: within(20_000) }
}

/// As [`ask`], with a position read for this very load.
fn anew(primary: bool) -> Ask {
    Ask { floor: Lsn::MAX, ..ask(primary) }
}

fn within(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// One load of row 1.
async fn load(source: &Postgres, node: usize, ask: Ask) -> Result<(String, Stamp), Fault> {
    let lease = source.lease(node, ask).await?;
    let row = lease.conn().query_one("select v from t where id = 1", &[]).await;
    let stamp = lease.finish().await?;
    let value = row.map_err(|error| Fault::new(highwater::source::FaultKind::Statement, "test", error.to_string()))?;
    Ok((value.get(0), stamp))
}

/// One write of row 1.
async fn write(source: &Postgres, value: &str) -> Result<Position> {
    let tx = source.begin(PRIMARY, within(20_000)).await?;
    tx.conn().execute("update t set v = $1 where id = 1", &[&value]).await?;
    match tx.commit(within(20_000)).await {
        Committed::Done { token, .. } => Ok(token),
        other => Err(format!("{other:?}").into()),
    }
}
