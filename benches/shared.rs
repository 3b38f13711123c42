//! A hit of the shared tier, through everything that lies above it, against a bare `GET` of the same bytes over the same
//! kind of connection.
//!
//! Goal: at least 0.95 of the bare throughput with 64 tasks.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

mod paired;

use futures_util::future::join_all;
use highwater::ledger::RedisLedger;
use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::testkit::RedisServer;
use highwater::tier::RedisTier;
use highwater::{Cache, Highwater, RedisLink, RedisSettings, Repository, Rung, Session, Settings};
use paired::{Effort, Sample, cpu, head, pairs, row};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use rustix::time::ClockId;
use std::time::Duration;
use tokio::time::Instant;

const ROWS: u64 = 10_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const TASKS: u64 = 64;

/// A row of 1,000 bytes.
fn text(key: u64) -> String {
    format!("{key:01000}")
}

struct Rows;

impl Repository<View> for Rows {
    type Key = u64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, _: &View, key: &u64) -> Result<Option<String>, Fault> {
        Ok(Some(text(*key)))
    }
}

struct Bench {
    cache: Cache<Rows, Source>,
    bare: MultiplexedConnection,
    /// Where the tier put its entries.
    names: Vec<String>,
}

impl Bench {
    /// Each row read by `each`, split among tasks.
    async fn by_tasks<F: Future<Output = usize> + Send + 'static>(
        &self,
        tasks: u64,
        reads: u64,
        each: impl Fn(u64, u64) -> F,
    ) -> Sample {
        let part = reads / tasks;
        let (begun, ran) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
        let tasks = join_all((0..tasks).map(|task| tokio::spawn(each(task * part, (task + 1) * part)))).await;
        let took = Sample { count: reads as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ProcessCPUTime) - ran };
        let read: usize = tasks.into_iter().map(|read| read.expect("no panic")).sum();
        assert!(read >= reads as usize * 1_000, "every read brought a row");
        took
    }

    async fn bare(&self, tasks: u64, reads: u64) -> Sample {
        let each = |from, to| {
            let (mut bare, names) = (self.bare.clone(), self.names.clone());
            async move {
                let mut read = 0;
                for name in names.iter().cycle().skip(from as usize).take((to - from) as usize) {
                    let bytes: Vec<u8> = bare.get(name).await.expect("Redis");
                    read += bytes.len();
                }
                read
            }
        };
        self.by_tasks(tasks, reads, each).await
    }

    async fn ours(&self, tasks: u64, reads: u64) -> Sample {
        let before = self.cache.stats();
        let each = |from: u64, to: u64| {
            let cache = self.cache.clone();
            async move {
                let session = Session::new();
                let mut read = 0;
                for key in (from..to).map(|at| at % ROWS) {
                    let row = cache.get(&session, &key).await.expect("a row").value.expect("a row");
                    assert_eq!(row.get(990..).and_then(|end| end.parse().ok()), Some(key), "the row of its key");
                    read += row.len();
                }
                read
            }
        };
        let took = self.by_tasks(tasks, reads, each).await;
        let now = self.cache.stats();
        assert_eq!(now.hits_shared - before.hits_shared, reads, "all came from the shared tier: {now:?}");
        took
    }
}

async fn store(cluster: &Cluster, server: &RedisServer) -> Highwater<Source> {
    let link = RedisLink::connect(RedisSettings::new(server.url())).await.expect("Redis");
    let tier = RedisTier::open(link.clone()).await.expect("Redis");
    let ledger = RedisLedger::open(link).await.expect("Redis");
    // What was filled before the bus was live is to count too.
    let settings = Settings { deaf_age_max: DAY, ..Settings::default() };
    let builder = Highwater::over(cluster.source()).settings(settings).shared_tier(tier).ledger(ledger);
    let store = builder.start().await.expect("a store");
    while store.stats().bus != highwater::BusState::Live {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store
}

async fn run(effort: Effort) {
    let server = RedisServer::start().await.expect("a Redis server");
    let cluster = Cluster::new(0);
    let store = store(&cluster, &server).await;
    // Nothing fits into the in-process tier.
    let cache = store.cache("rows", Rows).shared().max_capacity(1).weigher(|_, _| 2).time_to_live(DAY);
    let cache = cache.build().expect("a cache");
    for key in 0..ROWS {
        let read = cache.get(&Session::new(), &key).await.expect("a row");
        assert_eq!(read.rung, Rung::Primary, "a cold start");
    }
    let client = redis::Client::open(server.url()).expect("an address");
    let mut bare = client.get_multiplexed_async_connection().await.expect("Redis");
    let mut names: Vec<String> = Vec::new();
    while names.len() < ROWS as usize {
        // Offers travel behind the answers.
        tokio::time::sleep(Duration::from_millis(50)).await;
        names = bare.keys("*:e:*").await.expect("Redis");
    }
    let bench = Bench { cache, bare, names };
    head("Shared hit, rows of 1,000 bytes");
    let reads = TASKS * effort.of(300, 60) as u64;
    let many = async |ours| if ours { bench.ours(TASKS, reads).await } else { bench.bare(TASKS, reads).await };
    let many = pairs(effort.rounds(), async || many(false).await, async || many(true).await).await;
    row("64 tasks: thousands a second", 0.95.., &many, Sample::rate);
    row("64 tasks: processor time of the client, us", .., &many, Sample::cpu_us);
    let reads = effort.of(2_000, 300) as u64;
    let one = async |ours| if ours { bench.ours(1, reads).await } else { bench.bare(1, reads).await };
    let one = pairs(effort.rounds(), async || one(false).await, async || one(true).await).await;
    row("one after the other: us", .., &one, Sample::us);
    row("one after the other: processor time of the client, us", .., &one, Sample::cpu_us);
    store.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(effort));
}
