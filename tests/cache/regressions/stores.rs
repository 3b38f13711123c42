//! Starting, closing, and calls that were dropped.

use super::{hears_late, instance, text};
use crate::support::{Users, cluster};
use highwater::memory::{Call, Fate, Line, Network, Shared, Step, Way};
use highwater::{Error, Freshness, Highwater, ReadOptions, Retraction, Session, Settings, WriteError};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_dropped_capture_does_not_lose_its_retraction() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let (store, one) = instance(&cluster, Some(shared.client(1)), 1_700_000_000_000).await;
    let (_s2, two) = instance(&cluster, Some(shared.client(2)), 1_700_000_000_000).await;
    sleep(Duration::from_secs(1)).await;
    // Move the log so that an entry can be above the start of hearing.
    cluster.put("users", 9, "x".to_owned());
    cluster.put("users", 8, "x".to_owned());
    assert_eq!(text(&two.get(&Session::new(), &1).await.unwrap()), Some("ada"));
    cluster.put("users", 1, "by hand".to_owned());
    shared.set_line(Line::new(|_, call, way| match (call, way) {
        (Call::Retract, Way::There) => Fate::Pass(Duration::from_millis(100)),
        _ => Fate::Pass(Duration::ZERO),
    }));
    let session = Session::new();
    let mut retraction = Retraction::new();
    for id in 0..3000 {
        retraction.key(&one, &id);
    } // three messages: the second and third are never sent
    assert!(tokio::time::timeout(Duration::from_millis(50), store.capture(&session, retraction)).await.is_err());
    assert!(!session.token().is_empty(), "the session was raised, so the application may think that all is well");
    shared.set_line(Line::default());
    sleep(Duration::from_secs(30)).await;
    let counts = store.stats().counts;
    eprintln!(
        "told {} deferred {} dropped {}",
        counts.retractions_told, counts.retractions_deferred, counts.retractions_dropped
    );
    assert!(counts.retractions_told + counts.retractions_deferred >= 3);
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_monitors_that_it_ended() {
    let cluster = cluster(1);
    let cut = Arc::new(AtomicBool::new(false));
    let decide = Arc::clone(&cut);
    let network = Network::new(move |_, step| match step {
        Step::Acknowledge if decide.load(Ordering::SeqCst) => Fate::Cut,
        Step::Outcome => Fate::Pass(Duration::from_millis(20)),
        _ => Fate::Pass(Duration::ZERO),
    });
    let store = Highwater::over(cluster.source_over(network)).start().await.unwrap();
    let session = Session::new();
    let tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "perhaps".to_owned()).await.unwrap();
    cut.store(true, Ordering::SeqCst);
    assert!(matches!(tx.commit().await, Err(WriteError::Unknown(_))));
    sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    store.close().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "close took {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_setting_panics() {
    let settings = Settings { load_time_max: Duration::MAX, ..Settings::default() };
    let Ok(store) = Highwater::over(cluster(1).source()).settings(settings).start().await else { return };
    let users = store.cache("users", Users::default()).build().unwrap();
    users.get(&Session::new(), &1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn start_waits_ten_seconds_for_a_primary() {
    let cluster = cluster(1);
    cluster.kill(0);
    let later = cluster.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        later.start(0)
    });
    let begun = Instant::now();
    let result = Highwater::over(cluster.source()).start().await;
    assert!(result.is_ok(), "{:?} after {:?}", result.err(), begun.elapsed());
}

/// Every look at the servers waited for the slowest: one frozen replica held each write after a promotion for a second.
#[tokio::test(start_paused = true)]
async fn a_frozen_replica_does_not_hold_those_who_look_for_the_primary() {
    let cluster = cluster(2);
    let (store, users) = instance(&cluster, None, 1_700_000_000_000).await;
    cluster.freeze(2, true);
    sleep(Duration::from_secs(3)).await;
    cluster.kill(0);
    cluster.promote(1);
    let begun = Instant::now();
    let session = Session::new();
    let mut tx = store.begin(&session).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    tx.commit().await.unwrap();
    cluster.start(0);
    cluster.kill(1);
    cluster.rebuild(0, 1);
    let begun = Instant::now();
    let latest = ReadOptions::fresh(Freshness::Latest);
    let error = users.get_with(&session, &1, &latest).await.unwrap_err();
    assert!(error.as_cache().is_some_and(Error::is_unavailable), "there is none: {error}");
    println!("said after {:?}", begun.elapsed());
}

