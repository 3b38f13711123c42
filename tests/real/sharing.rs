//! Two instances that share one Redis.

use crate::support::{Instance, Result, cluster, over, put, run, until};
use crate::traffic::Traffic;
use highwater::testkit::{Cluster, RedisServer};
use highwater::{ReadOptions, Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

async fn pair(replicas: usize) -> Result<(Cluster, RedisServer, Instance, Instance)> {
    let (cluster, redis) = (cluster(replicas).await?, RedisServer::start().await?);
    let one = Instance::sharing(over(&cluster), &redis).await?;
    let two = Instance::sharing(over(&cluster), &redis).await?;
    Ok((cluster, redis, one, two))
}

/// Waits until the other instance finds in the shared tier what one has offered.
async fn shared_hit(two: &Instance, session: &Session, id: i64) -> Result {
    let read = two.get(session, id).await?;
    if read.rung == Rung::Shared { Ok(()) } else { Err(format!("answered by {:?}", read.rung).into()) }
}

#[test]
fn what_one_filled_the_other_finds() -> Result {
    run(async {
        let (_cluster, _redis, one, two) = pair(1).await?;
        let session = Session::new();
        assert_eq!(one.get(&session, 1).await?.rung, Rung::Replica);
        assert_eq!(one.get(&session, 1).await?.rung, Rung::Local);
        sleep(Duration::from_millis(200)).await;
        shared_hit(&two, &session, 1).await?;
        let read = two.get(&session, 1).await?;
        assert_eq!((read.rung, read.value.unwrap().name.as_str()), (Rung::Local, "ada"));
        assert_eq!((one.loads(), two.loads()), (1, 0));
        Ok(())
    })
}

#[test]
fn a_write_retracts_what_the_other_holds() -> Result {
    run(async {
        let (_cluster, _redis, one, two) = pair(1).await?;
        let (writer, anybody) = (Session::new(), Session::new());
        for name in ["grace", "joan", "barbara"] {
            for id in [1, 2] {
                two.get(&anybody, id).await?;
                assert!(one.write(&writer, id, name).await?.told);
                assert_eq!(one.name(&writer, id).await?.as_deref(), Some(name));
            }
            let heard = async || two.name(&anybody, 2).await.is_ok_and(|found| found.as_deref() == Some(name));
            let took = until("the other instance to hear of it", Duration::from_secs(2), heard).await?;
            println!("a session without a token sees the write after {took:?}");
            // The writer's session, continued elsewhere, does not depend on any message.
            let elsewhere = Session::from_token(writer.token());
            assert_eq!(two.name(&elsewhere, 1).await?.as_deref(), Some(name));
        }
        let counts = two.store.stats().counts;
        assert_eq!((counts.retractions_heard, counts.gaps, counts.deaf), (6, 0, 0));
        Ok(())
    })
}

#[test]
fn a_group_covers_its_rows_on_every_instance() -> Result {
    run(async {
        let (_cluster, _redis, one, two) = pair(1).await?;
        let (writer, anybody) = (Session::new(), Session::new());
        for (id, name) in [(10, "red/ada"), (11, "red/grace"), (12, "blue/joan")] {
            one.write(&writer, id, name).await?;
        }
        let elsewhere = Session::from_token(writer.token());
        for id in 10..=12 {
            two.get(&elsewhere, id).await?;
        }
        let mut tx = one.store.begin(&writer).await?;
        tx.execute("update rows set name = name || '!' where name like 'red/%'", &[]).await?;
        tx.retract_group("red");
        tx.commit().await?;
        let heard = async || two.store.stats().counts.retractions_heard >= 4;
        until("the group's retraction", Duration::from_secs(2), heard).await?;
        let names = [two.name(&anybody, 10).await?, two.name(&anybody, 11).await?];
        assert_eq!(names, [Some("red/ada!".to_owned()), Some("red/grace!".to_owned())]);
        assert_eq!(two.get(&anybody, 12).await?.rung, Rung::Local, "another group's row stays");
        let mut tx = one.store.begin(&writer).await?;
        tx.execute("update rows set name = 'all'", &[]).await?;
        tx.retract_cache(&one.rows);
        tx.commit().await?;
        let cleared = async || two.name(&anybody, 12).await.is_ok_and(|name| name.as_deref() == Some("all"));
        until("the cache to be cleared", Duration::from_secs(2), cleared).await?;
        Ok(())
    })
}

#[test]
fn many_keys_come_from_each_rung_in_one_step() -> Result {
    run(async {
        let (cluster, _redis, one, two) = pair(1).await?;
        let sql = "insert into rows select n, 1, 0, 'row ' || n from generate_series(100, 199) n";
        cluster.primary().execute(sql).await?;
        cluster.wait_for_catchup().await?;
        let (session, options) = (Session::new(), ReadOptions::default());
        let keys: Vec<i64> = (100..300).collect();
        let first = one.rows.get_many(&session, &keys[..50], &options).await?;
        assert!(first.iter().all(|read| read.rung == Rung::Replica));
        sleep(Duration::from_millis(200)).await;
        two.get(&session, 150).await?;
        let reads = two.rows.get_many(&session, &keys, &options).await?;
        let rungs = |rung| reads.iter().filter(|read| read.rung == rung).count();
        assert_eq!((rungs(Rung::Local), rungs(Rung::Shared), rungs(Rung::Replica)), (1, 50, 149));
        assert_eq!(two.loads(), 2, "one for the single row, one for all the rest");
        for (id, read) in keys.iter().zip(&reads) {
            let expected = (*id < 200).then(|| format!("row {id}"));
            assert_eq!(read.value.as_ref().map(|row| row.name.clone()), expected);
        }
        let again = two.rows.get_many(&session, &keys, &options).await?;
        assert!(again.iter().all(|read| read.rung == Rung::Local), "absent rows too");
        Ok(())
    })
}

#[test]
fn a_row_known_to_be_absent_is_retracted_by_its_insertion() -> Result {
    run(async {
        let (_cluster, _redis, one, two) = pair(1).await?;
        let (writer, anybody) = (Session::new(), Session::new());
        assert_eq!(one.name(&anybody, 77).await?, None);
        sleep(Duration::from_millis(200)).await;
        shared_hit(&two, &anybody, 77).await?;
        assert_eq!((two.name(&anybody, 77).await?, two.loads()), (None, 0));
        one.write(&writer, 77, "new").await?;
        let heard = async || two.name(&anybody, 77).await.is_ok_and(|name| name.as_deref() == Some("new"));
        until("the insertion to be heard", Duration::from_secs(2), heard).await?;
        let mut tx = two.store.begin(&writer).await?;
        tx.execute("delete from rows where id = 77", &[]).await?;
        tx.retract(&two.rows, &77);
        tx.commit().await?;
        assert_eq!(two.name(&writer, 77).await?, None);
        assert_eq!(one.name(&writer, 77).await?, None);
        Ok(())
    })
}

#[test]
fn a_transaction_dropped_or_refused_changes_nothing() -> Result {
    run(async {
        let (_cluster, _redis, one, _two) = pair(1).await?;
        let session = Session::new();
        let tx = one.store.begin(&session).await?;
        put(&tx, 1, "dropped").await?;
        drop(tx);
        let mut tx = one.store.begin(&session).await?;
        tx.retract(&one.rows, &1);
        put(&tx, 1, "refused").await?;
        tx.execute("select 1 / 0", &[]).await.unwrap_err();
        assert!(matches!(tx.commit().await, Err(highwater::WriteError::RolledBack(_))));
        assert!(session.token().is_empty());
        assert_eq!(one.name(&session, 1).await?.as_deref(), Some("ada"));
        assert_eq!(one.store.stats().counts.rollbacks, 1);
        Ok(())
    })
}

#[test]
fn in_a_healthy_cluster_every_promise_is_kept() -> Result {
    run(async {
        let (_cluster, _redis, one, two) = pair(2).await?;
        let traffic = Traffic::over(&[&one, &two]);
        sleep(Duration::from_secs(4)).await;
        let verdict = traffic.end().await?;
        assert_eq!(verdict.tally().reads_failed, 0);
        assert!(verdict.tally().answered.len() >= 3, "{:?}", verdict.tally().answered);
        Ok(())
    })
}
