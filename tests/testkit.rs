//! The testkit does what it says, and leaves nothing behind.
#![cfg(feature = "testkit")]

use std::time::Duration;

use highwater::testkit::{Cluster, TestkitError};
use tokio::time::{Instant, sleep};

type Result<T = ()> = std::result::Result<T, TestkitError>;

/// Starts a cluster and prints how long that took.
async fn start(replicas: usize) -> Result<Cluster> {
    let begun = Instant::now();
    let cluster = Cluster::start(replicas).await?;
    println!("primary + {replicas} replicas: {:?}", begun.elapsed());
    Ok(cluster)
}

/// Makes a table with one row on the primary and sees it on all replicas.
async fn with_row(cluster: &Cluster) -> Result {
    let sql = "create table t (n int); insert into t values (1)";
    cluster.primary().execute(sql).await?;
    cluster.wait_for_catchup().await
}

const COUNT: &str = "select count(*) from t";

#[tokio::test]
async fn replicates_a_row() -> Result {
    let cluster = start(2).await?;
    with_row(&cluster).await?;
    for node in cluster.nodes() {
        assert_eq!(
            node.value(COUNT).await?.as_deref(),
            Some("1"),
            "{}",
            node.name()
        );
    }
    Ok(())
}

#[tokio::test]
async fn pauses_and_resumes_replay() -> Result {
    let cluster = start(1).await?;
    with_row(&cluster).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    replica.pause_replay().await?;
    let stood = replica.replay_lsn().await?;
    primary.execute("insert into t values (2)").await?;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(replica.value(COUNT).await?.as_deref(), Some("1"));
    assert_eq!(replica.replay_lsn().await?, stood);
    assert!(replica.receive_lsn().await? > stood);
    replica.resume_replay().await?;
    cluster.wait_for_catchup().await?;
    assert_eq!(replica.value(COUNT).await?.as_deref(), Some("2"));
    Ok(())
}
