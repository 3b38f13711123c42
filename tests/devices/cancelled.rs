//! Whatever is dropped half-way, the user's other devices see the write, and nobody waits for ever.

use crate::dropped::dropped_after;
use crate::support::{Instance, USER, cluster};
use highwater::Session;
use highwater::memory::Shared;
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[tokio::test(start_paused = true)]
async fn remember_that_is_dropped_goes_on() {
    for polls in 1..10 {
        let (cluster, shared) = (cluster(1), Shared::default());
        let phone = Instance::over(&cluster, shared.clone()).await;
        phone.look().await;
        sleep(crate::support::LIFE).await;
        cluster.pause(1, true);
        let session = Session::new();
        let visit = phone.devices.visit(&session, USER);
        phone.write(&session, "grace").await;
        let ended = dropped_after(polls, visit.remember()).await.is_some();
        drop((visit, session));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(Instance::over(&cluster, shared).await.look().await.0, "grace", "after {polls} polls");
        if ended {
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test(start_paused = true)]
async fn a_visit_and_a_wait_that_are_dropped_hold_nobody() {
    let (cluster, shared) = (cluster(1), Shared::default());
    let instance = Instance::over(&cluster, shared.clone()).await;
    shared.freeze(true);
    let session = Session::new();
    drop(instance.devices.visit(&session, USER));
    for _ in 0..3 {
        assert!(dropped_after(1, instance.read(&session)).await.is_none());
        assert!(timeout(Duration::from_millis(1), session.gathered()).await.is_err());
    }
    assert_eq!(instance.read(&session).await.unwrap().value.unwrap().as_str(), "ada");
    session.gathered().await;
    timeout(Duration::from_secs(2), instance.devices.close()).await.unwrap();
}
