//! A write with one retracted key against a bare transaction: BEGIN, one UPDATE, COMMIT.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "not every benchmark looks at everything that is measured")]
mod paired;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use highwater::testkit::{Cluster, RedisServer};
use highwater::{BusState, Cache, Highwater, QueryError, Repository, Routed, Session};
use paired::{Effort, Sample, cpu, head, pairs, row};
use rustix::time::ClockId;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::NoTls;

const ROWS: i64 = 10_000;
const UPDATE: &str = "update t set v = v + 1 where id = $1";
const SCHEMA: &str = "create table t (id int8 primary key, v int8 not null) with (fillfactor = 50); \
    insert into t select n, 0 from generate_series(0, 9999) n";

struct Rows;

impl Repository for Rows {
    type Key = i64;
    type Value = i64;
    type Error = QueryError;

    async fn load(&self, on: &Routed, key: &i64) -> Result<Option<i64>, QueryError> {
        Ok(on.query_scalar("select v from t where id = $1", &[key]).await?.pop())
    }
}

/// One round.
async fn timed(writes: i64, from: &mut i64, mut write: impl AsyncFnMut(i64)) -> Sample {
    let (begun, ran) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    for id in *from..*from + writes {
        write(id * 7_919 % ROWS).await;
    }
    *from += writes;
    Sample { count: writes as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ProcessCPUTime) - ran }
}

async fn bare(pool: &Pool, id: i64) {
    let mut client = pool.get().await.expect("a connection");
    let statement = client.prepare_cached(UPDATE).await.expect("a statement");
    let tx = client.transaction().await.expect("a transaction");
    assert_eq!(tx.execute(&statement, &[&id]).await.expect("an update"), 1);
    tx.commit().await.expect("a commit");
}

async fn ours(store: &Highwater, cache: &Cache<Rows>, session: &Session, id: i64) {
    let mut tx = store.begin(session).await.expect("a transaction");
    assert_eq!(tx.execute(UPDATE, &[&id]).await.expect("an update"), 1);
    tx.retract(cache, &id);
    assert!(tx.commit().await.expect("a commit").told, "everybody was told");
}

async fn compare(effort: Effort, what: &str, cluster: &Cluster, redis: Option<&RedisServer>, durable: bool) {
    let mut builder = Highwater::builder().primary(cluster.primary().url());
    if let Some(redis) = redis {
        builder = builder.redis(redis.url());
    }
    let store = builder.connect().await.expect("a store");
    while redis.is_some() && store.stats().bus != BusState::Live {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cache = store.cache("t", Rows).build().expect("a cache");
    let config = cluster.primary().url().parse().expect("an address");
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let pool = Pool::builder(manager).build().expect("a pool");
    let (mut theirs, mut mine) = (0, 0);
    let writes = if durable { effort.of(50, 10) } else { effort.of(250, 40) } as i64;
    let session = Session::new();
    let times = pairs(
        effort.rounds(),
        async || timed(writes, &mut theirs, async |id| bare(&pool, id).await).await,
        async || timed(writes, &mut mine, async |id| ours(&store, &cache, &session, id).await).await,
    );
    let times = times.await;
    row(&format!("{what}: us"), .., &times, Sample::us);
    row(&format!("{what}: processor time of the client, us"), .., &times, Sample::cpu_us);
    assert_eq!(store.stats().counts.commits, mine as u64, "all were committed");
    store.close().await;
}

async fn run(effort: Effort) {
    let redis = RedisServer::start().await.expect("a Redis server");
    head("Write");
    for durable in [false, true] {
        let cluster = Cluster::builder().durable(durable).start().await.expect("a cluster");
        cluster.primary().execute(SCHEMA).await.expect("a table");
        let fsync = if durable { "fsync on" } else { "fsync off" };
        compare(effort, &format!("{fsync}, no Redis"), &cluster, None, durable).await;
        compare(effort, &format!("{fsync}, with Redis"), &cluster, Some(&redis), durable).await;
    }
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(effort));
}
