//! The servers behind the tiers: watched by a monitor, chosen by belief, verified on the connection that answers.

mod belief;
mod load;
mod monitor;
mod samples;

pub use load::Rung;
#[cfg(feature = "internals")]
pub(crate) use load::reaches;
pub(crate) use load::{LoadError, Loaded, Need, Work};

use crate::clock::Clock;
use crate::entry::Bound;
use crate::epoch::Epochs;
use crate::rules::{Rule, holds};
use crate::source::{Fault, FaultKind, NodeId, Role, Source};
use crate::stats::{NodeStats, StoreCounters};
use crate::watched::Watched;
use crate::{Error, History, Lsn, Settings, Timeline};
use arc_swap::ArcSwap;
use belief::{Belief, Standing};
use samples::{Sample, Samples};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The servers of one cluster and what is believed of them.
pub(crate) struct Fleet<S> {
    pub(crate) source: S,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<StoreCounters>,
    beliefs: Watched<Vec<Belief>>,
    nodes: Vec<Node>,
    primary_budget: Semaphore,
    /// Positions of the primary by the time at which they were asked for, oldest first.
    samples: ArcSwap<Samples>,
    nudged_ms: AtomicU64,
    closing: CancellationToken,
}

/// What the loads of one server share.
#[derive(Debug, Default)]
struct Node {
    /// Wakes the monitor of this server.
    kick: Notify,
    /// Questions begun.
    begun: AtomicU64,
    /// Reads that wait for this server.
    waiting: AtomicUsize,
    /// Loads under way.
    busy: AtomicUsize,
}

/// How long a primary is looked for when none is believed to be there.
const SEARCH_TIME_MAX: Duration = Duration::from_millis(500);

/// How long the primary's log is left alone after it was moved.
const NUDGE_PAUSE_MS: u64 = 50;

impl<S: Source> Fleet<S> {
    pub(crate) fn new(
        source: S,
        epochs: Arc<Epochs>,
        clock: Clock,
        settings: Settings,
        counters: Arc<StoreCounters>,
        closing: CancellationToken,
    ) -> Self {
        let beliefs = source.nodes().iter().map(|node| Belief::unknown(node.zone.clone())).collect::<Vec<_>>();
        let nodes = beliefs.iter().map(|_| Node::default()).collect();
        Self {
            source,
            epochs,
            clock,
            primary_budget: Semaphore::new(settings.primary_loads_max),
            settings,
            counters,
            beliefs: Watched::new(beliefs),
            nodes,
            samples: ArcSwap::default(),
            nudged_ms: AtomicU64::new(0),
            closing,
        }
    }

    /// The primary of the present history, if any server is believed to be it.
    pub(crate) fn primary(&self) -> Option<NodeId> {
        belief::primary(&self.beliefs.now(), self.epochs.current().history.timeline())
    }

    /// The replicas of this timeline that are believed to be up.
    pub(crate) fn replicas(&self, timeline: Timeline) -> Vec<NodeId> {
        belief::replicas(&self.beliefs.now(), timeline)
    }

    /// The primary, after asking all servers anew if none is believed to be it. Fails long before most deadlines where
    /// none is: a dead primary must not hold its readers.
    pub(crate) async fn find_primary(&self, deadline: Instant) -> Result<NodeId, Error> {
        if let Some(node) = self.primary() {
            return Ok(node);
        }
        let timeline = || self.epochs.current().history.timeline();
        let found = |beliefs: &Vec<Belief>| belief::primary(beliefs, timeline());
        tokio::select! {
            biased;
            _ = self.beliefs.wait_for(found) => {}
            () = self.ask_all(deadline.min(Instant::now() + SEARCH_TIME_MAX)) => {}
        }
        self.primary().ok_or_else(|| {
            let beliefs = self.beliefs.now();
            let names = self.source.nodes().iter().zip(beliefs.iter());
            let states = names.map(|(node, belief)| format!("{}: {}", node.name, describe(belief)));
            Error::unavailable(format!("no primary is reachable ({})", states.collect::<Vec<_>>().join("; ")))
        })
    }

    /// A position of the primary read from now on: at or above everything acknowledged before this call. All who ask at
    /// one time share one question.
    pub(crate) async fn primary_position(&self, deadline: Instant) -> Result<crate::Position, Error> {
        let node = self.find_primary(deadline).await?;
        if !self.ask(&[node], deadline, |_| false).await && holds(Rule::SilenceIsNoAnswer) {
            // What is believed was read before this call, and so is no answer to it.
            return Err(Fault::new(FaultKind::TimedOut, self.name(node), "did not tell its position in time").into());
        }
        match self.beliefs.now().get(node).map(|belief| &belief.standing) {
            Some(Standing::Up(Role::Primary { timeline, insert, .. })) => {
                Ok(crate::Position { timeline: *timeline, lsn: *insert })
            }
            Some(Standing::Out { why, note }) => Err(Fault::new(*why, self.name(node), note.clone()).into()),
            _ => Err(Error::unavailable(format!("{} is not the primary any more", self.name(node)))),
        }
    }

    /// The same with the history that it was read in: one that came meanwhile may have another log at that number.
    pub(crate) async fn primary_place(&self, deadline: Instant) -> Result<(Arc<History>, crate::Position), Error> {
        loop {
            let before = self.epochs.current().clone();
            let position = self.primary_position(deadline).await?;
            if self.epochs.current().fingerprint == before.fingerprint {
                return Ok((Arc::clone(&before.history), position));
            }
        }
    }

    /// Asks every server anew and waits for their answers, or until the deadline.
    pub(crate) async fn ask_all(&self, deadline: Instant) {
        self.ask(&self.every_node(), deadline, |_| false).await;
    }

