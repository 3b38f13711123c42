//! How soon the watermark covers a write, and for how long anybody can hold it back. In virtual time.

use crate::support::{Instance, Users, cluster};
use highwater::memory::{Call, Cluster, Fate, Line, Shared, Way};
use highwater::{Lsn, Session, Settings};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};

const MS: Duration = Duration::from_millis(1);

/// Two instances, of which one writes and the other looks on.
async fn pair() -> (Cluster, Shared, Arc<Instance>, Arc<Instance>) {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Arc::new(Instance::sharing(&cluster, &shared.client(1)).await);
    let two = Arc::new(Instance::sharing(&cluster, &shared.client(2)).await);
    (cluster, shared, one, two)
}

/// Waits until `instance` knows of everything up to `position`, and tells how long that took.
async fn covered(instance: &Instance, position: Lsn) -> Duration {
    let since = Instant::now();
    while instance.store.stats().watermark.unwrap().position < Some(position) {
        assert!(since.elapsed() < Duration::from_secs(30), "it is never covered");
        sleep(MS).await;
    }
    since.elapsed()
}

/// Writes for five seconds, a hundred times a second, and returns how long each transaction took and how long it was until
/// the other instance had covered it.
async fn load(one: &Arc<Instance>, two: &Arc<Instance>) -> (Vec<Duration>, Vec<Duration>) {
    let mut due = interval(Duration::from_millis(10));
    let mut writes = Vec::new();
    for number in 0..500 {
        due.tick().await;
        let (one, two) = (Arc::clone(one), Arc::clone(two));
        writes.push(tokio::spawn(async move {
            let begun = Instant::now();
            let mut tx = one.begin(&Session::new()).await;
            tx.retract(&one.users, &number);
            tx.put("users", number, "grace".to_owned()).await.unwrap();
            let receipt = tx.commit().await.unwrap();
            (begun.elapsed(), covered(&two, receipt.position.lsn).await)
        }));
    }
    let mut held = Vec::new();
    for write in writes {
        held.push(write.await.unwrap());
    }
    held.into_iter().unzip()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    *times.get(times.len() * 99 / 100).unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_another_write_it_covers_the_last_within_a_tenth_of_a_second() {
    let (cluster, _shared, one, two) = pair().await;
    // What is flushed only afterwards is not covered by its own settlement.
    cluster.set_wal_writer_delay(Duration::from_millis(30));
    for (instance, is_flushed) in [(&one, true), (&two, true), (&one, false), (&two, false)] {
        sleep(Duration::from_millis(3_100)).await;
        let mut tx = one.begin(&Session::new()).await;
        tx.put("users", 1, "grace".to_owned()).await.unwrap();
        if !is_flushed {
            tx.commit_asynchronously();
        }
        tx.retract(&one.users, &1);
        let receipt = tx.commit().await.unwrap();
        let took = covered(instance, receipt.position.lsn).await;
        println!("covered after {took:?}");
        assert!(took <= Duration::from_millis(100) && (is_flushed || took >= Duration::from_millis(30)), "{took:?}");
    }
}

/// Nobody else writes, whose settlement would find the lease over.
#[tokio::test(start_paused = true)]
async fn who_dies_holds_one_write_back_for_no_longer_than_the_lease() {
    for offset in [0, 300, 600, 900] {
        let (cluster, shared, one, two) = pair().await;
        let three = Instance::sharing(&cluster, &shared.client(3)).await;
        sleep(offset * MS).await;
        let mut dead = three.begin(&Session::new()).await;
        dead.retract(&three.users, &9_001);
        sleep(MS).await;
        shared.cut_off(3, true);
        let mut tx = one.begin(&Session::new()).await;
        tx.retract(&one.users, &1);
        tx.put("users", 1, "grace".to_owned()).await.unwrap();
        let receipt = tx.commit().await.unwrap();
        let took = covered(&two, receipt.position.lsn).await;
        println!("covered after {took:?}");
        assert!(took > Duration::from_secs(1) && took <= Duration::from_millis(1_600), "{took:?}");
    }
}

/// What was settled before the primary was set back lies above all that is written for a long time.
#[tokio::test(start_paused = true)]
async fn nobody_pushes_it_over_what_was_settled_in_another_history() {
    let (cluster, shared, one, _two) = pair().await;
    let backup = cluster.backup(0);
    for id in 2..200 {
        cluster.put("users", id, "somebody".to_owned());
    }
    one.write(&Session::new(), 1, "lost").await;
    sleep(Duration::from_secs(1)).await;
    cluster.restore(0, &backup);
    sleep(Duration::from_secs(5)).await;
    assert_ne!(one.store.history().generation(), 0, "noticed");
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    shared.set_line(Line::new(move |client, call, way| {
        counted.fetch_add(usize::from((client, call, way) == (1, Call::Beat, Way::There)), Ordering::SeqCst);
        Fate::Pass(Duration::ZERO)
    }));
    one.write(&Session::new(), 1, "kept").await;
    sleep(Duration::from_millis(500)).await;
    let beats = beats.load(Ordering::SeqCst);
    assert!(beats <= 2, "{beats}");
}

#[tokio::test(start_paused = true)]
async fn under_load_it_follows_within_three_times_what_a_transaction_takes() {
    let (cluster, _shared, one, two) = pair().await;
    cluster.set_commit_pace(Duration::from_millis(5), Duration::from_millis(10));
    let (held, covered) = load(&one, &two).await;
    let (held, covered) = (p99(held), p99(covered));
    println!("p99: transactions {held:?}, covered {covered:?} after");
    assert!(held >= 5 * MS && covered <= 3 * held, "{held:?} {covered:?}");
}

/// Of a writer that died nobody can ask, where it announced itself before it had written anything.
#[tokio::test(start_paused = true)]
async fn what_had_not_written_when_it_was_announced_is_retracted_once_more_when_it_must_be_over() {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let settings = Settings { resolve_time_max: Duration::from_secs(5), ..Settings::default() };
    let two = Instance::with(&cluster, Some(shared.client(2)), settings, Users::default()).await;
    let anybody = Session::new();
    let mut tx = one.begin(&anybody).await;
    tx.retract(&one.users, &1);
    sleep(5 * MS).await;
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    shared.cut_off(1, true);
    sleep(3_500 * MS).await;
    assert_eq!(two.store.stats().counts.abandoned, 1);
    // The primary stands still, and what was filled before it is nudged is not kept.
    for _ in 0..2 {
        assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("ada"), "it is not over");
        sleep(100 * MS).await;
    }
    assert!(!tx.commit().await.unwrap().told);
    assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("ada"), "nobody told");
    sleep(4 * Duration::from_secs(1)).await;
    assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn who_dawdles_or_dies_holds_it_back_for_no_longer_than_the_lease() {
    let (cluster, shared, one, two) = pair().await;
    let three = Instance::sharing(&cluster, &shared.client(3)).await;
    let mut slow = one.begin(&Session::new()).await;
    slow.put("users", 9_000, "slow".to_owned()).await.unwrap();
    slow.retract(&one.users, &9_000);
    cluster.set_commit_pace(Duration::from_millis(5), Duration::from_millis(10));
    let mut dead = three.begin(&Session::new()).await;
    dead.put("users", 9_001, "dead".to_owned()).await.unwrap();
    dead.retract(&three.users, &9_001);
    sleep(MS).await;
    shared.cut_off(3, true);
    drop(dead);
    let (_, covered) = load(&one, &two).await;
    let longest = covered.iter().max().unwrap();
    println!("at most {longest:?}");
    assert!(*longest > Duration::from_secs(1) && *longest <= Duration::from_secs(2), "{longest:?}");
    // Late, and so pinned: nothing that was filled before answers its session.
    let (session, counts) = (Session::new(), two.store.stats().counts);
    assert!(counts.abandoned + one.store.stats().counts.abandoned >= 1, "{counts:?}");
    slow.commit().await.unwrap();
    assert_eq!(two.name(&session, 9_000).await.as_deref(), Some("slow"));
}

