//! Commits: one verdict for every way that they can end.

use crate::{PRIMARY, Result, builder, cluster, source, within};
use highwater::source::postgres::{Postgres, PostgresNode, PostgresTransaction};
use highwater::source::{Committed, FaultKind, Outcome, Source, Transaction};
use highwater::testkit::Proxy;
use highwater::{Position, Timeline};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_commit_tells_a_token_that_covers_it() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    assert_eq!(tx.begun().timeline, Timeline(1));
    assert_eq!(tx.conn().execute("update t set v = 'new' where id = 1", &[]).await?, 1);
    tx.conn().execute_typed("savepoint s", &[]).await?;
    tx.conn().execute("update t set v = 'other'", &[]).await?;
    tx.conn().execute_typed("rollback to s", &[]).await?;
    assert!(tx.conn().execute("commit", &[]).await.unwrap_err().is_refused());
    let Committed::Done { token, .. } = tx.commit(within(5_000)).await else { panic!("not committed") };
    let after = cluster.primary().insert_lsn().await?;
    assert!(token.lsn.offset() <= u64::from(after));
    assert_eq!(token.timeline, Timeline(1));
    assert_eq!(cluster.primary().value("select v from t").await?.as_deref(), Some("new"));
    Ok(())
}

#[tokio::test]
async fn an_isolation_level_may_follow_begin() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("set transaction isolation level serializable", &[]).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    assert!(matches!(tx.commit(within(5_000)).await, Committed::Done { .. }));
    Ok(())
}

#[tokio::test]
async fn commit_of_an_aborted_transaction_is_a_roll_back() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    tx.conn().execute("select 1 / 0", &[]).await.unwrap_err();
    let committed = tx.commit(within(5_000)).await;
    assert!(matches!(&committed, Committed::RolledBack(fault) if fault.kind == FaultKind::Statement), "{committed:?}");
    assert_eq!(cluster.primary().value("select v from t").await?.as_deref(), Some("old"));
    Ok(())
}

#[tokio::test]
async fn a_deferred_constraint_fails_the_commit() -> Result {
    let cluster = cluster(0).await?;
    cluster.primary().execute("create table d (id int unique deferrable initially deferred)").await?;
    let source = source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("insert into d values (1), (1)", &[]).await?;
    let committed = tx.commit(within(5_000)).await;
    let Committed::RolledBack(fault) = committed else { panic!("{committed:?}") };
    assert!(fault.to_string().contains("23505"), "{fault}");
    assert!(!fault.to_string().contains("(1)"), "no values: {fault}");
    Ok(())
}

#[tokio::test]
async fn a_statement_that_was_given_up_rolls_back() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).operation_timeout(Duration::from_millis(300)).build()?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    assert!(tx.conn().execute("select pg_sleep(5)", &[]).await.unwrap_err().is_timeout());
    assert!(matches!(tx.commit(within(5_000)).await, Committed::RolledBack(_)));
    assert_eq!(cluster.primary().value("select v from t").await?.as_deref(), Some("old"));
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_cannot_be_serialized_is_told_at_commit_as_one_to_repeat() -> Result {
    let cluster = cluster(0).await?;
    cluster.primary().execute("insert into t values (2, 'old')").await?;
    let source = source(&cluster).await?;
    let skew = async |id: i32| -> Result<PostgresTransaction> {
        let tx = source.begin(PRIMARY, within(5_000)).await?;
        tx.conn().execute("set transaction isolation level serializable", &[]).await?;
        tx.conn().query("select count(*) from t where v = 'old'", &[]).await?;
        tx.conn().execute("update t set v = 'new' where id = $1", &[&id]).await?;
        Ok(tx)
    };
    let (one, two) = (skew(1).await?, skew(2).await?);
    assert!(matches!(one.commit(within(5_000)).await, Committed::Done { .. }));
    let Committed::RolledBack(fault) = two.commit(within(5_000)).await else { panic!("it was serializable") };
    assert_eq!(fault.kind, FaultKind::Conflict, "{fault}");
    assert!(fault.to_string().contains("40001"), "{fault}");
    Ok(())
}

/// The first statement that writes has the question for the transaction's number behind it. The connection breaks at every
/// byte of the two answers: whoever is not told so by the statement is told by COMMIT, as something to try again.
#[tokio::test]
async fn a_connection_that_breaks_behind_a_statements_answer_is_nothing_final() -> Result {
    let cluster = cluster(0).await?;
    let proxy = Proxy::start(cluster.primary().address()).await?;
    let source = through(&proxy).await?;
    let (mut statements, mut commits) = (0, 0);
    for bytes in (1..200).step_by(2) {
        let tx = source.begin(PRIMARY, within(5_000)).await?;
        proxy.cut_after_reply_bytes(bytes);
        match tx.conn().execute_typed("update t set v = 'new'", &[]).await {
            Err(error) => {
                assert!(error.is_transient(), "{bytes} bytes: {error:?}");
                statements += 1;
            }
            Ok(_) => match tx.commit(within(5_000)).await {
                Committed::RolledBack(fault) => assert_eq!(fault.kind, FaultKind::Down, "{bytes} bytes: {fault}"),
                _ => commits += 1,
            },
        }
        proxy.heal().await?;
    }
    assert!(statements > 10 && commits > 10, "{statements} broken statements, {commits} commits");
    Ok(())
}

async fn backend(tx: &PostgresTransaction) -> Result<i32> {
    Ok(tx.conn().query_one("select pg_backend_pid()", &[]).await?.get(0))
}

