#![allow(warnings)]
//! A fill against a bare `SELECT` of the same row, prepared, over a pool of as many connections.
//!
//! Goals: one after the other at most 1.10 of the bare time, saturated at least 0.90 of the bare throughput.

mod paired;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::future::join_all;
use highwater::source::postgres::{Postgres, PostgresLease, Routed};
use highwater::source::{Ask, Lease, Source};
use highwater::testkit::{Cluster, Node};
use highwater::{Cache, Highwater, Lsn, QueryError, Repository, Rung, Session};
use paired::{Effort, Pair, Sample, cpu, head, pairs, row};
#[allow(unused)]
use rustix::time::ClockId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::NoTls;

const ROWS: i64 = 100_000;
const CONNECTIONS: usize = 8;
const TASKS: i64 = 32;
const SELECT: &str = "select * from t where id = $1";

/// About 250 bytes in ten columns.
const SCHEMA: &str = "create table t as select n::int8 as id, repeat('a', 40) as a, repeat('b', 40) as b, \
    repeat('c', 40) as c, repeat('d', 40) as d, repeat('e', 30) as e, n::float8 as f, n::float8 / 3 as g, \
    n % 2 = 0 as h, n::int8 as i from generate_series(0, 99999) n; alter table t add primary key (id); analyze t";

/// What both sides make of a row.
struct Row {
    id: i64,
    _texts: [String; 5],
}

impl Row {
    fn of(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let text = |at| row.try_get(at);
        Ok(Self { id: row.try_get(0)?, _texts: [text(1)?, text(2)?, text(3)?, text(4)?, text(5)?] })
    }
}

struct Rows;

impl Repository for Rows {
    type Key = i64;
    type Value = Row;
    type Error = QueryError;

    async fn load(&self, on: &Routed, key: &i64) -> Result<Option<Row>, QueryError> {
        Ok(on.query_opt(SELECT, &[key]).await?.as_ref().map(Row::of).transpose()?)
    }
}

/// One server, asked in three ways.
#[derive(Clone)]
struct Bench {
    bare: Pool,
    edge: Arc<Postgres>,
    /// The server's number at the edge.
    node: usize,
    cache: Cache<Rows>,
    rung: Rung,
}

impl Bench {
    async fn bare(&self, id: i64) -> Row {
        let client = self.bare.get().await.expect("a connection");
        let statement = client.prepare_cached(SELECT).await.expect("a statement");
        Row::of(&client.query_one(&statement, &[&id]).await.expect("a row")).expect("a row")
    }

    /// What the source does for a fill, without tiers and flights.
    async fn edge(&self, id: i64) -> Row {
        let deadline = Instant::now() + Duration::from_secs(5);
        let ask = Ask { primary: self.rung == Rung::Primary, floor: Lsn::ZERO, upper: false, quiesce: false, deadline };
        let lease: PostgresLease = self.edge.lease(self.node, ask).await.expect("a connection");
        let row = Rows.load(lease.conn(), &id).await.expect("a row").expect("a row");
        lease.finish().await.expect("a stamp");
        row
    }

    async fn fill(&self, id: i64) {
        let read = self.cache.get(&Session::new(), &id).await.expect("a row");
        assert_eq!((read.rung, read.value.map(|row| row.id)), (self.rung, Some(id)), "a fill of this row");
    }

    /// One round of `reads`, by so many tasks at once.
    async fn timed<F: Future<Output = ()> + Send>(
        &self,
        tasks: i64,
        reads: i64,
        from: &mut i64,
        read: impl Fn(Self, i64) -> F + Copy + Send + 'static,
    ) -> Sample {
        let part = reads / tasks;
        let (begun, ran) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
        let all = (0..tasks).map(|task| {
            let (bench, from) = (self.clone(), *from + task * part);
            tokio::spawn(async move {
                for id in from..from + part {
                    read(bench.clone(), id * 7_919 % ROWS).await;
                }
            })
        });
        join_all(all).await.into_iter().for_each(|task| task.expect("no panic"));
        *from += reads;
        Sample { count: reads as f64, wall: begun.elapsed(), cpu: cpu(ClockId::ProcessCPUTime) - ran }
    }