/// An instance hears nothing for a time, in which the log is lost, and the next one numbers what it is told as that one did.
#[tokio::test(start_paused = true)]
async fn what_was_retracted_in_a_log_that_was_lost_is_not_taken_for_what_followed() {
    let (cluster, shared, one, two) = pair().await;
    cluster.put("users", 8, "so that the log moves on".to_owned());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(two.name(&Session::new(), 1).await.as_deref(), Some("ada"));
    one.write(&Session::new(), 3, "before").await;
    sleep(100 * MS).await;
    let session = Session::new();
    shared.deafen(2, true);
    one.write(&session, 1, "grace").await;
    shared.wipe();
    for id in 4..10 {
        one.write(&Session::new(), id, "after").await;
    }
    shared.deafen(2, false);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(two.name(&session, 1).await.as_deref(), Some("grace"));
}

#[tokio::test(start_paused = true)]
async fn writes_that_were_committed_unannounced_are_counted_and_no_others() {
    let (_cluster, shared, one, _two) = pair().await;
    let unannounced = || one.store.stats().counts.unannounced;
    one.write(&Session::new(), 1, "grace").await;
    assert_eq!(unannounced(), 0);
    let tx = one.begin(&Session::new()).await;
    tx.put("users", 1, "nameless".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(unannounced(), 1);
    shared.set_down(true);
    let mut tx = one.begin(&Session::new()).await;
    tx.retract(&one.users, &1);
    sleep(Duration::from_secs(2)).await;
    tx.rollback().await;
    assert_eq!(unannounced(), 1, "it was not committed");
    let mut tx = one.begin(&Session::new()).await;
    tx.retract(&one.users, &1);
    sleep(Duration::from_secs(2)).await;
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(unannounced(), 2, "once, though it was tried twice");
}

#[tokio::test(start_paused = true)]
async fn for_how_long_it_has_stood_is_told_however_long_that_is() {
    let (_cluster, shared, one, two) = pair().await;
    shared.cut_off(2, true);
    for _ in 0..600 {
        one.write(&Session::new(), 1, "grace").await;
        sleep(Duration::from_secs(1)).await;
    }
    let lag = two.store.stats().watermark.unwrap().lag.unwrap();
    assert!(lag > Duration::from_secs(550) && lag < Duration::from_secs(610), "{lag:?}");
}
