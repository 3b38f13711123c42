//! A primary whose machine was restored from an older copy: the same cluster, the same timeline, less log.

use crate::support::{Instance, Result, cluster, over, run, until};
use highwater::Session;
use highwater::testkit::{Cluster, FileCopy, RedisServer};
use std::time::Duration;

/// Writes enough that the log of the copy ends far below, and then row 1.
async fn lose_a_write(cluster: &Cluster, copy: &FileCopy, instances: [&Instance; 2], session: &Session) -> Result {
    cluster.primary().execute("select pg_switch_wal()").await?;
    instances[0].write(session, 1, "lost").await?;
    assert_eq!(instances[1].name(session, 1).await?.as_deref(), Some("lost"));
    // Whoever has not seen how far the log was cannot notice that it is shorter.
    for instance in instances {
        instance.store.token().await?;
    }
    cluster.primary().set_back(copy).await?;
    Ok(())
}

async fn until_generation(instance: &Instance, above: u64) -> Result<u64> {
    until("the set-back to be noticed", Duration::from_secs(30), async || {
        instance.store.history().generation() > above
    })
    .await?;
    Ok(instance.store.history().generation())
}

#[test]
fn what_it_lost_is_told_and_the_instances_agree_on_what_began() -> Result {
    run(async {
        let cluster = cluster(0).await?;
        let copy = cluster.primary().copy_files().await?;
        cluster.primary().start().await?;
        // They tell each other nothing.
        let one = Instance::alone(over(&cluster)).await?;
        let session = Session::new();
        let mut generation = 0;
        for round in 0..3 {
            let other = Instance::alone(over(&cluster)).await?;
            lose_a_write(&cluster, &copy, [&one, &other], &session).await?;
            let noticed = [until_generation(&one, generation).await?, until_generation(&other, generation).await?];
            println!("round {round}: {noticed:?}");
            assert_eq!(noticed[0], noticed[1], "of itself, each");
            generation = noticed[0];
            for instance in [&one, &other] {
                let handed = Session::from_token(session.token());
                let error = instance.rows.get(&handed, &1).await.unwrap_err();
                assert!(error.as_cache().is_some_and(highwater::Error::is_write_lost), "{error}");
            }
            one.store.accept_loss(&session);
            assert_eq!(one.name(&session, 1).await?.as_deref(), Some("ada"));
            one.write(&session, 2, "in the new log").await?;
            assert_eq!(other.name(&session, 2).await?.as_deref(), Some("in the new log"), "known to both");
        }
        Ok(())
    })
}

/// One is told by the other before it finds it itself, and one that starts afterwards knows from the log.
#[test]
fn instances_that_share_a_log_are_in_one_history_afterwards() -> Result {
    run(async {
        let (cluster, redis) = (cluster(0).await?, RedisServer::start().await?);
        let copy = cluster.primary().copy_files().await?;
        cluster.primary().start().await?;
        let one = Instance::sharing(over(&cluster), &redis).await?;
        let other = Instance::sharing(over(&cluster), &redis).await?;
        let session = Session::new();
        lose_a_write(&cluster, &copy, [&one, &other], &session).await?;
        let generation = until_generation(&one, 0).await?;
        let late = Instance::sharing(over(&cluster), &redis).await?;
        until("all to be in one history", Duration::from_secs(30), async || {
            let fingerprints = [&one, &other, &late].map(|instance| instance.store.history().fingerprint());
            fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0])
        })
        .await?;
        assert_eq!(late.store.history().generation(), generation);
        assert!(one.rows.get(&session, &1).await.unwrap_err().as_cache().is_some_and(highwater::Error::is_write_lost));
        one.store.accept_loss(&session);
        one.write(&session, 1, "again").await?;
        for instance in [&one, &other, &late] {
            assert_eq!(instance.name(&session, 1).await?.as_deref(), Some("again"));
        }
        Ok(())
    })
}
