//! Schedules that broke a promise, a bound or a deadline once. Each stays here.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Call, Cluster, Fate, Line, Network, Shared, Source, Step, View, Way};
use highwater::source::{Fault, Role};
use highwater::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn instance(
    cluster: &Cluster,
    shared: Option<Shared>,
    unix_ms: u64,
) -> (Highwater<Source>, Cache<Users, Source>) {
    let mut builder = Highwater::over(cluster.source()).world(unix_ms, unix_ms);
    if let Some(shared) = &shared {
        builder = builder.shared_tier(shared.clone()).ledger(shared.clone());
    }
    let store = builder.start().await.unwrap();
    let mut cache = store.cache("users", Users::default()).time_to_live(Duration::from_secs(600));
    if shared.is_some() {
        cache = cache.shared();
    }
    let users = cache.build().unwrap();
    (store, users)
}
fn text(read: &Read<String>) -> Option<&str> {
    read.value.as_deref().map(String::as_str)
}

struct Strict;
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("no such user")]
    NoSuchUser,
    #[error(transparent)]
    Db(#[from] Fault),
}
impl Repository<View> for Strict {
    type Key = u64;
    type Value = String;
    type Error = AppError;
    async fn load(&self, on: &View, key: &u64) -> Result<Option<String>, AppError> {
        let row = on.get::<String>("users", key).await?.ok_or(AppError::NoSuchUser)?;
        Ok(Some(String::clone(&row)))
    }
}
#[tokio::test(start_paused = true)]
async fn a_loaders_error_from_a_replica_below_the_floor() {
    let cluster = cluster(1);
    let store = Highwater::over(cluster.source()).start().await.unwrap();
    let users = store.cache("users", Strict).build().unwrap();
    cluster.lie(1, |mut probe| {
        if let Role::Standby { replay, .. } = &mut probe.role {
            *replay = Lsn::new(u64::MAX / 2);
        }
        probe
    });
    sleep(Duration::from_secs(1)).await;
    cluster.pause(1, true);
    let session = Session::new();
    let mut tx = store.begin(&session).await.unwrap();
    tx.put("users", 7, "mine".to_owned()).await.unwrap();
    tx.retract(&users, &7);
    tx.commit().await.unwrap();
    let read = users.get(&session, &7).await;
    assert_eq!(read.expect("own write").value.as_deref().map(String::as_str), Some("mine"));
}

