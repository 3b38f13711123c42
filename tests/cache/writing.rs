//! The write path and its outcomes.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Cluster, Fate, Network, Step};
use highwater::source::{Fault, FaultKind, Outcome};
use highwater::{Highwater, Retraction, Rung, Session, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn dropping_rolls_back() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    let tx = instance.begin(&session).await;
    tx.put("users", 1, "dropped".to_owned()).await.unwrap();
    drop(tx);
    assert!(session.token().is_empty());
    instance.write(&session, 1, "kept").await;
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("kept"));
}

#[tokio::test(start_paused = true)]
async fn rolling_back_is_sent_and_counted() {
    let cluster = cluster(1);
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let network = Network::new(move |_, step| {
        count.fetch_add(usize::from(step == Step::Rollback), Ordering::SeqCst);
        Fate::Pass(Duration::ZERO)
    });
    let store = Highwater::over(cluster.source_over(network)).start().await.unwrap();
    let session = Session::new();
    for _ in 0..3 {
        let tx = store.begin(&session).await.unwrap();
        tx.put("users", 1, "never".to_owned()).await.unwrap();
        tx.rollback().await;
    }
    let failed = store.write(&session, async |tx| tx.insert("users", 1, "twice".to_owned()).await);
    assert!(matches!(failed.await, Err(WriteError::Caller(_))));
    assert_eq!(sent.load(Ordering::SeqCst), 4);
    assert_eq!(store.stats().counts.rollbacks, 4);
    assert!(session.token().is_empty());
    let tx = store.begin(&session).await.unwrap();
    // Its row is not locked by any of them.
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
}

/// What a caller asks of an error before it tries again.
#[tokio::test(start_paused = true)]
async fn errors_tell_whether_a_write_may_be_repeated() {
    let cluster = cluster(1);
    let (source, cut) = breaking(&cluster);
    let store = Highwater::over(source).start().await.unwrap();
    let session = Session::new();
    let write = async |name: &str| {
        let name = name.to_owned();
        store.write(&session, async |tx| tx.put("users", 1, name).await).await.map(drop)
    };
    let refused = store.write(&session, async |tx| tx.insert("users", 1, "twice".to_owned()).await).await.unwrap_err();
    assert!(!refused.is_safe_to_retry() && !refused.is_outcome_unknown() && refused.as_store().is_none());
    let tx = store.begin(&session).await.unwrap();
    tx.insert("users", 1, "twice".to_owned()).await.unwrap_err();
    let aborted = tx.commit().await.unwrap_err();
    assert!(!aborted.is_safe_to_retry(), "it would fail again: {aborted:?}");
    assert!(aborted.as_store().is_some_and(|error| !error.is_unavailable() && !error.is_transient()), "{aborted:?}");
    cut.store(true, Ordering::SeqCst);
    let unknown = write("perhaps").await.unwrap_err();
    assert!(unknown.is_outcome_unknown() && !unknown.is_safe_to_retry(), "{unknown:?}");
    cut.store(false, Ordering::SeqCst);
    cluster.kill(0);
    let down = write("later").await.unwrap_err();
    assert!(down.is_safe_to_retry() && !down.is_outcome_unknown(), "{down:?}");
    assert!(down.as_store().is_some_and(|error| error.is_unavailable() && !error.is_overloaded()), "{down:?}");
}

#[tokio::test(start_paused = true)]
async fn the_closure_commits_or_rolls_back() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    let users = &instance.users;
    let (value, receipt) = instance
        .store
        .write(&session, async |tx| {
            tx.put("users", 1, "grace".to_owned()).await?;
            tx.retract(users, &1);
            Ok::<_, Fault>(7)
        })
        .await
        .unwrap();
    assert_eq!(value, 7);
    assert!(receipt.told);
    let cluster = instance.store.history().system_identifier();
    assert_eq!(session.token().positions(cluster).collect::<Vec<_>>(), [receipt.position]);
    let failed = instance.store.write(&session, async |tx| {
        tx.put("users", 1, "never".to_owned()).await?;
        Err::<(), _>(Fault::new(FaultKind::Statement, "here", "changed my mind"))
    });
    assert!(matches!(failed.await, Err(WriteError::Caller(_))));
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_during_the_commit_loses_only_the_answer() {
    let cluster = cluster(1);
    cluster.set_commit_pace(Duration::from_millis(20), Duration::from_millis(20));
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    let mut tx = instance.begin(&session).await;
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.retract(&instance.users, &1);
    assert!(tokio::time::timeout(Duration::from_millis(5), tx.commit()).await.is_err());
    sleep(Duration::from_millis(100)).await;
    assert!(!session.token().is_empty());
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_name_keeps_the_write_from_going_ahead() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    let mut tx = instance.begin(&session).await;
    tx.put("users", 1, "never".to_owned()).await.unwrap();
    tx.retract_group(&"x".repeat(5_000));
    assert!(matches!(tx.commit().await, Err(WriteError::Store(error)) if error.to_string().contains("5000")));
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"));
}

/// A network that can be told to break connections when COMMIT is acknowledged.
fn breaking(cluster: &Cluster) -> (highwater::memory::Source, Arc<AtomicBool>) {
    let cut = Arc::new(AtomicBool::new(false));
    let decide = Arc::clone(&cut);
    let network = Network::new(move |_, step| match step {
        Step::Acknowledge if decide.load(Ordering::SeqCst) => Fate::Cut,
        _ => Fate::Pass(Duration::ZERO),
    });
    (cluster.source_over(network), cut)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_and_resolved() {
    let cluster = cluster(1);
    let (source, cut) = breaking(&cluster);
    let store = Highwater::over(source).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    let (session, anybody) = (Session::new(), Session::new());
    users.get(&anybody, &1).await.unwrap();
    cluster.pause(1, true);
    let mut tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "perhaps".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    cut.store(true, Ordering::SeqCst);
    let Err(WriteError::Unknown(unknown)) = tx.commit().await else { panic!("the answer was cut off") };
    assert!(unknown.xid.is_some());
    // Until it is known, only the primary answers this session.
    assert_eq!(users.get(&session, &1).await.unwrap().rung, Rung::Primary);
    assert_eq!(unknown.resolve().await, Outcome::Committed);
    let read = users.get(&anybody, &1).await.unwrap();
    assert_eq!(read.value.as_deref().map(String::as_str), Some("perhaps"), "its key was retracted all the same");
}

#[tokio::test(start_paused = true)]
async fn writes_of_another_client_are_captured() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let (session, anybody) = (Session::new(), Session::new());
    instance.get(&anybody, 1).await;
    cluster.put("users", 1, "by hand".to_owned());
    let mut retraction = Retraction::new();
    retraction.key(&instance.users, &1);
    instance.store.capture(&session, retraction).await.unwrap();
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("by hand"));
    assert_eq!(instance.name(&anybody, 1).await.as_deref(), Some("by hand"));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_server_refuses_is_rolled_back() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    let tx = instance.begin(&session).await;
    assert!(tx.insert("users", 1, "twice".to_owned()).await.is_err());
    assert!(matches!(tx.commit().await, Err(WriteError::RolledBack(_))), "the transaction was aborted");
    assert!(session.token().is_empty());
}
