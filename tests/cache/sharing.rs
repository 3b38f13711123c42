//! Two instances that share one tier and one bus.

use crate::log::Log;
use crate::support::{Instance, cluster};
use highwater::memory::{Delivery, Shared};
use highwater::{BusState, Freshness, ReadOptions, Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn what_one_filled_another_finds() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    let session = Session::new();
    assert_eq!(one.get(&session, 1).await.rung, Rung::Replica);
    sleep(Duration::from_millis(10)).await;
    let read = two.get(&session, 1).await;
    assert_eq!((read.rung, read.value.as_deref().map(String::as_str)), (Rung::Shared, Some("ada")));
    assert_eq!(two.get(&session, 1).await.rung, Rung::Local);
    assert_eq!(two.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_retracts_what_others_hold() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    let anybody = Session::new();
    assert_eq!(two.name(&anybody, 1).await.as_deref(), Some("ada"));
    one.write(&Session::new(), 1, "grace").await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(two.name(&anybody, 1).await.as_deref(), Some("grace"), "a session without a token");
    assert_eq!(two.store.stats().counts.retractions_heard, 1);
}

#[tokio::test(start_paused = true)]
async fn with_every_message_dropped_nobody_misses_their_own_write() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    shared.set_delivery(Delivery::new(|_, _| Vec::new()));
    let session = Session::new();
    two.get(&session, 1).await;
    one.write(&session, 1, "grace").await;
    assert_eq!(two.name(&session, 1).await.as_deref(), Some("grace"));
    sleep(Duration::from_secs(4)).await;
    assert_eq!(two.store.stats().bus, BusState::Deaf);
    // Without a token the age of what is served is bounded while deaf.
    let anybody = Session::new();
    assert_eq!(two.name(&anybody, 1).await.as_deref(), Some("grace"));
    one.write(&Session::new(), 1, "joan").await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(two.name(&anybody, 1).await.as_deref(), Some("joan"));
    assert!(two.users.stats().misses_deaf >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_noticed_as_a_gap() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    let anybody = Session::new();
    two.get(&anybody, 1).await;
    shared.set_delivery(Delivery::new(|_, _| Vec::new()));
    one.write(&Session::new(), 1, "grace").await;
    shared.set_delivery(Delivery::default());
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(two.store.stats().counts.gaps, 1);
    assert_eq!(two.store.stats().bus, BusState::Live);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(two.name(&anybody, 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_down_or_poisoned_costs_only_misses() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    let session = Session::new();
    one.get(&session, 1).await;
    sleep(Duration::from_millis(10)).await;
    shared.tamper(|_, bytes| {
        for byte in bytes.iter_mut().skip(60) {
            *byte ^= 1;
        }
    });
    assert_eq!(two.get(&session, 1).await.rung, Rung::Replica);
    assert_eq!(two.users.stats().undecodable, 1);
    shared.set_down(true);
    assert_eq!(two.name(&session, 2).await, None);
    two.write(&session, 2, "while down").await;
    assert_eq!(two.name(&session, 2).await.as_deref(), Some("while down"));
    assert_eq!(one.name(&session, 2).await.as_deref(), Some("while down"));
    let counts = two.store.stats().counts;
    assert!(counts.shared_errors >= 1 && counts.retractions_deferred >= 1, "{counts:?}");
    shared.set_down(false);
    sleep(Duration::from_secs(5)).await;
    assert!(two.store.stats().counts.retractions_told >= 1);
    assert_eq!(two.store.stats().bus, BusState::Live);
}

#[tokio::test(start_paused = true)]
async fn a_server_set_back_to_an_older_copy_drops_every_entry_everywhere() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let (one, two) = (Instance::sharing(&cluster, &shared).await, Instance::sharing(&cluster, &shared).await);
    let backup = cluster.backup(0);
    for id in 2..100 {
        cluster.put("users", id, "somebody".to_owned());
    }
    cluster.put("users", 1, "undone".to_owned());
    sleep(Duration::from_secs(1)).await;
    let any = ReadOptions::fresh(Freshness::Any);
    one.users.get_with(&Session::new(), &1, &any).await.unwrap();
    two.users.get_with(&Session::new(), &1, &any).await.unwrap();
    cluster.restore(0, &backup);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(one.name(&Session::new(), 1).await.as_deref(), Some("ada"));
    assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("ada"));
}

/// The nodes of a Redis Cluster fall back apart from each other: the entry is back, its marker is lost, and the log stands.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_back_without_its_marker_answers_nobody_below_what_the_log_knows() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let heard = Instance::sharing(&cluster, &shared.client(2)).await;
    let (writer, anybody) = (Session::new(), Session::new());
    assert_eq!(one.name(&anybody, 1).await.as_deref(), Some("ada"));
    sleep(Duration::from_millis(10)).await;
    let mut before = Vec::new();
    shared.tamper(|_, bytes| before.clone_from(bytes));
    one.write(&writer, 1, "grace").await;
    // Its watermark covers the write meanwhile, and what it started from lies above.
    let began_since = Instance::sharing(&cluster, &shared.client(3)).await;
    for instance in [&heard, &began_since] {
        shared.tamper(|_, bytes| bytes.clone_from(&before));
        let elsewhere = Session::from_token(writer.token());
        assert_eq!(instance.name(&elsewhere, 1).await.as_deref(), Some("grace"));
        sleep(Duration::from_millis(10)).await;
    }
    shared.tamper(|_, bytes| bytes.clone_from(&before));
    assert_eq!(one.name(&anybody, 1).await.as_deref(), Some("grace"), "whoever asks for nothing, too");
    assert_eq!((began_since.loads(), shared.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_counted_and_told_once_until_the_bus_was_deaf() {
    let (log, _logging) = Log::begin();
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared).await;
    for told in 1..=2 {
        for _ in 0..3 {
            shared.publish(b"HWB\x63 of a later release");
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(log.text().matches("bus_unreadable").count(), told);
        assert_eq!(one.store.stats().counts.messages_unreadable, 3 * told as u64);
        assert_eq!(one.store.stats().bus, BusState::Live);
        shared.disconnect();
        sleep(Duration::from_secs(5)).await;
    }
}
