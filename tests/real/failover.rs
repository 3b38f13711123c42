//! Promotions: a write that one loses is reported, and nobody of the lost history answers.

use crate::support::{Instance, Result, cluster, over, put, run, until};
use crate::traffic::Traffic;
use highwater::testkit::{Cluster, Node, RedisServer};
use highwater::{Retraction, Rung, Session, WriteError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Cuts a replica off from its primary, so that it lacks what is written from now on.
async fn cut_off(replica: &Node) -> Result {
    replica.execute("alter system set primary_conninfo = ''").await?;
    replica.reload().await?;
    replica.poll_query_until("select not exists (select from pg_stat_wal_receiver where status = 'streaming')").await?;
    Ok(())
}

/// Row 1 is written as `lost` and `after`, of which the promoted replica has neither.
async fn lose_a_write(cluster: &Cluster, instance: &Instance, session: &Session) -> Result {
    instance.get(&Session::new(), 1).await?;
    cut_off(cluster.replica(0)).await?;
    instance.write(session, 1, "lost").await?;
    assert_eq!(instance.name(session, 1).await?.as_deref(), Some("lost"));
    cluster.primary().kill().await?;
    cluster.replica(0).promote().await?;
    Ok(())
}

#[test]
fn a_lost_write_is_an_error_until_it_is_accepted() -> Result {
    run(async {
        let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
        let instance = Instance::sharing(over(&cluster), &redis).await?;
        let (session, anybody, earlier) = (Session::new(), Session::new(), Session::new());
        instance.write(&earlier, 2, "survives").await?;
        cluster.wait_for_catchup().await?;
        lose_a_write(&cluster, &instance, &session).await?;
        instance.until_node(1, "primary on timeline 2").await?;
        // Row 2 too: what the session had written cannot be told apart from what it reads.
        for id in [1, 2, 1] {
            let error = instance.rows.get(&session, &id).await.unwrap_err();
            assert!(error.as_cache().is_some_and(highwater::Error::is_write_lost), "{error}");
            println!("{error}");
        }
        let handed = Session::from_token(session.token());
        assert!(instance.rows.get(&handed, &1).await.unwrap_err().as_cache().unwrap().is_write_lost());
        assert_eq!(instance.name(&anybody, 1).await?.as_deref(), Some("ada"), "it never saw the lost write");
        assert_eq!(instance.name(&earlier, 2).await?.as_deref(), Some("survives"), "a token below the switch counts");
        instance.store.accept_loss(&session);
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("ada"));
        instance.write(&session, 1, "again").await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("again"));
        assert_eq!(instance.store.history().timeline(), highwater::Timeline(2));
        assert_eq!(instance.store.stats().counts.replaced, 1);
        Ok(())
    })
}

#[test]
fn an_instance_that_joins_later_reports_the_loss_as_well() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        lose_a_write(&cluster, &instance, &session).await?;
        let late = Instance::alone(over(&cluster)).await?;
        let handed = Session::from_token(session.token());
        let error = late.rows.get(&handed, &1).await.unwrap_err();
        assert!(error.as_cache().unwrap().is_write_lost(), "{error}");
        Ok(())
    })
}

/// replica0 is promoted without the last write; replica1 has it, and its position passes every comparison of numbers.
#[test]
fn a_diverged_standby_answers_nobody() -> Result {
    run(async {
        let cluster = cluster(2).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let (session, anybody) = (Session::new(), Session::new());
        let (winner, loser) = (cluster.replica(0), cluster.replica(1));
        cut_off(winner).await?;
        instance.write(&session, 1, "lost").await?;
        for n in 0..50 {
            instance.write(&session, 100 + n, "lost too").await?;
        }
        loser.wait_for_catchup(cluster.primary()).await?;
        cluster.primary().kill().await?;
        winner.promote().await?;
        instance.until_node(1, "primary on timeline 2").await?;
        assert_eq!(loser.value("select name from rows where id = 1").await?.as_deref(), Some("lost"));
        for id in (1..30).chain(100..150) {
            let read = instance.get(&anybody, id).await?;
            assert_eq!(read.rung, Rung::Primary, "{id}");
            assert!(read.value.is_none_or(|row| row.name == "ada"), "row {id} of the lost history");
        }
        // It can neither follow the winner, which is behind it, nor be used.
        assert!(!instance.store.stats().nodes[2].state.starts_with("standby on timeline 2"));
        winner.execute("alter system reset primary_conninfo").await?;
        loser.rebuild_from(winner).await?;
        instance.until_node(2, "standby on timeline 2").await?;
        assert_eq!(instance.get(&anybody, 200).await?.rung, Rung::Replica);
        Ok(())
    })
}

