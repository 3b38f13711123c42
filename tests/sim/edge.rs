//! The source as the stores of a run have it: the in-memory one, or one that is wrong in a chosen way, to show that the
//! checker would notice.

use highwater::memory;
use highwater::source::{Ask, Committed, Fault, Lease, NodeId, NodeInfo, Outcome, Probe, Source, Transaction};
use highwater::{Lsn, Origin, Position, Stamp, Timeline};
use tokio::time::Instant;

/// What is wrong with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    /// A primary's tag is its flush position: a commit that is flushed and not visible counts as seen.
    TagNotStrict,
    /// The position is read after the data.
    PositionAfterData,
    /// The token does not cover the commit record.
    TokenLow,
    /// The token is read before the commit.
    TokenEarly,
    /// A standby's answer is labelled with the timeline that is wanted instead of its own.
    TimelineAssumed,
    /// What a standby showed is bounded by its replay position.
    UpperIsReplay,
    /// Nobody waits for transactions in progress on the primary.
    NoQuiesce,
    /// A commit without an answer counts as rolled back.
    UnknownIsRolledBack,
}

impl Mutant {
    pub(crate) const ALL: &'static [Self] = &[
        Self::TagNotStrict,
        Self::PositionAfterData,
        Self::TokenLow,
        Self::TokenEarly,
        Self::TimelineAssumed,
        Self::UpperIsReplay,
        Self::NoQuiesce,
        Self::UnknownIsRolledBack,
    ];
}

/// The source of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) inner: memory::Source,
    pub(crate) cluster: memory::Cluster,
    pub(crate) mutant: Mutant,
}

pub(crate) struct EdgeLease {
    inner: memory::Lease,
    from: Edge,
    node: NodeId,
    ask: Ask,
}

pub(crate) struct EdgeTx {
    inner: memory::Tx,
    from: Edge,
    node: NodeId,
}

impl Source for Edge {
    type Conn = memory::View;
    type Lease = EdgeLease;
    type Tx = EdgeTx;

    fn nodes(&self) -> &[NodeInfo] {
        self.inner.nodes()
    }

    async fn probe(&self, node: NodeId) -> Result<Probe, Fault> {
        self.inner.probe(node).await
    }

    async fn lease(&self, node: NodeId, ask: Ask) -> Result<EdgeLease, Fault> {
        let asked = if self.mutant == Mutant::NoQuiesce { Ask { quiesce: false, ..ask } } else { ask };
        let inner = self.inner.lease(node, asked).await?;
        Ok(EdgeLease { inner, from: self.clone(), node, ask })
    }

    async fn begin(&self, node: NodeId, deadline: Instant) -> Result<EdgeTx, Fault> {
        Ok(EdgeTx { inner: self.inner.begin(node, deadline).await?, from: self.clone(), node })
    }

    async fn outcome(&self, node: NodeId, xid: u64, timeline: Timeline) -> Result<Outcome, Fault> {
        self.inner.outcome(node, xid, timeline).await
    }

    async fn nudge(&self, node: NodeId) -> Result<(), Fault> {
        self.inner.nudge(node).await
    }
}

impl Lease for EdgeLease {
    type Conn = memory::View;

    fn conn(&self) -> &memory::View {
        self.inner.conn()
    }

    async fn finish(self) -> Result<Stamp, Fault> {
        let mut stamp = self.inner.finish().await?;
        match self.from.mutant {
            Mutant::TagNotStrict if stamp.origin == Origin::Primary => stamp.tag = Lsn::new(stamp.tag.offset() + 1),
            Mutant::PositionAfterData => {
                let again = Ask { floor: Lsn::MAX, upper: false, ..self.ask };
                stamp.tag = self.from.inner.lease(self.node, again).await?.finish().await?.tag;
            }
            Mutant::TimelineAssumed if stamp.origin == Origin::Standby => {
                stamp.timeline = newest(&self.from.cluster, self.from.inner.nodes().len());
            }
            Mutant::UpperIsReplay if stamp.origin == Origin::Standby => stamp.upper = stamp.upper.map(|_| stamp.tag),
            _ => {}
        }
        Ok(stamp)
    }
}

impl Transaction for EdgeTx {
    type Conn = memory::Writer;

    fn conn(&self) -> &memory::Writer {
        self.inner.conn()
    }

    fn timeline(&self) -> Timeline {
        self.inner.timeline()
    }

    async fn rollback(self, deadline: Instant) {
        self.inner.rollback(deadline).await;
    }

    async fn commit(self, deadline: Instant) -> Committed {
        let early = self.from.cluster.token(self.node);
        match (self.from.mutant, self.inner.commit(deadline).await) {
            (Mutant::TokenLow, Committed::Done { token }) => {
                Committed::Done { token: Position { lsn: token.lsn.just_below(), ..token } }
            }
            (Mutant::TokenEarly, Committed::Done { token }) => Committed::Done { token: early.unwrap_or(token) },
            (Mutant::UnknownIsRolledBack, Committed::Unknown { fault, .. }) => Committed::RolledBack(fault),
            (_, committed) => committed,
        }
    }
}

/// The newest timeline that any server writes.
fn newest(cluster: &memory::Cluster, servers: usize) -> Timeline {
    let timelines = (0..servers).filter_map(|server| cluster.token(server)).map(|token| token.timeline);
    timelines.max().unwrap_or(Timeline(1))
}
