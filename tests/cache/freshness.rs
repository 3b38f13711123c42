//! What one read can ask for.

use crate::support::{Instance, cluster};
use highwater::memory::Shared;
use highwater::{Fallback, Freshness, ReadOptions, Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

fn name(read: &highwater::Read<String>) -> Option<&str> {
    read.value.as_deref().map(String::as_str)
}

#[tokio::test(start_paused = true)]
async fn within_a_bound_foreign_writes_are_seen() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    // A writer that does not use the library.
    cluster.put("users", 1, "grace".to_owned());
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"), "nothing told us");
    sleep(Duration::from_secs(3)).await;
    let bound = ReadOptions::fresh(Freshness::Within(Duration::from_secs(2)));
    assert_eq!(name(&instance.users.get_with(&session, &1, &bound).await.unwrap()), Some("grace"));
    let again = instance.users.get_with(&session, &1, &bound).await.unwrap();
    assert_eq!(again.rung, Rung::Local);
}

#[tokio::test(start_paused = true)]
async fn within_a_bound_a_lagging_replica_is_not_enough() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.pause(1, true);
    cluster.put("users", 1, "grace".to_owned());
    sleep(Duration::from_secs(5)).await;
    let bound = ReadOptions::fresh(Freshness::Within(Duration::from_secs(2)));
    let read = instance.users.get_with(&session, &1, &bound).await.unwrap();
    assert_eq!((name(&read), read.rung), (Some("grace"), Rung::Primary));
    let strict = bound.clone().or_else(Fallback::Error);
    assert_eq!(instance.users.get_with(&session, &1, &strict).await.unwrap().rung, Rung::Local, "by the clock");
    sleep(Duration::from_secs(5)).await;
    let error = instance.users.get_with(&session, &1, &strict).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_not_fresh(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn stale_answers_are_labelled() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.pause(1, true);
    instance.write(&session, 1, "grace").await;
    let options = ReadOptions::default().or_else(Fallback::Stale);
    let read = instance.users.get_with(&session, &1, &options).await.unwrap();
    assert_eq!((name(&read), read.stale, read.rung), (Some("ada"), true, Rung::Replica));
    let read = instance.get(&session, 1).await;
    assert_eq!((name(&read), read.stale), (Some("grace"), false));
}

#[tokio::test(start_paused = true)]
async fn latest_and_any_are_what_they_say() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    cluster.pause(1, true);
    cluster.put("users", 1, "grace".to_owned());
    let latest = instance.users.get_with(&session, &1, &ReadOptions::fresh(Freshness::Latest)).await.unwrap();
    assert_eq!((name(&latest), latest.rung), (Some("grace"), Rung::Primary));
    let writer = Session::new();
    instance.write(&writer, 1, "joan").await;
    let any = ReadOptions::fresh(Freshness::Any);
    assert_eq!(instance.users.get_with(&writer, &1, &any).await.unwrap().rung, Rung::Primary, "it was retracted");
}

#[tokio::test(start_paused = true)]
async fn at_least_a_token_that_came_with_a_message() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let reader = Session::new();
    instance.get(&reader, 1).await;
    cluster.pause(1, true);
    cluster.put("users", 1, "grace".to_owned());
    let token = instance.store.token().await.unwrap();
    let options = ReadOptions::fresh(Freshness::AtLeast(token));
    assert_eq!(name(&instance.users.get_with(&reader, &1, &options).await.unwrap()), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn what_a_read_of_anything_showed_is_not_remembered() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    cluster.pause(1, true);
    cluster.put("users", 1, "grace".to_owned());
    sleep(Duration::from_secs(1)).await;
    let latest = ReadOptions::fresh(Freshness::Latest);
    instance.users.get_with(&Session::monotonic(), &1, &latest).await.unwrap();
    let session = Session::monotonic();
    let any = ReadOptions::fresh(Freshness::Any);
    let shown = instance.users.get_with(&session, &1, &any).await.unwrap();
    assert_eq!((name(&shown), shown.rung), (Some("grace"), Rung::Local));
    assert_eq!(instance.get(&session, 2).await.rung, Rung::Replica, "which is behind what was shown");
    // Shown to a read that asks for what the session has, it counts.
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
    assert_eq!(instance.get(&session, 3).await.rung, Rung::Primary);
}

#[tokio::test(start_paused = true)]
async fn a_monotonic_session_never_goes_back() {
    let cluster = cluster(2);
    let instance = Instance::over(&cluster).await;
    let session = Session::monotonic();
    cluster.pause(2, true);
    cluster.put("users", 1, "grace".to_owned());
    sleep(Duration::from_secs(1)).await;
    // Seen on the standby that is ahead.
    let options = ReadOptions::fresh(Freshness::Within(Duration::from_millis(500)));
    assert_eq!(name(&instance.users.get_with(&session, &1, &options).await.unwrap()), Some("grace"));
    cluster.kill(1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
    assert_eq!(instance.name(&session, 2).await, None);
    for _ in 0..5 {
        assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
    }
}

/// A write without the library is in no log: the watermark passes it and knows nothing of it.
#[tokio::test(start_paused = true)]
async fn neither_a_bound_nor_what_was_seen_is_met_by_the_watermark() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let two = Instance::sharing(&cluster, &shared.client(2)).await;
    cluster.put("users", 8, "so that the log moves on".to_owned());
    sleep(Duration::from_secs(1)).await;
    for session in [Session::new(), Session::monotonic()] {
        let bounded = ReadOptions::fresh(Freshness::Within(Duration::from_secs(1)));
        let options = if session.is_monotonic() { ReadOptions::default() } else { bounded };
        cluster.put("users", 1, "ada".to_owned());
        for instance in [&one, &two] {
            instance.users.get_with(&Session::monotonic(), &1, &ReadOptions::fresh(Freshness::Latest)).await.unwrap();
        }
        cluster.put("users", 1, "grace".to_owned());
        sleep(Duration::from_secs(2)).await;
        one.write(&session, 2, "vouched for").await;
        let latest = ReadOptions::fresh(Freshness::Latest);
        let seen = one.users.get_with(&session, &1, &latest).await.unwrap();
        assert_eq!(name(&seen), Some("grace"));
        one.write(&Session::new(), 3, "so that the watermark rises").await;
        sleep(Duration::from_secs(2)).await;
        let read = two.users.get_with(&session, &1, &options).await.unwrap();
        assert_eq!(name(&read), Some("grace"), "{read:?}");
    }
}
