//! A hit of the in-process tier against a bare `get` of the cache that it is made of.
//!
//! Goal: at most 1.10 of the bare time, no allocation, and an answer at the first poll. And where instances share a log of
//! retractions at most 1.05 of the time without, also of a hit that only the watermark allows.

#![expect(clippy::expect_used, reason = "what is not as expected is not measured")]

#[expect(dead_code, reason = "a hit is judged by processor time alone")]
mod paired;

use futures_util::FutureExt;
use highwater::memory::{Cluster, Shared, Source, View};
use highwater::source::Fault;
use highwater::{Cache, Highwater, Position, Repository, Session, Token};
use moka::sync::Cache as Moka;
use paired::{Effort, Sample, cpu, head, pairs, row};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::time::ClockId;
use serde::Serialize;
use std::borrow::Cow;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::time::Instant;

const ROWS: usize = 100_000;
const CAPACITY: u64 = 2 * ROWS as u64;
const DAY: Duration = Duration::from_secs(24 * 3600);
const THREADS_MAX: usize = 2;

trait Key: Clone + Eq + Hash + Serialize + Send + Sync + 'static {
    const NAME: &str;

    fn numbered(number: usize) -> Self;

    fn number(&self) -> usize;
}

impl Key for u64 {
    const NAME: &str = "u64";

    fn numbered(number: usize) -> Self {
        number as Self
    }

    fn number(&self) -> usize {
        *self as usize
    }
}

impl Key for String {
    const NAME: &str = "String";

    /// 23 bytes.
    fn numbered(number: usize) -> Self {
        format!("user:{number:018}")
    }

    fn number(&self) -> usize {
        self.rsplit(':').next().and_then(|number| number.parse().ok()).expect("a key of ours")
    }
}

/// 256 bytes.
struct Row {
    number: usize,
    _rest: [u8; 248],
}

impl Row {
    fn of(key: &impl Key) -> Self {
        Self { number: key.number(), _rest: [7; 248] }
    }
}

struct Rows<K> {
    grouped: bool,
    /// Filled by the loader, so that what both caches hold lies strewn over the memory alike.
    bare: Moka<K, Arc<Row>>,
}

impl<K: Key> Repository<View> for Rows<K> {
    type Key = K;
    type Value = Row;
    type Error = Fault;

    async fn load(&self, _: &View, key: &K) -> Result<Option<Row>, Fault> {
        self.bare.insert(key.clone(), Arc::new(Row::of(key)));
        Ok(Some(Row::of(key)))
    }

    fn groups(&self, key: &K, _: Option<&Row>) -> impl IntoIterator<Item = Cow<'static, str>> {
        let groups = if self.grouped { vec![key.number() % 1000, key.number() % 10] } else { Vec::new() };
        groups.into_iter().map(|group| Cow::Owned(format!("group:{group}")))
    }
}

/// The two caches, full, and the keys in the orders in which they are asked for.
struct Bench<K: Key> {
    keys: Vec<K>,
    bare: Moka<K, Arc<Row>>,
    ours: Cache<Rows<K>, Source>,
    /// With no token, and with one that every entry just meets.
    sessions: [Session; 2],
}

impl<K: Key> Bench<K> {
    async fn filled(store: &Highwater<Source>, grouped: bool) -> Self {
        let [bench] = Self::all_filled([store], grouped).await;
        bench
    }

    /// Row by row in all of them, so that what they hold lies strewn over the memory alike.
    async fn all_filled<const N: usize>(stores: [&Highwater<Source>; N], grouped: bool) -> [Self; N] {
        let name = format!("{} {grouped}", K::NAME);
        let mut benches = stores.map(|store| {
            let bare = Moka::new(CAPACITY);
            let rows = Rows { grouped, bare: bare.clone() };
            let ours = store.cache(name.clone(), rows).max_capacity(CAPACITY).time_to_live(DAY).build();
            let (keys, ours) = ((0..ROWS).map(K::numbered).collect(), ours.expect("a cache"));
            Self { keys, bare, ours, sessions: [Session::new(), Session::new()] }
        });
        let mut least = [None::<Position>; N];
        for at in (0..ROWS).map(|at| at * 7_919 % ROWS) {
            for (bench, least) in benches.iter().zip(&mut least) {
                let key = bench.keys.get(at).expect("a key of ours");
                let read = bench.ours.get(&Session::new(), key).await.expect("a row");
                *least = least.iter().copied().chain([read.position]).min_by_key(|position| position.lsn);
            }
        }
        for ((bench, least), store) in benches.iter_mut().zip(least).zip(stores) {
            bench.bare.run_pending_tasks();
            let resident = (bench.ours.local_entries(), bench.bare.entry_count());
            assert_eq!(resident, (ROWS as u64, ROWS as u64), "all are resident");
            let token = Token::at(&store.history(), least.expect("a position"));
            bench.sessions[1] = Session::from_token(token);
        }
        benches
    }

