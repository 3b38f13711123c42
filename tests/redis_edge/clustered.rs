//! Keys that are spread over the nodes of a real cluster, whose slots move and whose nodes go away.

use crate::{MINUTE, address, entry, envelope, notice, offer, opened, pulse, refused};
use highwater::Lsn;
use highwater::RedisSettings;
use highwater::ledger::{Announcement, Ledger, RedisLedger, Settlement, Subscription};
use highwater::testkit::{RedisCluster, RedisServer};
use highwater::tier::{RedisTier, SharedTier};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const LOG: &str = "shop:log";

fn settings(cluster: &RedisCluster) -> RedisSettings {
    RedisSettings::cluster(cluster.urls())
}

async fn over(cluster: &RedisCluster) -> (RedisTier, RedisLedger) {
    opened(settings(cluster)).await.unwrap()
}

async fn admin<T: redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut connection = server.connect().await.unwrap();
    let (verb, args) = words.split_first().unwrap();
    redis::cmd(verb).arg(args).query_async(&mut connection).await.unwrap()
}

fn name(number: u64) -> String {
    format!("shop:e:{:016x}:{}", 0xAB, address(number).key)
}

/// Numbers of keys that lie on one server, or that do not.
async fn keys_of(cluster: &RedisCluster, server: usize, lie_there: bool) -> Vec<u64> {
    let mut found = Vec::new();
    for number in 0..30 {
        if (cluster.owner_of(&name(number)).await.unwrap() == server) == lie_there {
            found.push(number);
        }
    }
    found
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(15), "waited for {what}");
        sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

fn announcement(id: u8) -> Announcement {
    Announcement { id: [id; 16], notice: notice(5, &[1]), xid: None, lease: MINUTE, renews: false }
}

fn settlement(id: u8) -> Option<Settlement> {
    Some(Settlement { id: [id; 16], flush: Lsn::new(9) })
}

