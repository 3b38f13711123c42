//! One task a server that asks it what it is and how far.

use super::Fleet;
use super::belief::{Belief, Standing, smooth};
use super::samples::Sample;
use crate::epoch::{HighWater, Sighted};
use crate::source::{Fault, FaultKind, NodeId, Probe, Role, Source};
use crate::trace;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

/// How long one question may take before the server counts as frozen.
const PROBE_MAX: Duration = Duration::from_secs(1);

impl<S: Source> Fleet<S> {
    /// Watches one server, for ever. While reads wait for it one question serves them all.
    pub(crate) async fn watch(self: Arc<Self>, node: NodeId) {
        let Some(shared) = self.nodes.get(node) else { return };
        loop {
            let question = shared.begun.fetch_add(1, Ordering::AcqRel) + 1;
            self.probe(node, question).instrument(trace::probe(self.name(node))).await;
            let waited_for = shared.waiting.load(Ordering::Acquire) > 0;
            let pause = if waited_for { self.settings.wait_interval } else { self.settings.probe_interval };
            tokio::select! {
                biased;
                () = shared.kick.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn probe(&self, node: NodeId, question: u64) {
        // Taken before the question: an answer that was overtaken must not look like a history that went back.
        let before = self.epochs.high_water();
        let begun = Instant::now();
        let begun_ms = self.clock.now_ms();
        let answer = match timeout(PROBE_MAX, self.source.probe(node)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new(FaultKind::TimedOut, self.name(node), "did not answer the monitor in time")),
        };
        let standing = match answer {
            Ok(probe) => self.judge(node, probe, before, begun_ms),
            Err(fault) => Standing::Out { why: fault.kind, note: fault.message },
        };
        self.beliefs.change(|beliefs| {
            if let Some(belief) = beliefs.get_mut(node) {
                report(self.name(node), belief, &standing);
                if matches!(standing, Standing::Up(_)) {
                    belief.latency = smooth(belief.latency, begun.elapsed());
                }
                belief.standing = standing;
                belief.probes = question;
            }
        });
    }

    fn judge(&self, node: NodeId, probe: Probe, before: HighWater, begun_ms: u64) -> Standing {
        let ours = self.epochs.current().history.system_identifier();
        if probe.system_identifier != ours {
            let note = format!("belongs to cluster {}, not {ours}", probe.system_identifier);
            return Standing::Out { why: FaultKind::Foreign, note };
        }
        let Role::Primary { timeline, insert, .. } = &probe.role else { return Standing::Up(probe.role) };
        match self.epochs.saw_primary(probe.system_identifier, &probe.role, before) {
            Sighted::NotOurs => {
                let note = format!("takes writes on timeline {timeline}, which the cluster has left");
                return Standing::Out { why: FaultKind::WrongRole, note };
            }
            Sighted::Replaced => {
                self.counters.replaced.add_one();
                self.forget_samples();
                trace::history_replaced(self.name(node), timeline.0);
            }
            Sighted::Crashed(top) => {
                self.counters.crashes.add_one();
                self.forget_samples();
                trace::primary_crashed(self.name(node), top);
            }
            Sighted::Same => {}
        }
        self.samples.rcu(|samples| samples.with(Sample { begun_ms, insert: *insert }));
        Standing::Up(probe.role)
    }

    /// What a load learned about a server: it is out until the monitor has a better answer.
    pub(super) fn doubt(&self, node: NodeId, fault: &Fault) {
        self.beliefs.change(|beliefs| {
            if let Some(belief) = beliefs.get_mut(node) {
                let standing = Standing::Out { why: fault.kind, note: fault.message.clone() };
                report(self.name(node), belief, &standing);
                belief.standing = standing;
            }
        });
        if let Some(shared) = self.nodes.get(node) {
            shared.kick.notify_one();
        }
    }
}

/// Tells changes, and only changes.
fn report(name: &str, belief: &Belief, standing: &Standing) {
    match (&belief.standing, standing) {
        (Standing::Out { .. }, Standing::Up(_)) => trace::server_back(name),
        (Standing::Up(_) | Standing::Unknown, Standing::Out { why, note }) => {
            trace::server_out(name, why, note);
        }
        _ => {}
    }
}
