//! The log's record on a real server: which log it is, what it holds, and for how long.

use crate::{MINUTE, entry, notice, offer, opened, pulse};
use highwater::devices::{DeviceStore, Exchange, RedisDevices};
use highwater::ledger::{Announcement, Beat, Ledger, Lineage, Pulse, RedisLedger, Settlement, Subscription};
use highwater::testkit::{RedisCluster, RedisServer};
use highwater::tier::SharedTier;
use highwater::{Digest, Lsn, RedisLink, RedisSettings};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const LOG: &str = "shop:log";
const HOUR_MS: u64 = 3_600_000;

async fn ledger_on(server: &RedisServer) -> RedisLedger {
    opened(server.url()).await.unwrap().1
}

fn announcement(number: u64, lease: Duration) -> Announcement {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Announcement { id, notice: notice(50, &[number]), xid: None, lease, renews: false }
}

fn settlement(number: u64, flush: u64) -> Option<Settlement> {
    Some(Settlement { id: announcement(number, MINUTE).id, flush: Lsn::new(flush) })
}

async fn beat(ledger: &RedisLedger, flush: u64) -> Beat {
    ledger.beat(1, Pulse { history: 0xAB, flush: Lsn::new(flush), ..pulse(0) }).await.unwrap()
}

async fn admin<T: redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut connection = server.connect().await.unwrap();
    let (verb, args) = words.split_first().unwrap();
    redis::cmd(verb).arg(args).query_async(&mut connection).await.unwrap()
}

/// Lets a time in a field of the record, eight bytes from `at` on, be `change`d.
async fn change_time(server: &RedisServer, field: &str, at: usize, change: impl Fn(u64) -> u64) {
    let mut bytes: Vec<u8> = admin(server, &["HGET", LOG, field]).await;
    let time = change(u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()));
    bytes[at..at + 8].copy_from_slice(&time.to_be_bytes());
    let mut connection = server.connect().await.unwrap();
    redis::cmd("HSET").arg(LOG).arg(field).arg(bytes).exec_async(&mut connection).await.unwrap();
}

