//! Replicas that lag, stand still, die and come back.

use crate::support::{Instance, Result, cluster, over, run, until};
use crate::traffic::Traffic;
use highwater::testkit::RedisServer;
use highwater::{Fallback, ReadOptions, Rung, Session, Settings};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const ONE: usize = 1;

#[test]
fn a_paused_replica_is_waited_for_and_then_passed_over() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let (session, anybody) = (Session::new(), Session::new());
        let replica = cluster.replica(0);
        replica.pause_replay().await?;
        instance.write(&session, 1, "grace").await?;
        let begun = Instant::now();
        let read = instance.get(&session, 1).await?;
        let took = begun.elapsed();
        println!("passed over after {took:?}");
        assert_eq!((read.rung, read.value.unwrap().name.as_str()), (Rung::Primary, "grace"));
        assert!(took >= Duration::from_millis(95) && took < Duration::from_millis(1_000), "{took:?}");
        let counts = instance.store.stats().counts;
        assert_eq!((counts.waits, counts.fallbacks_primary), (1, 1));
        // The key's own floor keeps the old row away from those who have no token as well.
        assert_eq!(instance.name(&anybody, 1).await?.as_deref(), Some("grace"));
        let refused = instance.rows.get_with(&session, &2, &ReadOptions::default().or_else(Fallback::Error)).await;
        assert!(refused.unwrap_err().as_cache().unwrap().is_not_fresh());
        let stale = ReadOptions::default().or_else(Fallback::Stale);
        instance.write(&session, 3, "new").await?;
        let read = instance.rows.get_with(&session, &3, &stale).await?;
        assert!(read.stale && read.value.is_none(), "{read:?}");
        assert_eq!(instance.get(&anybody, 4).await?.rung, Rung::Replica, "who asks for less is served there");
        let lag = instance.store.stats().nodes[ONE].lag_bytes;
        assert!(lag.is_some_and(|bytes| bytes > 0), "{lag:?}");
        replica.resume_replay().await?;
        replica.wait_for_catchup(cluster.primary()).await?;
        until("the monitor to see it", Duration::from_secs(3), async || {
            instance.store.stats().nodes[ONE].lag_bytes.is_some_and(|bytes| bytes < 1_000)
        })
        .await?;
        assert_eq!(instance.get(&session, 5).await?.rung, Rung::Replica);
        Ok(())
    })
}

#[test]
fn a_replica_that_arrives_within_the_budget_answers() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let settings = Settings { wait_budget: Duration::from_secs(3), ..Settings::default() };
        let instance = Instance::alone(over(&cluster).settings(settings)).await?;
        let session = Session::new();
        let replica = cluster.replica(0);
        replica.pause_replay().await?;
        instance.write(&session, 1, "grace").await?;
        let (read, resumed) = tokio::join!(instance.get(&session, 1), async {
            sleep(Duration::from_millis(300)).await;
            replica.resume_replay().await?;
            Result::<_>::Ok(Instant::now())
        });
        let (read, late) = (read?, resumed?.elapsed());
        println!("answered {late:?} after replay went on");
        assert_eq!((read.rung, read.value.unwrap().name.as_str()), (Rung::Replica, "grace"));
        assert!(late < Duration::from_millis(500), "{late:?}");
        let counts = instance.store.stats().counts;
        assert_eq!((counts.waits, counts.fallbacks_primary), (1, 0));
        Ok(())
    })
}

#[test]
fn of_two_replicas_the_one_that_is_there_answers() -> Result {
    run(async {
        let cluster = cluster(2).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        cluster.replica(0).pause_replay().await?;
        for round in 0..20 {
            let name = format!("round {round}");
            instance.write(&session, 1, &name).await?;
            assert_eq!(instance.name(&session, 1).await?, Some(name));
        }
        let (stats, cache) = (instance.store.stats().counts, instance.rows.stats());
        assert!(cache.loads_replica >= 15, "{cache:?} {stats:?}");
        Ok(())
    })
}

#[test]
fn no_session_misses_its_write_whatever_becomes_of_the_replicas() -> Result {
    run(async {
        let (cluster, redis) = (cluster(2).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        let traffic = Traffic::over(&[&one, &two]);
        let (near, far) = (cluster.replica(0), cluster.replica(1));
        sleep(Duration::from_millis(700)).await;
        near.pause_replay().await?;
        far.apply_delay(Duration::from_millis(300)).await?;
        sleep(Duration::from_millis(1_500)).await;
        near.resume_replay().await?;
        far.kill().await?;
        sleep(Duration::from_millis(1_500)).await;
        near.freeze().await?;
        far.start().await?;
        sleep(Duration::from_millis(2_500)).await;
        near.thaw().await?;
        far.apply_delay(Duration::ZERO).await?;
        sleep(Duration::from_millis(1_000)).await;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0, "another server could always answer: {verdict}");
        let stats = one.store.stats();
        assert!(stats.counts.waits > 0 && stats.counts.fallbacks_primary > 0, "{stats:?}");
        for node in 0..3 {
            one.until_node(node, if node == 0 { "primary" } else { "standby" }).await?;
        }
        Ok(())
    })
}

#[test]
fn a_replica_that_is_killed_or_frozen_is_taken_out_and_comes_back_by_itself() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let replica = cluster.replica(0);
        let anybody = Session::new();
        let mut id = 100;
        let mut served_by = async |instance: &Instance| -> Result<(Rung, Duration)> {
            id += 1;
            let begun = Instant::now();
            let read = instance.get(&anybody, id).await?;
            Ok((read.rung, begun.elapsed()))
        };
        assert_eq!(served_by(&instance).await?.0, Rung::Replica);
        replica.kill().await?;
        let (rung, took) = served_by(&instance).await?;
        println!("the first read after the kill took {took:?}");
        assert_eq!(rung, Rung::Primary);
        let out = instance.until_node(ONE, "out").await?;
        replica.start().await?;
        let back = instance.until_node(ONE, "standby").await?;
        println!("killed: out after {out:?} more, back {back:?} after its start");
        assert!(back < Duration::from_secs(5), "{back:?}");
        assert_eq!(served_by(&instance).await?.0, Rung::Replica);
        replica.freeze().await?;
        let frozen = Instant::now();
        let mut slowest = Duration::ZERO;
        while frozen.elapsed() < Duration::from_secs(3) {
            slowest = slowest.max(served_by(&instance).await?.1);
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(served_by(&instance).await?.0, Rung::Primary);
        assert!(instance.store.stats().nodes[ONE].state.starts_with("out"), "{:?}", instance.store.stats().nodes);
        replica.thaw().await?;
        let back = instance.until_node(ONE, "standby").await?;
        println!("frozen: the slowest read took {slowest:?}; back {back:?} after the thaw");
        assert!(slowest < Duration::from_secs(3), "{slowest:?}");
        assert!(back < Duration::from_secs(5), "{back:?}");
        assert_eq!(served_by(&instance).await?.0, Rung::Replica);
        Ok(())
    })
}
