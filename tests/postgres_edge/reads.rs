//! Loads: what a lease asks, refuses, remembers and leaves behind.

use crate::{PRIMARY, REPLICA, Result, anew, ask, builder, cluster, load, source, within, write};
use highwater::Origin;
use highwater::source::{Ask, FaultKind, Lease, Role, Source, Transaction};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

#[tokio::test]
async fn a_replica_answers_as_new_as_it_says() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    let replica = cluster.replica(0);
    replica.pause_replay().await?;
    let token = write(&source, "new").await?;
    let (value, stamp) = load(&source, REPLICA, anew(false)).await?;
    assert_eq!((value.as_str(), stamp.origin, stamp.timeline), ("old", Origin::Standby, token.timeline));
    assert!(stamp.tag < token.lsn);
    replica.resume_replay().await?;
    cluster.wait_for_catchup().await?;
    let (value, stamp) = load(&source, REPLICA, anew(false)).await?;
    assert_eq!(value, "new");
    assert!(stamp.tag >= token.lsn, "{stamp:?} {token}");
    Ok(())
}

#[tokio::test]
async fn a_fill_of_an_idle_primary_reaches_the_token_after_a_nudge() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let token = write(&source, "new").await?;
    let (_, stamp) = load(&source, PRIMARY, anew(true)).await?;
    assert!(stamp.tag < token.lsn, "equal is not enough on the primary");
    let begun = Instant::now();
    source.nudge(PRIMARY).await?;
    let took = begun.elapsed();
    let (value, stamp) = load(&source, PRIMARY, anew(true)).await?;
    assert_eq!((value.as_str(), stamp.origin), ("new", Origin::Primary));
    assert!(stamp.tag >= token.lsn, "{stamp:?} {token}");
    println!("nudged in {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_nudge_does_not_wait_for_a_synchronous_standby() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    cluster.primary().configure("synchronous_standby_names", "nosuch").await?;
    tokio::time::timeout(Duration::from_secs(2), source.nudge(PRIMARY)).await??;
    Ok(())
}

#[tokio::test]
async fn a_known_position_is_used_again_while_young_and_high_enough() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(1).build()?;
    let (_, first) = load(&source, PRIMARY, ask(true)).await?;
    cluster.primary().execute("update t set v = 'a'").await?;
    let (_, anew) = load(&source, PRIMARY, anew(true)).await?;
    assert!(anew.tag > first.tag, "the floor asked for more");
    cluster.primary().execute("update t set v = 'b'").await?;
    sleep(Duration::from_millis(20)).await;
    let (_, aged) = load(&source, PRIMARY, ask(true)).await?;
    assert!(aged.tag > anew.tag, "20 ms are too old");
    Ok(())
}

#[tokio::test]
async fn a_known_position_serves_every_connection_of_the_same_run() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(2).build()?;
    let client = cluster.primary().connect().await?;
    let mut same = 0;
    for _ in 0..50 {
        let one = source.lease(PRIMARY, anew(true)).await?;
        one.conn().query("select v from t where id = 1", &[]).await?;
        client.batch_execute("update t set v = v").await?;
        // On another connection, while the first is still held.
        let (_, other) = load(&source, PRIMARY, ask(true)).await?;
        let one = one.finish().await?;
        assert!(other.tag >= one.tag);
        same += u32::from(other.tag == one.tag);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(same > 5, "{same} of 50: the second connection reads a position of its own");
    Ok(())
}

#[tokio::test]
async fn a_standby_is_not_the_primary() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    assert_eq!(source.lease(REPLICA, ask(true)).await.unwrap_err().kind, FaultKind::WrongRole);
    assert_eq!(source.begin(REPLICA, within(5_000)).await.unwrap_err().kind, FaultKind::WrongRole);
    assert_eq!(source.nudge(REPLICA).await.unwrap_err().kind, FaultKind::WrongRole);
    let lease = source.lease(REPLICA, ask(false)).await?;
    lease.conn().query("select nextval('pg_catalog.nosuch')", &[]).await.unwrap_err();
    lease.finish().await?;
    let lease = source.lease(REPLICA, ask(false)).await?;
    lease.conn().query("insert into t values (2)", &[]).await.unwrap_err();
    assert_eq!(lease.finish().await.unwrap_err().kind, FaultKind::WrongRole, "25006, though the loader swallowed it");
    Ok(())
}

#[tokio::test]
async fn statements_that_would_leave_something_behind_are_refused() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let lease = source.lease(PRIMARY, ask(true)).await?;
    for sql in ["begin", "set statement_timeout = 1", "/* x */ COMMIT"] {
        assert!(lease.conn().query(sql, &[]).await.unwrap_err().is_refused(), "{sql}");
        assert!(lease.conn().query_typed(sql, &[]).await.unwrap_err().is_refused(), "{sql}");
    }
    let one = lease.conn().query_typed("select v from t where id = $1", &[(&1_i32, Type::INT4)]).await?;
    assert_eq!(one[0].get::<_, &str>(0), "old");
    assert_eq!(lease.conn().query_scalar::<String>("select v from t", &[]).await?, ["old"]);
    assert!(lease.conn().query_one("select v from t where id = 7", &[]).await.is_err());
    assert!(lease.conn().query_opt("select v from t where id = 7", &[]).await?.is_none());
    let error = lease.conn().query("select nosuch from t", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42703"));
    lease.finish().await?;
    Ok(())
}

#[tokio::test]
async fn a_plan_that_an_alter_table_outdated_is_prepared_again() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(1).build()?;
    for sql in ["select 1", "alter table t add w int", "alter table t drop w"] {
        cluster.primary().execute(sql).await?;
        let lease = source.lease(PRIMARY, ask(true)).await?;
        lease.conn().query("select * from t", &[]).await?;
        lease.finish().await?;
    }
    Ok(())
}