/// Announces, once that is answered at all: a link comes back on its own time.
async fn lineage_of(ledger: &RedisLedger, number: u64) -> Lineage {
    for _ in 0..500 {
        if let Ok(announced) = ledger.announce(&announcement(number, MINUTE)).await {
            return announced.unwrap();
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing is announced any more");
}

/// What the log holds is the same each time; only who holds it is another, or has been something else meanwhile.
#[tokio::test]
async fn a_log_that_anything_may_have_been_lost_of_is_another_one() {
    let primary = RedisServer::start().await.unwrap();
    let replica = RedisServer::builder().replica_of(&primary).start().await.unwrap();
    let (ledger, other) = (ledger_on(&primary).await, ledger_on(&replica).await);
    let mut seen = vec![lineage_of(&ledger, 1).await];
    ledger.retract(&notice(60, &[1]), MINUTE, None).await.unwrap();
    assert_eq!(lineage_of(&ledger, 2).await, seen[0], "nothing has happened");
    while admin::<Option<String>>(&replica, &["HGET", LOG, "seq"]).await.as_deref() != Some("1") {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.announce(&announcement(3, MINUTE)).await.unwrap(), None, "a replica takes nothing");
    let mut number = 10;
    let mut note = async |what: &str, ledger: &RedisLedger, vouches: bool| {
        number += 1;
        let lineage = lineage_of(ledger, number).await;
        assert!(!seen.contains(&lineage), "{what}: {lineage:?} {seen:?}");
        // What was announced before stands there, too, where it was not lost, and is vouched for by another log.
        let settled = ledger.retract(&notice(70, &[1]), MINUTE, settlement(1, 60)).await.unwrap();
        assert_eq!(settled.vouched_by, vouches.then_some(lineage), "{what}");
        assert_eq!(ledger.repair(seen[0], 1).await.unwrap(), None, "{what}");
        seen.push(lineage);
    };
    replica.promote().await.unwrap();
    note("a replica is promoted", &other, true).await;
    admin::<()>(&primary, &["SAVE"]).await;
    primary.kill().await.unwrap();
    primary.start_again().await.unwrap();
    note("the server is started again, with all that it held", &ledger, true).await;
    admin::<()>(&primary, &["REPLICAOF", "127.0.0.1", "1"]).await;
    primary.promote().await.unwrap();
    note("it was told to be a replica, and then not to", &ledger, false).await;
    primary.kill().await.unwrap();
    primary.start_again().await.unwrap();
    note("it falls back to an older copy", &ledger, true).await;
    admin::<()>(&primary, &["DEL", LOG]).await;
    note("the log is deleted", &ledger, false).await;
}

/// As with its slot of a cluster. What comes back may be older than what it was elsewhere, and where it came from may be gone.
#[tokio::test]
async fn a_log_that_comes_back_from_another_server_is_another_one() {
    let (here, there) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    let (ledger, other) = (ledger_on(&here).await, ledger_on(&there).await);
    let moved = async |from: &RedisServer, to: &RedisServer| {
        let port = to.port().to_string();
        admin::<()>(from, &["MIGRATE", "127.0.0.1", &port, LOG, "0", "5000", "REPLACE"]).await;
    };
    let first = lineage_of(&ledger, 1).await;
    moved(&here, &there).await;
    let elsewhere = lineage_of(&other, 2).await;
    moved(&there, &here).await;
    let back = lineage_of(&ledger, 3).await;
    assert!(first != elsewhere && elsewhere != back && back != first, "{first:?} {elsewhere:?} {back:?}");
    assert_eq!(lineage_of(&ledger, 4).await, back, "nothing has happened");
    assert_eq!(beat(&ledger, 90).await.open, 4, "what was announced is still waited for");
}

/// The clock by which leases are measured is that of the server, which may be set back, and differ from that of the server which
/// takes over.
#[tokio::test]
async fn a_clock_that_is_set_back_holds_nobody_for_longer_than_the_lease() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_on(&server).await;
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.announce(&announcement(1, MINUTE)).await.unwrap().unwrap();
    assert_eq!(beat(&ledger, 90).await.open, 1);
    change_time(&server, "p", 32, |until| until + HOUR_MS).await;
    let beat = beat(&ledger, 90).await;
    assert_eq!((beat.given_up, beat.abandoned.len(), beat.open), (1, 1, 0));
    for expected in [50, 90] {
        let message = timeout(Duration::from_secs(5), subscription.next()).await.unwrap().unwrap();
        assert_eq!(message[28..36], u64::to_be_bytes(expected));
    }
}

/// Whoever is told that a writer is gone may die of the same, or never get the answer.
#[tokio::test]
async fn of_a_writer_that_is_gone_is_told_twice_at_most_and_not_where_it_came_back() {
    let server = RedisServer::start().await.unwrap();
    let ledger = ledger_on(&server).await;
    let short = Duration::from_millis(1);
    let (gone, back) = (announcement(1, short), announcement(2, short));
    for announcement in [&gone, &back] {
        ledger.announce(announcement).await.unwrap().unwrap();
    }
    sleep(Duration::from_millis(20)).await;
    let first = beat(&ledger, 90).await;
    assert_eq!((first.given_up, first.abandoned.len()), (2, 2));
    let second = beat(&ledger, 90).await;
    assert_eq!((second.given_up, second.abandoned.len()), (0, 0), "somebody was told a moment ago");
    ledger.retract(&notice(60, &[2]), MINUTE, settlement(2, 90)).await.unwrap();
    change_time(&server, "g", 16, |again| again - 10_000).await;
    let told = ledger.retract(&notice(60, &[3]), MINUTE, None).await.unwrap();
    assert_eq!((told.given_up, told.abandoned), (0, vec![first.abandoned[0].clone()]));
    for _ in 0..2 {
        assert_eq!(beat(&ledger, 90).await.abandoned, Vec::<Vec<u8>>::new());
    }
    let left: Vec<Vec<u8>> = admin(&server, &["HKEYS", LOG]).await;
    assert!(left.iter().all(|field| !field.starts_with(b"a")), "{left:?}");
}

/// Instances come and go, writers die, histories follow each other.
#[tokio::test]
async fn what_the_log_holds_is_bounded() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    tier.admit((0..10).map(|number| offer(number, entry(1))).collect()).await.unwrap();
    let mut open = 0;
    for number in 0..300 {
        let announced = ledger.announce(&announcement(number, Duration::from_millis(1_500))).await.unwrap();
        open += u64::from(announced.is_some());
    }
    assert_eq!(open, 256);
    for number in 300..400 {
        ledger.withdraw(announcement(number, MINUTE).id).await.unwrap();
    }
    for history in 1..20 {
        ledger.beat(1, Pulse { history, ..pulse(0) }).await.unwrap();
    }
    for number in 0..1_100 {
        ledger.retract(&notice(60 + number, &[number]), MINUTE, None).await.unwrap();
    }
    let record = async || -> BTreeMap<Vec<u8>, Vec<u8>> { admin(&server, &["HGETALL", LOG]).await };
    let sizes = |record: &BTreeMap<Vec<u8>, Vec<u8>>| ["w", "p", "n", "g"].map(|field| record[field.as_bytes()].len());
    sleep(Duration::from_millis(1_600)).await;
    let told = beat(&ledger, 90).await.abandoned.len();
    // Some may have been given up while the others were announced.
    println!("{told} of them are told with the last heartbeat");
    let (before, ids) = (record().await, |record: &BTreeMap<Vec<u8>, Vec<u8>>| {
        record.keys().filter(|field| field.starts_with(b"a")).count()
    });
    assert_eq!(sizes(&before), [8 * 16, 0, 64 * 16, 256 * 24]);
    assert_eq!((ids(&before), before.len()), (256, 8 + 256 + 1_024));
    // More are given up than there is room for.
    for number in 500..600 {
        ledger.announce(&announcement(number, Duration::from_millis(1))).await.unwrap();
    }
    sleep(Duration::from_millis(20)).await;
    assert_eq!(beat(&ledger, 90).await.abandoned.len(), 100);
    let after = record().await;
    assert_eq!((sizes(&after), ids(&after)), ([8 * 16, 0, 64 * 16, 256 * 24], 256));
    let link = RedisLink::connect(RedisSettings::new(server.url()).namespace("shop")).await.unwrap();
    let devices = RedisDevices::open(link).await.unwrap();
    let exchange = Exchange { record: b"HWD\x01\0\0".to_vec(), from: Vec::new(), life: MINUTE, disbelieved: None };
    devices.exchange(Digest::of_user(b"7"), exchange).await.unwrap();
    let names: Vec<String> = admin(&server, &["KEYS", "*"]).await;
    assert!(names.iter().any(|name| name.starts_with("shop:d:")), "{names:?}");
    for name in names {
        let life: i64 = admin(&server, &["PTTL", &name]).await;
        let (stays, is_gone) = (life == -1, life == -2);
        assert_eq!(stays, [LOG, "shop:devices"].contains(&&name[..]), "{name}");
        assert!(stays || is_gone || life <= 60_000, "{name} lives for {life} ms");
    }
}

