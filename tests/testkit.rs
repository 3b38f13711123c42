//! The testkit does what it says, and leaves nothing behind.
#![cfg(feature = "testkit")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

#[path = "testkit/cancelled.rs"]
mod cancelled;
#[path = "common/dropped.rs"]
mod dropped;
#[path = "testkit/postgres.rs"]
mod postgres;
#[path = "testkit/proxy.rs"]
mod proxy;
#[path = "testkit/redis.rs"]
mod redis;
#[path = "testkit/traces.rs"]
mod traces;

use std::time::Duration;

use highwater::testkit::{Cluster, TestkitError};
use tokio::time::{Instant, timeout};

type Result<T = ()> = std::result::Result<T, TestkitError>;

/// Long enough to show that nothing comes, short enough to wait for.
const A_WHILE: Duration = Duration::from_millis(300);

/// Starts a cluster and prints how long that took.
async fn start(replicas: usize) -> Result<Cluster> {
    let begun = Instant::now();
    let cluster = Cluster::start(replicas).await?;
    println!("primary + {replicas} replicas: {:?}", begun.elapsed());
    Ok(cluster)
}

/// The same, with a table of one row that all nodes have.
async fn start_with_row(replicas: usize) -> Result<Cluster> {
    let cluster = start(replicas).await?;
    let sql = "create table t (n int); insert into t values (1)";
    cluster.primary().execute(sql).await?;
    cluster.wait_for_catchup().await?;
    Ok(cluster)
}

/// How many rows a node shows.
async fn rows(node: &highwater::testkit::Node) -> Result<u32> {
    let count = node.value("select count(*) from t").await?;
    Ok(count.and_then(|count| count.parse().ok()).expect("a count"))
}

/// Whether nothing comes of `future` for a while.
async fn hangs<F: Future>(future: F) -> bool {
    timeout(A_WHILE, future).await.is_err()
}
