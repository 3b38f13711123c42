//! The round trip runs beside the request, and only who needs the answer waits for it.

use crate::support::{Instance, LIFE, USER, Users, cluster};
use highwater::devices::Remembered;
use highwater::memory::{Call, Fate, Line, Shared, Way};
use highwater::{Freshness, ReadOptions, Rung, Session, Strategy};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// A store that takes 20 ms each way, and that is known to have lost nothing.
async fn far_away() -> (Instance, Shared) {
    let (cluster, shared) = (cluster(1), Shared::default());
    let instance = Instance::over(&cluster, shared.clone()).await;
    instance.look().await;
    sleep(LIFE).await;
    instance.look().await;
    shared.set_line(Line::new(|_, call, _| Fate::Pass(if call == Call::Exchange { 20 * MS } else { Duration::ZERO })));
    (instance, shared)
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_what_is_left_of_the_round_trip() {
    let (instance, _) = far_away().await;
    let begun = Instant::now();
    let session = Session::new();
    let visit = instance.devices.visit(&session, USER);
    assert_eq!(begun.elapsed(), Duration::ZERO, "it asks and does not wait");
    sleep(30 * MS).await; // the handler's own work
    let read = instance.read(&session).await.unwrap();
    assert_eq!(read.rung, Rung::Local);
    assert!((40..45).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    instance.read(&session).await.unwrap();
    assert_eq!(visit.remember().await, Remembered::Unchanged);
    assert!(begun.elapsed() < 45 * MS, "once: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_read_without_a_cache_waits_too() {
    let (instance, _) = far_away().await;
    let uncached = instance.store.cache("uncached", Users).strategy(Strategy::PositionUncached).build().unwrap();
    let begun = Instant::now();
    let session = Session::new();
    instance.devices.visit(&session, USER);
    uncached.get(&session, &1).await.unwrap();
    assert!((40..50).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_nothing_and_who_writes_do_not_wait() {
    let (instance, _) = far_away().await;
    let begun = Instant::now();
    let session = Session::new();
    let visit = instance.devices.visit(&session, USER);
    let any = ReadOptions { freshness: Freshness::Any, ..ReadOptions::default() };
    instance.users.get_with(&session, &1, &any).await.unwrap();
    instance.users.get_many(&session, &[1, 1], &any).await.unwrap();
    instance.write(&session, "grace").await;
    assert!(begun.elapsed() < 20 * MS, "{:?}", begun.elapsed());
    assert_eq!(visit.remember().await, Remembered::Stored);
    assert!((80..90).contains(&begun.elapsed().as_millis()), "two round trips: {:?}", begun.elapsed());
    let begun = Instant::now();
    let many = Session::new();
    let read_only = instance.devices.visit(&many, USER);
    assert_eq!(read_only.remember().await, Remembered::Unchanged, "nothing was written, and nobody need know");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    instance.users.get_many(&many, &[1, 1], &ReadOptions::default()).await.unwrap();
    assert!(begun.elapsed() >= 40 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_with_the_reads_deadline_and_with_the_stores_time_out() {
    let (instance, shared) = far_away().await;
    shared.set_line(Line::new(|_, call, way| match (call, way) {
        (Call::Exchange, Way::Back) => Fate::Pass(Duration::from_secs(3600)),
        _ => Fate::Pass(Duration::ZERO),
    }));
    let begun = Instant::now();
    let session = Session::new();
    instance.devices.visit(&session, USER);
    let hasty = ReadOptions { deadline: Some(begun + 10 * MS), ..ReadOptions::default() };
    let error = instance.users.get_with(&session, &1, &hasty).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_timeout() && error.to_string().contains("devices"), "{error}");
    let error = instance.users.get_many(&session, &[1], &hasty).await.unwrap_err();
    assert!(error.as_cache().unwrap().is_timeout(), "{error}");
    assert_eq!(begun.elapsed(), 10 * MS);
    let read = instance.read(&session).await.unwrap();
    assert_eq!(read.rung, Rung::Primary);
    assert!((250..300).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}
