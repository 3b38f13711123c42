//! Mistakes that others made with positions kept for each user: an older one put over a newer, forgotten as soon as one
//! replica had it, or before a replica that still served had it, and taken for "nothing was written" where it was lost.

use crate::support::{Instance, LIFE, USER, cluster};
use highwater::devices::Remembered;
use highwater::memory::Shared;
use highwater::{Rung, Session};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_late_request_lowers_nothing() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let (one, other) = (Instance::over(&cluster, shared.clone()).await, Instance::over(&cluster, shared.clone()).await);
    one.look().await;
    sleep(LIFE).await;
    let slow = Session::new();
    let late = one.devices.visit(&slow, USER);
    one.write(&slow, "grace").await;
    // The replica has the first write, so a floor at that would be met by it.
    sleep(Duration::from_secs(1)).await;
    cluster.pause(1, true);
    assert_eq!(other.rename("hedy").await, Remembered::Stored);
    assert_eq!(late.remember().await, Remembered::Stored, "the older position comes last");
    let fresh = Instance::over(&cluster, shared.clone()).await;
    assert_eq!(fresh.look().await, ("hedy".to_owned(), Rung::Primary));
    assert_eq!((fresh.devices.stats().recalled, fresh.devices.stats().incomplete), (1, 0), "it is no care");
    let nobody = Instance::over(&cluster, shared).await.look_as_nobody().await;
    assert_eq!(nobody, ("grace".to_owned(), Rung::Replica));
}

#[tokio::test(start_paused = true)]
async fn one_replica_that_caught_up_does_not_end_it_for_the_others() {
    let (cluster, shared) = (cluster(2), Shared::default());
    let one = Instance::over(&cluster, shared.clone()).await;
    cluster.pause(2, true);
    one.rename("grace").await;
    sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let fresh = Instance::over(&cluster, shared.clone()).await;
        assert_eq!(fresh.look().await, ("grace".to_owned(), Rung::Replica));
    }
    cluster.kill(1);
    for _ in 0..20 {
        let fresh = Instance::over(&cluster, shared.clone()).await;
        assert_eq!(fresh.look().await, ("grace".to_owned(), Rung::Primary), "only the other is left");
        assert_eq!(fresh.look_as_nobody().await.0, "grace", "its own tier has it by now");
    }
    let nobody = Instance::over(&cluster, shared).await.look_as_nobody().await;
    assert_eq!(nobody, ("ada".to_owned(), Rung::Replica), "the replica does lag");
}

#[tokio::test(start_paused = true)]
async fn it_outlives_the_longest_lag() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let one = Instance::over(&cluster, shared.clone()).await;
    cluster.pause(1, true);
    one.rename("grace").await;
    for minutes in [1, 3, 5] {
        sleep(Duration::from_secs(minutes * 60)).await;
        let fresh = Instance::over(&cluster, shared.clone()).await;
        assert_eq!(fresh.look().await, ("grace".to_owned(), Rung::Primary), "another {minutes} minutes later");
    }
    sleep(LIFE).await;
    let fresh = Instance::over(&cluster, shared).await;
    assert_eq!(fresh.look().await.0, "ada", "a life is what it is; it must be longer than a replica may lag");
    assert_eq!(fresh.devices.stats().recalled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_comes_in_the_middle_of_a_request_is_asked_like_any_other() {
    let (cluster, shared) = (cluster(2), Shared::default());
    let one = Instance::over(&cluster, shared.clone()).await;
    cluster.pause(1, true);
    cluster.pause(2, true);
    cluster.kill(1);
    one.rename("grace").await;
    let fresh = Instance::over(&cluster, shared).await;
    let session = Session::new();
    fresh.devices.visit(&session, USER);
    session.gathered().await;
    cluster.start(1);
    for _ in 0..50 {
        assert_eq!(fresh.read(&session).await.unwrap().value.unwrap().as_str(), "grace");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_no_proof_of_nothing() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let one = Instance::over(&cluster, shared.clone()).await;
    cluster.pause(1, true);
    one.rename("grace").await;
    shared.wipe();
    let fresh = Instance::over(&cluster, shared).await;
    assert_eq!(fresh.look().await, ("grace".to_owned(), Rung::Primary));
    assert_eq!(fresh.devices.stats().incomplete, 1);
}

#[tokio::test(start_paused = true)]
async fn users_do_not_meet_and_the_id_is_not_shown() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let one = Instance::over(&cluster, shared.clone()).await;
    // Old enough that it is known to have lost nothing.
    one.look().await;
    sleep(LIFE).await;
    cluster.pause(1, true);
    one.rename("grace").await;
    let fresh = Instance::over(&cluster, shared).await;
    let session = Session::new();
    let visit = fresh.devices.visit(&session, "user 8");
    assert_eq!(fresh.read(&session).await.unwrap().value.unwrap().as_str(), "ada", "who did not write");
    let long = "x".repeat(1 << 20);
    fresh.devices.visit(&session, &long);
    session.gathered().await;
    assert!(session.token().is_empty());
    let shown = format!("{visit:?} {:?} {session:?}", fresh.devices);
    assert!(!shown.contains("user"), "{shown}");
}

/// Where a handler begins the visit late, or hands over a session that another part of it wrote with.
#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_visit_began_is_remembered_too() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let phone = Instance::over(&cluster, shared.clone()).await;
    for is_away in [false, true] {
        shared.set_down(is_away);
        let session = Session::new();
        phone.write(&session, "grace").await;
        let outcome = phone.devices.visit(&session, USER).remember().await;
        let expected = if is_away { Remembered::Deferred } else { Remembered::Stored };
        assert_eq!(outcome, expected, "away: {is_away}");
    }
}