    async fn compare<F: Future<Output = ()> + Send>(
        &self,
        effort: Effort,
        tasks: i64,
        read: impl Fn(Self, i64) -> F + Copy + Send + 'static,
    ) -> Vec<Pair> {
        let reads = if tasks == 1 { effort.of(500, 100) } else { effort.of(4_000, 800) } as i64;
        let (mut theirs, mut ours) = (0, 0);
        pairs(
            effort.rounds(),
            async || self.timed(tasks, reads, &mut theirs, bare).await,
            async || self.timed(tasks, reads, &mut ours, read).await,
        )
        .await
    }

    async fn report(&self, effort: Effort, server: &str) {
        head(&format!("Fill from the {server}"));
        let pairs = self.compare(effort, 1, edge).await;
        row("one after the other, edge alone: us", .., &pairs, Sample::us);
        let pairs = self.compare(effort, 1, fill).await;
        row("one after the other: us", ..=1.10, &pairs, Sample::us);
        row("one after the other: processor time of the client, us", .., &pairs, Sample::cpu_us);
        let pairs = self.compare(effort, TASKS, edge).await;
        row("saturated, edge alone: thousands a second", .., &pairs, Sample::rate);
        row("saturated, edge alone: processor time of the client, us", .., &pairs, Sample::cpu_us);
        let pairs = self.compare(effort, TASKS, fill).await;
        row("saturated: thousands a second", 0.90.., &pairs, Sample::rate);
        row("saturated: processor time of the client, us", .., &pairs, Sample::cpu_us);
    }
}

async fn bare(bench: Bench, id: i64) {
    assert_eq!(bench.bare(id).await.id, id);
}

async fn edge(bench: Bench, id: i64) {
    assert_eq!(bench.edge(id).await.id, id);
}

async fn fill(bench: Bench, id: i64) {
    bench.fill(id).await;
}

fn pool(node: &Node) -> Pool {
    let config = node.url().parse().expect("an address");
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager).max_size(CONNECTIONS).build().expect("a pool")
}

async fn bench(cluster: &Cluster, rung: Rung) -> Bench {
    let (mut store, mut edge) = (Highwater::builder(), Postgres::builder().pool_size(CONNECTIONS));
    // Over a lone primary, all fills are the primary's.
    for node in cluster.nodes().take(if rung == Rung::Primary { 1 } else { 2 }) {
        store = store.replica(node.url());
        edge = edge.node(node.url());
    }
    let store = store.postgres(|postgres| postgres.pool_size(CONNECTIONS)).connect().await.expect("a store");
    // Nothing fits into the in-process tier.
    let cache = store.cache("t", Rows).max_capacity(1).weigher(|_, _| 2).build().expect("a cache");
    let edge = Arc::new(edge.build().expect("an edge"));
    let node = if rung == Rung::Primary { 0 } else { 1 };
    if node == 1 {
        edge.probe(0).await.expect("a primary");
        edge.probe(1).await.expect("a standby");
    }
    Bench { bare: pool(if node == 0 { cluster.primary() } else { cluster.replica(0) }), edge, node, cache, rung }
}

async fn run() {
    let cluster = Cluster::builder().replicas(1).config("shared_buffers", "128MB").start().await.expect("a cluster");
    cluster.primary().execute(SCHEMA).await.expect("a table");
    cluster.wait_for_catchup().await.expect("a replica that catches up");
    let rung = if std::env::args().any(|a| a == "primary") { Rung::Primary } else { Rung::Replica };
    let b = bench(&cluster, rung).await;
    let tasks: i64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let reads: i64 = std::env::args().nth(3).unwrap().parse().unwrap();
    let what = std::env::args().nth(1).unwrap();
    for _ in 0..3 {
        let mut from = 0;
        eprintln!("BEGIN");
        let sample = match &*what {
            "bare" => b.timed(tasks, reads, &mut from, bare).await,
            "edge" => b.timed(tasks, reads, &mut from, edge).await,
            _ => b.timed(tasks, reads, &mut from, fill).await,
        };
        eprintln!(
            "{what} {tasks}: wall {:.1} us cpu {:.1} us rate {:.1}k",
            sample.us(),
            sample.cpu_us(),
            sample.rate()
        );
    }
    println!("{:?}", b.cache.stats());
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run());
}
