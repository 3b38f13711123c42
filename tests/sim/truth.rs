//! What really happened: which writes were committed where, and which of them a failover lost.

use crate::instance::{Row, TABLE};
use highwater::Timeline;
use highwater::memory::Cluster;
use highwater::testkit::history::{History, OpId, Outcome, Replacement};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Every write that any server ever committed, with its version and its timeline.
    committed: BTreeMap<u64, (u64, Timeline)>,
    failovers: Vec<Failover>,
}

#[derive(Debug)]
struct Failover {
    replacement: Replacement,
    /// The new timeline, and what it began with.
    timeline: Timeline,
    kept: BTreeSet<u64>,
    /// What had been committed anywhere and is not in it.
    gone: BTreeSet<u64>,
}

/// The writes in a server's log.
fn logged(cluster: &Cluster, server: usize) -> impl Iterator<Item = (u64, (u64, Timeline))> {
    cluster.committed(server).into_iter().flat_map(|logged| {
        let timeline = logged.position.timeline;
        logged.rows.into_iter().filter(|(table, ..)| table == TABLE).filter_map(move |(_, _, value)| {
            let row = *value?.downcast::<Row>().ok()?;
            Some((row.write, (row.version, timeline)))
        })
    })
}

impl Truth {
    /// Takes in what a server's log holds, before it may be thrown away.
    pub(crate) fn absorb(&mut self, cluster: &Cluster, server: usize) {
        self.committed.extend(logged(cluster, server));
    }

    /// A server has just become the primary of another history, and what the others had was absorbed.
    pub(crate) fn replaced(&mut self, cluster: &Cluster, server: usize, replacement: Replacement) {
        let Some(token) = cluster.token(server) else { return };
        let kept: BTreeSet<u64> = logged(cluster, server).map(|(write, _)| write).collect();
        let gone = self.committed.keys().filter(|write| !kept.contains(write)).copied().collect();
        self.failovers.push(Failover { replacement, timeline: token.timeline, kept, gone });
    }

    /// Tells the history what each failover lost, and returns what contradicts what the clients were told.
    pub(crate) fn judge(&self, history: &mut History) -> Vec<String> {
        let mut lost: BTreeSet<u64> = BTreeSet::new();
        for failover in &self.failovers {
            for (&write, &(version, timeline)) in &self.committed {
                // An old primary that goes on commits more that is lost.
                let gone =
                    timeline < failover.timeline && !failover.kept.contains(&write) || failover.gone.contains(&write);
                if gone
                    && !lost.contains(&write)
                    && !told(history, write, |outcome| matches!(outcome, Outcome::RolledBack))
                {
                    history.lose(failover.replacement, OpId(write), version);
                    lost.insert(write);
                }
            }
        }
        let mut lies = Vec::new();
        for op in history.ops() {
            let committed = self.committed.contains_key(&op.id.0);
            match op.finished {
                Some((_, Outcome::RolledBack)) if committed => {
                    lies.push(format!("told rolled back, and committed: {op}"))
                }
                Some((_, Outcome::Committed { .. })) if !committed => {
                    lies.push(format!("told committed, and never was: {op}"));
                }
                _ => {}
            }
        }
        lies
    }
}

fn told(history: &History, write: u64, what: impl Fn(&Outcome) -> bool) -> bool {
    history.op(OpId(write)).and_then(|op| op.finished).is_some_and(|(_, outcome)| what(&outcome))
}
