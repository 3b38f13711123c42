//! PgBouncer in transaction mode in front of a replica.

use crate::support::{Instance, Result, Rows, cluster, over_nodes, run, until};
use highwater::PostgresNode;
use highwater::testkit::{Cluster, PgBouncer};
use highwater::{Rung, Session};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// One that reads from a direct primary and, through the pooler, from whatever node that leads to; and one that writes.
/// They share nothing but sessions, so that only these tell the reader of a write.
async fn instances(cluster: &Cluster, pooler: &PgBouncer) -> Result<(Instance, Instance)> {
    let builder = over_nodes([cluster.primary()]).replica(PostgresNode::new(pooler.url()).pooled(true));
    let reader = Instance::new(builder, Rows { typed: true, ..Rows::default() }, false).await?;
    Ok((reader, Instance::alone(over_nodes([cluster.primary()])).await?))
}

/// Writes and reads for a while.
async fn reads_its_own_writes(instance: &Instance, writer: &Instance, session: &Session, rounds: u32) -> Result {
    for round in 0..rounds {
        let id = i64::from(round % 7);
        let name = format!("round {round}");
        writer.write(session, id, &name).await?;
        assert_eq!(instance.name(session, id).await?, Some(name));
        if round % 5 == 0 {
            // A new key, so that something is loaded without a floor of its own.
            instance.get(&Session::new(), 1_000 + i64::from(round)).await?;
        }
    }
    Ok(())
}

#[test]
fn reads_through_the_pooler_keep_the_promise() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let pooler = PgBouncer::start(&[cluster.replica(0)]).await?;
        let (instance, writer) = instances(&cluster, &pooler).await?;
        let session = Session::new();
        assert_eq!(instance.get(&session, 1).await?.rung, Rung::Replica);
        reads_its_own_writes(&instance, &writer, &session, 50).await?;
        let before = instance.rows.stats().loads_replica;
        assert!(before >= 20, "{:?}", instance.rows.stats());
        cluster.replica(0).pause_replay().await?;
        reads_its_own_writes(&instance, &writer, &session, 10).await?;
        let read = instance.get(&Session::new(), 2_000).await?;
        assert_eq!(read.rung, Rung::Replica, "who has no token is still served by it");
        cluster.replica(0).resume_replay().await?;
        cluster.wait_for_catchup().await?;
        sleep(Duration::from_millis(500)).await;
        reads_its_own_writes(&instance, &writer, &session, 20).await?;
        assert!(instance.rows.stats().loads_replica > before + 2);
        Ok(())
    })
}

#[test]
fn a_pooler_that_changes_its_server_shows_nobody_the_past() -> Result {
    run(async {
        let cluster = cluster(2).await?;
        let (near, late) = (cluster.replica(0), cluster.replica(1));
        late.pause_replay().await?;
        let pooler = PgBouncer::start(&[near, late]).await?;
        let (instance, writer) = instances(&cluster, &pooler).await?;
        let session = Session::new();
        reads_its_own_writes(&instance, &writer, &session, 10).await?;
        for round in 0..4 {
            pooler.retarget(if round % 2 == 0 { late } else { near }).await?;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(500) {
                reads_its_own_writes(&instance, &writer, &session, 7).await?;
            }
        }
        // To the primary itself: what was a replica is none any more, and is not mistaken for one.
        pooler.retarget(cluster.primary()).await?;
        reads_its_own_writes(&instance, &writer, &session, 20).await?;
        pooler.retarget(near).await?;
        let standby = async || instance.store.stats().nodes[1].state.starts_with("standby");
        until("the replica to be back", Duration::from_secs(10), standby).await?;
        reads_its_own_writes(&instance, &writer, &session, 10).await?;
        println!("{:?}", instance.store.stats().counts);
        Ok(())
    })
}

#[test]
fn a_pooler_that_dies_is_passed_over_and_comes_back() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let pooler = PgBouncer::start(&[cluster.replica(0)]).await?;
        let (instance, _) = instances(&cluster, &pooler).await?;
        let session = Session::new();
        assert_eq!(instance.get(&session, 1).await?.rung, Rung::Replica);
        pooler.kill().await?;
        assert_eq!(instance.get(&session, 2).await?.rung, Rung::Primary);
        pooler.start_again().await?;
        instance.until_node(1, "standby").await?;
        assert_eq!(instance.get(&session, 3).await?.rung, Rung::Replica);
        Ok(())
    })
}
