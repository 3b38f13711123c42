//! Histories that were replaced, and what sessions were told.

use super::{hears_late, instance, text};
use crate::support::{Users, cluster};
use highwater::memory::{Call, Fate, Line, Network, Shared, Step, Way};
use highwater::{Error, Freshness, Highwater, Lsn, Position, ReadOptions, Session, Settings, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_new_instance_after_a_restore() {
    for slow_subscription in [false, true] {
        let (cluster, shared) = (cluster(0), Shared::new(1));
        let (store, one) = instance(&cluster, Some(shared.client(1)), 1_700_000_000_000).await;
        sleep(Duration::from_secs(1)).await;
        let backup = cluster.backup(0);
        for id in 2..200 {
            cluster.put("users", id, "somebody".to_owned());
        }
        cluster.put("users", 1, "undone".to_owned());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(text(&one.get(&Session::new(), &1).await.unwrap()), Some("undone"));
        sleep(Duration::from_millis(10)).await;
        cluster.restore(0, &backup);
        sleep(Duration::from_millis(1500)).await;
        assert_ne!(store.history().generation(), 0, "noticed");
        let session = Session::new();
        let mut tx = store.begin(&session).await.unwrap();
        tx.put("users", 1, "mine".to_owned()).await.unwrap();
        tx.retract(&one, &1);
        assert!(tx.commit().await.unwrap().told);
        assert_eq!(text(&one.get(&session, &1).await.unwrap()), Some("mine"));
        if slow_subscription {
            shared.set_line(Line::new(|client, call, _: Way| match call {
                Call::Subscribe if client == 3 => Fate::Pass(Duration::from_millis(20)),
                _ => Fate::Pass(Duration::ZERO),
            }));
        }
        let (_three, users) = instance(&cluster, Some(shared.client(3)), 1_700_000_000_000).await;
        let read = users.get(&session, &1).await.unwrap();
        assert_eq!(text(&read), Some("mine"), "{read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_lost_in_a_restore_is_told() {
    let cluster = cluster(0);
    let (store, users) = instance(&cluster, None, 1_700_000_000_000).await;
    let backup = cluster.backup(0);
    // So much that the log of the restored server ends below the write when it is looked at.
    for id in 2..200 {
        cluster.put("users", id, "somebody".to_owned());
    }
    let session = Session::new();
    let mut tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "mine".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    tx.commit().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    cluster.restore(0, &backup);
    sleep(Duration::from_secs(3)).await;
    assert_ne!(store.history().generation(), 0, "noticed");
    let read = users.get(&session, &1).await;
    assert!(read.as_ref().is_err_and(|e| e.as_cache().is_some_and(Error::is_write_lost)), "silent: {read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clamp_never_lowers_a_session_below_its_own_write() {
    let cluster = cluster(1);
    let slow = Arc::new(AtomicBool::new(false));
    let decide = Arc::clone(&slow);
    let network = Network::new(move |node, step| match step {
        Step::Answer if node == 0 && decide.load(Ordering::SeqCst) => Fate::Pass(Duration::from_millis(100)),
        _ => Fate::Pass(Duration::ZERO),
    });
    let store = Highwater::over(cluster.source_over(network)).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    sleep(Duration::from_secs(1)).await;
    let session = Session::new();
    assert_eq!(text(&users.get(&session, &1).await.unwrap()), Some("ada")); // local entry, tag = replay
    // A token from before a crash, or from elsewhere: above the primary's position.
    let high = Token::at(&store.history(), Position::new(1, Lsn::new(1 << 40)));
    slow.store(true, Ordering::SeqCst);
    let (clone, reader) = (session.clone(), users.clone());
    let other = tokio::spawn(async move {
        let _ = reader.get_with(&clone, &2, &ReadOptions::fresh(Freshness::AtLeast(high))).await;
    });
    sleep(Duration::from_millis(1)).await;
    slow.store(false, Ordering::SeqCst);
    let tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "mine".to_owned()).await.unwrap();
    // Not named in a retraction: the token alone must do.
    let receipt = tx.commit().await.unwrap();
    other.await.unwrap();
    let held: Vec<_> = session.token().positions(store.history().system_identifier()).collect();
    eprintln!("receipt {} held {held:?}", receipt.position);
    assert_eq!(text(&users.get(&session, &1).await.unwrap()), Some("mine"));
}

#[tokio::test(start_paused = true)]
async fn a_commit_below_what_was_flushed_is_noticed() {
    let cluster = cluster(0);
    let (store, users) = instance(&cluster, None, 1_700_000_000_000).await;
    let backup = cluster.backup(0);
    for id in 2..200 {
        cluster.put("users", id, "somebody".to_owned());
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(&users.get(&Session::new(), &1).await.unwrap()), Some("ada"));
    sleep(Duration::from_millis(10)).await;
    cluster.restore(0, &backup);
    let session = Session::new();
    let mut tx = loop {
        match store.begin(&session).await {
            Ok(tx) => break tx,
            Err(e) => {
                eprintln!("{e}");
                sleep(Duration::from_millis(1)).await
            }
        }
    };
    tx.put("users", 1, "mine".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    let receipt = tx.commit().await.unwrap();
    let read = users.get(&session, &1).await.unwrap();
    assert_eq!(text(&read), Some("mine"), "{receipt:?} {read:?} generation {}", store.history().generation());
}

/// Two instances of one process learn of a promotion one after the other, and a session goes to and fro between them.
#[tokio::test(start_paused = true)]
async fn what_is_shown_again_after_its_loss_was_accepted_is_told_as_lost_again() {
    let cluster = cluster(1);
    let (aware, aware_users) = instance(&cluster, None, 1_700_000_000_000).await;
    let settings = Settings { probe_interval: Duration::from_secs(60), ..Settings::default() };
    let unaware = Highwater::over(cluster.source()).settings(settings).start().await.unwrap();
    let unaware_users = unaware.cache("users", Users::default()).build().unwrap();
    sleep(Duration::from_secs(1)).await;
    cluster.set_transit(1, Duration::from_secs(3_600));
    cluster.put("users", 1, "lost".to_owned());
    let session = Session::monotonic();
    let latest = ReadOptions::fresh(Freshness::Latest);
    assert_eq!(text(&unaware_users.get_with(&session, &1, &latest).await.unwrap()), Some("lost"));
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(2)).await;
    for _ in 0..2 {
        let read = aware_users.get(&session, &1).await;
        assert!(read.as_ref().is_err_and(|e| e.as_cache().is_some_and(Error::is_write_lost)), "silent: {read:?}");
        aware.accept_loss(&session);
        assert_eq!(unaware.history().timeline().0, 1, "it has not noticed");
        assert_eq!(text(&unaware_users.get(&session, &1).await.unwrap()), Some("lost"));
    }
    assert!(aware_users.get(&session, &1).await.is_err(), "shown twice, told twice");
}

/// One of two reads at once is answered by an instance that has not noticed a promotion, the other by one that has.
#[tokio::test(start_paused = true)]
async fn what_one_of_two_reads_at_once_showed_is_told_as_lost() {
    let cluster = cluster(1);
    cluster.put("users", 2, "two".to_owned());
    let (aware, _) = instance(&cluster, None, 1_700_000_000_000).await;
    let slow = aware.cache("slow", Users { delay: Duration::from_millis(50), ..Users::default() }).build().unwrap();
    let settings = Settings { probe_interval: Duration::from_secs(60), ..Settings::default() };
    let unaware = Highwater::over(cluster.source()).settings(settings).start().await.unwrap();
    let unaware_users = unaware.cache("users", Users::default()).build().unwrap();
    sleep(Duration::from_secs(1)).await;
    cluster.set_transit(1, Duration::from_secs(3_600));
    cluster.put("users", 1, "lost".to_owned());
    let latest = ReadOptions::fresh(Freshness::Latest);
    let other = Session::monotonic();
    assert_eq!(text(&unaware_users.get_with(&other, &1, &latest).await.unwrap()), Some("lost"));
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(2)).await;
    let session = Session::monotonic();
    let (clone, reader) = (session.clone(), slow.clone());
    let two = tokio::spawn(async move { reader.get(&clone, &2).await.unwrap() });
    sleep(Duration::from_millis(10)).await;
    assert_eq!(text(&unaware_users.get(&session, &1).await.unwrap()), Some("lost"));
    assert_eq!(text(&two.await.unwrap()), Some("two"));
    let read = slow.get(&session, &1).await;
    assert!(read.as_ref().is_err_and(|e| e.as_cache().is_some_and(Error::is_write_lost)), "silent: {read:?}");
    aware.accept_loss(&session);
    assert_eq!(text(&slow.get(&session, &1).await.unwrap()), Some("ada"));
}

/// Without the right to read history files, an instance that was started after a promotion does not know where the timeline
/// began. Its name of the history is another one then, and the log keeps another watermark for it, which awaits nothing that
/// was announced under the first.
#[tokio::test(start_paused = true)]
async fn who_does_not_know_where_the_timeline_began_hears_the_log_of_another_history() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one_store, one) = instance(&cluster, Some(shared.client(1)), 1_700_000_000_000).await;
    sleep(Duration::from_secs(1)).await;
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(2)).await;
    cluster.forget_switches(1);
    let (other_store, other) = instance(&cluster, Some(shared.client(2)), 1_700_000_000_001).await;
    sleep(Duration::from_secs(2)).await;
    assert_ne!(one_store.history().fingerprint(), other_store.history().fingerprint());
    cluster.put("users", 3, "so that the log moves on".to_owned());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(text(&other.get(&Session::new(), &1).await.unwrap()), Some("ada"));

    // What one tells of its write arrives at the log late, and at the other instance later.
    let late = hears_late(&shared, 2);
    shared.set_line(Line::new(|client, call, way| match (client, call, way) {
        (1, Call::Retract, Way::There) => Fate::Pass(Duration::from_millis(100)),
        _ => Fate::Pass(Duration::ZERO),
    }));
    let session = Session::new();
    let mut tx = one_store.begin(&session).await.unwrap();
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.retract(&one, &1);
    let commit = tokio::spawn(tx.commit());
    sleep(Duration::from_millis(50)).await;
    // Meanwhile the watermark of the other history passes it.
    let mut tx = other_store.begin(&Session::new()).await.unwrap();
    tx.put("users", 2, "joan".to_owned()).await.unwrap();
    tx.retract(&other, &2);
    assert!(tx.commit().await.unwrap().told);
    sleep(Duration::from_millis(20)).await;
    late.store(true, Ordering::SeqCst);
    assert!(commit.await.unwrap().unwrap().told);
    let read = other.get(&session, &1).await.unwrap();
    assert_eq!(text(&read), Some("grace"), "{read:?}");
}
