//! From the acknowledged COMMIT to the retraction applied on another instance, against a bare `PUBLISH` of as many bytes to a bare
//! `SUBSCRIBE`.
//!
//! Goal: the 99th of a hundred at most twice the bare one's.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "only times are compared")]
mod paired;

use futures_util::StreamExt;
use highwater::ledger::{Ledger, RedisLedger, RedisSubscription, Subscription};
use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::testkit::RedisServer;
use highwater::tier::RedisTier;
use highwater::{Cache, Highwater, RedisLink, RedisSettings, Repository, Rung, Session, Settings};
use paired::{Effort, Sample, head, pairs, row};
use redis::AsyncCommands;
use redis::aio::{MultiplexedConnection, PubSub};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// Where the kind of a message stands, and a retraction's.
const KIND_AT: usize = 36;
const RETRACTION: u8 = 1;

struct Rows;

impl Repository<View> for Rows {
    type Key = u64;
    type Value = u64;
    type Error = Fault;

    async fn load(&self, _: &View, key: &u64) -> Result<Option<u64>, Fault> {
        Ok(Some(*key))
    }
}

struct Bench {
    store: Highwater<Source>,
    cache: Cache<Rows, Source>,
    other: Cache<Rows, Source>,
    heard: RedisSubscription,
    publisher: MultiplexedConnection,
    subscriber: PubSub,
    bytes: usize,
}

impl Bench {
    async fn ours(&self) -> Duration {
        let session = Session::new();
        let mut tx = self.store.begin(&session).await.expect("a transaction");
        tx.retract(&self.cache, &7);
        // The announcement travels while the transaction works.
        sleep(Duration::from_millis(2)).await;
        tx.put("rows", 7, 7_u64).await.expect("a row");
        let begun = Instant::now();
        assert!(tx.commit().await.expect("a commit").told, "it was told");
        // Waits there for the watermark, which is taken over behind what the message retracts.
        let read = self.other.get(&session, &8).await.expect("a row");
        let took = begun.elapsed();
        assert_eq!(read.rung, Rung::Local, "it was extended");
        took
    }

    /// Of a retraction on its way.
    async fn bytes(&mut self) -> usize {
        self.ours().await;
        loop {
            let message = self.heard.next().await.expect("a message");
            if message.get(KIND_AT) == Some(&RETRACTION) {
                return message.len();
            }
        }
    }

    async fn bare(&mut self) -> Duration {
        sleep(Duration::from_millis(2)).await;
        let message = vec![7_u8; self.bytes];
        let begun = Instant::now();
        let mut publisher = self.publisher.clone();
        let publishing = tokio::spawn(async move { publisher.publish::<_, _, i64>("bare", message).await });
        self.subscriber.on_message().next().await.expect("a message");
        let took = begun.elapsed();
        assert_eq!(publishing.await.expect("no panic").expect("Redis"), 1, "one listens");
        took
    }

    /// What `share` of a hundred take at most.
    async fn percentile(&mut self, ours: bool, count: usize, share: usize) -> Sample {
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(if ours { self.ours().await } else { self.bare().await });
        }
        times.sort_unstable();
        let wall = *times.get(count * share / 100).expect("a time");
        Sample { count: 1.0, wall, cpu: Duration::ZERO }
    }
}

async fn run(effort: Effort) {
    let server = RedisServer::start().await.expect("a Redis server");
    let link = RedisLink::connect(RedisSettings::new(server.url())).await.expect("Redis");
    let tier = RedisTier::open(link.clone()).await.expect("Redis");
    let ledger = RedisLedger::open(link.clone()).await.expect("Redis");
    // Its commits take no time, so what is measured begins where PostgreSQL has answered.
    let cluster = Cluster::new(0);
    let settings = Settings { watermark_wait: Duration::from_secs(1), ..Settings::default() };
    let start = async |ledger: RedisLedger| {
        let builder = Highwater::over(cluster.source()).settings(settings.clone());
        builder.shared_tier(tier.clone()).ledger(ledger).start().await.expect("a store")
    };
    let store = start(ledger.clone()).await;
    let elsewhere = start(ledger).await;
    let cache = store.cache("rows", Rows).shared().build().expect("a cache");
    let other = elsewhere.cache("rows", Rows).shared().build().expect("a cache");
    let heard = RedisLedger::open(link).await.expect("Redis").subscribe().await.expect("Redis");
    let client = redis::Client::open(server.url()).expect("an address");
    let publisher = client.get_multiplexed_async_connection().await.expect("Redis");
    let mut subscriber = client.get_async_pubsub().await.expect("Redis");
    subscriber.subscribe("bare").await.expect("Redis");
    sleep(Duration::from_millis(500)).await;
    // So that what is filled now is newer than where hearing began.
    for row in 1..=2 {
        cluster.put("rows", row, row);
        sleep(Duration::from_millis(10)).await;
    }
    other.get(&Session::new(), &8).await.expect("a row");
    let mut bench = Bench { store, cache, other, heard, publisher, subscriber, bytes: 0 };
    bench.bytes = bench.bytes().await;
    let (bench, count) = (Mutex::new(bench), effort.of(300, 100));
    let times = async |ours, share| bench.lock().await.percentile(ours, count, share).await;
    head("A retraction on its way");
    let half = pairs(effort.rounds(), async || times(false, 50).await, async || times(true, 50).await).await;
    row("p50: us", .., &half, Sample::us);
    let most = pairs(effort.rounds(), async || times(false, 99).await, async || times(true, 99).await).await;
    row("p99: us", ..=2.0, &most, Sample::us);
    let bench = bench.into_inner();
    bench.store.close().await;
    elsewhere.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(effort));
}
