//! The primary is away.

use crate::support::{Instance, Result, cluster, over, run};
use highwater::testkit::RedisServer;
use highwater::{Error, Freshness, ReadOptions, Retraction, Rung, Session, WriteError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[test]
fn what_replicas_and_tiers_reach_is_served_and_writes_fail_at_once() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        let session = Session::new();
        one.write(&session, 1, "grace").await?;
        one.write(&session, 2, "joan").await?;
        cluster.wait_for_catchup().await?;
        sleep(Duration::from_millis(600)).await;
        one.get(&session, 1).await?;
        sleep(Duration::from_millis(200)).await;
        let elsewhere = Session::from_token(session.token());
        cluster.primary().kill().await?;
        one.until_node(0, "out").await?;
        two.until_node(0, "out").await?;
        for (instance, session, id, rung) in [
            (&one, &session, 1, Rung::Local),
            (&two, &elsewhere, 1, Rung::Shared),
            (&one, &session, 2, Rung::Replica),
            (&one, &Session::new(), 3, Rung::Replica),
        ] {
            let begun = Instant::now();
            let read = instance.get(session, id).await?;
            assert_eq!((read.rung, read.stale), (rung, false), "row {id}");
            assert!(begun.elapsed() < Duration::from_millis(500), "row {id}: {:?}", begun.elapsed());
        }
        let begun = Instant::now();
        let refused: [Error; 4] = [
            one.store.begin(&session).await.unwrap_err(),
            one.store.token().await.unwrap_err(),
            one.store.capture(&session, Retraction::new()).await.unwrap_err(),
            match one.rows.get_with(&session, &2, &ReadOptions::fresh(Freshness::Latest)).await.unwrap_err() {
                highwater::ReadError::Cache(error) => error,
                other => return Err(other.into()),
            },
        ];
        println!("four refusals in {:?}: {}", begun.elapsed(), refused[0]);
        assert!(refused.iter().all(Error::is_unavailable), "{refused:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let written = one.store.write(&session, async |_| Ok::<_, std::io::Error>(())).await;
        assert!(matches!(written, Err(WriteError::Store(error)) if error.is_unavailable()));
        let begun = Instant::now();
        cluster.primary().start().await?;
        while one.write(&session, 1, "back").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        println!("written again {:?} after the start was begun", begun.elapsed());
        assert_eq!(one.name(&session, 1).await?.as_deref(), Some("back"));
        assert_eq!(two.name(&Session::from_token(session.token()), 1).await?.as_deref(), Some("back"));
        Ok(())
    })
}

#[test]
fn a_frozen_primary_costs_its_readers_no_more_than_the_deadline() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let (session, anybody) = (Session::new(), Session::new());
        instance.write(&session, 1, "grace").await?;
        cluster.wait_for_catchup().await?;
        cluster.primary().freeze().await?;
        let options = ReadOptions::fresh(Freshness::Latest).by(Instant::now() + Duration::from_millis(500));
        let begun = Instant::now();
        instance.rows.get_with(&session, &1, &options).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        instance.until_node(0, "out").await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("grace"));
        assert_eq!(instance.get(&anybody, 2).await?.rung, Rung::Replica);
        assert!(instance.store.begin(&session).await.unwrap_err().is_unavailable());
        cluster.primary().thaw().await?;
        let back = instance.until_node(0, "primary").await?;
        println!("frozen primary: back {back:?} after the thaw");
        instance.write(&session, 1, "thawed").await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("thawed"));
        Ok(())
    })
}

/// What was committed and flushed is still there after a crash, and what was not is not waited for.
#[test]
fn after_a_crash_sessions_go_on() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let (durable, hasty) = (Session::new(), Session::new());
        instance.write(&durable, 1, "durable").await?;
        let mut tx = instance.store.begin(&hasty).await?;
        tx.execute("set local synchronous_commit = off", &[]).await?;
        crate::support::put(&tx, 2, "hasty").await?;
        tx.retract(&instance.rows, &2);
        tx.commit().await?;
        cluster.primary().kill().await?;
        cluster.primary().start().await?;
        instance.until_node(0, "primary").await?;
        assert_eq!(instance.name(&durable, 1).await?.as_deref(), Some("durable"));
        let begun = Instant::now();
        let read = instance.get(&hasty, 2).await?;
        println!("the unflushed write survived: {}; {:?}", read.value.is_some(), instance.store.stats().counts.crashes);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        Ok(())
    })
}
