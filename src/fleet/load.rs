//! One load: choose a server, verify it on the connection that answers, wait, fall back.

use super::belief::{self, Belief, Want};
use super::{Fleet, Node};
use crate::entry::{Floor, Stamp};
use crate::freshness::Fallback;
use crate::rules::{Rule, holds};
use crate::source::{Ask, Fault, FaultKind, Lease, NodeId, Source};
use crate::{Error, Lsn, Origin, Timeline};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{Instant, timeout_at};

/// Where an answer came from, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// The in-process tier.
    Local,
    /// The tier that instances share.
    Shared,
    /// A replica.
    Replica,
    /// The primary.
    Primary,
}

/// What a load does once it has a connection.
pub(crate) trait Work<C>: Send + Sync {
    type Value: Send;
    type Error: Send;

    fn run(&self, on: &C) -> impl Future<Output = Result<Self::Value, Self::Error>> + Send;
}

/// What a load must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) timeline: Timeline,
    /// The reads' floor.
    pub(crate) floor: Floor,
    /// The keys' own floor: what was retracted below it must not come back from a replica that has not replayed so far.
    pub(crate) retracted: Lsn,
    pub(crate) fallback: Fallback,
    /// How long a replica is waited for.
    pub(crate) wait_until: Instant,
    pub(crate) deadline: Instant,
}

impl Need {
    /// The least tag that a replica's answer must have.
    fn tag(&self) -> Lsn {
        let retracted = if holds(Rule::KeyFloorIsAsked) { self.retracted } else { Lsn::ZERO };
        self.floor.least_tag().max(retracted)
    }
}

/// What a load brought.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    pub(crate) stamp: Stamp,
    pub(crate) rung: Rung,
    /// When the statement was about to be sent.
    pub(crate) filled_ms: u64,
    /// The answer is below the floor, and the policy allowed that.
    pub(crate) stale: bool,
}

/// Why a load brought nothing.
#[derive(Debug)]
pub(crate) enum LoadError<E> {
    /// The loader's own error.
    Loader(E),
    /// History was replaced while the load was under way: look at it anew and begin again.
    HistoryMoved,
    Failed(Error),
}

/// One attempt's end, where it was not an answer.
enum Attempt<E> {
    Loader(E),
    HistoryMoved,
    /// The loader did not end by the deadline, which says nothing about the server.
    Late,
    /// It answered below what it was believed to reach.
    Short(Stamp),
    Fault(Fault),
}