/// Polls a future `polls` times and drops it.
async fn dropped_after<F: Future>(future: F, polls: u32) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let ready = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if ready {
            return true;
        }
        sleep(Duration::from_millis(1)).await;
    }
    false
}

#[tokio::test]
async fn a_dropped_future_never_leaves_its_connection_in_the_pool() -> Result {
    let cluster = cluster(1).await?;
    let source = builder(&cluster).pool_size(1).build()?;
    source.probe(PRIMARY).await?;
    for polls in 1..40 {
        for node in [PRIMARY, REPLICA] {
            dropped_after(
                async {
                    let lease = source.lease(node, anew(node == PRIMARY)).await.unwrap();
                    lease.conn().query("select pg_sleep(3)", &[]).await.unwrap();
                },
                polls,
            )
            .await;
            let begun = Instant::now();
            let (value, _) = load(&source, node, ask(node == PRIMARY)).await?;
            assert_eq!(value, "old");
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "the victim of poll {polls} waited {:?}",
                begun.elapsed()
            );
        }
        dropped_after(
            async {
                let tx = source.begin(PRIMARY, within(5_000)).await.unwrap();
                tx.conn().execute("update t set v = 'dropped'", &[]).await.unwrap();
                tx.conn().execute("select pg_sleep(3)", &[]).await.unwrap();
                tx.commit(within(5_000)).await
            },
            polls,
        )
        .await;
    }
    sleep(Duration::from_millis(300)).await;
    let left = "select count(*) from pg_stat_activity where application_name = 'highwater' \
                and (state <> 'idle' or xact_start is not null)";
    assert_eq!(cluster.primary().value(left).await?.as_deref(), Some("0"), "something still runs, or is open");
    assert_eq!(load(&source, PRIMARY, ask(true)).await?.0, "old");
    Ok(())
}

#[tokio::test]
async fn an_upper_bound_covers_what_a_paused_standby_shows() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    let token = write(&source, "new").await?;
    cluster.wait_for_catchup().await?;
    let (_, stamp) = load(&source, REPLICA, Ask { upper: true, ..anew(false) }).await?;
    assert!(stamp.upper.unwrap() >= token.lsn && stamp.upper.unwrap() >= stamp.tag);
    let (_, stamp) = load(&source, PRIMARY, Ask { upper: true, ..anew(true) }).await?;
    assert!(stamp.upper.unwrap() >= token.lsn && stamp.upper.unwrap() > stamp.tag);
    Ok(())
}

/// While a commit waits for its synchronous standby, a standby shows it and the primary does not. The newest snapshot
/// of the primary does not list it either, because no later transaction has completed.
#[tokio::test]
async fn a_quiet_primary_misses_nothing_that_a_standby_has_shown() -> Result {
    let cluster = cluster(1).await?;
    let source = std::sync::Arc::new(source(&cluster).await?);
    cluster.primary().configure("synchronous_standby_names", "nosuch").await?;
    let writer = tokio::spawn({
        let source = std::sync::Arc::clone(&source);
        async move { write(&source, "new").await }
    });
    while load(&source, REPLICA, anew(false)).await?.0 == "old" {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(load(&source, PRIMARY, anew(true)).await?.0, "old", "the gap that this test is about");
    let snapshot = cluster.primary().value("select pg_current_snapshot()::text").await?.unwrap();
    let ends: Vec<&str> = snapshot.split(':').collect();
    assert_eq!(ends[0], ends[1], "and the snapshot does not tell");
    let impatient = Ask { quiesce: true, deadline: within(300), ..anew(true) };
    assert_eq!(source.lease(PRIMARY, impatient).await.unwrap_err().kind, FaultKind::TimedOut);
    let patient = tokio::spawn({
        let source = std::sync::Arc::clone(&source);
        async move { load(&source, PRIMARY, Ask { quiesce: true, ..anew(true) }).await }
    });
    sleep(Duration::from_millis(100)).await;
    cluster.primary().configure("synchronous_standby_names", "").await?;
    assert_eq!(patient.await??.0, "new");
    writer.await??;
    Ok(())
}

#[tokio::test]
async fn an_exhausted_pool_says_so_and_does_not_blind_the_monitor() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(1).build()?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    let fault = source.lease(PRIMARY, Ask { deadline: within(100), ..ask(true) }).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "{fault}");
    assert!(matches!(source.probe(PRIMARY).await?.role, Role::Primary { .. }));
    source.nudge(PRIMARY).await?;
    drop(tx);
    load(&source, PRIMARY, ask(true)).await?;
    Ok(())
}

/// A loader that writes values into the text of its statements has as many statements as values.
#[tokio::test]
async fn a_connection_keeps_a_bounded_number_of_statements() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(1).build()?;
    let count = "select count(*) from pg_prepared_statements";
    let lease = source.lease(PRIMARY, ask(true)).await?;
    for n in 0..1_300 {
        lease.conn().query(&format!("select {n}"), &[]).await?;
    }
    let kept = lease.conn().query_scalar::<i64>(count, &[]).await?;
    assert!((1..=520).contains(&kept[0]), "{kept:?}");
    lease.finish().await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    for n in 0..700 {
        tx.conn().query(&format!("select -{n}"), &[]).await?;
    }
    let kept: i64 = tx.conn().query_one(count, &[]).await?.get(0);
    assert!((1..=520).contains(&kept), "{kept}");
    assert!(tx.conn().execute("copy t from stdin", &[]).await.unwrap_err().to_string().contains("unnest"));
    tx.rollback(within(5_000)).await;
    Ok(())
}