#[test]
fn the_old_primary_started_again_is_not_used() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        lose_a_write(&cluster, &instance, &session).await?;
        instance.until_node(1, "primary on timeline 2").await?;
        instance.store.accept_loss(&session);
        cluster.primary().start().await?;
        assert_eq!(cluster.primary().value("select name from rows where id = 1").await?.as_deref(), Some("lost"));
        until("the monitor to look at it", Duration::from_secs(5), async || {
            instance.store.stats().nodes[0].state.contains("which the cluster has left")
        })
        .await?;
        for round in 0..20 {
            let name = format!("round {round}");
            instance.write(&session, 1, &name).await?;
            assert_eq!(instance.name(&session, 1).await?, Some(name));
            assert_eq!(instance.name(&Session::new(), 2 + round).await?, None);
        }
        let name = cluster.primary().value("select name from rows where id = 1").await?;
        assert_eq!(name.as_deref(), Some("lost"), "no write went there");
        // A new instance, to which both look like primaries.
        let late = Instance::alone(over(&cluster)).await?;
        assert_eq!(late.name(&session, 1).await?.as_deref(), Some("round 19"));
        Ok(())
    })
}

#[test]
fn a_transaction_that_a_promotion_overtakes_is_not_told_as_committed() -> Result {
    run(async {
        let cluster = cluster(1).await?;
        let instance = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        let mut tx = instance.store.begin(&session).await?;
        put(&tx, 1, "too late").await?;
        tx.retract(&instance.rows, &1);
        cluster.primary().kill().await?;
        cluster.replica(0).promote().await?;
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, WriteError::RolledBack(_) | WriteError::Unknown(_)), "{error:?}");
        instance.until_node(1, "primary on timeline 2").await?;
        instance.store.capture(&session, Retraction::new()).await?;
        assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("ada"));
        Ok(())
    })
}

#[test]
fn under_load_a_failover_loses_nothing_in_silence() -> Result {
    run(async {
        let (cluster, redis) = (cluster(2).await?, RedisServer::start().await?);
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let two = Instance::sharing(over(&cluster), &redis).await?;
        let traffic = Traffic::over(&[&one, &two]);
        sleep(Duration::from_millis(1_500)).await;
        let (winner, other) = (cluster.replica(0), cluster.replica(1));
        cut_off(winner).await?;
        sleep(Duration::from_millis(300)).await;
        cluster.primary().kill().await?;
        let replacement = traffic.replaced();
        let mut survived = Vec::new();
        for id in traffic.rows() {
            let version = winner.value(&format!("select version from rows where id = {id}")).await?;
            survived.push((id, version.and_then(|version| version.parse().ok()).unwrap_or(0)));
        }
        // Commits that were under way have been told or not by now; none is acknowledged after the kill.
        sleep(Duration::from_millis(300)).await;
        let lost: usize = survived.iter().map(|&(id, version)| traffic.lost(replacement, id, version)).sum();
        let begun = Instant::now();
        winner.promote().await?;
        one.until_node(1, "primary on timeline 2").await?;
        println!("the promotion lost {lost} writes; the new primary was found after {:?}", begun.elapsed());
        assert!(lost > 0);
        winner.execute("alter system reset primary_conninfo").await?;
        other.rebuild_from(winner).await?;
        one.until_node(2, "standby on timeline 2").await?;
        sleep(Duration::from_millis(1_500)).await;
        let verdict = traffic.end().await?;
        println!("{verdict}");
        assert!(verdict.tally().loss_reports > 0);
        Ok(())
    })
}
