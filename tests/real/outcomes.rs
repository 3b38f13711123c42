//! Commits whose answer is lost.

use crate::support::{Instance, Result, cluster, over, over_nodes, put, run, until};
use highwater::source::Outcome;
use highwater::testkit::{Cluster, Proxy, RedisServer};
use highwater::{Rung, Session, Unknown, WriteError};
use std::time::Duration;
use tokio::time::Instant;

struct Scene {
    cluster: Cluster,
    /// In front of the primary, for the first instance alone.
    proxy: Proxy,
    one: Instance,
    two: Instance,
    _redis: RedisServer,
}

async fn scene() -> Result<Scene> {
    let (cluster, redis) = (cluster(1).await?, RedisServer::start().await?);
    let proxy = Proxy::start(cluster.primary().address()).await?;
    let builder = over_nodes(cluster.replicas()).primary(proxy.postgres_url());
    let one = Instance::sharing(builder, &redis).await?;
    let two = Instance::sharing(over(&cluster), &redis).await?;
    Ok(Scene { cluster, proxy, one, two, _redis: redis })
}

async fn unknown(instance: &Instance, session: &Session, name: &str) -> Result<Unknown> {
    let mut tx = instance.store.begin(session).await?;
    put(&tx, 1, name).await?;
    tx.retract(&instance.rows, &1);
    match tx.commit().await {
        Err(WriteError::Unknown(unknown)) => Ok(unknown),
        other => Err(format!("{other:?}").into()),
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_out() -> Result {
    run(async {
        let Scene { cluster, proxy, one, two, _redis } = scene().await?;
        for round in 0..10 {
            let (session, anybody) = (Session::new(), Session::new());
            one.get(&anybody, 1).await?;
            two.get(&anybody, 1).await?;
            cluster.replica(0).pause_replay().await?;
            let name = format!("perhaps {round}");
            proxy.cut_replies_after(b"COMMIT");
            let begun = Instant::now();
            let unknown = unknown(&one, &session, &name).await?;
            assert!(unknown.xid.is_some(), "{unknown:?}");
            // Nobody but the primary can know, so nobody else answers its session.
            let read = one.get(&session, 1).await?;
            assert_eq!((read.rung, read.value.unwrap().name.as_str()), (Rung::Primary, name.as_str()));
            assert_eq!(unknown.resolve().await, Outcome::Committed);
            println!("known after {:?}", begun.elapsed());
            assert!(!session.token().is_empty());
            assert_eq!(one.name(&session, 1).await?.as_ref(), Some(&name));
            assert_eq!(one.name(&anybody, 1).await?.as_ref(), Some(&name), "its key was retracted all the same");
            let heard = async || two.name(&anybody, 1).await.is_ok_and(|found| found.as_ref() == Some(&name));
            until("the other instance to hear of it", Duration::from_secs(3), heard).await?;
            cluster.replica(0).resume_replay().await?;
        }
        assert_eq!(proxy.traps_sprung(), 10);
        assert_eq!(one.store.stats().counts.unknown_outcomes, 10);
        Ok(())
    })
}

#[test]
fn a_commit_that_never_arrived_is_told_as_aborted() -> Result {
    run(async {
        let Scene { cluster: _cluster, proxy, one, .. } = scene().await?;
        let session = Session::new();
        proxy.cut_before(b"COMMIT");
        let mut tx = one.store.begin(&session).await?;
        put(&tx, 1, "never").await?;
        tx.retract(&one.rows, &1);
        match tx.commit().await {
            Err(WriteError::Unknown(unknown)) => assert_eq!(unknown.resolve().await, Outcome::Aborted),
            Err(WriteError::RolledBack(_)) => {}
            other => return Err(format!("{other:?}").into()),
        }
        assert_eq!(one.name(&session, 1).await?.as_deref(), Some("ada"));
        Ok(())
    })
}

/// The network falls silent behind the commit: neither the answer nor an error comes, and the primary cannot be asked.
#[test]
fn while_the_outcome_is_unknown_the_session_waits_rather_than_errs() -> Result {
    run(async {
        let Scene { cluster: _cluster, proxy, one, two, .. } = scene().await?;
        let session = Session::new();
        proxy.cut_replies_after(b"COMMIT");
        let unknown = unknown(&one, &session, "kept").await?;
        proxy.cut().await?;
        let error = one.rows.get(&session, &1).await.unwrap_err();
        assert!(error.as_cache().is_some_and(highwater::Error::is_unavailable), "{error}");
        assert_eq!(one.get(&Session::new(), 2).await?.rung, Rung::Replica, "others are served");
        proxy.heal().await?;
        assert_eq!(unknown.resolve().await, Outcome::Committed);
        assert_eq!(one.name(&session, 1).await?.as_deref(), Some("kept"));
        assert_eq!(two.name(&Session::from_token(session.token()), 1).await?.as_deref(), Some("kept"));
        Ok(())
    })
}
