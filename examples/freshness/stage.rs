//! Where a run takes place: servers, real or in memory, and instances of the library over them.

use crate::lag::Turn;
use highwater::devices::Devices;
use highwater::source::Source;
use highwater::{Cache, Highwater, Repository, Session, Strategy, Tx};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A row: its version, the operation that made it, and something to carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: u64,
    pub(crate) write: u64,
    pub(crate) body: String,
}

/// Loads rows, and counts the loads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) table: String,
    pub(crate) loads: Arc<AtomicU64>,
}

/// What a row can be read on.
pub(crate) trait Reads: Send + Sync + 'static {
    type Error: std::error::Error + Send + Sync + 'static;

    fn row(&self, table: &str, key: u64) -> impl Future<Output = Result<Option<Row>, Self::Error>> + Send;
}

impl<C: Reads> Repository<C> for Rows {
    type Key = u64;
    type Value = Row;
    type Error = C::Error;

    async fn load(&self, on: &C, key: &u64) -> Result<Option<Row>, C::Error> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        on.row(&self.table, *key).await
    }
}

/// A source of rows that can be written.
pub(crate) trait Edge: Source<Conn: Reads> + Sized {
    /// Raises the row's version by one under its lock, and names its writer.
    fn raise(tx: &Tx<Self>, table: &str, key: u64, write: u64, body: &str) -> impl Future<Output = Result<u64>> + Send;
}

/// The caches of one run, one for each instance, all over the same rows.
#[derive(Debug, Clone)]
pub(crate) struct Instance<S: Edge> {
    pub(crate) store: Highwater<S>,
    pub(crate) cache: Cache<Rows, S>,
    /// Where users' positions are kept in Redis and not by the client.
    pub(crate) devices: Option<Devices>,
}

/// What one run asks of the stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) strategy: Strategy,
    pub(crate) scoped: bool,
    pub(crate) time_to_live: Duration,
    pub(crate) capacity: u64,
    pub(crate) instances: usize,
    pub(crate) rows: u64,
    pub(crate) shared: bool,
    /// Users' positions are kept in Redis.
    pub(crate) devices: bool,
    pub(crate) seed: u64,
    pub(crate) body_bytes: usize,
}

/// Servers with everything that a run needs of them.
pub(crate) trait Stage: Sync {
    type Source: Edge;

    /// New rows 0 to `setup.rows`, each at version 1 and written by the operation of its number, on all servers; and new
    /// instances over them, which hear each other.
    fn set(&self, setup: &Setup) -> impl Future<Output = Result<(Vec<Instance<Self::Source>>, Rows)>>;

    fn turn(&self, replica: usize, turn: Turn) -> impl Future<Output = Result>;

    /// Takes Redis away, or gives it back as it was.
    fn redis_down(&self, down: bool) -> impl Future<Output = Result>;

    /// How many commands the Redis server was sent so far, also before it was away.
    fn redis_commands(&self) -> impl Future<Output = u64>;
}

/// The session of a client, as a request has it.
pub(crate) fn session(monotonic: bool) -> Session {
    if monotonic { Session::monotonic() } else { Session::new() }
}
