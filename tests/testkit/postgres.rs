//! Clusters: lag, crashes, silence, fail-over.

use std::time::Duration;

use highwater::testkit::{Cluster, PgBouncer, TestkitError, available};
use tokio::time::{Instant, sleep};

use crate::{A_WHILE, Result, hangs, rows, start, start_with_row};

#[test]
fn says_what_is_installed() {
    let found = available();
    println!("{found:?}");
    assert!(found.has_postgres() && found.has_redis());
}

#[tokio::test]
async fn replicates_a_row() -> Result {
    let cluster = start_with_row(2).await?;
    for node in cluster.nodes() {
        assert_eq!(rows(node).await?, 1, "{}", node.name());
    }
    assert!(!cluster.primary().is_in_recovery().await?);
    assert!(cluster.replica(1).is_in_recovery().await?);
    Ok(())
}

/// A start that is given up ends the server at any moment, also between the creation of such a file and its first line.
#[tokio::test]
async fn starts_beside_an_empty_lock_file() -> Result {
    let cluster = start_with_row(0).await?;
    let primary = cluster.primary();
    for file in ["postmaster.pid".to_owned(), format!(".s.PGSQL.{}.lock", primary.port())] {
        primary.stop().await?;
        std::fs::write(cluster.folder().join(primary.name()).join(file), "").expect("an empty file");
        primary.start().await?;
    }
    assert_eq!(rows(primary).await?, 1);
    Ok(())
}

