//! The edge to the cluster, as one instance has it.

use super::cluster::Cluster;
use super::connection::{Connection, Run};
use super::lease::{Confirmed, Known, Lease, confirm, streamed};
use super::network::{Network, Step};
use super::server::{Mode, Server};
use super::tx::Tx;
use super::wal::{Body, MESSAGE_BYTES};
use crate::source::{self, Ask, Fault, FaultKind, NodeId, NodeInfo, Outcome, Probe, Role};
use crate::{Timeline, WalLayout};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long an operation without a deadline of its own may take.
const OPERATION_BOUND: Duration = Duration::from_secs(1);

/// One instance's way to a [`Cluster`]: its own connections, over its own network. Clones share them.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) cluster: Cluster,
    network: Network,
    system_identifier: u64,
    pub(super) shelf: Arc<Shelf>,
}

/// Idle connections, and what is known of each node.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    idle: Mutex<BTreeMap<NodeId, Vec<Connection>>>,
    known: Mutex<BTreeMap<NodeId, Known>>,
    pub(super) confirmed: Mutex<BTreeMap<NodeId, Confirmed>>,
    /// By transaction without a known outcome: the run of the server that it ran on; `None` where two had the same id.
    doubtful: Mutex<BTreeMap<u64, Option<Run>>>,
}

/// How many transactions without a known outcome are remembered.
const DOUBTFUL_MAX: usize = 1024;

impl Cluster {
    /// A new instance's way to the cluster, over a perfect network.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source_over(Network::default())
    }

    /// A new instance's way to the cluster, over this network.
    #[must_use]
    pub fn source_over(&self, network: Network) -> Source {
        let system_identifier = self.look(|state| state.server(0).system_identifier);
        Source { cluster: self.clone(), network, system_identifier, shelf: Arc::default() }
    }
}

impl Source {
    /// An idle connection, or a new one.
    pub(super) async fn connection(&self, node: NodeId) -> Result<Connection, Fault> {
        // The end of a server closes its sockets, and a pool notices that of idle connections.
        while let Some(idle) = self.shelf.pop(node) {
            if self.cluster.look(|state| idle.is_alive_in(state)) {
                return Ok(idle);
            }
        }
        let connection = Connection::open(&self.cluster, &self.network, node).await?;
        let theirs = self.cluster.look(|state| state.server(connection.server).system_identifier);
        if theirs != self.system_identifier {
            return Err(connection.fault(FaultKind::Foreign, "the server belongs to another cluster"));
        }
        Ok(connection)
    }

    /// A connection of whatever server stands behind the pooler now; the same where there is no pooler.
    pub(super) fn after_commit(&self, connection: Connection) -> Connection {
        if connection.pooled { Connection::routed(&self.cluster, &self.network, connection.node) } else { connection }
    }

    async fn bounded<T>(&self, node: NodeId, run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match timeout(OPERATION_BOUND, run).await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(FaultKind::TimedOut, self.cluster.name(node), "no answer in time")),
        }
    }
}

impl Shelf {
    fn idle(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position that was read last, by node.
    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self, node: NodeId) -> Option<Connection> {
        self.idle().get_mut(&node).and_then(Vec::pop)
    }

    /// Remembers on which run of which server a transaction ran whose outcome is not known.
    pub(super) fn doubt(&self, xid: u64, run: Run) {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.entry(xid).and_modify(|known| *known = known.filter(|known| *known == run)).or_insert(Some(run));
        if doubtful.len() > DOUBTFUL_MAX {
            doubtful.pop_first();
        }
    }

    /// Whether another run of the server may have given the same id to another transaction: after a crash the ids that
    /// had not reached the disk are given out again.
    fn is_ambiguous(&self, xid: u64, connection: &Connection) -> bool {
        let doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.get(&xid).is_some_and(|ran_on| *ran_on != Some(connection.run()))
    }

    /// Puts a connection back. Behind a pooler there is nothing to keep.
    pub(super) fn put_back(&self, connection: Connection) {
        if !connection.pooled && connection.is_usable() {
            self.idle().entry(connection.node).or_default().push(connection);
        }
    }
}

