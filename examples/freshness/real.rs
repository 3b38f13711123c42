//! The stage with real servers: PostgreSQL and Redis, started for the run and ended with it.

use crate::lag::Turn;
use crate::stage::{Edge, Instance, Reads, Result, Row, Rows, Setup, Stage};
use highwater::devices::{Devices, RedisDevices};
use highwater::testkit::{Cluster, RedisServer};
use highwater::{BusState, Highwater, Postgres, QueryError, RedisLink, Routed, Tx};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) struct Real {
    cluster: Cluster,
    redis: RedisServer,
    /// Every run has a table and a cache of its own, so that none finds what another left.
    runs: AtomicU64,
    /// Commands of servers that were killed since.
    commands_before: AtomicU64,
}

/// Until the bus of an instance is live.
const SETTLING: Duration = Duration::from_secs(10);

impl Real {
    pub(crate) async fn start(replicas: usize) -> Result<Self> {
        let (cluster, redis) = tokio::try_join!(Cluster::start(replicas), RedisServer::start())?;
        Ok(Self { cluster, redis, runs: AtomicU64::new(0), commands_before: AtomicU64::new(0) })
    }

    /// Users' positions in the same Redis, over a connection of their own.
    async fn devices(&self, store: &Highwater) -> Result<Devices> {
        let kept = RedisDevices::open(RedisLink::connect(self.redis.url().into()).await?).await?;
        Ok(Devices::builder(kept).store(store).build()?)
    }

    /// What the servers call themselves.
    pub(crate) async fn versions(&self) -> Result<String> {
        let postgres = self.cluster.primary().value("show server_version").await?.unwrap_or_default();
        let mut redis = self.redis.connect().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
        Ok(format!("PostgreSQL {postgres}, Redis {}", field(&info, "redis_version").unwrap_or_default()))
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

impl Reads for Routed {
    type Error = QueryError;

    async fn row(&self, table: &str, key: u64) -> Result<Option<Row>, QueryError> {
        let sql = format!("select version, op, body from {table} where id = $1");
        let row = self.query_opt(&sql, &[&key.cast_signed()]).await?;
        let number = |row: &tokio_postgres::Row, at| row.get::<_, i64>(at).cast_unsigned();
        Ok(row.map(|row| Row { version: number(&row, 0), write: number(&row, 1), body: row.get(2) }))
    }
}

impl Edge for Postgres {
    async fn raise(tx: &Tx<Self>, table: &str, key: u64, write: u64, body: &str) -> Result<u64> {
        let sql = format!(
            "insert into {table} values ($1, 1, $2, $3) on conflict (id) do update \
             set version = {table}.version + 1, op = excluded.op, body = excluded.body returning version"
        );
        let row = tx.query_one(&sql, &[&key.cast_signed(), &write.cast_signed(), &body]).await?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }
}

impl Stage for Real {
    type Source = Postgres;

    async fn set(&self, setup: &Setup) -> Result<(Vec<Instance<Postgres>>, Rows)> {
        let table = format!("rows_{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let sql = format!(
            "create table {table} (id bigint primary key, version bigint not null, op bigint not null, body text not null); \
             insert into {table} select id, 1, id, repeat('x', {}) from generate_series(0, {}) id; analyze {table}",
            setup.body_bytes,
            setup.rows.cast_signed() - 1,
        );
        self.cluster.primary().execute(&sql).await?;
        self.cluster.wait_for_catchup().await?;
        let rows = Rows { table, ..Rows::default() };
        let mut instances = Vec::new();
        for _ in 0..setup.instances {
            let nodes = self.cluster.nodes().map(|node| node.url());
            let store = Highwater::builder().replicas(nodes).redis(self.redis.url()).connect().await?;
            let cache = store
                .cache(&rows.table, rows.clone())
                .max_capacity(setup.capacity)
                .time_to_live(setup.time_to_live)
                .absent_time_to_live(setup.time_to_live)
                .strategy(setup.strategy);
            let cache = if setup.scoped { cache.scoped() } else { cache };
            let cache = if setup.shared { cache.shared() } else { cache }.build()?;
            let devices = if setup.devices { Some(self.devices(&store).await?) } else { None };
            instances.push(Instance { store, cache, devices });
        }
        let begun = Instant::now();
        while instances.iter().any(|instance| instance.store.stats().bus != BusState::Live) {
            if begun.elapsed() > SETTLING {
                return Err("the instances do not hear each other".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok((instances, rows))
    }

    async fn turn(&self, replica: usize, turn: Turn) -> Result {
        let replica = self.cluster.replica(replica);
        match turn {
            Turn::Delay(delay) => replica.apply_delay(delay).await?,
            Turn::Pause(true) => replica.pause_replay().await?,
            Turn::Pause(false) => replica.resume_replay().await?,
        }
        Ok(())
    }

    async fn redis_down(&self, down: bool) -> Result {
        if down {
            self.commands_before.store(self.redis_commands().await, Ordering::Relaxed);
            self.redis.kill().await?
        } else {
            self.redis.start_again().await?
        }
        Ok(())
    }

    async fn redis_commands(&self) -> u64 {
        let before = self.commands_before.load(Ordering::Relaxed);
        let Ok(mut redis) = self.redis.connect().await else { return before };
        let info: String = redis::cmd("INFO").arg("stats").query_async(&mut redis).await.unwrap_or_default();
        before + field(&info, "total_commands_processed").and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}
