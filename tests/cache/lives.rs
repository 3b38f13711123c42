//! How long entries live, and what retracts them.

use crate::support::{Instance, cluster};
use highwater::{ReadOptions, Rung, Session};
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
