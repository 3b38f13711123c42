//! No fill is tagged newer than it is, whatever the writers do.

use crate::{PRIMARY, REPLICA, Result, anew, ask, within};
use highwater::source::postgres::Postgres;
use highwater::source::{Committed, Lease, Source, Transaction};
use highwater::testkit::Node;
use highwater::{Lsn, WalLayout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::PgLsn;

const WRITERS: usize = 6;
const FILLERS: usize = 3;
const COUNTERS: &str = "select n from counters order by id";

/// What a fill read, and the tag that it was given.
struct Fill {
    tag: Lsn,
    counters: Vec<i64>,
}

/// The token of each write of one writer: the write that set the counter to `index + 1`.
type Tokens = Vec<Lsn>;

/// The fills that miss a write that their tag claims.
fn poisoned(fills: &[Fill], writers: &[Tokens]) -> usize {
    let missed = |fill: &Fill| {
        fill.counters.iter().zip(writers).any(|(seen, tokens)| {
            let claimed = tokens.partition_point(|token| *token <= fill.tag);
            usize::try_from(*seen).unwrap() < claimed
        })
    };
    fills.iter().filter(|fill| missed(fill)).count()
}

fn wanted() -> usize {
    std::env::var("HIGHWATER_POISON_FILLS")
        .map_or(100_000, |fills| fills.parse().expect("HIGHWATER_POISON_FILLS is a number"))
}

async fn writer(source: Arc<Postgres>, id: i32, stop: Arc<AtomicBool>) -> Tokens {
    let mut tokens = Tokens::new();
    while !stop.load(Ordering::Relaxed) {
        let tx = source.begin(PRIMARY, within(30_000)).await.unwrap();
        tx.conn().execute("update counters set n = n + 1 where id = $1", &[&id]).await.unwrap();
        match tx.commit(within(30_000)).await {
            Committed::Done { token, .. } => tokens.push(token.lsn),
            other => panic!("{other:?}"),
        }
    }
    tokens
}

async fn filler(source: Arc<Postgres>, node: usize, left: Arc<AtomicUsize>) -> Vec<Fill> {
    let mut fills = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        // Half of them read the position anew, half lean on what the connection knows.
        let ask = if fills.len() % 2 == 0 { anew(node == PRIMARY) } else { ask(node == PRIMARY) };
        let lease = source.lease(node, ask).await.unwrap();
        let rows = lease.conn().query(COUNTERS, &[]).await.unwrap();
        let stamp = lease.finish().await.unwrap();
        fills.push(Fill { tag: stamp.tag, counters: rows.iter().map(|row| row.get(0)).collect() });
    }
    fills
}

/// The obvious and wrong rule: the insert position, not lowered.
async fn wrong_filler(primary: Node, left: Arc<AtomicUsize>) -> Vec<Fill> {
    let client = primary.connect().await.unwrap();
    let position = client.prepare("select pg_current_wal_insert_lsn()").await.unwrap();
    let data = client.prepare(COUNTERS).await.unwrap();
    let mut fills = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let (position, rows) =
            futures_util::future::join(client.query_one(&position, &[]), client.query(&data, &[])).await;
        let lsn: PgLsn = position.unwrap().get(0);
        let tag = WalLayout::DEFAULT.normalize(Lsn::new(u64::from(lsn)));
        fills.push(Fill { tag, counters: rows.unwrap().iter().map(|row| row.get(0)).collect() });
    }
    fills
}

struct Outcome {
    fills: usize,
    writes: usize,
    poisoned: usize,
    took: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fills, writes, poisoned, took } = self;
        write!(f, "{fills} fills beside {writes} writes in {took:.1?}: {poisoned} poisoned")
    }
}

/// Runs the writers beside the fillers, with one stall of synchronous replication on the way.
async fn run(primary: &Node, source: &Arc<Postgres>, fillers: Vec<JoinHandle<Vec<Fill>>>) -> Result<Outcome> {
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| tokio::spawn(writer(Arc::clone(source), i32::try_from(id).unwrap(), Arc::clone(&stop))))
        .collect();
    sleep(Duration::from_millis(300)).await;
    // Now every commit is in the log, and no reader of the primary sees it.
    primary.configure("synchronous_standby_names", "nosuch").await?;
    sleep(Duration::from_millis(700)).await;
    primary.configure("synchronous_standby_names", "").await?;
    let mut fills = Vec::new();
    for filler in fillers {
        fills.extend(filler.await?);
    }
    stop.store(true, Ordering::Relaxed);
    let mut tokens = Vec::new();
    for writer in writers {
        tokens.push(writer.await?);
    }
    let poisoned = poisoned(&fills, &tokens);
    Ok(Outcome { fills: fills.len(), writes: tokens.iter().map(Vec::len).sum(), poisoned, took: begun.elapsed() })
}

async fn start(replicas: usize) -> Result<(highwater::testkit::Cluster, Arc<Postgres>)> {
    // With fsync on, because the time between log and visibility is what this is about.
    let cluster = highwater::testkit::Cluster::builder().replicas(replicas).durable(true).start().await?;
    cluster.primary().execute("create table counters (id int primary key, n bigint) with (fillfactor = 10)").await?;
    cluster
        .primary()
        .execute(&format!("insert into counters select i, 0 from generate_series(0, {WRITERS} - 1) i"))
        .await?;
    cluster.wait_for_catchup().await?;
    let source = Arc::new(crate::source(&cluster).await?);
    Ok((cluster, source))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fill_of_the_primary_is_poisoned() -> Result {
    let (cluster, source) = start(0).await?;
    let left = Arc::new(AtomicUsize::new(wanted()));
    let fillers = (0..FILLERS).map(|_| tokio::spawn(filler(Arc::clone(&source), PRIMARY, Arc::clone(&left)))).collect();
    let outcome = run(cluster.primary(), &source, fillers).await?;
    println!("primary, norm(flush) - 1: {outcome}");
    assert_eq!(outcome.poisoned, 0, "{outcome}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_obvious_tag_is_caught_at_once() -> Result {
    let (cluster, source) = start(0).await?;
    let left = Arc::new(AtomicUsize::new(10_000));
    let wrong = |_| tokio::spawn(wrong_filler(cluster.primary().clone(), Arc::clone(&left)));
    let outcome = run(cluster.primary(), &source, (0..FILLERS).map(wrong).collect()).await?;
    println!("primary, norm(insert): {outcome}");
    assert!(outcome.poisoned > 0, "the test would not notice a wrong tag: {outcome}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fill_of_a_replica_is_poisoned_while_replay_stops_and_goes() -> Result {
    let (cluster, source) = start(1).await?;
    let left = Arc::new(AtomicUsize::new(wanted() / 2));
    let fillers = (0..FILLERS).map(|_| tokio::spawn(filler(Arc::clone(&source), REPLICA, Arc::clone(&left)))).collect();
    let replica = cluster.replica(0).clone();
    let pauses = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(100)).await;
            replica.pause_replay().await.unwrap();
            sleep(Duration::from_millis(50)).await;
            replica.resume_replay().await.unwrap();
        }
    });
    let outcome = run(cluster.primary(), &source, fillers).await?;
    pauses.abort();
    println!("replica, norm(replay): {outcome}");
    assert_eq!(outcome.poisoned, 0, "{outcome}");
    Ok(())
}