    /// Asks every server anew until one of them answers as the primary of `timeline` or of a later one: a server that is
    /// frozen holds nobody who does not need it. Otherwise as [`ask_all`](Self::ask_all).
    pub(crate) async fn look_for_primary(&self, timeline: Timeline, deadline: Instant) {
        let is_it = |belief: &Belief| match &belief.standing {
            Standing::Up(Role::Primary { timeline: theirs, .. }) => *theirs >= timeline,
            _ => false,
        };
        self.ask(&self.every_node(), deadline, is_it).await;
    }

    fn every_node(&self) -> Vec<NodeId> {
        (0..self.nodes.len()).collect()
    }

    /// Asks these servers anew and waits for answers to questions begun after this call: for all, or for one that is
    /// `enough`, or until the deadline. Returns whether it did not come to that.
    async fn ask(&self, nodes: &[NodeId], deadline: Instant, enough: impl Fn(&Belief) -> bool) -> bool {
        let targets: Vec<(NodeId, u64)> = nodes
            .iter()
            .filter_map(|&node| {
                let known = self.nodes.get(node)?;
                known.kick.notify_one();
                Some((node, known.begun.load(Ordering::Acquire) + 1))
            })
            .collect();
        let answered = |beliefs: &Vec<Belief>| {
            let answered = |&(node, target): &(NodeId, u64)| beliefs.get(node).is_none_or(|it| it.probes >= target);
            let suffices = |at: &&(NodeId, u64)| answered(at) && beliefs.get(at.0).is_some_and(&enough);
            (targets.iter().any(|at| suffices(&at)) || targets.iter().all(answered)).then_some(())
        };
        tokio::select! {
            biased;
            answered = timeout_at(deadline, self.beliefs.wait_for(answered)) => answered.is_ok(),
            // Nobody will answer any more.
            () = self.closing.cancelled() => false,
        }
    }

    /// A staleness bound as a read sees it now. Its position is `Lsn::MAX` where none that is young enough is known.
    pub(crate) fn bound(&self, within: Duration, now_ms: u64) -> Bound {
        let since_ms = now_ms.saturating_sub(within.as_millis() as u64);
        let oldest_ms = if holds(Rule::SamplesAreYoung) { since_ms } else { 0 };
        let young = self.samples.load().since(oldest_ms);
        Bound { tag: young.map_or(Lsn::MAX, |sample| sample.insert), since_ms }
    }

    /// For how long the primary has been seen beyond `position`, as far as its positions are remembered. Less than that by an
    /// eighth at most.
    pub(crate) fn behind_for(&self, position: Lsn) -> Duration {
        let since = |sample: Sample| self.clock.now_ms().saturating_sub(sample.begun_ms);
        Duration::from_millis(self.samples.load().beyond(position).map_or(0, since))
    }

    /// Forgets the positions of the primary: its log was set back.
    pub(crate) fn forget_samples(&self) {
        self.samples.store(Arc::default());
    }

    /// Moves the primary's log, unless that was done a moment ago: a primary fill is tagged strictly below the log's
    /// end, so on an idle primary nothing could be cached above the newest write.
    pub(crate) async fn nudge(&self) {
        let now_ms = self.clock.now_ms();
        let last_ms = self.nudged_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= NUDGE_PAUSE_MS;
        let ours =
            due && self.nudged_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if let Some(node) = self.primary().filter(|_| ours) {
            self.counters.nudges.add_one();
            if let Err(fault) = self.source.nudge(node).await {
                crate::trace::nudge_failed(&fault);
            }
        }
    }

    /// How far behind the nearest replica says it is, where none is believed to be at `floor` and one may yet get there.
    pub(crate) fn replicas_lag(&self, timeline: Timeline, floor: Lsn) -> Option<Duration> {
        belief::lag(&self.beliefs.now(), timeline, floor)
    }

    pub(crate) fn name(&self, node: NodeId) -> &str {
        self.source.nodes().get(node).map_or("unknown server", |node| node.name.as_str())
    }

    pub(crate) fn stats(&self) -> Vec<NodeStats> {
        let beliefs = self.beliefs.now();
        let head = beliefs.iter().find_map(|belief| match &belief.standing {
            Standing::Up(Role::Primary { insert, .. }) => Some(*insert),
            _ => None,
        });
        let node_stats = |(node, belief): (NodeId, &Belief)| {
            let (position, lag_bytes, lag) = match &belief.standing {
                Standing::Up(Role::Standby { replay, lag, .. }) => {
                    (Some(*replay), head.map(|head| head.bytes_ahead_of(*replay)), *lag)
                }
                Standing::Up(Role::Primary { insert, .. }) => (Some(*insert), None, None),
                _ => (None, None, None),
            };
            let loads = self.nodes.get(node).map_or(0, |node| node.busy.load(Ordering::Relaxed));
            let (name, state, latency) = (self.name(node).to_owned(), describe(belief), belief.latency);
            NodeStats { name, state, position, lag_bytes, lag, latency, loads }
        };
        beliefs.iter().enumerate().map(node_stats).collect()
    }
}

fn describe(belief: &Belief) -> String {
    match &belief.standing {
        Standing::Unknown => "unknown".to_owned(),
        Standing::Up(Role::Primary { timeline, .. }) => format!("primary on timeline {timeline}"),
        Standing::Up(Role::Standby { timeline: Some(timeline), .. }) => format!("standby on timeline {timeline}"),
        Standing::Up(Role::Standby { timeline: None, .. }) => "standby on an unconfirmed timeline".to_owned(),
        Standing::Out { why, note } => format!("out ({why:?}: {note})"),
    }
}
