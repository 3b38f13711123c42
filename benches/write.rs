//! A write with one retracted key against a bare transaction: BEGIN, one UPDATE, COMMIT; and what it costs Redis.

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

/// When the key is named: before the statement, so that the announcement travels with it, or as the last thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    First,
    Last,
}

async fn ours(store: &Highwater, cache: &Cache<Rows>, session: &Session, named: Named, id: i64) {
    let mut tx = store.begin(session).await.expect("a transaction");
    if named == Named::First {
        tx.retract(cache, &id);
    }
    assert_eq!(tx.execute(UPDATE, &[&id]).await.expect("an update"), 1);
    if named == Named::Last {
        tx.retract(cache, &id);
    }
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
    let order: &[_] = if redis.is_some() {
        &[(Named::First, ", named first"), (Named::Last, ", named last")]
    } else {
        &[(Named::Last, "")]
    };
    for &(named, when) in order {
        let times = pairs(
            effort.rounds(),
            async || timed(writes, &mut theirs, async |id| bare(&pool, id).await).await,
            async || timed(writes, &mut mine, async |id| ours(&store, &cache, &session, named, id).await).await,
        );
        let times = times.await;
        row(&format!("{what}{when}: us"), .., &times, Sample::us);
        row(&format!("{what}{when}: processor time of the client, us"), .., &times, Sample::cpu_us);
        if let Some(redis) = redis.filter(|_| !durable) {
            let before = traffic(redis).await;
            timed(1_100, &mut mine, async |id| ours(&store, &cache, &session, named, id).await).await;
            let after = traffic(redis).await;
            // One instance listens. Its heartbeats are in it, one a second.
            let mut each = before.into_iter().zip(after).map(|(before, after)| (after - before) / 1_100.0);
            let [scripts, there, back] = [(); 3].map(|()| each.next().unwrap_or(f64::NAN));
            let log = log_bytes(redis).await / 1024.0;
            println!(
                "| Redis{when}: {scripts:.2} scripts, {there:.0} bytes there, {back:.0} back; log {log:.0} KiB | | | | | | |"
            );
        }
    }
    assert_eq!(store.stats().counts.commits, mine as u64, "all were committed");
    store.close().await;
}

/// Scripts, bytes received and bytes sent by a server of Redis since it started.
async fn traffic(redis: &RedisServer) -> [f64; 3] {
    let mut connection = redis.connect().await.expect("Redis");
    let info: String = redis::cmd("INFO").arg("everything").query_async(&mut connection).await.expect("figures");
    let number = |name: &str| {
        let (_, rest) = info.split_once(name).expect("the figure");
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a number")
    };
    ["cmdstat_evalsha:calls=", "total_net_input_bytes:", "total_net_output_bytes:"].map(number)
}

/// Bytes of the greatest key: the log.
async fn log_bytes(redis: &RedisServer) -> f64 {
    let mut connection = redis.connect().await.expect("Redis");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("keys");
    let mut most: f64 = 0.0;
    for key in keys {
        let mut usage = redis::cmd("MEMORY");
        usage.arg(&["USAGE", &key, "SAMPLES", "0"]);
        most = most.max(usage.query_async(&mut connection).await.expect("a size"));
    }
    most
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
