//! Servers, instances over them, and a table `rows`.

use crate::rows::TABLE;
pub(crate) use crate::rows::{Row, Rows};
use highwater::source::postgres::QueryError;
use highwater::testkit::{Cluster, Node, RedisServer};
use highwater::{BusState, Cache, Highwater, HighwaterBuilder, Read, Receipt, Session, Tx};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A test that takes longer hangs.
const TEST_TIME_MAX: Duration = Duration::from_secs(150);

/// Runs one test on two threads, as an application would, and fails it where it hangs.
pub(crate) fn run(test: impl Future<Output = Result>) -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async { timeout(TEST_TIME_MAX, Box::pin(test)).await });
    runtime.shutdown_timeout(Duration::from_secs(10));
    outcome.unwrap_or_else(|_| Err(format!("it did not end within {TEST_TIME_MAX:?}").into()))
}

/// What every write does: it raises the row's version by one under the row's lock.
pub(crate) const WRITE: &str = "insert into rows values ($1, 1, $2, $3) on conflict (id) do update \
     set version = rows.version + 1, op = excluded.op, name = excluded.name returning version";

/// A primary and its replicas, whose table `rows` holds row 1, `ada`.
pub(crate) async fn cluster(replicas: usize) -> Result<Cluster> {
    prepared(Cluster::start(replicas).await?).await
}

pub(crate) async fn prepared(cluster: Cluster) -> Result<Cluster> {
    cluster.primary().execute(&format!("{TABLE}; insert into rows values (1, 1, 0, 'ada')")).await?;
    cluster.wait_for_catchup().await?;
    Ok(cluster)
}

pub(crate) fn over(cluster: &Cluster) -> HighwaterBuilder {
    over_nodes(cluster.nodes())
}

pub(crate) fn over_nodes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> HighwaterBuilder {
    nodes.into_iter().fold(Highwater::builder(), |builder, node| builder.replica(node.url()))
}

/// One instance: a store and its cache of `rows`.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) store: Highwater,
    pub(crate) rows: Cache<Rows>,
    pub(crate) loads: Arc<AtomicUsize>,
}

impl Instance {
    /// One that shares nothing.
    pub(crate) async fn alone(builder: HighwaterBuilder) -> Result<Self> {
        Self::new(builder, Rows::default(), false).await
    }

    /// One that shares entries and retractions through `redis`, whose bus is live.
    pub(crate) async fn sharing(builder: HighwaterBuilder, redis: &RedisServer) -> Result<Self> {
        let instance = Self::new(builder.redis(redis.url()), Rows::default(), true).await?;
        instance.until_bus(BusState::Live).await?;
        Ok(instance)
    }

    pub(crate) async fn new(builder: HighwaterBuilder, repository: Rows, shared: bool) -> Result<Self> {
        let store = builder.connect().await?;
        let loads = Arc::clone(&repository.loads);
        let cache = store.cache("rows", repository).time_to_live(Duration::from_secs(60));
        let rows = if shared { cache.shared().build()? } else { cache.build()? };
        Ok(Self { store, rows, loads })
    }

    pub(crate) async fn get(&self, session: &Session, id: i64) -> Result<Read<Row>> {
        Ok(self.rows.get(session, &id).await?)
    }

    /// The name that a session reads.
    pub(crate) async fn name(&self, session: &Session, id: i64) -> Result<Option<String>> {
        Ok(self.get(session, id).await?.value.map(|row| row.name.clone()))
    }

    /// Writes a name and retracts its key.
    pub(crate) async fn write(&self, session: &Session, id: i64, name: &str) -> Result<Receipt> {
        let mut tx = self.store.begin(session).await?;
        put(&tx, id, name).await?;
        tx.retract(&self.rows, &id);
        Ok(tx.commit().await?)
    }

    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Waits for a state of the bus, and says how long that took.
    pub(crate) async fn until_bus(&self, state: BusState) -> Result<Duration> {
        until("the bus to change", Duration::from_secs(30), async || self.store.stats().bus == state).await
    }

    /// Waits until what is believed of a server begins with this word.
    pub(crate) async fn until_node(&self, node: usize, state: &str) -> Result<Duration> {
        let what = format!("node {node} to be {state}");
        until(&what, Duration::from_secs(30), async || self.store.stats().nodes[node].state.starts_with(state)).await
    }
}

/// Writes a name within a transaction.
pub(crate) async fn put(tx: &Tx, id: i64, name: &str) -> Result<i64, QueryError> {
    Ok(tx.query_one(WRITE, &[&id, &0_i64, &name]).await?.get(0))
}

/// Waits until something holds, and says how long that took.
pub(crate) async fn until(what: &str, longest: Duration, holds: impl AsyncFn() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !holds().await {
        if begun.elapsed() > longest {
            return Err(format!("waited {longest:?} for {what}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}

/// An error with all its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
