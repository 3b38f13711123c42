//! What each older strategy shows, what it calls that, and what it breaks.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Cluster, Shared};
use highwater::{Read, Rung, Session, Strategy};
use std::time::Duration;
use tokio::time::sleep;

const LIFE: Duration = Duration::from_secs(60);

/// An instance whose cache answers by `strategy`.
async fn by(strategy: Strategy, cluster: &Cluster, shared: Option<&Shared>) -> Instance {
    let mut instance = match shared {
        Some(shared) => Instance::sharing(cluster, shared).await,
        None => Instance::over(cluster).await,
    };
    let users = Users { loads: instance.loads.clone(), ..Users::default() };
    let cache = instance.store.cache("users", users).time_to_live(LIFE).strategy(strategy);
    instance.users = if shared.is_some() { cache.shared() } else { cache }.build().unwrap();
    instance
}

fn told(read: &Read<String>) -> (Option<&str>, Rung, bool) {
    (read.value.as_deref().map(String::as_str), read.rung, read.stale)
}

#[tokio::test(start_paused = true)]
async fn only_positions_and_the_primary_show_what_was_just_written() {
    let right = [Strategy::Position, Strategy::PositionByTags, Strategy::PositionUncached, Strategy::Primary];
    let wrong = [
        Strategy::AnyReplica,
        Strategy::StickyReplica,
        Strategy::PrimaryAfterWrite(Duration::from_millis(200)),
        Strategy::TimeToLive,
        Strategy::DeleteOnWrite,
    ];
    for (strategy, is_right) in right.map(|it| (it, true)).into_iter().chain(wrong.map(|it| (it, false))) {
        let cluster = cluster(2);
        let instance = by(strategy, &cluster, None).await;
        let session = Session::new();
        cluster.pause(1, true);
        cluster.pause(2, true);
        instance.write(&session, 1, "grace").await;
        sleep(Duration::from_secs(1)).await;
        let read = instance.get(&session, 1).await;
        let expected =
            if is_right { (Some("grace"), Rung::Primary, false) } else { (Some("ada"), Rung::Replica, true) };
        assert_eq!(told(&read), expected, "{strategy:?}");
        let stranger = instance.get(&Session::new(), 1).await;
        assert!(!stranger.stale, "{strategy:?} breaks nothing for who asks for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_holds_as_long_as_it_lasts() {
    let cluster = cluster(1);
    let instance = by(Strategy::PrimaryAfterWrite(Duration::from_secs(1)), &cluster, None).await;
    let session = Session::new();
    assert_eq!(instance.get(&session, 1).await.rung, Rung::Replica);
    instance.write(&session, 1, "grace").await;
    assert_eq!(told(&instance.get(&session, 1).await), (Some("grace"), Rung::Primary, false));
    assert_eq!(instance.get(&Session::new(), 1).await.rung, Rung::Replica);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&instance.get(&session, 1).await), (Some("grace"), Rung::Replica, false));
}

#[tokio::test(start_paused = true)]
async fn who_sticks_does_not_go_back_and_who_does_not_does() {
    for (strategy, goes_back) in [(Strategy::StickyReplica, false), (Strategy::AnyReplica, true)] {
        let cluster = cluster(2);
        let instance = by(strategy, &cluster, None).await;
        cluster.pause(2, true);
        cluster.put("users", 1, "grace".to_owned());
        sleep(Duration::from_secs(1)).await;
        for _ in 0..2 {
            let session = Session::new();
            let mut seen = Vec::new();
            for _ in 0..4 {
                seen.push(instance.name(&session, 1).await.unwrap());
            }
            let changed = seen.windows(2).any(|two| two[0] != two[1]);
            assert_eq!(changed, goes_back, "{strategy:?} showed {seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_lives_as_long_as_it_was_told_to() {
    let cluster = cluster(1);
    let instance = by(Strategy::TimeToLive, &cluster, None).await;
    let session = Session::new();
    instance.get(&session, 1).await;
    instance.write(&session, 1, "grace").await;
    sleep(LIFE / 2).await;
    assert_eq!(told(&instance.get(&session, 1).await), (Some("ada"), Rung::Local, true));
    sleep(LIFE / 2).await;
    assert_eq!(told(&instance.get(&session, 1).await), (Some("grace"), Rung::Replica, false));
    let stats = instance.users.stats();
    assert_eq!((stats.misses_absent, stats.misses_expired, stats.stale_labelled), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_reaches_every_instance_and_a_stale_refill_stays() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let one = by(Strategy::DeleteOnWrite, &cluster, Some(&shared)).await;
    let two = by(Strategy::DeleteOnWrite, &cluster, Some(&shared)).await;
    let (writer, reader) = (Session::new(), Session::new());
    two.get(&reader, 1).await;
    assert_eq!(two.get(&reader, 1).await.rung, Rung::Local);
    one.write(&writer, 1, "grace").await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(two.name(&reader, 1).await.as_deref(), Some("grace"));
    assert_eq!(two.users.stats().misses_retracted, 1);
    cluster.pause(1, true);
    one.write(&writer, 1, "joan").await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(told(&two.get(&writer, 1).await), (Some("grace"), Rung::Replica, true));
    cluster.pause(1, false);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(told(&two.get(&writer, 1).await), (Some("grace"), Rung::Local, true), "for a whole time to live");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_through_is_there_at_once_and_nowhere_else() {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let one = by(Strategy::WriteThrough, &cluster, Some(&shared)).await;
    let two = by(Strategy::WriteThrough, &cluster, Some(&shared)).await;
    let three = by(Strategy::WriteThrough, &cluster, Some(&shared)).await;
    let session = Session::new();
    two.get(&session, 1).await;
    let mut tx = one.begin(&session).await;
    tx.put("users", 1_u64, "grace".to_owned()).await.unwrap();
    tx.retract(&one.users, &1);
    let receipt = tx.commit().await.unwrap();
    one.users.write_through(&1, Some("grace".to_owned()), &receipt).await.unwrap();
    assert_eq!(told(&one.get(&session, 1).await), (Some("grace"), Rung::Local, true));
    assert_eq!(told(&two.get(&session, 1).await), (Some("ada"), Rung::Local, true));
    let read = three.get(&session, 1).await;
    assert_eq!(told(&read), (Some("grace"), Rung::Shared, true));
    assert_eq!(read.position.lsn, highwater::Lsn::ZERO, "nobody knows what it reflects");
}

#[tokio::test(start_paused = true)]
async fn what_proves_nothing_is_never_found_by_a_cache_that_goes_by_position() {
    for strategy in [Strategy::TimeToLive, Strategy::DeleteOnWrite, Strategy::WriteThrough] {
        let (cluster, shared) = (cluster(1), Shared::new(1));
        let older = by(strategy, &cluster, Some(&shared)).await;
        let ours = by(Strategy::Position, &cluster, Some(&shared)).await;
        let session = Session::new();
        older.get(&session, 1).await;
        let receipt = {
            let mut tx = older.begin(&session).await;
            tx.put("users", 1_u64, "grace".to_owned()).await.unwrap();
            tx.retract(&older.users, &1);
            tx.commit().await.unwrap()
        };
        older.users.write_through(&1, Some("a lie".to_owned()), &receipt).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        let read = ours.get(&session, 1).await;
        assert_eq!(told(&read), (Some("grace"), Rung::Replica, false), "{strategy:?}");
    }
}
