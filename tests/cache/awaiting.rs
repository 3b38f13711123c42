//! Waiting for the watermark where that is all that keeps an entry from answering. In virtual time.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Delivery, Shared};
use highwater::{Freshness, ReadOptions, Rung, Session, Settings};
use std::time::Duration;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);

/// An instance that hears what the log tells so much later, and holds users 1 to 4.
async fn hearing_after(delay: Duration, settings: Settings) -> Instance {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    (1..=4).for_each(|id| cluster.put("users", id, "ada".to_owned()));
    // What a load would have to wait for.
    cluster.set_lag(1, Duration::from_millis(80));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let on = Instance::with(&cluster, Some(shared.clone()), settings, Users::default()).await;
    for id in 1..=4 {
        on.get(&Session::new(), id).await;
    }
    shared.set_delivery(Delivery::new(move |_, _| vec![delay]));
    on
}

/// The rung that answers right after a write of another user, and how long that took.
async fn after_a_write(on: &Instance, id: u64, options: &ReadOptions) -> (Rung, Duration) {
    let session = Session::new();
    on.write(&session, 1, "grace").await;
    let begun = Instant::now();
    (on.users.get_with(&session, &id, options).await.unwrap().rung, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_reads_right_after_a_write_waits_for_the_watermark_and_not_for_a_replica() {
    let on = hearing_after(MS, Settings::default()).await;
    let loads = on.loads();
    assert_eq!(after_a_write(&on, 2, &ReadOptions::default()).await, (Rung::Local, MS));
    let session = Session::new();
    on.write(&session, 1, "joan").await;
    let begun = Instant::now();
    let many = on.users.get_many(&session, &[2, 3, 4], &ReadOptions::default()).await.unwrap();
    assert!(many.iter().all(|read| read.rung == Rung::Local) && begun.elapsed() == MS, "once for all of them");
    assert_eq!((on.users.stats().hits_awaited, on.loads()), (4, loads));
}

#[tokio::test(start_paused = true)]
async fn it_is_waited_for_as_long_as_the_settings_say_and_no_longer() {
    for (wait, delay) in [(2, 10), (0, 1)] {
        let settings = Settings { watermark_wait: wait * MS, ..Settings::default() };
        let on = hearing_after(delay * MS, settings).await;
        let loads = on.loads();
        let (rung, took) = after_a_write(&on, 2, &ReadOptions::default()).await;
        assert!(rung != Rung::Local && on.loads() == loads + 1, "{rung:?} after {took:?}");
        assert!(took >= 20 * MS, "the replica had to come so far: {took:?}");
        assert_eq!(on.users.stats().hits_awaited, 0);
    }
    let on = hearing_after(10 * MS, Settings { watermark_wait: 20 * MS, ..Settings::default() }).await;
    assert_eq!(after_a_write(&on, 2, &ReadOptions::default()).await, (Rung::Local, 10 * MS));
    // The caller's own deadline ends it before.
    let by = ReadOptions::default().by(Instant::now() + 5 * MS);
    let session = Session::new();
    on.write(&session, 1, "joan").await;
    let (by, begun) = (ReadOptions { deadline: Some(Instant::now() + 5 * MS), ..by }, Instant::now());
    assert!(on.users.get_with(&session, &2, &by).await.is_err());
    assert!(begun.elapsed() <= 6 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_the_watermark_cannot_give() {
    let settings = || Settings { watermark_wait: Duration::from_secs(2), ..Settings::default() };
    let soon = Duration::from_millis(400);
    let on = hearing_after(Duration::from_millis(500), settings()).await;
    let (rung, took) = after_a_write(&on, 1, &ReadOptions::default()).await;
    assert!(rung != Rung::Local && took < soon, "it was retracted: {took:?}");
    let (rung, took) = after_a_write(&on, 2, &ReadOptions::fresh(Freshness::Latest)).await;
    assert!(rung == Rung::Primary && took < soon, "only the primary may answer: {took:?}");
    let session = Session::new();
    on.write(&session, 1, "joan").await;
    on.store.capture(&session, highwater::Retraction::new()).await.unwrap();
    let begun = Instant::now();
    on.get(&session, 3).await;
    assert!(begun.elapsed() < soon, "it is pinned: {:?}", begun.elapsed());
    // Nothing is heard any more, which is noticed within three seconds.
    let on = hearing_after(Duration::from_secs(60), settings()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (rung, took) = after_a_write(&on, 2, &ReadOptions::default()).await;
    assert!(rung != Rung::Local && took < soon, "it does not move: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_nothing_behind() {
    let on = hearing_after(10 * MS, Settings { watermark_wait: 20 * MS, ..Settings::default() }).await;
    let (session, loads) = (Session::new(), on.loads());
    on.write(&session, 1, "grace").await;
    let dropped = tokio::time::timeout(3 * MS, on.users.get(&session, &2)).await;
    assert!(dropped.is_err() && on.loads() == loads);
    assert_eq!(on.get(&session, 2).await.rung, Rung::Local);
}
