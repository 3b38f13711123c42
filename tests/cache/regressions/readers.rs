//! Reads that went wrong, took too long or failed.

use super::{instance, text};
use crate::support::{Instance, Users, cluster};
use highwater::memory::{Cluster, Shared, View};
use highwater::source::{Fault, Role};
use highwater::{Freshness, Highwater, Lsn, ReadOptions, Repository, Rung, Session, Settings};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A loader that calls an absent row an error.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_readers_do_not_spin_on_a_landed_flight() {
    waves(2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_do_two() {
    waves(2).await;
}

#[tokio::test]
async fn nor_do_two_on_one_thread() {
    waves(2).await;
}

/// Waves of readers on real threads, some of whom come when the load has landed.
async fn waves(readers: usize) {
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
                for _ in 0..readers {
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
    assert!(failed.is_empty(), "{failed:?}");
}

/// One row of the team was written, and all were retracted; a replica that has not replayed the write knows the rows'
/// groups only once it has answered.
#[tokio::test(start_paused = true)]
async fn a_replica_behind_the_retraction_of_a_group_answers_neither_one_nor_many() {
    let cluster = Cluster::new(1);
    cluster.put("users", 1, "blue/ada".to_owned());
    let (store, users) = instance(&cluster, None, 1).await;
    cluster.pause(1, true);
    let (session, anybody) = (Session::new(), Session::new());
    let mut tx = store.begin(&session).await.unwrap();
    tx.put("users", 1, "blue/grace".to_owned()).await.unwrap();
    tx.retract_group("blue");
    tx.commit().await.unwrap();
    let many = users.get_many(&anybody, &[1], &ReadOptions::default()).await.unwrap();
    assert_eq!(many[0].value.as_deref().map(String::as_str), Some("blue/grace"), "{:?}", many[0]);
    let one = users.get(&anybody, &1).await.unwrap();
    assert_eq!(one.value.as_deref().map(String::as_str), Some("blue/grace"), "{one:?}");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_was_not_told_in_time_clamps_nothing() {
    let cluster = cluster(0);
    let settings = Settings { probe_interval: Duration::from_secs(60), ..Settings::default() };
    let store = Highwater::over(cluster.source()).settings(settings).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    sleep(Duration::from_secs(1)).await;
    cluster.put("users", 2, "moves the log past what is known of it".to_owned());
    assert_eq!(text(&users.get(&Session::new(), &1).await.unwrap()), Some("ada"));
    // Another instance writes, and this one is handed the token while the primary does not answer.
    let other = Highwater::over(cluster.source()).start().await.unwrap();
    let session = Session::new();
    let tx = other.begin(&session).await.unwrap();
    tx.put("users", 1, "mine".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    let session = Session::from_token(session.token());
    cluster.freeze(0, true);
    let soon = ReadOptions { deadline: Some(Instant::now() + Duration::from_millis(50)), ..ReadOptions::default() };
    assert!(users.get_with(&session, &1, &soon).await.is_err());
    cluster.freeze(0, false);
    assert_eq!(text(&users.get(&session, &1).await.unwrap()), Some("mine"));
}

/// Fills were numbered by each store for itself, so that what another instance held passed for what the session had seen.
#[tokio::test(start_paused = true)]
async fn what_a_session_saw_on_one_instance_is_not_what_another_filled() {
    let cluster = cluster(0);
    let (ours, ours_users) = instance(&cluster, None, 1_700_000_000_000).await;
    let (_theirs, their_users) = instance(&cluster, None, 1_700_000_000_000).await;
    assert_eq!(text(&their_users.get(&Session::monotonic(), &1).await.unwrap()), Some("ada"));
    let mut tx = ours.begin(&Session::new()).await.unwrap();
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.retract(&ours_users, &1);
    tx.commit().await.unwrap();
    let session = Session::monotonic();
    assert_eq!(text(&ours_users.get(&session, &1).await.unwrap()), Some("grace"));
    assert_eq!(
        text(&their_users.get(&session, &1).await.unwrap()),
        Some("grace"),
        "nothing tells them, but the session"
    );
}

/// The load began before a crash, with the floors of then, and the crash was seen while its connection was waited for.
#[tokio::test(start_paused = true)]
async fn who_joins_a_load_from_before_a_crash_is_not_answered_below_what_was_retracted_since() {
    let cluster = cluster(1);
    let (store, users) = instance(&cluster, None, 1).await;
    cluster.write_unflushed(0, 4_000);
    sleep(Duration::from_secs(2)).await;
    cluster.pause(1, true);
    cluster.freeze(1, true);
    let reader = users.clone();
    let first = tokio::spawn(async move { reader.get(&Session::new(), &1).await.unwrap() });
    sleep(Duration::from_millis(1)).await;
    cluster.crash(0);
    while store.stats().counts.crashes == 0 {
        let _ = store.begin(&Session::new()).await;
        sleep(Duration::from_millis(1)).await;
    }
    let mut tx = store.begin(&Session::new()).await.unwrap();
    tx.put("users", 1, "new".to_owned()).await.unwrap();
    tx.retract(&users, &1);
    tx.commit().await.unwrap();
    let reader = users.clone();
    let second = tokio::spawn(async move { reader.get(&Session::new(), &1).await.unwrap() });
    sleep(Duration::from_millis(1)).await;
    cluster.freeze(1, false);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(text(&second), Some("new"), "{second:?}, beside {first:?}");
}
