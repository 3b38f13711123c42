//! Behind PgBouncer in transaction mode.

use crate::{PRIMARY, REPLICA, Result, ask, cluster, within};
use highwater::source::postgres::{Postgres, PostgresNode};
use highwater::source::{Ask, Committed, FaultKind, Lease, Source, Transaction};
use highwater::testkit::PgBouncer;
use std::sync::Arc;
use tokio_postgres::types::Type;

async fn pooled(pooler: &PgBouncer, names: &[&str]) -> Result<Postgres> {
    let node = |name: &&str| PostgresNode::new(pooler.url_to(name)).pooled(true);
    Ok(names.iter().map(node).fold(Postgres::builder().pool_size(8), |builder, node| builder.node(node)).build()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_writes_work_in_transaction_mode() -> Result {
    let cluster = cluster(1).await?;
    let pooler = PgBouncer::start(&[cluster.primary(), cluster.replica(0)]).await?;
    let source = Arc::new(pooled(&pooler, &["primary", "replica0"]).await?);
    source.probe(PRIMARY).await?;
    source.probe(REPLICA).await?;
    let many = (0..200).map(|i| {
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            let node = if i % 3 == 0 { PRIMARY } else { REPLICA };
            let lease = source.lease(node, ask(node == PRIMARY)).await?;
            for _ in 0..3 {
                let rows = lease.conn().query_typed("select v from t where id = $1", &[(&1_i32, Type::INT4)]).await?;
                assert_eq!(rows.len(), 1);
            }
            assert!(lease.conn().query("select 1", &[]).await.unwrap_err().is_refused());
            lease.finish().await?;
            Result::<()>::Ok(())
        })
    });
    for one in many.collect::<Vec<_>>() {
        one.await??;
    }
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    assert!(tx.conn().execute("select 1", &[]).await.unwrap_err().is_refused());
    tx.conn().execute_typed("update t set v = $1", &[(&"new", Type::TEXT)]).await?;
    let Committed::Done { token, .. } = tx.commit(within(5_000)).await else { panic!("not committed") };
    cluster.wait_for_catchup().await?;
    let lease = source.lease(REPLICA, Ask { upper: true, ..ask(false) }).await?;
    let rows = lease.conn().query_typed("select v from t", &[]).await?;
    let stamp = lease.finish().await?;
    assert_eq!(rows[0].get::<_, &str>(0), "new");
    assert!(stamp.tag >= token.lsn && stamp.upper >= Some(stamp.tag));
    let lease = source.lease(PRIMARY, Ask { quiesce: true, ..ask(true) }).await?;
    lease.conn().query_typed("select v from t", &[]).await?;
    lease.finish().await?;
    Ok(())
}

#[tokio::test]
async fn a_pooler_that_changes_its_server_is_noticed() -> Result {
    let cluster = cluster(1).await?;
    let pooler = PgBouncer::start(&[cluster.primary(), cluster.replica(0)]).await?;
    let source = pooled(&pooler, &["postgres"]).await?;
    source.probe(PRIMARY).await?;
    let lease = source.lease(PRIMARY, ask(true)).await?;
    lease.conn().query_typed("select v from t", &[]).await?;
    lease.finish().await?;
    pooler.retarget(cluster.replica(0)).await?;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let lease = source.lease(PRIMARY, ask(true)).await?;
    let error = lease.conn().query_typed("select v from t", &[]).await;
    let fault = lease.finish().await.unwrap_err();
    assert!(error.is_err());
    assert!(matches!(fault.kind, FaultKind::WrongRole | FaultKind::Down), "{fault}");
    assert!(source.begin(PRIMARY, within(5_000)).await.is_err());
    Ok(())
}

/// Undeclared, a pooler loses prepared statements: the fault says what to configure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undeclared_pooler_is_named() -> Result {
    let cluster = cluster(0).await?;
    let pooler = PgBouncer::start(&[cluster.primary()]).await?;
    let url = pooler.url_to("primary");
    let source = Arc::new(Postgres::builder().node(url).build()?);
    let mut named = 0;
    for _ in 0..20 {
        let tasks = (0..8).map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move {
                let lease = source.lease(PRIMARY, ask(true)).await?;
                let _ = lease.conn().query("select v from t", &[]).await;
                lease.finish().await
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            if let Err(fault) = task.await? {
                assert!(
                    matches!(fault.kind, FaultKind::Misconfigured | FaultKind::Unproven | FaultKind::Statement),
                    "{fault}"
                );
                named += usize::from(fault.kind == FaultKind::Misconfigured);
            }
        }
    }
    assert!(named > 0);
    Ok(())
}
