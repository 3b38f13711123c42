//! Queries that recovery cancels on a replica.

use crate::support::{Instance, Result, Rows, cluster, over, prepared, run};
use highwater::testkit::Cluster;
use highwater::{ReadError, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[test]
fn recovery_conflicts_are_invisible_to_readers() -> Result {
    run(async {
        let cluster = Cluster::builder().replicas(1).config("max_standby_streaming_delay", "0").start().await?;
        let cluster = prepared(cluster).await?;
        cluster
            .primary()
            .execute("create table other (n int); insert into other select generate_series(1, 1000)")
            .await?;
        cluster.wait_for_catchup().await?;
        // Slow enough that a query is always under way when a conflicting record is replayed.
        let repository = Rows { delay: Duration::from_millis(10), ..Rows::default() };
        let instance = Instance::new(over(&cluster), repository, false).await?;
        let over = Arc::new(AtomicBool::new(false));
        let primary = cluster.primary().clone();
        let trouble = tokio::spawn({
            let over = Arc::clone(&over);
            async move {
                let client = primary.connect().await?;
                let mut rounds = 0;
                while !over.load(Ordering::SeqCst) {
                    // Snapshot conflicts, then lock conflicts.
                    client.batch_execute("update rows set op = op + 1; delete from other where n % 7 = 0").await?;
                    client.batch_execute("insert into other select generate_series(1, 1000)").await?;
                    client.batch_execute("vacuum rows").await?;
                    client.batch_execute("vacuum other").await?;
                    client.batch_execute("begin; lock table rows in access exclusive mode; commit").await?;
                    rounds += 1;
                    sleep(Duration::from_millis(15)).await;
                }
                Result::<i32>::Ok(rounds)
            }
        });
        let begun = Instant::now();
        let (session, mut id, mut slowest) = (Session::new(), 10, Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(6) {
            let reads = (id..id + 4).map(|id| {
                let (instance, session) = (instance.clone(), session.clone());
                async move {
                    let begun = Instant::now();
                    instance.get(&session, if id % 2 == 0 { 1 } else { id }).await.map(|_| begun.elapsed())
                }
            });
            for took in futures_util::future::join_all(reads).await {
                slowest = slowest.max(took?);
            }
            if id % 3 == 0 {
                instance.write(&session, 1, "mine").await?;
            }
            id += 4;
        }
        over.store(true, Ordering::SeqCst);
        let rounds = trouble.await??;
        let conflicts = cluster
            .replica(0)
            .value("select sum(confl_snapshot + confl_lock)::text from pg_stat_database_conflicts")
            .await?;
        let (counts, cache) = (instance.store.stats().counts, instance.rows.stats());
        println!("{rounds} rounds, {conflicts:?} conflicts, {} retries, slowest read {slowest:?}", counts.retries);
        assert!(counts.retries > 10, "{counts:?}");
        assert_eq!(cache.load_errors, 0);
        assert!(cache.loads_replica > 10, "{cache:?}");
        assert!(
            instance.store.stats().nodes[1].state.starts_with("standby"),
            "a conflict is no reason to be taken out"
        );
        Ok(())
    })
}

/// A role's own limit ends slow statements. They are the loader's errors, and the servers stay in use.
#[test]
fn a_statement_timeout_is_the_loaders_error() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        cluster.primary().execute("alter role postgres set statement_timeout = '300ms'").await?;
        cluster.wait_for_catchup().await?;
        let slow = Rows { delay: Duration::from_secs(2), ..Rows::default() };
        let instance = Instance::new(over(&cluster), slow, false).await?;
        let error = instance.rows.get(&Session::new(), &1).await.unwrap_err();
        let ReadError::Load(error) = error else { return Err(format!("{error:?}").into()) };
        assert_eq!(error.code().map(|code| code.code()), Some("57014"));
        let stats = instance.store.stats();
        assert!(stats.nodes.iter().all(|node| !node.state.starts_with("out")), "{:?}", stats.nodes);
        assert_eq!(stats.counts.retries, 0, "it would be as slow elsewhere");
        Ok(())
    })
}
