//! Read your writes, and where answers come from.

use crate::support::{Instance, cluster};
use highwater::{Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn the_second_read_is_a_hit() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Replica);
    let hit = instance.get(&session, 1).await;
    assert_eq!((hit.rung, hit.value.as_deref().map(String::as_str)), (Rung::Local, Some("ada")));
    assert_eq!(instance.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_reads_its_own_write_past_a_paused_replica() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let (writer, other) = (Session::new(), Session::new());
    instance.get(&other, 1).await;
    cluster.pause(1, true);
    instance.write(&writer, 1, "grace").await;
    let read = instance.get(&writer, 1).await;
    assert_eq!((read.value.as_deref().map(String::as_str), read.rung), (Some("grace"), Rung::Primary));
    // The write raised this instance's floor, so others see it too.
    assert_eq!(instance.name(&other, 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_catches_up_within_the_budget_is_waited_for() {
    let cluster = cluster(1);
    cluster.set_lag(1, Duration::from_millis(20));
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.write(&session, 1, "grace").await;
    let read = instance.get(&session, 1).await;
    assert_eq!((read.value.as_deref().map(String::as_str), read.rung), (Some("grace"), Rung::Replica));
    let counts = instance.store.stats().counts;
    assert_eq!((counts.waits, counts.fallbacks_primary), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn on_an_idle_primary_without_replicas_hits_come_back_at_once() {
    let instance = Instance::over(&cluster(0)).await;
    let (writer, other) = (Session::new(), Session::new());
    instance.write(&writer, 1, "grace").await;
    for _ in 0..20 {
        assert_eq!(instance.name(&writer, 1).await.as_deref(), Some("grace"));
        assert_eq!(instance.name(&other, 1).await.as_deref(), Some("grace"));
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(instance.get(&writer, 1).await.rung, Rung::Local);
    assert!(instance.loads() <= 4, "{} loads", instance.loads());
    assert!(instance.store.stats().counts.nudges >= 1);
}

#[tokio::test(start_paused = true)]
async fn with_the_primary_down_what_replicas_reach_is_served() {
    let cluster = cluster(2);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    instance.write(&session, 1, "grace").await;
    sleep(Duration::from_secs(1)).await;
    cluster.kill(0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
    assert!(instance.store.begin(&session).await.unwrap_err().is_unavailable());
}

#[tokio::test(start_paused = true)]
async fn a_lying_monitor_costs_a_retry_and_no_answer() {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.pause(1, true);
    cluster.lie(1, |mut probe| {
        if let highwater::source::Role::Standby { replay, .. } = &mut probe.role {
            *replay = highwater::Lsn::new(u64::MAX >> 1);
        }
        probe
    });
    instance.write(&session, 1, "grace").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("grace"));
    assert!(instance.store.stats().counts.disbelieved >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_conflict_is_retried_elsewhere() {
    let cluster = cluster(2);
    let instance = Instance::over(&cluster).await;
    cluster.conflict(1);
    cluster.conflict(2);
    let read = instance.get(&Session::new(), 1).await;
    assert_eq!(read.rung, Rung::Primary);
    assert_eq!(instance.store.stats().counts.retries, 2);
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_loses_a_write_is_told_until_it_is_accepted() {
    let cluster = cluster(2);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    sleep(Duration::from_secs(1)).await;
    // Neither standby receives what is written now.
    cluster.set_transit(1, Duration::from_secs(3600));
    cluster.set_transit(2, Duration::from_secs(3600));
    instance.write(&session, 1, "lost").await;
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(1)).await;
    let error = instance.users.get(&session, &1).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_write_lost(), "{error}");
    instance.store.accept_loss(&session);
    assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"));
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_undid_does_not_keep_a_session_from_hits() {
    let cluster = cluster(0);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.write_unflushed(0, 4_000);
    instance.store.capture(&session, highwater::Retraction::new()).await.unwrap();
    cluster.crash(0);
    cluster.start(0);
    sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        assert_eq!(instance.name(&session, 1).await.as_deref(), Some("ada"));
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Local);
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_says_so() {
    let instance = Instance::over(&cluster(1)).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    instance.store.close().await;
    for id in [1, 2] {
        let error = instance.users.get(&session, &id).await.unwrap_err();
        assert!(error.as_cache().unwrap().is_closed(), "user {id}: {error}");
    }
    assert!(instance.store.begin(&session).await.unwrap_err().is_closed());
}