impl source::Source for Source {
    type Conn = super::View;
    type Lease = Lease;
    type Tx = Tx;

    fn nodes(&self) -> &[NodeInfo] {
        self.cluster.nodes()
    }

    async fn probe(&self, node: NodeId) -> Result<Probe, Fault> {
        let probe = self.bounded(node, async {
            let connection = Connection::open(&self.cluster, &self.network, node).await?;
            let now = self.cluster.look(|state| state.now);
            let mut probe = connection.ask(Step::Probe, |server| Ok(describe(server, now))).await?;
            if let Role::Standby { timeline, replay, .. } = &mut probe.role {
                // Its own statement, behind the position, as in a lease.
                *timeline = connection.ask(Step::Timeline, streamed).await?;
                timeline.inspect(|&timeline| confirm(self, &connection, timeline, *replay));
            }
            Ok(probe)
        });
        let probe = probe.await?;
        let lie = self.cluster.lies().get(&node).cloned();
        Ok(match lie {
            Some(lie) => lie(probe),
            None => probe,
        })
    }

    async fn lease(&self, node: NodeId, ask: Ask) -> Result<Lease, Fault> {
        match tokio::time::timeout_at(ask.deadline, Lease::open(self, node, ask)).await {
            Ok(lease) => lease,
            Err(_) => Err(Fault::new(FaultKind::TimedOut, self.cluster.name(node), "no connection in time")),
        }
    }

    async fn begin(&self, node: NodeId, deadline: Instant) -> Result<Tx, Fault> {
        match tokio::time::timeout_at(deadline, Tx::begin(self, node)).await {
            Ok(tx) => tx,
            Err(_) => Err(Fault::new(FaultKind::TimedOut, self.cluster.name(node), "no transaction in time")),
        }
    }

    async fn outcome(&self, node: NodeId, xid: u64, timeline: Timeline) -> Result<Outcome, Fault> {
        let outcome = self.bounded(node, async {
            let connection = Connection::open(&self.cluster, &self.network, node).await?;
            let ask = |server: &Server| {
                let primary = server.primary().ok_or(FaultKind::WrongRole)?;
                if server.timeline != timeline.0 {
                    return Err(FaultKind::Unproven);
                }
                match primary.running.contains_key(&xid) {
                    true => Ok(Outcome::InProgress),
                    false => Ok(server.rows.outcome(xid, primary.next_xid)),
                }
            };
            let outcome = connection.ask(Step::Outcome, ask).await?;
            Ok(if self.shelf.is_ambiguous(xid, &connection) { Outcome::Forgotten } else { outcome })
        });
        outcome.await
    }

    async fn nudge(&self, node: NodeId) -> Result<(), Fault> {
        let nudge = self.bounded(node, async {
            let connection = self.connection(node).await?;
            connection.send(Step::Nudge).await?;
            let server = connection.server;
            let written = self.cluster.change(|state| {
                let written = state.insert(server, 0, Body::Other, MESSAGE_BYTES);
                state.flush_all(server);
                written
            });
            connection.travel(Step::Answer).await?;
            written.ok_or_else(|| connection.fault(FaultKind::WrongRole, "recovery is in progress"))?;
            self.shelf.put_back(connection);
            Ok(())
        });
        nudge.await
    }
}

/// What a server says of itself, but for the timeline of a standby.
fn describe(server: &Server, now: Instant) -> Probe {
    let normal = |lsn| WalLayout::DEFAULT.normalize(lsn);
    let role = match &server.mode {
        Mode::Primary(primary) => Role::Primary {
            timeline: Timeline(server.timeline),
            insert: primary.token(),
            flush: normal(primary.flush),
            switches: server.switches.clone(),
            started_ms: server.started_ms,
        },
        Mode::Standby(standby) => Role::Standby {
            timeline: None,
            replay: normal(standby.replay),
            lag: match standby.applied == server.log.next() && standby.unreported.is_none() {
                true => Some(Duration::ZERO),
                false => standby.last_commit.map(|at| now.saturating_duration_since(at)),
            },
        },
    };
    Probe { system_identifier: server.system_identifier, role }
}