#[tokio::test]
async fn what_lies_on_all_nodes_is_admitted_and_read_at_once() {
    let cluster = RedisCluster::start().await.unwrap();
    let (tier, ledger) = over(&cluster).await;
    let many = || 0..300;
    for round in 1..=2 {
        for server in cluster.servers() {
            admin::<()>(server, &["SCRIPT", "FLUSH"]).await;
        }
        tier.admit(many().map(|number| offer(number, entry(10 * round + number % 7))).collect()).await.unwrap();
        let found = tier.fetch(&many().map(address).collect::<Vec<_>>()).await.unwrap();
        let expected: Vec<_> = many().map(|number| Some(entry(10 * round + number % 7))).collect();
        assert_eq!(found, expected, "each in its place");
    }
    for server in cluster.servers() {
        let keys: u64 = admin(server, &["DBSIZE"]).await;
        assert!((50..200).contains(&keys), "{keys} of 300");
        admin::<()>(server, &["SCRIPT", "FLUSH"]).await;
    }
    // A value of another type is a miss, and is left alone.
    let owner = &cluster.servers()[cluster.owner_of(&name(400)).await.unwrap()];
    admin::<()>(owner, &["LPUSH", &name(400), "mine"]).await;
    assert!(tier.admit(vec![offer(400, entry(9)), offer(401, entry(9))]).await.is_err());
    assert_eq!(tier.fetch(&[address(400), address(401)]).await.unwrap(), [None, Some(entry(9))]);
    assert_eq!(tier.fetch(&[address(400)]).await.unwrap(), [None]);
    // Markers on all nodes.
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.retract(&notice(100, &many().collect::<Vec<_>>()), MINUTE, None).await.unwrap();
    timeout(Duration::from_secs(5), subscription.next()).await.unwrap().expect("a message");
    let found = tier.fetch(&many().map(address).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(found, vec![Some(envelope(3, 100, 0)); 300]);
}

#[tokio::test]
async fn markers_are_left_before_the_log_is_told() {
    let cluster = RedisCluster::start().await.unwrap();
    let (tier, ledger) = over(&cluster).await;
    let log = cluster.owner_of(LOG).await.unwrap();
    let elsewhere = keys_of(&cluster, log, false).await;
    cluster.servers()[log].freeze().await.unwrap();
    let refused = ledger.retract(&notice(7, &elsewhere), MINUTE, None).await;
    assert!(refused.is_err(), "the log cannot be told");
    for number in elsewhere {
        assert_eq!(tier.fetch(&[address(number)]).await.unwrap(), [Some(envelope(3, 7, 0))]);
    }
    cluster.servers()[log].thaw().await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_away_costs_its_keys_alone() {
    let cluster = RedisCluster::builder().config("cluster-require-full-coverage", "no").start().await.unwrap();
    let (tier, ledger) = over(&cluster).await;
    let log = cluster.owner_of(LOG).await.unwrap();
    let away = (log + 1) % 3;
    let (lost, kept) = (keys_of(&cluster, away, true).await, keys_of(&cluster, away, false).await);
    let all: Vec<u64> = lost.iter().chain(&kept).copied().collect();
    tier.admit(all.iter().map(|number| offer(*number, entry(1))).collect()).await.unwrap();
    cluster.servers()[away].freeze().await.unwrap();
    let begun = Instant::now();
    let expected: Vec<_> = all.iter().map(|number| (!lost.contains(number)).then(|| entry(1))).collect();
    let addresses: Vec<_> = all.iter().copied().map(address).collect();
    assert_eq!(tier.fetch(&addresses).await.unwrap(), expected, "it is a miss");
    assert!(begun.elapsed() < Duration::from_secs(1), "one time-out: {:?}", begun.elapsed());
    assert!(tier.fetch(&[address(lost[0])]).await.is_err(), "nothing was answered");
    assert!(tier.admit(vec![offer(lost[0], entry(2)), offer(kept[0], entry(2))]).await.is_err());
    assert_eq!(tier.fetch(&[address(kept[0])]).await.unwrap(), [Some(entry(2))]);
    let lineage = ledger.announce(&announcement(1)).await.unwrap();
    let told = ledger.retract(&notice(9, &all), MINUTE, settlement(1)).await.expect("the log is told");
    assert!(lineage.is_some() && told.vouched_by == lineage, "a marker that cannot be left is no failure");
    assert_eq!(tier.fetch(&[address(kept[0])]).await.unwrap(), [Some(envelope(3, 9, 0))]);
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(tier.fetch(&[address(lost[0])]).await.is_err());
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "it is asked no more: {:?}", begun.elapsed());
    cluster.servers()[away].thaw().await.unwrap();
    let took = until("the node", async || tier.fetch(&[address(lost[0])]).await.is_ok()).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Moves a slot with its keys, as an operator would.
async fn move_slot(cluster: &RedisCluster, key: &str, to: usize) {
    move_slot_and(cluster, key, to, async || {}).await;
}

/// The same, and something else when all keys of the slot are there and the slot is not.
async fn move_slot_and(cluster: &RedisCluster, key: &str, to: usize, meanwhile: impl AsyncFnOnce()) {
    let from = cluster.owner_of(key).await.unwrap();
    let (source, target) = (&cluster.servers()[from], &cluster.servers()[to]);
    let slot: u16 = admin(source, &["CLUSTER", "KEYSLOT", key]).await;
    let slot = slot.to_string();
    let (from, to): (String, String) =
        (admin(source, &["CLUSTER", "MYID"]).await, admin(target, &["CLUSTER", "MYID"]).await);
    admin::<()>(target, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]).await;
    admin::<()>(source, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]).await;
    let keys: Vec<String> = admin(source, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
    for key in keys {
        admin::<()>(source, &["MIGRATE", "127.0.0.1", &target.port().to_string(), &key, "0", "5000"]).await;
    }
    meanwhile().await;
    for server in [target, source] {
        admin::<()>(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &to]).await;
    }
}

#[tokio::test]
async fn a_slot_that_moved_is_followed_at_once() {
    let cluster = RedisCluster::start().await.unwrap();
    let (tier, ledger) = over(&cluster).await;
    tier.admit(vec![offer(1, entry(3))]).await.unwrap();
    let owner = cluster.owner_of(&name(1)).await.unwrap();
    move_slot(&cluster, &name(1), (owner + 1) % 3).await;
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [Some(entry(3))]);
    move_slot(&cluster, &name(1), (owner + 2) % 3).await;
    tier.admit(vec![offer(1, entry(4))]).await.unwrap();
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [Some(entry(4))]);
    let moving = async || {
        assert_eq!(tier.fetch(&[address(1), address(2)]).await.unwrap()[0], Some(entry(4)), "it is there already");
        tier.admit(vec![offer(1, entry(5))]).await.unwrap();
    };
    move_slot_and(&cluster, &name(1), owner, moving).await;
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [Some(entry(5))]);
    // The log goes along, and is another one then: what it vouched for before, it does not vouch for any more.
    let here = ledger.announce(&announcement(1)).await.unwrap().expect("announced");
    let log = cluster.owner_of(LOG).await.unwrap();
    let moving = async || {
        let announced = ledger.announce(&announcement(2)).await.unwrap().expect("announced");
        assert_ne!(announced, here, "another server has it");
    };
    move_slot_and(&cluster, LOG, (log + 1) % 3, moving).await;
    let settled = ledger.retract(&notice(9, &[1]), MINUTE, settlement(1)).await.unwrap();
    let there = settled.vouched_by.expect("it stands in the log");
    assert_ne!(there, here);
    assert_eq!(ledger.repair(here, 0).await.unwrap(), None);
    assert_eq!(ledger.repair(there, 0).await.unwrap().map(|messages| messages.len()), Some(1));
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.beat(1, pulse(0)).await.unwrap();
    timeout(Duration::from_secs(5), subscription.next()).await.unwrap().expect("a message");
}

