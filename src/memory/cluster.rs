//! The handle of the cluster: what all edges and all tests share.

use super::rows::{Change, RowKey, Value};
use super::state::{State, What};
use super::wal::{Body, CHANGE_BYTES, CHECKPOINT_BYTES, Record};
use super::world::{Timed, World};
use crate::source::{NodeId, NodeInfo, Probe};
use crate::{Position, Timeline};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// A cluster of PostgreSQL-like servers in memory: one primary and its standbys, over one write-ahead log.
///
/// It is made to be no kinder than the real one. A commit is in the log before it can be seen, a standby may show it
/// before the primary does and before its own replay position says so, positions stand still at page ends, a crash takes
/// the unflushed end of the log with it and uses its positions again, and a promotion loses what had not arrived.
///
/// A handle is cheap to clone; all clones are the same cluster. Time is tokio's, so a paused runtime decides when things
/// happen, and nothing runs in the background. Servers are numbered from 0, which is the primary at first; server `n`
/// answers as node `n` until [`reroute`](Self::reroute) says otherwise. Naming a server that does not exist panics.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    world: World<State>,
    nodes: Vec<NodeInfo>,
    lies: Mutex<BTreeMap<NodeId, Lie>>,
}

/// One committed transaction, as a server's log has it.
#[derive(Clone)]
pub struct Logged {
    /// Where its commit record ends, and on which timeline it was written.
    pub position: Position,
    /// Its id; two timelines may use one for two transactions.
    pub xid: u64,
    /// Table, key and new value of each row that it changed; without a value the row was deleted.
    pub rows: Vec<(String, String, Option<Value>)>,
}

impl Logged {
    fn of(record: &Record) -> Option<Self> {
        let Body::Commit { changes, .. } = &record.body else { return None };
        let row = |Change { row, value }: &Change| (row.table.clone(), row.key.clone(), value.clone());
        let position = Position { timeline: Timeline(record.timeline), lsn: record.end };
        Some(Self { position, xid: record.xid, rows: changes.iter().map(row).collect() })
    }
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} with {} rows", self.xid, self.position, self.rows.len())
    }
}

/// Turns what a server says of itself into what the monitor is told.
pub(super) type Lie = Arc<dyn Fn(Probe) -> Probe + Send + Sync>;

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.inner.nodes).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A healthy cluster of one primary and this many standbys.
    #[must_use]
    pub fn new(standbys: usize) -> Self {
        Self::in_zones(&vec![None; standbys + 1])
    }

    /// A healthy cluster with one server for each of these zones, the first of them the primary.
    #[must_use]
    pub fn in_zones(zones: &[Option<&str>]) -> Self {
        let name = |server| if server == 0 { "primary".to_owned() } else { format!("standby-{server}") };
        let node =
            |(server, zone): (usize, &Option<&str>)| NodeInfo { name: name(server), zone: zone.map(str::to_owned) };
        let nodes: Vec<NodeInfo> = zones.iter().enumerate().map(node).collect();
        let now = Instant::now();
        let mut state = State::new(State::initial(nodes.len().saturating_sub(1)), now);
        state.insert(0, 0, Body::Other, CHECKPOINT_BYTES);
        state.flush_all(0);
        state.advance(now);
        let inner = Inner { world: World::new(state), nodes, lies: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Writes a row as somebody else who does not use this library: in one transaction, flushed and visible at once, on
    /// the first server that is up and takes writes.
    pub fn put<V: Any + Send + Sync>(&self, table: &str, key: impl ToString, value: V) {
        self.write(Change { row: RowKey::new(table, &key), value: Some(Arc::new(value)) });
    }

    /// Deletes a row as somebody else who does not use this library, like [`put`](Self::put).
    pub fn delete(&self, table: &str, key: impl ToString) {
        self.write(Change { row: RowKey::new(table, &key), value: None });
    }

    /// What a server shows of a row at this moment, without asking over a connection: for assertions of tests.
    #[must_use]
    pub fn peek<V: Any + Send + Sync>(&self, server: usize, table: &str, key: impl ToString) -> Option<Arc<V>> {
        let row = RowKey::new(table, &key);
        let value: Option<Value> = self.look(|state| state.server(server).rows.get(&row).cloned());
        value.and_then(|value| value.downcast::<V>().ok())
    }

    /// Every transaction that the log on a server's disk commits, oldest first, as far back as the log is kept: what is
    /// true whatever anybody was told, and what a crash would not undo. For the judges of tests.
    #[must_use]
    pub fn committed(&self, server: usize) -> Vec<Logged> {
        self.look(|state| {
            let (log, end) = (&state.server(server).log, state.server(server).streamable());
            let on_disk = log.from(log.first()).take_while(|record| record.end <= end);
            on_disk.filter_map(|record| Logged::of(record)).collect()
        })
    }

    fn write(&self, change: Change) {
        self.change(|state| {
            let writable = |server: &usize| state.server(*server).up && state.server(*server).primary().is_some();
            let Some(server) = (0..state.servers.len()).find(writable) else { return };
            let Some(xid) = state.assign_xid(server) else { return };
            state.insert(server, xid, Body::Other, CHANGE_BYTES);
            state.commit(server, xid, vec![change], false);
            state.flush_all(server);
            state.show(server, xid);
        });
    }

    pub(super) fn nodes(&self) -> &[NodeInfo] {
        &self.inner.nodes
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        self.inner.nodes.get(node).map_or("no such node", |info| &info.name)
    }

    pub(super) fn lies(&self) -> MutexGuard<'_, BTreeMap<NodeId, Lie>> {
        self.inner.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the cluster as it is now.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.inner.world.look(look)
    }

    /// Changes the cluster, with all that follows at once, and wakes whoever waits for something.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.inner.world.change(change)
    }

    /// Waits until `ready` finds what it looks for. Dropped, it has changed nothing but what `ready` did.
    pub(super) async fn wait<T>(&self, ready: impl FnMut(&mut State) -> Option<T>) -> T {
        self.inner.world.wait(ready).await
    }

    /// Lets a transaction roll back as soon as its server gets to it.
    pub(super) fn abandon(&self, server: usize, boot: u64, xid: u64) {
        self.change(|state| {
            if state.server(server).boot == boot {
                let now = state.now;
                state.schedule(now, server, What::RollBack { xid });
            }
        });
    }
}
