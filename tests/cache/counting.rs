//! Every figure that `stats()` names moves when what it counts happens.

use crate::support::{Instance, Users, cluster};
use futures_util::future::join_all;
use highwater::memory::{Call, Delivery, Fate, Line, Network, Shared, Step, Way};
use highwater::source::Role;
use highwater::{BusState, Fallback, Freshness, Highwater, Lsn, ReadOptions, Retraction, Session, Settings};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// The names of the figures that are not zero, and of all.
#[derive(Default)]
struct Moved(BTreeSet<String>, BTreeSet<String>);

impl Moved {
    /// Takes in the figures as they are printed: `{ name: number, .. }`.
    fn note(&mut self, instance: &Instance) {
        for printed in [format!("{:?}", instance.store.stats().counts), format!("{:?}", instance.users.stats())] {
            let (_, fields) = printed.split_once('{').unwrap();
            for (name, count) in
                fields.trim_end_matches([' ', '}']).split(',').filter_map(|field| field.split_once(':'))
            {
                self.1.insert(name.trim().to_owned());
                if count.trim() != "0" {
                    self.0.insert(name.trim().to_owned());
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_counter_moves() {
    let mut moved = Moved::default();
    rungs_and_misses(&mut moved).await;
    behind(&mut moved).await;
    refused(&mut moved).await;
    redis_away(&mut moved).await;
    crowded(&mut moved).await;
    watermark(&mut moved).await;
    replaced(&mut moved).await;
    crashed(&mut moved).await;
    unknown(&mut moved).await;
    let Moved(moved, all) = moved;
    assert!(all.len() > 30, "{all:?}");
    assert_eq!(moved, all, "these never moved: {:?}", all.difference(&moved).collect::<Vec<_>>());
}

async fn rungs_and_misses(moved: &mut Moved) {
    let (cluster, shared) = (cluster(1), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let two = Instance::sharing(&cluster, &shared.client(2)).await;
    let (anybody, writer) = (Session::new(), Session::new());
    one.get(&anybody, 1).await;
    one.get(&anybody, 1).await;
    sleep(Duration::from_millis(10)).await;
    two.get(&anybody, 1).await;
    one.users.get_with(&anybody, &1, &ReadOptions::fresh(Freshness::Latest)).await.unwrap();
    let stats = one.users.stats();
    assert_eq!((stats.misses_absent, stats.hits_local), (1, 1), "{stats:?}");
    assert_eq!((stats.loads_replica, stats.loads_primary, stats.misses_below_floor), (1, 1, 1), "{stats:?}");
    assert_eq!(two.users.stats().hits_shared, 1);
    // What a plain session filled has no upper bound that a monotonic one could remember.
    two.get(&Session::monotonic(), 1).await;
    assert_eq!(two.users.stats().misses_not_monotonic, 1);
    one.write(&writer, 1, "grace").await;
    sleep(Duration::from_millis(10)).await;
    two.get(&anybody, 1).await;
    assert_eq!(two.users.stats().misses_retracted, 1);
    let (told, heard) = (one.store.stats().counts, two.store.stats().counts);
    assert_eq!((told.commits, told.retractions_told, heard.retractions_heard), (1, 1, 1));
    sleep(Duration::from_secs(61)).await;
    two.get(&anybody, 1).await;
    assert_eq!(two.users.stats().misses_expired, 1);
    let tx = one.begin(&writer).await;
    tx.insert("users", 1, "twice".to_owned()).await.unwrap_err();
    tx.commit().await.unwrap_err();
    assert_eq!(one.store.stats().counts.rollbacks, 1);
    // A row of another type than the loader expects.
    cluster.put("users", 5, 5_u64);
    sleep(Duration::from_millis(10)).await;
    one.users.get(&anybody, &5).await.unwrap_err();
    assert_eq!(one.users.stats().load_errors, 1);
    shared.tamper(|_, bytes| bytes.iter_mut().skip(60).for_each(|byte| *byte ^= 1));
    Instance::sharing(&cluster, &shared.client(3)).await.get(&anybody, 1).await;
    moved.note(&one);
    moved.note(&two);
    let three = Instance::sharing(&cluster, &shared.client(4)).await;
    one.get(&anybody, 1).await;
    sleep(Duration::from_millis(10)).await;
    shared.tamper(|_, bytes| bytes.iter_mut().skip(60).for_each(|byte| *byte ^= 1));
    three.get(&anybody, 1).await;
    assert_eq!(three.users.stats().undecodable, 1);
    moved.note(&three);
}

/// Replicas that are behind, believed wrongly, or cancel what is asked.
async fn behind(moved: &mut Moved) {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.pause(1, true);
    instance.write(&session, 1, "grace").await;
    for fallback in [Fallback::Primary, Fallback::Stale, Fallback::Error] {
        let options = ReadOptions::default().or_else(fallback);
        let _ = instance.users.get_with(&session, &if fallback == Fallback::Primary { 1 } else { 2 }, &options).await;
    }
    let counts = instance.store.stats().counts;
    assert_eq!((counts.waits, counts.fallbacks_primary), (3, 1), "{counts:?}");
    assert_eq!((counts.fallbacks_stale, counts.fallbacks_error), (1, 1), "{counts:?}");
    assert_eq!(instance.users.stats().stale_labelled, 1);
    cluster.lie(1, |mut probe| {
        if let Role::Standby { replay, .. } = &mut probe.role {
            *replay = Lsn::new(u64::MAX >> 1);
        }
        probe
    });
    sleep(Duration::from_secs(1)).await;
    instance.get(&session, 3).await;
    assert_eq!(instance.store.stats().counts.disbelieved, 1);
    cluster.tell_the_truth(1);
    cluster.pause(1, false);
    cluster.conflict(1);
    sleep(Duration::from_secs(1)).await;
    instance.get(&Session::new(), 4).await;
    assert_eq!(instance.store.stats().counts.retries, 1);
    moved.note(&instance);
}

/// What the watermark covers, and what holds it back.
async fn watermark(moved: &mut Moved) {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let two = Instance::sharing(&cluster, &shared.client(2)).await;
    let (anybody, writer) = (Session::new(), Session::new());
    // What is filled on the primary is tagged just below its log's end, and only what lies above the epoch's start is extended.
    one.write(&anybody, 1, "ada").await;
    one.get(&anybody, 2).await;
    one.write(&writer, 1, "grace").await;
    sleep(Duration::from_millis(100)).await;
    one.get(&writer, 2).await;
    let (stats, watermark) = (one.users.stats(), one.store.stats().watermark.unwrap());
    assert_eq!((stats.hits_local, stats.hits_extended), (1, 1));
    assert!(watermark.position > Some(Lsn::ZERO) && watermark.lag == Some(Duration::ZERO), "{watermark:?}");
    assert_eq!((watermark.lag_bytes, watermark.announced), (Some(0), 0));
    // The message that tells of it takes a while.
    shared.set_delivery(Delivery::new(|_, _| vec![Duration::from_millis(1)]));
    one.write(&writer, 1, "joan").await;
    one.get(&writer, 2).await;
    assert_eq!(one.users.stats().hits_awaited, 1);
    shared.set_delivery(Delivery::default());
    // A writer that is cut off behind its commit.
    cluster.set_commit_pace(Duration::from_millis(100), Duration::from_millis(100));
    let mut tx = one.begin(&writer).await;
    tx.put("users", 2, "joan".to_owned()).await.unwrap();
    tx.retract(&one.users, &2);
    let (committed, ()) = tokio::join!(tx.commit(), async {
        sleep(Duration::from_millis(50)).await;
        shared.cut_off(1, true);
    });
    assert!(!committed.unwrap().told);
    two.write(&Session::new(), 3, "ada").await;
    sleep(Duration::from_millis(600)).await;
    let held = two.store.stats().watermark.unwrap();
    assert!(held.announced == 1 && held.announced_for > Duration::from_millis(200), "{held:?}");
    assert!(held.lag_bytes > Some(0) && held.lag > Some(Duration::ZERO), "{held:?}");
    sleep(Duration::from_secs(2)).await;
    let free = two.store.stats().watermark.unwrap();
    assert_eq!((free.announced, free.announced_for, free.lag_bytes), (0, Duration::ZERO, Some(0)), "{free:?}");
    assert_eq!(two.store.stats().counts.abandoned, 1);
    moved.note(&one);
    moved.note(&two);
}

/// Fills that a retraction overtook, that nobody can take, and that several waited for.
async fn refused(moved: &mut Moved) {
    let cluster = cluster(0);
    let users = Users { delay: Duration::from_millis(50), ..Users::default() };
    let instance = Instance::with(&cluster, None, Settings::default(), users).await;
    let session = Session::new();
    let writing = async {
        sleep(Duration::from_millis(10)).await;
        instance.write(&session, 1, "grace").await;
    };
    let (first, second) = (Session::new(), Session::new());
    tokio::join!(instance.get(&first, 1), instance.get(&second, 1), writing);
    let stats = instance.users.stats();
    assert_eq!((stats.joined, stats.fills_refused), (1, 1), "{stats:?}");
    assert!(instance.store.stats().counts.nudges >= 1, "an idle primary");
    cluster.put("users", 6, format!("{}/ada", "x".repeat(2_000)));
    instance.get(&Session::new(), 6).await;
    assert_eq!(instance.users.stats().fills_oversized, 1, "the group's name is too long to be remembered");
    moved.note(&instance);
}

async fn redis_away(moved: &mut Moved) {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let two = Instance::sharing(&cluster, &shared.client(2)).await;
    let anybody = Session::new();
    two.get(&anybody, 1).await;
    shared.set_delivery(Delivery::new(|_, _| Vec::new()));
    one.write(&Session::new(), 2, "grace").await;
    shared.set_delivery(Delivery::default());
    shared.publish(b"of a stranger");
    sleep(Duration::from_millis(1_500)).await;
    let counts = two.store.stats().counts;
    assert_eq!((counts.gaps, counts.repairs, counts.epochs), (1, 1, 1));
    let before = two.store.stats().deaf_time;
    shared.set_down(true);
    one.write(&Session::new(), 3, "grace").await;
    sleep(Duration::from_secs(10)).await;
    two.get(&anybody, 1).await;
    let (counts, bus) = (two.store.stats().counts, two.store.stats().bus);
    assert_eq!((counts.deaf, bus, two.users.stats().misses_deaf), (1, BusState::Deaf, 1));
    assert!(counts.shared_errors >= 1, "{counts:?}");
    let deaf = two.store.stats().deaf_time - before;
    assert!(deaf > Duration::from_secs(9) && deaf < Duration::from_secs(11), "{deaf:?}");
    assert_eq!(one.store.stats().counts.retractions_deferred, 1);
    one.store.close().await;
    assert_eq!(one.store.stats().counts.retractions_dropped, 1);
    moved.note(&one);
    moved.note(&two);
}

/// More fills at once than a slow shared tier takes.
async fn crowded(moved: &mut Moved) {
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let instance = Instance::sharing(&cluster, &shared).await;
    shared.set_line(Line::new(|_, call, way| match (call, way) {
        (Call::Admit, Way::There) => Fate::Pass(Duration::from_millis(200)),
        _ => Fate::Pass(Duration::ZERO),
    }));
    let session = Session::new();
    join_all((100..500).map(|id| instance.get(&session, id))).await;
    let counts = instance.store.stats().counts;
    assert!(counts.offers_dropped > 0, "{counts:?}");
    moved.note(&instance);
}

async fn replaced(moved: &mut Moved) {
    let cluster = cluster(1);
    let instance = Instance::over(&cluster).await;
    let anybody = Session::new();
    instance.get(&anybody, 1).await;
    cluster.kill(0);
    assert!(cluster.promote(1));
    sleep(Duration::from_secs(2)).await;
    instance.get(&anybody, 1).await;
    assert_eq!(instance.store.stats().counts.replaced, 1);
    assert_eq!(instance.users.stats().misses_other_history, 1);
    moved.note(&instance);
}

async fn crashed(moved: &mut Moved) {
    let cluster = cluster(0);
    let instance = Instance::over(&cluster).await;
    let session = Session::new();
    cluster.write_unflushed(0, 4_000);
    instance.store.capture(&session, Retraction::new()).await.unwrap();
    cluster.crash(0);
    sleep(Duration::from_secs(1)).await;
    instance.get(&session, 1).await;
    let counts = instance.store.stats().counts;
    assert!(counts.crashes >= 1 && counts.tokens_clamped == 1, "{counts:?}");
    moved.note(&instance);
}

async fn unknown(moved: &mut Moved) {
    let cluster = cluster(0);
    let cut = Network::new(|_, step| match step {
        Step::Acknowledge => Fate::Cut,
        _ => Fate::Pass(Duration::ZERO),
    });
    let store = Highwater::over(cluster.source_over(cut)).start().await.unwrap();
    let users = store.cache("users", Users::default()).build().unwrap();
    let tx = store.begin(&Session::new()).await.unwrap();
    tx.put("users", 1, "perhaps".to_owned()).await.unwrap();
    tx.commit().await.unwrap_err();
    assert_eq!(store.stats().counts.unknown_outcomes, 1);
    moved.note(&Instance { store, users, loads: std::sync::Arc::default() });
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_the_servers_moves_with_them() {
    let cluster = cluster(1);
    let slow = Network::new(|_, _| Fate::Pass(Duration::from_millis(3)));
    let store = Highwater::over(cluster.source_over(slow)).start().await.unwrap();
    let users = store.cache("users", Users { delay: Duration::from_millis(200), ..Users::default() }).build().unwrap();
    sleep(Duration::from_secs(1)).await;
    let nodes = store.stats().nodes;
    assert!(nodes.iter().all(|node| node.latency >= Duration::from_millis(3)), "{nodes:?}");
    assert_eq!((nodes[1].lag_bytes, nodes[1].lag, nodes[1].loads), (Some(0), Some(Duration::ZERO), 0), "{nodes:?}");
    cluster.pause(1, true);
    for id in 10..20 {
        cluster.put("users", id, "somebody".to_owned());
    }
    sleep(Duration::from_secs(2)).await;
    let (session, later) = (Session::new(), store.clone());
    let (_, behind) = tokio::join!(users.get(&session, &1), async {
        sleep(Duration::from_millis(100)).await;
        later.stats().nodes
    });
    assert!(behind[0].position > nodes[0].position && behind[1].position == nodes[1].position, "{behind:?}");
    assert!(behind[1].lag_bytes > Some(0) && behind[1].lag > Some(Duration::from_secs(1)), "{behind:?}");
    assert_eq!((behind[0].loads, behind[1].loads), (0, 1), "{behind:?}");
    assert_eq!(store.stats().bus, BusState::None);
    assert_eq!(store.stats().deaf_time, Duration::ZERO);
}

/// Operators are told why nothing that is older is extended any more.
#[tokio::test(start_paused = true)]
async fn every_epoch_that_begins_tells_why() {
    let (log, _guard) = crate::log::Log::begin();
    let (cluster, shared) = (cluster(0), Shared::new(1));
    let backup = cluster.backup(0);
    let one = Instance::sharing(&cluster, &shared.client(1)).await;
    let copy = shared.copy();
    let mut counted = 0;
    let mut told = async |why: &[&str]| {
        sleep(Duration::from_secs(5)).await;
        let text = log.text();
        let begun: Vec<&str> = text.lines().filter(|line| line.contains("\"epoch_begun\"")).skip(counted).collect();
        let reasons: Vec<&str> = begun.iter().filter_map(|line| line.rsplit_once("why=").map(|(_, why)| why)).collect();
        assert_eq!(reasons, why, "{begun:?}");
        counted += begun.len();
        assert_eq!(one.store.stats().counts.epochs, counted as u64);
    };
    told(&["Start"]).await;
    shared.wipe();
    told(&["OtherLog"]).await;
    // So many names that the log does not keep them.
    shared.set_delivery(Delivery::new(|_, _| Vec::new()));
    let mut tx = one.begin(&Session::new()).await;
    for id in 0..300 {
        tx.retract(&one.users, &id);
    }
    tx.put("users", 1, "grace".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    shared.set_delivery(Delivery::default());
    told(&["Missed"]).await;
    one.write(&Session::new(), 1, "joan").await;
    told(&[]).await;
    shared.fall_back(&copy);
    told(&["OtherLog"]).await;
    (0..200).for_each(|id| cluster.put("users", 100 + id, "somebody".to_owned()));
    sleep(Duration::from_secs(1)).await;
    // A gap that the log could fill ended nothing.
    shared.set_delivery(Delivery::new(|_, _| Vec::new()));
    one.write(&Session::new(), 1, "hedy").await;
    shared.set_delivery(Delivery::default());
    told(&[]).await;
    cluster.restore(0, &backup);
    told(&["History"]).await;
}
