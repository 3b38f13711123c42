//! One connection to one server.

use super::cluster::Cluster;
use super::network::{Fate, Network, Step};
use super::server::Server;
use super::state::State;
use crate::source::{Fault, FaultKind, NodeId};
use std::sync::atomic::{AtomicBool, Ordering};

/// A server, and which of its lives.
pub(super) type Run = (usize, u64);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) cluster: Cluster,
    pub(super) node: NodeId,
    pub(super) server: usize,
    pub(super) boot: u64,
    sessions: u64,
    pub(super) pooled: bool,
    network: Network,
    cut: AtomicBool,
}

impl Connection {
    /// Connects to whichever server answers under the node's name now.
    pub(super) async fn open(cluster: &Cluster, network: &Network, node: NodeId) -> Result<Self, Fault> {
        pass(cluster, network, node, Step::Connect).await?;
        let connection = Self::routed(cluster, network, node);
        if !connection.answers().await {
            return Err(connection.fault(FaultKind::Down, "connection refused"));
        }
        Ok(connection)
    }

    /// A connection to whichever server answers under the node's name now, without asking whether it is there.
    pub(super) fn routed(cluster: &Cluster, network: &Network, node: NodeId) -> Self {
        let (server, pooled, boot, sessions) = cluster.look(|state| {
            let route = *state.route(node);
            let server = state.server(route.server);
            (route.server, route.pooled, server.boot, server.sessions)
        });
        let (cluster, network) = (cluster.clone(), network.clone());
        Self { cluster, node, server, boot, sessions, pooled, network, cut: AtomicBool::new(false) }
    }

    /// Lets a request travel to the server, and waits while that is frozen.
    pub(super) async fn send(&self, step: Step) -> Result<(), Fault> {
        self.travel(step).await?;
        if self.answers().await { Ok(()) } else { Err(self.broken()) }
    }

    /// Lets an answer travel back, which the server sent already.
    pub(super) async fn travel(&self, step: Step) -> Result<(), Fault> {
        let passed = pass(&self.cluster, &self.network, self.node, step).await;
        if passed.is_err() {
            self.cut.store(true, Ordering::Relaxed);
        }
        if self.cut.load(Ordering::Relaxed) { Err(self.broken()) } else { Ok(()) }
    }

    /// Sends a question, lets the server answer it as of the moment when it arrives there, and lets the answer travel
    /// back, be it an error.
    pub(super) async fn ask<T>(
        &self,
        step: Step,
        read: impl FnOnce(&Server) -> Result<T, FaultKind>,
    ) -> Result<T, Fault> {
        self.send(step).await?;
        let (server, name) = (self.server, self.cluster.name(self.node));
        let read = self.cluster.look(|state| read(state.server(server)));
        self.travel(Step::Answer).await?;
        read.map_err(|kind| Fault::new(kind, name, explain(kind)))
    }

    /// Whether the server is still the process that the connection was opened to.
    pub(super) fn is_alive_in(&self, state: &State) -> bool {
        let server = state.server(self.server);
        let same = server.boot == self.boot && server.sessions == self.sessions;
        server.up && same && !self.cut.load(Ordering::Relaxed)
    }

    /// The same, for a connection about to be used; a client learns of a death only then.
    pub(super) fn is_usable(&self) -> bool {
        !self.cut.load(Ordering::Relaxed)
    }

    pub(super) fn run(&self) -> Run {
        (self.server, self.boot)
    }

    async fn answers(&self) -> bool {
        let answer = |state: &mut State| match self.is_alive_in(state) {
            true if state.server(self.server).frozen => None,
            alive => Some(alive),
        };
        self.cluster.wait(answer).await
    }

    pub(super) fn broken(&self) -> Fault {
        self.fault(FaultKind::Down, "the server closed the connection unexpectedly")
    }

    pub(super) fn fault(&self, kind: FaultKind, message: &str) -> Fault {
        Fault::new(kind, self.cluster.name(self.node), message)
    }
}

async fn pass(cluster: &Cluster, network: &Network, node: NodeId, step: Step) -> Result<(), Fault> {
    match network.decide(node, step) {
        Fate::Pass(time) if time.is_zero() => tokio::task::yield_now().await,
        Fate::Pass(time) => tokio::time::sleep(time).await,
        Fate::Cut => return Err(Fault::new(FaultKind::Down, cluster.name(node), "the connection was cut")),
    }
    Ok(())
}

fn explain(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::WrongRole => "the server is not in the role that was needed",
        FaultKind::Unproven => "the server cannot tell its timeline: it streams from nowhere",
        FaultKind::Foreign => "the server belongs to another cluster",
        FaultKind::Conflict => "canceling statement due to conflict with recovery",
        _ => "the statement failed",
    }
}