impl<S: Source> Fleet<S> {
    /// Loads from the cheapest server that provably reaches the need. `departed` is called before any statement is sent:
    /// a read that began before it is answered by the primary whatever the tag.
    pub(crate) async fn load<W: Work<S::Conn>>(
        &self,
        need: &Need,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, LoadError<W::Error>> {
        // With one server there is nothing to choose and nothing to fall back from.
        if need.floor.latest || self.nodes.len() == 1 {
            return self.load_on_primary(need, work, departed).await;
        }
        let mut tried = Vec::new();
        let mut waiting = Vec::new();
        while tried.len() < self.nodes.len() {
            let Some(node) = self.choose(need, need.tag(), &tried) else {
                if Instant::now() >= need.wait_until || !self.may_arrive(need, &tried) {
                    break;
                }
                if waiting.is_empty() {
                    self.counters.waits.add_one();
                    waiting.extend(self.nodes.iter().map(Waiting::at));
                }
                let news = |beliefs: &Vec<Belief>| {
                    let want = self.want(need, need.tag(), &tried);
                    (belief::choose(beliefs, &want).is_some() || !belief::may_arrive(beliefs, &want)).then_some(())
                };
                // Late is the same as no news: the loop looks at the clock.
                let _ = timeout_at(need.wait_until, self.beliefs.wait_for(news)).await;
                continue;
            };
            match self.attempt_unless_silent(node, need, false, work, departed).await {
                Ok(loaded) => return Ok(loaded),
                Err(failed) => self.take_in(node, failed)?,
            }
            tried.push(node);
        }
        Box::pin(self.fall_back(need, work, departed)).await
    }

    async fn fall_back<W: Work<S::Conn>>(
        &self,
        need: &Need,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, LoadError<W::Error>> {
        match need.fallback {
            Fallback::Primary => {
                self.counters.fallbacks_primary.add_one();
                self.load_on_primary(need, work, departed).await
            }
            Fallback::Error => {
                self.counters.fallbacks_error.add_one();
                Err(LoadError::Failed(Error::not_fresh("no replica reached the read's floor within the wait budget")))
            }
            Fallback::Stale => {
                self.counters.fallbacks_stale.add_one();
                self.load_anything(None, need, work, departed).await
            }
        }
    }

    /// Loads from any replica however far behind, `first` before the others, and labels what it says.
    pub(crate) async fn load_anything<W: Work<S::Conn>>(
        &self,
        first: Option<NodeId>,
        need: &Need,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, LoadError<W::Error>> {
        let mut tried = Vec::new();
        let anything = Need { floor: Floor::default(), retracted: Lsn::ZERO, ..*need };
        let mut next = first.or_else(|| self.choose(&anything, Lsn::ZERO, &tried));
        while let Some(node) = next {
            match self.attempt_unless_silent(node, &anything, false, work, departed).await {
                Ok(loaded) => return Ok(Loaded { stale: true, ..loaded }),
                Err(failed) => self.take_in(node, failed)?,
            }
            tried.push(node);
            next = self.choose(&anything, Lsn::ZERO, &tried);
        }
        // Nothing stale is to be had from a replica, so a fresh answer is the only one.
        self.load_on_primary(need, work, departed).await
    }

    async fn load_on_primary<W: Work<S::Conn>>(
        &self,
        need: &Need,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, LoadError<W::Error>> {
        let Ok(permit) = timeout_at(need.deadline, self.primary_budget.acquire()).await else {
            let text = "too many loads are at the primary (settings.primary_loads_max), and none ended by the deadline";
            return Err(LoadError::Failed(Error::overloaded(text)));
        };
        let mut node = self.find_primary(need.deadline).await.map_err(LoadError::Failed)?;
        let mut resolved_again = false;
        let answer = loop {
            match self.attempt_unless_silent(node, need, true, work, departed).await {
                Ok(loaded) => break Ok(loaded),
                Err(Attempt::Fault(fault)) if may_have_moved(&fault) && !resolved_again => {
                    // Once: the primary has moved, or a pooled connection was dead and a fresh one may not be.
                    resolved_again = true;
                    self.counters.retries.add_one();
                    self.look_for_primary(need.timeline, need.deadline).await;
                    node = self.find_primary(need.deadline).await.map_err(LoadError::Failed)?;
                }
                Err(Attempt::Fault(fault)) => break Err(LoadError::Failed(fault.into())),
                Err(failed) => {
                    self.take_in(node, failed)?;
                    break Err(LoadError::Failed(Error::not_fresh("the primary's answer falls short of the floor")));
                }
            }
        };
        drop(permit);
        answer
    }

    /// An attempt that is given up when the monitor finds the server silent: another can still answer in time, and who
    /// joined the load of a reader that wants more can still load for less.
    async fn attempt_unless_silent<W: Work<S::Conn>>(
        &self,
        node: NodeId,
        need: &Need,
        primary: bool,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, Attempt<W::Error>> {
        let begun = self.beliefs.now().get(node).map_or(0, |belief| belief.probes);
        let is_silent = |belief: &Belief| belief.is_silent_since(begun).then_some(());
        let silent = |beliefs: &Vec<Belief>| beliefs.get(node).and_then(is_silent);
        tokio::select! {
            biased;
            outcome = self.attempt(node, need, primary, work, departed) => outcome,
            () = self.beliefs.wait_for(silent) => {
                let fault = Fault::new(FaultKind::TimedOut, self.name(node), "fell silent while a load was there");
                Err(Attempt::Fault(fault))
            }
        }
    }

    async fn attempt<W: Work<S::Conn>>(
        &self,
        node: NodeId,
        need: &Need,
        primary: bool,
        work: &W,
        departed: &(dyn Fn() + Sync),
    ) -> Result<Loaded<W::Value>, Attempt<W::Error>> {
        let _busy = self.nodes.get(node).map(Busy::at);
        let ask = Ask {
            primary,
            floor: need.tag(),
            upper: need.floor.monotonic,
            quiesce: primary && need.floor.seen_on_standby.is_some() && holds(Rule::RunningAreAwaited),
            deadline: need.deadline,
        };
        let within = |what: &'static str| Fault::new(FaultKind::TimedOut, self.name(node), what);
        let lease = match timeout_at(need.deadline, self.source.lease(node, ask)).await {
            Ok(lease) => lease.map_err(Attempt::Fault)?,
            Err(_) => return Err(Attempt::Fault(within("no connection by the deadline"))),
        };
        departed();
        let filled_ms = self.clock.now_ms();
        let Ok(result) = timeout_at(need.deadline, work.run(lease.conn())).await else {
            return Err(Attempt::Late);
        };
        let stamp = match timeout_at(need.deadline, lease.finish()).await {
            Ok(finished) => finished,
            Err(_) => Err(within("the position was not read by the deadline")),
        };
        match (result, stamp) {
            // What went wrong on the connection explains the loader's error better than the loader can.
            (_, Err(fault)) if fault.is_worth_another_server() => Err(Attempt::Fault(fault)),
            (Err(error), Err(_)) => Err(Attempt::Loader(error)),
            (Ok(_), Err(fault)) => Err(Attempt::Fault(fault)),
            // Before the loader's error: on a server that is behind, a row that it does not find may well be there.
            (_, Ok(stamp)) if stamp.timeline > need.timeline => Err(Attempt::HistoryMoved),
            (_, Ok(stamp)) if !reaches(&stamp, need, primary) => Err(Attempt::Short(stamp)),
            (Err(error), Ok(_)) => Err(Attempt::Loader(error)),
            (Ok(value), Ok(stamp)) => {
                let rung = if stamp.origin == Origin::Primary { Rung::Primary } else { Rung::Replica };
                Ok(Loaded { value, stamp, rung, filled_ms, stale: false })
            }
        }
    }

    /// Learns from an attempt that was not an answer. An error is one that no other server can mend.
    fn take_in<E>(&self, node: NodeId, failed: Attempt<E>) -> Result<(), LoadError<E>> {
        match failed {
            Attempt::Loader(error) => return Err(LoadError::Loader(error)),
            Attempt::HistoryMoved => return Err(LoadError::HistoryMoved),
            Attempt::Late => return Err(LoadError::Failed(Error::timed_out("the loader was running"))),
            Attempt::Short(stamp) => {
                self.counters.disbelieved.add_one();
                crate::trace::answer_below_floor(self.name(node), stamp.tag);
            }
            Attempt::Fault(fault) => {
                self.counters.retries.add_one();
                // A cancelled query and a full pool say nothing about the next one.
                if !matches!(fault.kind, FaultKind::Conflict | FaultKind::Busy | FaultKind::Statement) {
                    self.doubt(node, &fault);
                }
            }
        }
        Ok(())
    }

    fn choose(&self, need: &Need, floor: Lsn, tried: &[NodeId]) -> Option<NodeId> {
        belief::choose(&self.beliefs.now(), &self.want(need, floor, tried))
    }

    fn may_arrive(&self, need: &Need, tried: &[NodeId]) -> bool {
        belief::may_arrive(&self.beliefs.now(), &self.want(need, need.tag(), tried))
    }

    fn want<'a>(&'a self, need: &Need, floor: Lsn, tried: &'a [NodeId]) -> Want<'a> {
        let busy = self.nodes.iter().map(|node| node.busy.load(Ordering::Relaxed)).collect();
        Want { timeline: need.timeline, floor, zone: self.settings.zone.as_deref(), tried, busy }
    }
}

/// Whether the answer may be given. A primary answer reflects whatever was visible when its statement was sent, and so
/// serves its own readers whatever its tag; a replica's answer goes by the tag alone.
pub(crate) fn reaches(stamp: &Stamp, need: &Need, asked_primary: bool) -> bool {
    let on_primary = stamp.origin == Origin::Primary;
    // A replica that was promoted meanwhile may not show yet what a standby has shown: nobody waited for it.
    let promoted = on_primary && need.floor.seen_on_standby.is_some();
    let by_tag = (stamp.tag >= need.tag() || !holds(Rule::ReplicaReaches)) && !promoted;
    let on_timeline = stamp.timeline == need.timeline || !holds(Rule::AnswerOnTimeline);
    on_timeline && (asked_primary && on_primary || by_tag)
}

fn may_have_moved(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::WrongRole | FaultKind::Down | FaultKind::Unproven | FaultKind::Foreign)
}

/// Counts a load at a server while it lives.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn at(node: &'a Node) -> Self {
        node.busy.fetch_add(1, Ordering::Relaxed);
        Self(&node.busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a reader that waits for a server while it lives, and wakes the server's monitor.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn at(node: &'a Node) -> Self {
        if node.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            node.kick.notify_one();
        }
        Self(&node.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
