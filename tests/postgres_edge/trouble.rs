//! Servers that refuse, freeze, interrupt, or are not ours.

use crate::{PRIMARY, REPLICA, Result, address, anew, ask, builder, cluster, load, source, within};
use highwater::source::postgres::{Postgres, PostgresNode};
use highwater::source::{Ask, Committed, FaultKind, Lease, Role, Source, Transaction};
use highwater::testkit::{Cluster, Proxy};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_recovery_conflict_is_told_though_the_loader_swallows_it() -> Result {
    let cluster = cluster(1).await?;
    cluster.replica(0).configure("max_standby_streaming_delay", "50ms").await?;
    let source = source(&cluster).await?;
    let lease = source.lease(REPLICA, ask(false)).await?;
    let (primary, conn) = (cluster.primary(), lease.conn());
    let (answer, truncated) = tokio::join!(conn.query("select pg_sleep(5) from t", &[]), async {
        sleep(Duration::from_millis(300)).await;
        primary.execute("truncate t").await
    });
    truncated?;
    assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("40001"));
    let fault = lease.finish().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict, "{fault}");
    assert!(fault.is_worth_another_server());
    Ok(())
}

/// A time-out that the application or its role has set, and an operator's pg_cancel_backend, end a statement: the server is
/// none the worse for it.
#[tokio::test]
async fn a_cancelled_statement_says_nothing_about_its_server() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where query like '%pg_sleep(5)%' and pid <> pg_backend_pid()";
    for (node, server) in [(PRIMARY, cluster.primary()), (REPLICA, cluster.replica(0))] {
        let lease = source.lease(node, ask(node == PRIMARY)).await?;
        let (answer, cancelled) = tokio::join!(lease.conn().query("select pg_sleep(5)", &[]), async {
            sleep(Duration::from_millis(300)).await;
            server.execute(cancel).await
        });
        cancelled?;
        let error = answer.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
        assert!(!error.is_timeout() && !error.is_transient(), "the server answered: {error}");
        assert!(error.to_string().contains(&server.address().to_string()), "{error}");
        lease.finish().await?;
    }
    cluster.primary().execute("alter role postgres set statement_timeout = '200ms'").await?;
    let source = crate::source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    tx.conn().query("select pg_sleep(5)", &[]).await.unwrap_err();
    let committed = tx.commit(within(5_000)).await;
    assert!(matches!(&committed, Committed::RolledBack(fault) if fault.kind == FaultKind::Statement), "{committed:?}");
    Ok(())
}