    /// One round, by this many threads at once, each in its own part of the order.
    fn bare(&self, order: &[u32], threads: usize) -> Sample {
        timed(order, threads, |order| {
            order.iter().map(|&at| self.bare.get(self.key(at)).map_or(0, |row| row.number)).sum()
        })
    }

    fn ours(&self, order: &[u32], threads: usize, session: &Session) -> Sample {
        let before = self.ours.stats().hits_local;
        // Two clients would not share a session.
        let token = session.token();
        let ns = timed(order, threads, |order| {
            let session = Session::from_token(token.clone());
            order.iter().map(|&at| self.hit(&session, at)).sum()
        });
        assert_eq!(self.ours.stats().hits_local - before, order.len() as u64, "every read was a hit");
        ns
    }

    /// One hit: ready at the first poll.
    fn hit(&self, session: &Session, at: u32) -> usize {
        let read = self.ours.get(session, self.key(at)).now_or_never().expect("a hit awaits nothing");
        read.ok().and_then(|read| read.value).map_or(0, |row| row.number)
    }

    fn key(&self, at: u32) -> &K {
        self.keys.get(at as usize).expect("a key of ours")
    }

    async fn compare(&self, effort: Effort, grouped: bool) {
        let groups = if grouped { "two groups" } else { "no group" };
        let count = 20_000;
        for (orders, shape) in [(zipf(effort), "Zipf"), (uniform(effort), "uniform")] {
            for (session, token) in self.sessions.iter().zip(["no token", "token"]) {
                for threads in 1..=THREADS_MAX {
                    let (mut bare, mut ours) = (orders.chunks(count).cycle(), orders.chunks(count).cycle());
                    let pairs = pairs(
                        effort.rounds(),
                        async || self.bare(bare.next().expect("an order"), threads),
                        async || self.ours(ours.next().expect("an order"), threads, session),
                    );
                    let what = format!("{}, {groups}, {token}, {shape}, {threads} thread", K::NAME);
                    row(&what, ..=1.10, &pairs.await, Sample::cpu_us);
                }
            }
        }
    }

    /// Counts what hits allocate, after the first ones.
    fn profile(&self, effort: Effort, grouped: bool) {
        let order = uniform(effort);
        let order = || order.iter().take(ROWS);
        let count = |run: &dyn Fn() -> usize| {
            black_box(run());
            allocation_counter::measure(|| assert_ne!(black_box(run()), 0)).count_total
        };
        let bare = count(&|| order().filter_map(|&at| self.bare.get(self.key(at))).map(|row| row.number).sum());
        for (session, token) in self.sessions.iter().zip(["no token", "token"]) {
            let ours = count(&|| order().map(|&at| self.hit(session, at)).sum());
            println!("{}, grouped {grouped}, {token}: {ours} allocations in {ROWS} hits (bare {bare})", K::NAME);
        }
    }
}

