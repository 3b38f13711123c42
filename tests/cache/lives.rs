//! How long entries live, and what retracts them.

use crate::support::{Instance, Users, cluster};
use highwater::memory::Shared;
use highwater::{ReadOptions, Rung, Session, Settings};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_life_ends() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    sleep(Duration::from_secs(50)).await;
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Local, "the jitter is at most a tenth");
    sleep(Duration::from_secs(11)).await;
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Replica);
    assert_eq!(instance.users.stats().misses_expired, 1);
}

#[tokio::test(start_paused = true)]
async fn an_absent_row_is_cached_for_a_shorter_time() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    assert_eq!(instance.name(&session, 7).await, None);
    assert_eq!(instance.get(&session, 7).await.rung, Rung::Local);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(instance.get(&session, 7).await.rung, Rung::Replica);
    instance.write(&session, 7, "new").await;
    assert_eq!(instance.name(&session, 7).await.as_deref(), Some("new"));
}

fn living(life: Duration) -> Users {
    Users { life: Some(life), ..Users::default() }
}

/// Markers and retractions that are told again are kept for as long as the cache's own time to live: an entry that
/// outlived it could come back from where nothing remembers its retraction.
#[tokio::test(start_paused = true)]
async fn a_row_lives_no_longer_than_its_cache_allows() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let hour = || living(Duration::from_secs(3_600));
    let one = Instance::with(&cluster, Some(shared.clone()), Settings::default(), hour()).await;
    let two = Instance::with(&cluster, Some(shared), Settings::default(), hour()).await;
    let session = Session::new();
    one.get(&session, 1).await;
    sleep(Duration::from_secs(50)).await;
    assert_eq!(one.get(&session, 1).await.rung, Rung::Local);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(two.get(&session, 1).await.rung, Rung::Replica, "nor in the shared tier");
    sleep(Duration::from_secs(61)).await;
    assert_eq!(one.get(&session, 1).await.rung, Rung::Replica);
}

#[tokio::test(start_paused = true)]
async fn a_row_may_live_shorter_and_not_at_all() {
    let short = Instance::with(&cluster(1), None, Settings::default(), living(Duration::from_secs(2))).await;
    let never = Instance::with(&cluster(1), None, Settings::default(), living(Duration::ZERO)).await;
    let session = Session::new();
    for instance in [&short, &never] {
        instance.get(&session, 1).await;
    }
    assert_eq!(short.get(&session, 1).await.rung, Rung::Local);
    assert_eq!(never.get(&session, 1).await.rung, Rung::Replica);
    assert_eq!(never.users.local_entries(), 0);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(short.get(&session, 1).await.rung, Rung::Replica);
    assert_eq!(short.users.stats().misses_expired, 1);
}

/// What is over keeps its place until something newer wants it: the capacity bounds it all the same.
#[tokio::test(start_paused = true)]
async fn absent_rows_that_are_over_do_not_outgrow_the_capacity() {
    let instance = Instance::over(&cluster(1)).await;
    let few = instance.store.cache("few", Users::default()).max_capacity(100).build().unwrap();
    for key in 1_000..1_500 {
        few.get(&Session::new(), &key).await.unwrap();
    }
    assert!(few.local_entries() <= 100, "{}", few.local_entries());
}

#[tokio::test(start_paused = true)]
async fn a_group_and_a_cache_retract_all_their_entries() {
    let cluster = cluster(1);
    for id in 10..20 {
        let team = if id < 15 { "red" } else { "blue" };
        cluster.put("users", id, format!("{team}/{id}"));
    }
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    let ids: Vec<u64> = (10..20).collect();
    let rungs = async || {
        let reads = instance.users.get_many(&Session::new(), &ids, &ReadOptions::default()).await.unwrap();
        reads.iter().filter(|read| read.rung == Rung::Local).count()
    };
    assert_eq!(rungs().await, 0);
    assert_eq!(rungs().await, 10);
    let mut tx = instance.begin(&session).await;
    tx.put("users", 10, "red/changed".to_owned()).await.unwrap();
    tx.retract_group("red");
    tx.commit().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rungs().await, 5);
    let mut tx = instance.begin(&session).await;
    tx.put("users", 11, "red/changed".to_owned()).await.unwrap();
    tx.retract_cache(&instance.users);
    tx.commit().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rungs().await, 0);
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_one_load() {
    let cluster = cluster(1);
    for id in 10..20 {
        cluster.put("users", id, format!("user {id}"));
    }
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.get(&session, 12).await;
    let ids: Vec<u64> = (10..22).rev().collect();
    let reads = instance.users.get_many(&session, &ids, &ReadOptions::default()).await.unwrap();
    let names: Vec<_> = reads.iter().map(|read| read.value.as_deref().cloned()).collect();
    let expected: Vec<_> = ids.iter().map(|id| (*id < 20).then(|| format!("user {id}"))).collect();
    assert_eq!(names, expected, "in the order asked for, absent rows included");
    let too_many: Vec<u64> = (0..2_000).collect();
    let error = instance.users.get_many(&session, &too_many, &ReadOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
}