/// Runs every script there is.
async fn use_all(link: RedisSettings, lose: impl AsyncFn()) {
    let (tier, ledger) = opened(link.clone()).await.unwrap();
    let devices = RedisDevices::open(RedisLink::connect(link.namespace("shop")).await.unwrap()).await.unwrap();
    for round in 1..=2 {
        lose().await;
        let lineage = ledger.announce(&announcement(round, MINUTE)).await.unwrap().unwrap();
        lose().await;
        let more = Announcement { renews: true, ..announcement(round, MINUTE) };
        assert_eq!(ledger.announce(&more).await.unwrap(), Some(lineage));
        lose().await;
        let told = ledger.retract(&notice(60, &[7, 8, 9]), MINUTE, settlement(round, 90)).await.unwrap();
        assert_eq!(told.vouched_by, Some(lineage));
        lose().await;
        assert_eq!(ledger.repair(lineage, round - 1).await.unwrap().map(|messages| messages.len()), Some(1));
        lose().await;
        ledger.withdraw(announcement(round + 10, MINUTE).id).await.unwrap();
        lose().await;
        assert_eq!(beat(&ledger, 90).await.open, 0);
        lose().await;
        tier.admit((0..30).map(|number| offer(number, entry(100 + round))).collect()).await.unwrap();
        lose().await;
        let look = Exchange { record: vec![], from: vec![], life: MINUTE, disbelieved: None };
        devices.exchange(Digest::of_user(b"1"), look).await.unwrap();
    }
}

#[tokio::test]
async fn every_script_is_sent_again_where_it_was_lost() {
    let server = RedisServer::start().await.unwrap();
    use_all(RedisSettings::new(server.url()), async || admin(&server, &["SCRIPT", "FLUSH"]).await).await;
    let cluster = RedisCluster::start().await.unwrap();
    let lose = async || {
        for server in cluster.servers() {
            admin::<()>(server, &["SCRIPT", "FLUSH"]).await;
        }
    };
    use_all(RedisSettings::cluster(cluster.urls()), lose).await;
}