/// One round over the order. `run` returns the sum of the numbers of the rows that it saw.
fn timed(order: &[u32], threads: usize, run: impl Fn(&[u32]) -> usize + Sync) -> Sample {
    let expected: usize = order.iter().map(|&at| at as usize).sum();
    let part = order.len() / threads;
    let start = Barrier::new(threads);
    let work = |order| {
        start.wait();
        let begun = cpu(ClockId::ThreadCPUTime);
        let sum = run(order);
        (cpu(ClockId::ThreadCPUTime) - begun, sum)
    };
    let begun = Instant::now();
    let done: Vec<(Duration, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = order.chunks(part).map(|order| scope.spawn(|| work(order))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(done.iter().map(|(_, sum)| sum).sum::<usize>(), expected, "the rows are those of the keys");
    Sample { count: order.len() as f64, wall: begun.elapsed(), cpu: done.iter().map(|(time, _)| *time).sum() }
}

/// An order in which the `n`th most popular of the rows is asked for in proportion to `n` to the power of -0.99.
fn zipf(effort: Effort) -> Vec<u32> {
    let mut sum = 0.0;
    let shares: Vec<f64> = (1..=ROWS)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut chance = StdRng::seed_from_u64(1);
    // Ranks are strewn over the keys, so that popular rows do not lie side by side.
    let key = |rank: usize| (rank * 7_919 % ROWS) as u32;
    let draws = effort.of(1_000_000, ROWS);
    (0..draws)
        .map(|_| chance.random::<f64>() * sum)
        .map(|at| key(shares.partition_point(|share| *share < at)))
        .collect()
}

fn uniform(effort: Effort) -> Vec<u32> {
    let mut chance = StdRng::seed_from_u64(2);
    (0..effort.of(1_000_000, ROWS)).map(|_| chance.random_range(0..ROWS as u32)).collect()
}

async fn run<K: Key>(effort: Effort, store: &Highwater<Source>) {
    for grouped in [false, true] {
        let bench = Bench::<K>::filled(store, grouped).await;
        bench.profile(effort, grouped);
        head(&format!("Local hit, {} keys: microseconds of processor time", K::NAME));
        bench.compare(effort, grouped).await;
    }
}

/// Where there is a log of retractions, against where there is none.
async fn extended(effort: Effort) {
    let (cluster, shared) = (Cluster::new(0), Shared::new(1));
    let without = Highwater::over(cluster.source()).start().await.expect("a store");
    let with = Highwater::over(cluster.source()).ledger(shared).start().await.expect("a store");
    while with.stats().watermark.is_none_or(|watermark| watermark.position.is_none()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is filled before anything was written since the log is heard is not extended.
    for _ in 0..2 {
        let tx = with.begin(&Session::new()).await.expect("a transaction");
        tx.put("rows", 0, 0_u64).await.expect("a write");
        tx.commit().await.expect("a commit");
    }
    let [bare, ours] = Bench::<u64>::all_filled([&without, &with], false).await;
    // Another row is written, so no entry is as young as the token.
    let wrote = Session::new();
    let mut tx = with.begin(&wrote).await.expect("a transaction");
    tx.put("rows", 0, 0_u64).await.expect("a write");
    tx.retract(&ours.ours, &(ROWS as u64));
    let receipt = tx.commit().await.expect("a commit");
    while with.stats().watermark.and_then(|watermark| watermark.position) < Some(receipt.position.lsn) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Of the rows that share a slot of the floors with the one that was written.
    for key in &ours.keys {
        ours.ours.get(&wrote, key).await.expect("a row");
    }
    head("Local hit, u64 keys, with a log of retractions against without: microseconds of processor time");
    let orders = zipf(effort);
    for (what, theirs, session) in [
        ("no token", &bare.sessions[0], &ours.sessions[0]),
        ("token that the entry meets", &bare.sessions[1], &ours.sessions[1]),
        ("token that only the watermark meets, against one that the entry does", &bare.sessions[1], &wrote),
    ] {
        let before = ours.ours.stats();
        let (mut one, mut other) = (orders.chunks(20_000).cycle(), orders.chunks(20_000).cycle());
        let pairs = pairs(
            effort.rounds(),
            async || bare.ours(one.next().expect("an order"), 1, theirs),
            async || ours.ours(other.next().expect("an order"), 1, session),
        );
        row(what, ..=1.05, &pairs.await, Sample::cpu_us);
        let (hits, after) = (ours.ours.stats().hits_local - before.hits_local, ours.ours.stats());
        let extended = (after.hits_extended - before.hits_extended) as f64 / hits as f64;
        let expected = if std::ptr::eq(session, &raw const wrote) { 1.0 } else { 0.0 };
        assert!((extended - expected).abs() < 0.01, "the watermark allowed {extended} of the hits");
    }
    without.close().await;
    with.close().await;
}

fn main() {
    let effort = Effort::asked_for();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cluster = Cluster::new(0);
        let store = Highwater::over(cluster.source()).start().await.expect("a store");
        run::<u64>(effort, &store).await;
        run::<String>(effort, &store).await;
        store.close().await;
        extended(effort).await;
    });
}
