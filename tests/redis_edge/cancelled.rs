//! Calls that are dropped after every number of polls: the next one gets its own answer, and nothing stays behind.

use crate::dropped::dropped_after;
use crate::{MINUTE, address, entry, notice, offer, opened};
use highwater::ledger::{Ledger, RedisLedger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::{RedisTier, SharedTier};
use highwater::{RedisLink, RedisSettings};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// More polls than any of the calls takes.
const POLLS_MAX: usize = 100;

/// Drops what `call` gives after 1, 2, 3, ... polls, until it ends by itself; returns after how many.
async fn at_every_poll<T>(mut call: impl AsyncFnMut() -> T, mut next: impl AsyncFnMut()) -> usize {
    for polls in 1..POLLS_MAX {
        let ended = dropped_after(polls, call()).await.is_some();
        next().await;
        if ended {
            return polls;
        }
    }
    panic!("it never came to its end");
}

/// How many clients the server has, the one that asks not counted.
async fn clients(server: &RedisServer) -> usize {
    let mut admin = server.connect().await.unwrap();
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
    list.lines().count() - 1
}

async fn until_clients(server: &RedisServer, count: usize) {
    let begun = Instant::now();
    while clients(server).await != count {
        assert!(begun.elapsed() < Duration::from_secs(5), "{} clients and not {count}", clients(server).await);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_link_and_what_is_opened_over_it() {
    let server = RedisServer::start().await.unwrap();
    let settings = || RedisSettings::new(server.url()).namespace("shop");
    let polls = at_every_poll(async || RedisLink::connect(settings()).await.unwrap(), async || {}).await;
    println!("RedisLink::connect: {polls} polls");
    until_clients(&server, 0).await;
    let link = RedisLink::connect(settings()).await.unwrap();
    let checks = async || {
        let tier = RedisTier::open(link.clone()).await.unwrap();
        tier.admit(vec![offer(1, entry(1))]).await.unwrap();
        assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [Some(entry(1))]);
    };
    let polls = at_every_poll(async || RedisTier::open(link.clone()).await.unwrap(), checks).await;
    println!("RedisTier::open: {polls} polls");
    let beats = async || {
        let ledger = RedisLedger::open(link.clone()).await.unwrap();
        assert_eq!(ledger.beat(1, crate::pulse(7)).await.unwrap().generation, 7);
    };
    let polls = at_every_poll(async || RedisLedger::open(link.clone()).await.unwrap(), beats).await;
    println!("RedisLedger::open: {polls} polls");
    // The connection of the link, and none of the subscriptions that were tried.
    until_clients(&server, 1).await;
}

#[tokio::test]
async fn reads_and_writes() {
    let server = RedisServer::start().await.unwrap();
    let (tier, ledger) = opened(server.url()).await.unwrap();
    tier.admit(vec![offer(1, entry(1)), offer(2, entry(2)), offer(3, entry(3))]).await.unwrap();
    // The answer of a call that was dropped must not be taken for that of the next.
    let own = async || assert_eq!(tier.fetch(&[address(2)]).await.unwrap(), [Some(entry(2))]);
    let fetch = at_every_poll(async || tier.fetch(&[address(1), address(3)]).await.unwrap(), own).await;
    let admit = at_every_poll(async || tier.admit(vec![offer(4, entry(4))]).await.unwrap(), own).await;
    let retract = at_every_poll(async || ledger.retract(&notice(9, &[5]), MINUTE, None).await.unwrap(), own).await;
    let beat = at_every_poll(async || ledger.beat(3, crate::pulse(0)).await.unwrap(), own).await;
    println!("fetch: {fetch} polls, admit: {admit}, retract: {retract}, beat: {beat}");
    assert!(fetch > 1 && admit > 1 && retract > 1 && beat > 1, "they were dropped half-way");
    until_clients(&server, 1).await;
}

#[tokio::test]
async fn subscriptions() {
    let server = RedisServer::start().await.unwrap();
    let (_tier, ledger) = opened(server.url()).await.unwrap();
    let polls = at_every_poll(async || ledger.subscribe().await.unwrap(), async || {}).await;
    println!("subscribe: {polls} polls");
    until_clients(&server, 1).await;
    // A wait that is dropped loses no message.
    let mut subscription = ledger.subscribe().await.unwrap();
    for polls in 1..20 {
        // It is polled only when something comes.
        let wait = timeout(Duration::from_millis(5), dropped_after(polls, subscription.next()));
        assert!(wait.await.ok().flatten().is_none());
        ledger.retract(&notice(polls as u64, &[1]), MINUTE, None).await.unwrap();
        let message = timeout(Duration::from_secs(5), subscription.next()).await.unwrap().expect("a message");
        let lsn = (polls as u64).to_be_bytes();
        assert!(message.windows(8).any(|bytes| bytes == lsn), "the message of round {polls}");
    }
}