#[tokio::test]
async fn pauses_and_resumes_replay() -> Result {
    let cluster = start_with_row(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    replica.pause_replay().await?;
    let stood = replica.replay_lsn().await?;
    primary.execute("insert into t values (2)").await?;
    sleep(A_WHILE).await;
    assert_eq!(rows(replica).await?, 1);
    assert_eq!(replica.replay_lsn().await?, stood);
    assert!(replica.receive_lsn().await? > stood);
    replica.resume_replay().await?;
    cluster.wait_for_catchup().await?;
    assert_eq!(rows(replica).await?, 2);
    Ok(())
}

#[tokio::test]
async fn delays_what_a_replica_applies() -> Result {
    let cluster = start_with_row(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    replica.apply_delay(Duration::from_millis(1_500)).await?;
    let begun = Instant::now();
    primary.execute("insert into t values (2)").await?;
    sleep(A_WHILE).await;
    assert_eq!(rows(replica).await?, 1);
    replica.wait_for_catchup(primary).await?;
    let late = begun.elapsed();
    assert!(late > Duration::from_millis(1_450), "applied after {late:?}");
    assert_eq!(rows(replica).await?, 2);

    // Ending the delay also frees the commit that waits under it.
    replica.apply_delay(Duration::from_secs(600)).await?;
    primary.execute("insert into t values (3)").await?;
    sleep(A_WHILE).await;
    assert_eq!(rows(replica).await?, 2);
    replica.apply_delay(Duration::ZERO).await?;
    replica.wait_for_catchup(primary).await?;
    assert_eq!(rows(replica).await?, 3);
    Ok(())
}

#[tokio::test]
async fn survives_crashes_of_all_nodes() -> Result {
    let cluster = start_with_row(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let session = primary.connect().await?;
    primary.kill().await?;
    assert!(primary.pid().is_none());
    assert!(session.simple_query("select 1").await.is_err());
    let error = primary.connect().await.expect_err("it is dead");
    assert!(error.is_not_running(), "{error}");
    replica.kill().await?;
    primary.start().await?;
    replica.start().await?;
    primary.execute("insert into t values (2)").await?;
    cluster.wait_for_catchup().await?;
    assert_eq!(rows(replica).await?, 2);
    primary.restart().await?;
    assert_eq!(rows(primary).await?, 2);
    Ok(())
}

#[tokio::test]
async fn freezes_and_thaws() -> Result {
    let cluster = start_with_row(1).await?;
    let primary = cluster.primary();
    let session = primary.connect().await?;
    primary.freeze().await?;
    assert!(hangs(session.simple_query("select 1")).await, "an old session");
    assert!(hangs(primary.connect()).await, "a new session");
    assert!(!session.is_closed());
    primary.thaw().await?;
    assert!(session.simple_query("select 1").await.is_ok());
    // Frozen again, to see that neither a kill nor a drop waits for ever.
    primary.freeze().await?;
    primary.kill().await?;
    cluster.replica(0).freeze().await?;
    Ok(())
}

#[tokio::test]
async fn promotes_and_follows() -> Result {
    let cluster = start_with_row(2).await?;
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    old.kill().await?;
    new.promote().await?;
    new.execute("insert into t values (2)").await?;
    other.follow(new).await?;
    other.wait_for_catchup(new).await?;
    assert_eq!(rows(other).await?, 2);

    // The old primary comes back as the second of two, and then as a replica.
    old.start().await?;
    old.execute("insert into t values (3)").await?;
    old.rebuild_from(new).await?;
    old.wait_for_catchup(new).await?;
    assert_eq!(rows(old).await?, 2);
    assert!(old.is_in_recovery().await?);

    // A restart of the new primary leaves it one.
    new.restart().await?;
    assert!(!new.is_in_recovery().await?);
    Ok(())
}

#[tokio::test]
async fn a_primary_that_stopped_cleanly_can_follow_its_heir() -> Result {
    let cluster = start_with_row(1).await?;
    let (old, new) = (cluster.primary(), cluster.replica(0));
    old.stop().await?;
    new.promote().await?;
    new.execute("insert into t values (2)").await?;
    old.follow(new).await?;
    old.wait_for_catchup(new).await?;
    assert_eq!(rows(old).await?, 2);
    Ok(())
}

#[tokio::test]
async fn has_an_identity_of_its_own_on_request() -> Result {
    let begun = Instant::now();
    let fresh = Cluster::builder().replicas(1).fresh_identity().durable(true);
    let fresh = fresh.config("max_connections", "50").start().await?;
    println!("fresh primary + 1 replica: {:?}", begun.elapsed());
    let common = start(0).await?;
    let sql = "select system_identifier from pg_control_system()";
    let identity = fresh.primary().value(sql).await?;
    assert_eq!(fresh.replica(0).value(sql).await?, identity);
    assert_ne!(common.primary().value(sql).await?, identity);
    let fsync = fresh.primary().value("show fsync").await?;
    assert_eq!(fsync.as_deref(), Some("on"));
    Ok(())
}

#[tokio::test]
async fn changes_settings_of_running_nodes() -> Result {
    let cluster = start(0).await?;
    let node = cluster.primary();
    node.configure("work_mem", "7MB").await?;
    assert_eq!(node.value("show work_mem").await?.as_deref(), Some("7MB"));
    let error = node.configure("max_connections", "30").await;
    assert!(error.expect_err("it needs a restart").to_string().contains("restart"));
    node.restart().await?;
    assert_eq!(node.value("show max_connections").await?.as_deref(), Some("30"));
    let (_one, _two) = (node.connect().await?, node.connect().await?);
    assert_eq!(node.terminate_backends().await?, 2);
    Ok(())
}

#[tokio::test]
async fn explains_a_failed_start() {
    let cluster = Cluster::builder().config("shared_buffers", "nonsense");
    let error = cluster.start().await.expect_err("PostgreSQL refuses");
    assert!(error.is_exited());
    let text = error.to_string();
    assert!(text.contains("postgres -D") && text.contains("nonsense"), "{text}");
    let TestkitError::Exited { log, .. } = error else {
        panic!("{text}");
    };
    let kept = std::fs::read_to_string(&log).expect("the log is kept");
    assert!(kept.contains("nonsense"));
    std::fs::remove_dir_all(log.parent().expect("a folder")).expect("the logs can go");
}

#[tokio::test]
async fn waits_for_a_synchronous_replica() -> Result {
    let cluster = Cluster::builder().replicas(1).durable(true);
    let cluster = cluster.config("synchronous_standby_names", "replica0").start().await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    primary.execute("create table t (n int)").await?;
    replica.freeze().await?;
    assert!(hangs(primary.execute("insert into t values (1)")).await);
    replica.thaw().await?;
    primary.poll_query_until("select count(*) > 0 from t").await?;
    Ok(())
}

#[tokio::test]
async fn a_pooler_passes_and_changes_its_target() -> Result {
    if !available().has_pgbouncer() {
        println!("skipped: pgbouncer is not installed");
        return Ok(());
    }
    let cluster = start_with_row(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let pooler = PgBouncer::start(&[primary, replica]).await?;
    let in_recovery = async |url: String| {
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("the pooler accepts");
        tokio::spawn(connection);
        let row = client.query_typed("select pg_is_in_recovery()", &[]).await;
        row.expect("the node answers")[0].get::<_, bool>(0)
    };
    assert!(!in_recovery(pooler.url()).await);
    assert!(in_recovery(pooler.url_to("replica0")).await);
    pooler.retarget(replica).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !in_recovery(pooler.url()).await {
        assert!(Instant::now() < deadline, "the pooler never changed its target");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
