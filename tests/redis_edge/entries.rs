//! Entries and markers at their addresses.

use crate::{MINUTE, address, entry, envelope, notice, offer, opened};
use highwater::ledger::{Ledger, RedisLedger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::{RedisTier, SharedTier};
use highwater::{RedisLink, RedisSettings};
use std::time::Duration;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_foreign_value_is_a_miss_and_is_left_alone() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    let name = format!("shop:e:{:016x}:{}", 0xAB, address(1).key);
    redis::cmd("LPUSH").arg(&name).arg("mine").exec_async(&mut admin).await.unwrap();
    tier.admit(vec![offer(2, entry(5))]).await.unwrap();
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [None]);
    assert_eq!(tier.fetch(&[address(1), address(2)]).await.unwrap(), [None, Some(entry(5))]);
    let error = tier.admit(vec![offer(1, entry(9)), offer(3, entry(9))]).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2"), "{error}");
    assert_eq!(tier.fetch(&[address(3)]).await.unwrap(), [Some(entry(9))], "the others are stored");
    ledger.retract(&notice(10, &[1, 3]), MINUTE, None).await.expect("a marker that cannot be left is no failure");
    assert_eq!(tier.fetch(&[address(3)]).await.unwrap(), [Some(envelope(3, 10, 0))]);
    let length: i64 = redis::cmd("LLEN").arg(&name).query_async(&mut admin).await.unwrap();
    assert_eq!(length, 1);
}

#[tokio::test]
async fn lost_scripts_are_sent_again() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let mut admin = server.connect().await.unwrap();
    for round in 1..=3 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        tier.admit((0..200).map(|number| offer(number, entry(round))).collect()).await.unwrap();
        assert_eq!(tier.fetch(&[address(0), address(199)]).await.unwrap(), vec![Some(entry(round)); 2]);
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        ledger.retract(&notice(round, &[5_000]), MINUTE, None).await.unwrap();
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        ledger.beat(1, crate::pulse(0)).await.unwrap();
    }
}

#[tokio::test]
async fn two_namespaces_share_a_server_and_nothing_else() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    let link = RedisLink::connect(RedisSettings::new(server.url()).namespace("shop.2")).await.unwrap();
    let (other_tier, other_ledger) =
        (RedisTier::open(link.clone()).await.unwrap(), RedisLedger::open(link).await.unwrap());
    let mut subscription = other_ledger.subscribe().await.unwrap();
    tier.admit(vec![offer(1, entry(5))]).await.unwrap();
    ledger.retract(&notice(4, &[2]), MINUTE, None).await.unwrap();
    assert_eq!(other_tier.fetch(&[address(1), address(2)]).await.unwrap(), [None, None]);
    assert!(timeout(Duration::from_millis(200), subscription.next()).await.is_err());
    assert_eq!(other_ledger.beat(1, crate::pulse(3)).await.unwrap().generation, 3);
    assert_eq!(ledger.beat(1, crate::pulse(0)).await.unwrap().generation, 0);
}

/// Prints what a read costs beside a bare one; asserts nothing, for the machine is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_beside_a_bare_one() {
    let server = RedisServer::start().await.unwrap();
    let (tier, _) = opened(server.url()).await.unwrap();
    tier.admit(vec![offer(1, envelope(1, 1, 1_000))]).await.unwrap();
    let name = format!("shop:e:{:016x}:{}", 0xAB, address(1).key);
    let mut bare = server.connect().await.unwrap();
    let mut rounds = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        for _ in 0..1_000 {
            let _: Option<Vec<u8>> = redis::cmd("GET").arg(&name).query_async(&mut bare).await.unwrap();
        }
        let theirs = began.elapsed();
        let began = Instant::now();
        for _ in 0..1_000 {
            tier.fetch(&[address(1)]).await.unwrap();
        }
        rounds.push((began.elapsed().as_secs_f64() / theirs.as_secs_f64(), theirs / 1_000));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("a read costs {:.3} of a bare GET, which took {:?}", rounds[3].0, rounds[3].1);
}