#[tokio::test]
async fn rolling_back_keeps_the_connection_and_dropping_ends_it() -> Result {
    let cluster = cluster(0).await?;
    let source = builder(&cluster).pool_size(1).operation_timeout(Duration::from_millis(400)).build()?;
    source.probe(PRIMARY).await?;
    let begin = async || source.begin(PRIMARY, within(5_000)).await;
    let tx = begin().await?;
    let first = backend(&tx).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    tx.rollback(within(5_000)).await;
    let tx = begin().await?;
    assert_eq!(backend(&tx).await?, first);
    tx.conn().execute("select 1 / 0", &[]).await.unwrap_err();
    tx.rollback(within(5_000)).await;
    let tx = begin().await?;
    assert_eq!(backend(&tx).await?, first, "aborted by a statement, and rolled back all the same");
    drop(tx);
    let tx = begin().await?;
    let second = backend(&tx).await?;
    assert_ne!(second, first, "dropped");
    assert!(tx.conn().query("select pg_sleep(5)", &[]).await.unwrap_err().is_timeout());
    let begun = Instant::now();
    tx.rollback(within(5_000)).await;
    assert!(begun.elapsed() < Duration::from_millis(200), "nothing is sent behind a statement that may still run");
    let tx = begin().await?;
    assert_ne!(backend(&tx).await?, second);
    tx.rollback(within(5_000)).await;
    assert_eq!(cluster.primary().value("select v from t").await?.as_deref(), Some("old"));
    let locks = "select count(*) from pg_locks where relation = 't'::regclass";
    assert_eq!(cluster.primary().value(locks).await?.as_deref(), Some("0"));
    Ok(())
}

#[tokio::test]
async fn a_roll_back_that_nobody_answers_ends_at_its_deadline() -> Result {
    let cluster = cluster(0).await?;
    let proxy = Proxy::start(cluster.primary().address()).await?;
    let source = through(&proxy).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    proxy.blackhole();
    let begun = Instant::now();
    tx.rollback(within(300)).await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    proxy.heal().await?;
    crate::write(&source, "next").await?;
    Ok(())
}

async fn through(proxy: &Proxy) -> Result<Postgres> {
    let url = proxy.postgres_url();
    let source = Postgres::builder().node(PostgresNode::new(url)).build()?;
    source.probe(PRIMARY).await?;
    Ok(source)
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_a_number_to_ask_about() -> Result {
    let cluster = cluster(0).await?;
    let proxy = Proxy::start(cluster.primary().address()).await?;
    let source = through(&proxy).await?;
    // The commit takes effect, and its answer is lost.
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'kept'", &[]).await?;
    proxy.cut_replies_after(b"COMMIT");
    let Committed::Unknown { xid: Some(xid), fault } = tx.commit(within(5_000)).await else { panic!("known") };
    assert_eq!(fault.kind, FaultKind::Down, "{fault}");
    proxy.heal().await?;
    assert_eq!(settled(&source, xid).await?, Outcome::Committed);
    // The commit never arrives.
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'lost'", &[]).await?;
    proxy.cut_before(b"COMMIT");
    let Committed::Unknown { xid: Some(xid), .. } = tx.commit(within(5_000)).await else { panic!("known") };
    proxy.heal().await?;
    assert_eq!(settled(&source, xid).await?, Outcome::Aborted);
    assert_eq!(cluster.primary().value("select v from t").await?.as_deref(), Some("kept"));
    // Nothing was written, so nothing is unknown.
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().query("select 1", &[]).await?;
    proxy.cut_replies_after(b"COMMIT");
    let committed = tx.commit(within(5_000)).await;
    assert!(matches!(committed, Committed::RolledBack(_)), "{committed:?}");
    assert_eq!(source.outcome(PRIMARY, 4_000_000_000, Timeline(1)).await?, Outcome::Forgotten);
    assert_eq!(source.outcome(PRIMARY, xid, Timeline(2)).await.unwrap_err().kind, FaultKind::Unproven);
    Ok(())
}

async fn settled(source: &Postgres, xid: u64) -> Result<Outcome> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match source.outcome(PRIMARY, xid, Timeline(1)).await {
            Ok(Outcome::InProgress) | Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            outcome => return Ok(outcome?),
        }
    }
}

#[tokio::test]
async fn a_commit_that_hangs_is_unknown_at_its_deadline() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    cluster.primary().configure("synchronous_standby_names", "nosuch").await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    let begun = Instant::now();
    let committed = tx.commit(within(300)).await;
    let Committed::Unknown { xid: Some(xid), fault } = committed else { panic!("{committed:?}") };
    assert_eq!(fault.kind, FaultKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    cluster.primary().configure("synchronous_standby_names", "").await?;
    // The request to cancel ends only the wait for the standby: it did commit.
    assert_eq!(settled(&source, xid).await?, Outcome::Committed);
    Ok(())
}

#[tokio::test]
async fn a_backend_that_is_ended_before_commit_rolls_back() -> Result {
    let cluster = cluster(0).await?;
    let source = source(&cluster).await?;
    let tx = source.begin(PRIMARY, within(5_000)).await?;
    tx.conn().execute("update t set v = 'new'", &[]).await?;
    cluster.primary().terminate_backends().await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let committed = tx.commit(within(5_000)).await;
    assert!(matches!(&committed, Committed::RolledBack(fault) if fault.kind == FaultKind::Down), "{committed:?}");
    let _: Position = crate::write(&source, "next").await?;
    Ok(())
}