/// One session writes while its announcements reach Redis late, those that are `stuck` by their number, and its commit waits
/// for a standby, longer than the lease. What another instance then shows that session, before it hears of the write.
async fn shown_behind_a_stall(
    stuck: impl Fn(usize) -> bool + Send + Sync + 'static,
    work: Duration,
    visible: Duration,
    names: Range<u64>,
) -> Option<String> {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let (one_store, one) = instance(&cluster, Some(shared.client(1)), 1_700_000_000_000).await;
    let (_other_store, other) = instance(&cluster, Some(shared.client(2)), 1_700_000_000_001).await;
    sleep(Duration::from_secs(1)).await;
    cluster.put("users", 8, "so that the log moves on".to_owned());
    cluster.put("users", 8, "and on".to_owned());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(&other.get(&Session::new(), &1).await.unwrap()), Some("ada"));

    let late = hears_late(&shared, 2);
    let announced = AtomicUsize::new(0);
    shared.set_line(Line::new(move |client, call, way| match (client, call, way) {
        (1, Call::Announce, Way::There) if stuck(announced.fetch_add(1, Ordering::SeqCst)) => {
            Fate::Pass(Duration::from_millis(3_400))
        }
        _ => Fate::Pass(Duration::ZERO),
    }));
    cluster.set_commit_pace(Duration::from_millis(1), visible);
    let session = Session::new();
    let mut tx = one_store.begin(&session).await.unwrap();
    tx.retract(&one, &2);
    sleep(work).await;
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    for key in names {
        tx.retract(&one, &key);
    }
    let commit = tokio::spawn(tx.commit());
    sleep(visible.saturating_sub(Duration::from_millis(20))).await;
    late.store(true, Ordering::SeqCst);
    assert!(commit.await.unwrap().unwrap().told);
    text(&other.get(&session, &1).await.unwrap()).map(str::to_owned)
}

/// The way to Redis stalls, and then what was sent last is carried out at once: more names for an announcement that was given
/// up meanwhile, and its settlement, which finds it. Whoever gave it up had only the first name to retract.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_announced_anew_behind_the_commit() {
    let (work, visible) = (Duration::from_millis(10), Duration::from_millis(3_500));
    let shown = shown_behind_a_stall(|number| number > 0, work, visible, 1..2).await;
    assert_eq!(shown.as_deref(), Some("grace"));
}

/// The log waits no longer for a commit that waits for a standby, and there are so many names that nobody is told which.
#[tokio::test(start_paused = true)]
async fn a_log_does_not_vouch_for_what_it_had_given_up() {
    let (work, visible) = (Duration::from_millis(10), Duration::from_millis(3_500));
    let shown = shown_behind_a_stall(|_| false, work, visible, 1..300).await;
    assert_eq!(shown.as_deref(), Some("grace"));
}

/// The announcement comes after the commit, which the watermark has passed by then, and stands when the write is settled.
#[tokio::test(start_paused = true)]
async fn a_log_does_not_vouch_for_what_was_committed_before_it_knew() {
    let (work, visible) = (Duration::from_millis(10), Duration::from_millis(4_500));
    let shown = shown_behind_a_stall(|_| true, work, visible, 1..2).await;
    assert_eq!(shown.as_deref(), Some("grace"));
}

/// The first word of a long transaction is stuck on its way, and so another one is sent before COMMIT. That one is given up,
/// and then the first arrives, and must not stand for the second. There are so many names that nobody else is told which.
#[tokio::test(start_paused = true)]
async fn a_first_word_that_comes_late_does_not_stand_for_the_second() {
    let (work, visible) = (Duration::from_millis(800), Duration::from_millis(2_700));
    let shown = shown_behind_a_stall(|number| number == 0, work, visible, 1..300).await;
    assert_eq!(shown.as_deref(), Some("grace"));
}