/// The flush of an errand hangs, as on a disk that stalls. Reads and the monitor do not depend on it.
#[tokio::test]
async fn a_stalled_errand_does_not_silence_the_monitor() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).operation_timeout(Duration::from_millis(1_500)).build()?;
    source.probe(PRIMARY).await?;
    source.nudge(PRIMARY).await?;
    let pid =
        "select pid from pg_stat_activity where query like '%pg_logical_emit_message%' and pid <> pg_backend_pid()";
    let pid: i32 = cluster.primary().value(pid).await?.expect("the connection that nudges").parse()?;
    let backend = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(backend, rustix::process::Signal::STOP)?;
    let (nudged, probed) = tokio::join!(source.nudge(PRIMARY), async {
        sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        source.probe(PRIMARY).await.map(|_| begun.elapsed())
    });
    rustix::process::kill_process(backend, rustix::process::Signal::CONT)?;
    assert_eq!(nudged.unwrap_err().kind, FaultKind::TimedOut);
    let took = probed?;
    assert!(took < Duration::from_secs(1), "{took:?}");
    source.nudge(PRIMARY).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_ended_is_replaced() -> Result {
    let cluster = cluster(1).await?;
    let source = source(&cluster).await?;
    load(&source, REPLICA, ask(false)).await?;
    let lease = source.lease(REPLICA, ask(false)).await?;
    let (answer, ended) = tokio::join!(lease.conn().query("select pg_sleep(5)", &[]), async {
        sleep(Duration::from_millis(200)).await;
        cluster.replica(0).terminate_backends().await
    });
    ended?;
    answer.unwrap_err();
    assert_eq!(lease.finish().await.unwrap_err().kind, FaultKind::Down);
    sleep(Duration::from_millis(50)).await;
    load(&source, REPLICA, ask(false)).await?;
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_costs_no_more_than_the_deadline() -> Result {
    let cluster = cluster(1).await?;
    let source = builder(&cluster).operation_timeout(Duration::from_millis(500)).build()?;
    source.probe(PRIMARY).await?;
    load(&source, REPLICA, ask(false)).await?;
    cluster.replica(0).freeze().await?;
    // First the connection of the pool, then one that cannot be opened.
    for _ in 0..2 {
        let begun = Instant::now();
        let fault = load(&source, REPLICA, Ask { deadline: within(300), ..anew(false) }).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::TimedOut, "{fault}");
        assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    assert_eq!(source.probe(REPLICA).await.unwrap_err().kind, FaultKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    cluster.replica(0).thaw().await?;
    load(&source, REPLICA, ask(false)).await?;
    assert!(matches!(source.probe(REPLICA).await?.role, Role::Standby { timeline: Some(_), .. }));
    Ok(())
}

#[tokio::test]
async fn a_silent_network_costs_no_more_than_the_connect_timeout() -> Result {
    let cluster = cluster(0).await?;
    let proxy = Proxy::start(cluster.primary().address()).await?;
    proxy.blackhole();
    let url = proxy.postgres_url();
    let source = Postgres::builder().node(url).connect_timeout(Duration::from_millis(200)).build()?;
    let begun = Instant::now();
    let fault = source.lease(PRIMARY, ask(true)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::TimedOut, "{fault}");
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_is_down_or_wrongly_configured_says_so() -> Result {
    let cluster = cluster(0).await?;
    let port = cluster.primary().port();
    for (url, kind, word) in [
        ("postgres://postgres@127.0.0.1:1/postgres".to_owned(), FaultKind::Down, "connection"),
        (format!("postgres://postgres@127.0.0.1:{port}/nosuch"), FaultKind::Misconfigured, "3D000"),
        (format!("postgres://nosuch:s3cret@127.0.0.1:{port}/postgres"), FaultKind::Misconfigured, "28"),
    ] {
        let source = Postgres::builder().node(format!("{url}?sslmode=disable")).build()?;
        let fault = source.lease(0, ask(true)).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.to_string().contains(word), "{fault}");
        assert!(!format!("{fault:?}").contains("s3cret"));
    }
    Ok(())
}

#[tokio::test]
async fn a_server_of_another_cluster_is_refused() -> Result {
    let ours = cluster(0).await?;
    let theirs = Cluster::builder().fresh_identity().start().await?;
    let source = Postgres::builder().node(address(ours.primary())).node(address(theirs.primary())).build()?;
    source.probe(0).await?;
    assert_eq!(source.probe(1).await.unwrap_err().kind, FaultKind::Foreign);
    assert_eq!(source.lease(1, ask(false)).await.unwrap_err().kind, FaultKind::Foreign);
    assert_eq!(source.begin(1, within(5_000)).await.unwrap_err().kind, FaultKind::Foreign);
    let strict = Postgres::builder().node(address(ours.primary())).system_identifier(7).build()?;
    assert_eq!(strict.lease(0, ask(true)).await.unwrap_err().kind, FaultKind::Foreign);
    Ok(())
}

#[tokio::test]
async fn a_role_that_cannot_see_the_receiver_is_told_what_to_grant() -> Result {
    let cluster = cluster(1).await?;
    cluster.primary().execute("create role app login").await?;
    cluster.primary().execute("grant select on t to app").await?;
    cluster.wait_for_catchup().await?;
    let node = |port| PostgresNode::new(format!("postgres://app@127.0.0.1:{port}/postgres?sslmode=disable"));
    let source =
        Postgres::builder().node(node(cluster.primary().port())).node(node(cluster.replica(0).port())).build()?;
    load(&source, PRIMARY, ask(true)).await?;
    for fault in [load(&source, REPLICA, ask(false)).await.unwrap_err(), source.probe(REPLICA).await.unwrap_err()] {
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
        assert!(fault.to_string().contains("GRANT pg_read_all_stats"), "{fault}");
    }
    let lease = source.lease(PRIMARY, ask(true)).await?;
    lease.finish().await?;
    Ok(())
}
