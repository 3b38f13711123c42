//! One load that several readers wait for.

use crate::support::{Instance, Users, cluster};
use futures_util::future::join_all;
use futures_util::poll;
use highwater::{Fallback, ReadOptions, Rung, Session, Settings};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

async fn slow(delay_ms: u64) -> Instance {
    let users = Users { delay: Duration::from_millis(delay_ms), ..Users::default() };
    Instance::with(&cluster(1), None, Settings::default(), users).await
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_readers_of_a_cold_key_make_one_query() {
    let instance = slow(20).await;
    let session = Session::new();
    let reads = join_all((0..10_000).map(|_| instance.get(&session, 1))).await;
    assert!(reads.iter().all(|read| read.value.as_deref().map(String::as_str) == Some("ada")));
    assert_eq!(instance.loads(), 1);
    assert_eq!(instance.users.stats().joined, 9_999);
}

#[tokio::test(start_paused = true)]
async fn a_load_outlives_the_reader_who_began_it() {
    let instance = slow(50).await;
    let session = Session::new();
    let gone = timeout(Duration::from_millis(10), instance.get(&session, 1)).await;
    assert!(gone.is_err());
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"));
    assert_eq!(instance.loads(), 1);
}

/// As a future does that lies in a buffer whose owner waits for something else.
#[tokio::test(start_paused = true)]
async fn a_reader_who_is_not_polled_any_more_holds_nobody_up() {
    let instance = slow(50).await;
    let session = Session::new();
    let mut stalled = pin!(instance.get(&session, 1));
    assert!(poll!(&mut stalled).is_pending());
    let begun = tokio::time::Instant::now();
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"));
    assert!(begun.elapsed() < Duration::from_millis(100), "the load went on");
    assert_eq!(stalled.await.value.as_deref().map(String::as_str), Some("ada"), "and tells the first reader too");
    assert_eq!(instance.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_lone_reader_leaves_behind_is_still_cached() {
    let instance = slow(50).await;
    let session = Session::new();
    assert!(timeout(Duration::from_millis(10), instance.get(&session, 1)).await.is_err());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Local);
    assert_eq!(instance.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_loader_is_an_error_for_all_and_blocks_nobody() {
    let cluster = cluster(1);
    cluster.put("users", 2, "panic".to_owned());
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    sleep(Duration::from_secs(1)).await;
    let reads = join_all((0..100).map(|_| instance.users.get(&session, &2))).await;
    assert!(reads.iter().all(|read| read.as_ref().is_err_and(|e| e.to_string().contains("panicked"))));
    instance.write(&session, 2, "calm").await;
    assert_eq!(instance.name(&session, 2).await.as_deref(), Some("calm"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_a_later_write_does_not_take_an_earlier_load() {
    let cluster = cluster(0);
    let users = Users { delay: Duration::from_millis(50), ..Users::default() };
    let instance = Instance::with(&cluster, None, Settings::default(), users).await;
    let (early, writer) = (Session::new(), Session::new());
    let reading = instance.get(&early, 1);
    let writing = async {
        sleep(Duration::from_millis(10)).await;
        instance.write(&writer, 1, "grace").await;
        instance.name(&writer, 1).await
    };
    let (early, own) = tokio::join!(reading, writing);
    assert_eq!(early.value.as_deref().map(String::as_str), Some("ada"), "it read before the write");
    assert_eq!(own.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn more_loads_than_allowed_are_refused() {
    let users = Users { delay: Duration::from_millis(50), ..Users::default() };
    let settings = Settings { loads_max: 2, ..Settings::default() };
    let instance = Instance::with(&cluster(1), None, settings, users).await;
    let session = Session::new();
    let reads = join_all((1..=3).map(|id| {
        let (users, session) = (instance.users.clone(), session.clone());
        async move { users.get(&session, &id).await }
    }));
    let refused = reads.await.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].as_cache().unwrap().is_overloaded());
    assert_eq!(instance.name(&session, 3).await, None, "and allowed again when one has ended");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_and_the_load_is_not_lost() {
    let instance = slow(300).await;
    let session = Session::new();
    let options = ReadOptions::default().by(tokio::time::Instant::now() + Duration::from_millis(100));
    let error = instance.users.get_with(&session, &1, &options).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_timeout(), "{error}");
    let options = ReadOptions::default().or_else(Fallback::Error);
    assert!(instance.users.get_with(&session, &1, &options).await.is_ok());
}

/// The load that takes the queued reader sets out in the new history, in which the reader's floor means nothing.
#[tokio::test(start_paused = true)]
async fn a_queued_reader_is_told_of_a_loss_that_happens_meanwhile() {
    let cluster = cluster(1);
    let users = Users { delay: Duration::from_millis(300), ..Users::default() };
    let instance = Instance::with(&cluster, None, Settings::default(), users).await;
    let (session, anybody) = (Session::new(), Session::new());
    cluster.set_transit(1, Duration::from_secs(3_600));
    instance.write(&session, 1, "lost").await;
    let first = instance.users.get(&anybody, &1);
    let queued = async {
        sleep(Duration::from_millis(150)).await;
        instance.users.get(&session, &1).await
    };
    let failover = async {
        sleep(Duration::from_millis(250)).await;
        cluster.kill(0);
        cluster.promote(1)
    };
    let (_, queued, promoted) = tokio::join!(first, queued, failover);
    assert!(promoted);
    let error = queued.expect_err("its write is lost");
    assert!(error.as_cache().unwrap().is_write_lost(), "{error}");
}