#[tokio::test(start_paused = true)]
async fn a_bound_is_not_met_by_another_instances_clock() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    const T: u64 = 1_700_000_000_000;
    let (_s1, one) = instance(&cluster, Some(shared.client(1)), T + 20_000).await; // 20 s ahead
    let (_s2, two) = instance(&cluster, Some(shared.client(2)), T).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(&one.get(&Session::new(), &1).await.unwrap()), Some("ada"));
    sleep(Duration::from_secs(1)).await;
    cluster.put("users", 1, "grace".to_owned()); // a writer outside the library: bounds hold for these too
    sleep(Duration::from_secs(12)).await;
    let within = ReadOptions::fresh(Freshness::Within(Duration::from_secs(5)));
    let read = two.get_with(&Session::new(), &1, &within).await.unwrap();
    assert_eq!(text(&read), Some("grace"), "{read:?}: committed 12 s ago, bound 5 s");
}

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
        assert_eq!(store.history().generation(), 1, "noticed");
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
    assert_eq!(store.history().generation(), 1, "noticed");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_readers_do_not_spin_on_a_landed_flight() {
    t6(2000).await
}
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_and_two() {
    t6(2).await
}
#[tokio::test]
async fn one_thread() {
    t6(2).await
}
async fn t6(n: usize) {
    let cluster = cluster(0);
    let store = Highwater::over(cluster.source()).start().await.unwrap();
    let users = store.cache("users", Users { delay: Duration::from_millis(30), ..Users::default() }).build().unwrap();
    let mut failed = std::collections::BTreeMap::<String, usize>::new();
    for latest in [true, false] {
        for round in 0..20 {
            let session = Session::new();
            let mut tx = store.begin(&session).await.unwrap();
            tx.put("users", 1, format!("v{round}")).await.unwrap();
            tx.retract(&users, &1);
            tx.commit().await.unwrap();
            let options = if latest { ReadOptions::fresh(Freshness::Latest) } else { ReadOptions::default() };
            let mut tasks = Vec::new();
            for wave in 0..2 {
                for _ in 0..n {
                    let (users, session, options) = (users.clone(), session.clone(), options.clone());
                    tasks.push(tokio::spawn(async move { users.get_with(&session, &1, &options).await }));
                }
                if wave == 0 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            for task in tasks {
                if let Err(error) = task.await.unwrap() {
                    *failed.entry(format!("latest={latest} {error}")).or_default() += 1;
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?} of 160000");
}

#[tokio::test(start_paused = true)]
async fn get_many_keeps_the_callers_deadline() {
    let instance = Instance::with(
        &cluster(1),
        None,
        Settings::default(),
        Users { delay: Duration::from_secs(4), ..Users::default() },
    )
    .await;
    let begun = Instant::now();
    let options = ReadOptions::default().by(begun + Duration::from_millis(50));
    let result = instance.users.get_many(&Session::new(), &[1, 2], &options).await;
    eprintln!("after {:?}: {}", begun.elapsed(), result.is_ok());
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
}

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
        (Call::Retract, Way::There) => Fate::Cut,
        (Call::Retract, _) => Fate::Pass(Duration::ZERO),
        _ => Fate::Pass(Duration::ZERO),
    }));
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
async fn monotonic_over_concurrent_reads() {
    let cluster = cluster(0);
    cluster.put("users", 2, "old two".to_owned());
    let store = Highwater::over(cluster.source()).start().await.unwrap();
    let slow = store.cache("slow", Users { delay: Duration::from_millis(50), ..Users::default() }).build().unwrap();
    let fast = store.cache("fast", Users::default()).build().unwrap();
    let session = Session::monotonic();
    let (clone, reader) = (session.clone(), slow.clone());
    let two = tokio::spawn(async move { reader.get(&clone, &2).await.unwrap() });
    sleep(Duration::from_millis(10)).await;
    cluster.put("users", 2, "new two".to_owned()); // first two,
    cluster.put("users", 1, "new one".to_owned()); // then one
    sleep(Duration::from_millis(5)).await;
    assert_eq!(text(&fast.get(&session, &1).await.unwrap()), Some("new one"));
    assert_eq!(text(&two.await.unwrap()), Some("old two")); // concurrent: allowed
    let read = slow.get(&session, &2).await.unwrap();
    assert_eq!(text(&read), Some("new two"), "{read:?}: the session has seen a later write");
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
async fn while_deaf_a_read_with_a_floor_goes_by_tag_also_in_the_shared_tier() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let (_s1, one) = instance(&cluster, Some(shared.client(1)), 1_700_000_000_000).await;
    let (s2, two) = instance(&cluster, Some(shared.client(2)), 1_700_000_000_000).await;
    sleep(Duration::from_secs(1)).await;
    shared.deafen(2, true);
    let session = Session::new();
    let mut tx = s2.begin(&session).await.unwrap();
    tx.put("users", 5, "other".to_owned()).await.unwrap();
    tx.retract(&two, &5);
    tx.commit().await.unwrap();
    cluster.put("users", 6, "x".to_owned());
    one.get(&Session::new(), &1).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let read = two.get(&session, &1).await.unwrap();
    assert_eq!(read.rung, Rung::Shared, "{read:?}");
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

#[tokio::test(start_paused = true)]
async fn a_reader_is_not_failed_by_the_deadline_of_the_load_it_joined() {
    let cluster = cluster(0);
    let (_store, users) = instance(&cluster, None, 1).await;
    cluster.freeze(0, true);
    let (reader, first) = (users.clone(), Session::new());
    tokio::spawn(async move {
        let _ = reader.get(&first, &1).await;
    });
    sleep(Duration::from_millis(4_900)).await;
    let thaw = cluster.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        thaw.freeze(0, false)
    });
    let begun = Instant::now();
    let read = users.get(&Session::new(), &1).await;
    assert!(read.is_ok(), "after {:?} of 5 s: {:?}", begun.elapsed(), read.err());
}

#[tokio::test(start_paused = true)]
async fn a_latest_reader_does_not_wait_for_a_load_that_cannot_be_its_own() {
    let instance = Instance::with(
        &cluster(0),
        None,
        Settings::default(),
        Users { delay: Duration::from_secs(1), ..Users::default() },
    )
    .await;
    let latest = ReadOptions::fresh(Freshness::Latest);
    let (reader, options) = (instance.users.clone(), latest.clone());
    tokio::spawn(async move { reader.get_with(&Session::new(), &1, &options).await.map(drop) });
    sleep(Duration::from_millis(10)).await;
    let (reader, options) = (instance.users.clone(), latest.clone());
    let read = reader.get_with(&Session::new(), &1, &options).await;
    eprintln!("latest joined: ok {} loads {}", read.is_ok(), instance.loads());
    read.unwrap();
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