#[tokio::test]
async fn where_a_replica_takes_over_the_log_is_another_one() {
    let cluster = RedisCluster::builder().with_replicas().start().await.unwrap();
    let (tier, ledger) = over(&cluster).await;
    let log = cluster.owner_of(LOG).await.unwrap();
    let before = ledger.announce(&announcement(1)).await.unwrap().expect("announced");
    let (here, elsewhere) = (keys_of(&cluster, log, true).await, keys_of(&cluster, log, false).await);
    tier.admit(vec![offer(here[0], entry(1)), offer(elsewhere[0], entry(1))]).await.unwrap();
    cluster.servers()[log].kill().await.unwrap();
    let took = until("the replica", async || ledger.beat(1, pulse(0)).await.is_ok()).await;
    println!("the log is there again after {took:?}");
    assert!(cluster.owner_of(LOG).await.unwrap() >= 3, "it is a replica's");
    let after = ledger.announce(&announcement(2)).await.unwrap().expect("announced");
    assert_ne!(before, after);
    let settled = ledger.retract(&notice(9, &[1]), MINUTE, settlement(1)).await.unwrap();
    assert_ne!(settled.vouched_by, Some(before));
    until("the keys", async || tier.fetch(&[address(here[0])]).await.is_ok()).await;
    assert_eq!(tier.fetch(&[address(elsewhere[0])]).await.unwrap(), [Some(entry(1))]);
    let mut subscription = ledger.subscribe().await.unwrap();
    cluster.servers()[log].start_again().await.unwrap();
    cluster.wait_until_whole().await.unwrap();
    ledger.beat(2, pulse(0)).await.unwrap();
    timeout(Duration::from_secs(5), subscription.next()).await.unwrap().expect("a message");
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_is_waited_for() {
    // Where it is not told, it takes its own port and 10,000, which somebody's outgoing connection may have.
    let bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = RedisServer::builder().config("cluster-enabled", "yes").config("cluster-port", bus);
    let server = server.start().await.unwrap();
    let alone = || RedisSettings::cluster([server.url()]);
    let (tier, _) = opened(alone()).await.expect("slots may come later");
    assert!(tier.fetch(&[address(1)]).await.is_err());
    let text = refused(server.url()).await;
    assert!(text.contains("this Redis is part of a cluster") && text.contains("RedisSettings::cluster"), "{text}");
    admin::<()>(&server, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let took = until("the slots", async || tier.fetch(&[address(1)]).await.is_ok()).await;
    println!("used {took:?} after it got its slots");
    server.kill().await.unwrap();
    let (tier, _) = opened(alone()).await.expect("Redis can only cost speed");
    server.start_again().await.unwrap();
    until("the server", async || tier.fetch(&[address(1)]).await.is_ok()).await;
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_refused() {
    let server = RedisServer::start().await.unwrap();
    let text = refused(RedisSettings::cluster([server.url()])).await;
    assert!(text.contains("this Redis is no cluster") && text.contains("RedisSettings::new"), "{text}");
    let text = refused(RedisSettings::cluster(Vec::<String>::new())).await;
    assert!(text.contains("no server of the Redis cluster is given"), "{text}");
    let text = refused(RedisSettings::cluster(["redis+unix:///tmp/redis.sock"])).await;
    assert!(text.contains("a socket leads to one server"), "{text}");
    let rights = "on >pass ~shop:* &shop:* -@all +get +mget +set +del +hset +hget +hmget +hdel +time +info +eval \
                  +evalsha +publish +subscribe +select";
    let cluster = RedisCluster::builder()
        .config("user", format!("blind {rights}"))
        .config("user", format!("unasking {rights} +cluster|slots"))
        .config("user", format!("writeless {rights} +cluster|slots +asking -hdel"))
        .config("user", format!("enough {rights} +cluster|slots +asking"))
        .start()
        .await
        .unwrap();
    let settings = |user| RedisSettings::cluster(cluster.servers().iter().map(|server| server.url_as(user, "pass")));
    assert!(refused(settings("blind")).await.contains("+cluster|slots"));
    assert!(refused(settings("unasking")).await.contains("+asking"));
    assert!(refused(settings("writeless")).await.contains("+hdel"));
    let (tier, ledger) = opened(settings("enough")).await.expect("the rights that the remedy names");
    tier.admit((0..20).map(|number| offer(number, entry(1))).collect()).await.unwrap();
    ledger.retract(&notice(2, &[1, 2, 3]), MINUTE, None).await.unwrap();
    let _ = ledger.subscribe().await.unwrap();
}
