//! Two logs with the number of one timeline: a failover that was taken back, and a primary that was set back.

use super::{instance, text};
use crate::support::cluster;
use highwater::memory::{Cluster, Fate, Network, Source, Step};
use highwater::source::Outcome;
use highwater::{Cache, Error, Highwater, ReadOptions, Session, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

use crate::support::Users;

type Store = (Highwater<Source>, Cache<Users, Source>);

/// Promotes server 1, which got more of the log than server 2.
async fn fail_over(cluster: &Cluster) {
    cluster.set_transit(2, Duration::from_secs(3_600));
    cluster.write_unflushed(0, 1_000);
    cluster.flush(0);
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(2)).await;
}

/// Takes that back: server 2 is promoted to the same number.
fn take_back(cluster: &Cluster) {
    cluster.kill(1);
    cluster.set_transit(2, Duration::ZERO);
    assert!(cluster.promote(2));
    cluster.rebuild(0, 2);
}

async fn write(on: &Store, session: &Session, value: &str) {
    let mut tx = on.0.begin(session).await.unwrap();
    tx.put("users", 1, value.to_owned()).await.unwrap();
    tx.retract(&on.1, &1);
    tx.commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_failover_lost_that_was_taken_back_is_told() {
    let cluster = cluster(2);
    let on = instance(&cluster, None, 1_700_000_000_000).await;
    sleep(Duration::from_secs(1)).await;
    fail_over(&cluster).await;
    let (session, other) = (Session::new(), Session::new());
    write(&on, &session, "lost").await;
    let token = session.token();
    take_back(&cluster);
    sleep(Duration::from_secs(2)).await;
    // The new log grows past the number of the lost write.
    for _ in 0..50 {
        write(&on, &other, "kept").await;
    }
    for holder in [session, Session::from_token(token)] {
        let read = on.1.get(&holder, &1).await;
        assert!(read.as_ref().is_err_and(|e| e.as_cache().is_some_and(Error::is_write_lost)), "silent: {read:?}");
        on.0.accept_loss(&holder);
        assert_eq!(text(&on.1.get(&holder, &1).await.unwrap()), Some("kept"));
    }
}

#[tokio::test(start_paused = true)]
async fn many_rows_are_not_loaded_across_a_failover_that_was_taken_back() {
    let cluster = cluster(2);
    let on = instance(&cluster, None, 1_700_000_000_000).await;
    sleep(Duration::from_secs(1)).await;
    fail_over(&cluster).await;
    let session = Session::new();
    write(&on, &session, "lost").await;
    take_back(&cluster);
    // The load is begun in the old history, finds the primary gone and ends at the new one.
    let read = on.1.get_many(&session, &[1, 2], &ReadOptions::default()).await;
    assert!(read.as_ref().is_err_and(|e| e.as_cache().is_some_and(Error::is_write_lost)), "silent: {read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_a_restore_undid_is_not_told_as_committed() {
    let cluster = cluster(0);
    let slow = Arc::new(AtomicBool::new(false));
    let decide = Arc::clone(&slow);
    let network = Network::new(move |_, step| match step {
        Step::Acknowledge => Fate::Cut,
        // What became of the transaction is told, and the primary is set back while the answer travels.
        Step::Answer if decide.load(Ordering::SeqCst) => Fate::Pass(Duration::from_millis(100)),
        _ => Fate::Pass(Duration::ZERO),
    });
    let store = Highwater::over(cluster.source_over(network)).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    let backup = cluster.backup(0);
    for id in 2..200 {
        cluster.put("users", id, "somebody".to_owned());
    }
    sleep(Duration::from_secs(1)).await;
    let session = Session::new();
    let mut tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "mine".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    slow.store(true, Ordering::SeqCst);
    let Err(WriteError::Unknown(unknown)) = tx.commit().await else { panic!("the answer was cut") };
    sleep(Duration::from_millis(50)).await;
    cluster.restore(0, &backup);
    assert_eq!(unknown.resolve().await, Outcome::Forgotten);
}
