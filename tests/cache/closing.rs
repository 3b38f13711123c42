//! What a store leaves behind when it is closed.

use crate::support::{Instance, cluster};
use highwater::memory::Shared;
use highwater::{BusState, Session};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longer than the last try may take.
const SOON: Duration = Duration::from_secs(3);

/// Two instances that hold row 1, and a write by the first that the shared server did not take.
async fn deferred() -> (Shared, Instance, Instance) {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let two = Instance::sharing(&cluster, &shared.client(2)).await;
    two.get(&Session::new(), 1).await;
    // Only the writer's way to the server is cut.
    shared.cut_off(1, true);
    one.write(&Session::new(), 1, "grace").await;
    let counts = one.store.stats().counts;
    assert_eq!((counts.retractions_deferred, counts.retractions_told), (1, 0), "{counts:?}");
    (shared, one, two)
}

#[tokio::test(start_paused = true)]
async fn what_was_deferred_is_tried_once_more() {
    let (shared, one, two) = deferred().await;
    // The background is in the middle of its next try, which will not be answered.
    sleep(Duration::from_millis(600)).await;
    shared.cut_off(1, false);
    one.store.close().await;
    let counts = one.store.stats().counts;
    assert_eq!((counts.retractions_told, counts.retractions_dropped), (1, 0), "{counts:?}");
    assert_eq!(two.store.stats().bus, BusState::Live);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_then_is_counted_and_holds_nobody_up() {
    let (_shared, one, _two) = deferred().await;
    let begun = Instant::now();
    one.store.close().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(one.store.stats().counts.retractions_dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_ends_after_the_close_is_counted_too() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let session = Session::new();
    let mut tx = one.begin(&session).await;
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.retract(&one.users, &1);
    shared.set_down(true);
    cluster.set_commit_pace(Duration::from_millis(500), Duration::from_millis(500));
    let (committed, ()) = tokio::join!(tx.commit(), async {
        sleep(Duration::from_millis(100)).await;
        one.store.close().await;
    });
    assert!(!committed.unwrap().told);
    assert_eq!(one.store.stats().counts.retractions_dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_dropped_tries_once_more_too() {
    let (shared, one, two) = deferred().await;
    shared.cut_off(1, false);
    drop(one);
    sleep(SOON).await;
    assert_eq!(two.store.stats().counts.retractions_heard, 1);
}
