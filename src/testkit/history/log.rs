//! The history itself: events in the order in which they were recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::op::{Ask, Call, InstanceId, KeyId, Op, OpId, Outcome, SessionId, Stamp};

/// Events in their total order. Not bounded: it lives as long as one run of a test.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    events: Vec<Event>,
    replacements: Vec<Replaced>,
    misuses: Vec<String>,
    closed_at: Option<u64>,
}

/// Names one replaced history, to add what it lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement(usize);

#[derive(Clone, Debug)]
pub(super) struct Replaced {
    pub(super) index: usize,
    /// With the version that each had made.
    pub(super) lost: Vec<(OpId, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Invoked(OpId),
    Finished(OpId),
    Handed {
        from: SessionId,
        to: SessionId,
    },
    Reported(SessionId),
    Retracted {
        at: InstanceId,
        write: OpId,
    },
    Renewed(InstanceId),
    /// Which of the replacements this is.
    Replaced(usize),
}

impl History {
    /// A history in which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A write begins.
    pub fn write(&mut self, at: u64, session: SessionId, key: KeyId) -> OpId {
        self.invoke(at, session, key, Call::Write)
    }

    /// A read begins.
    pub fn read(&mut self, at: u64, session: SessionId, key: KeyId, ask: Ask) -> OpId {
        self.invoke(at, session, key, Call::Read(ask))
    }

    /// An operation ends. An operation never finished is one that was still under way at the end.
    pub fn finish(&mut self, at: u64, op: OpId, outcome: Outcome) {
        let stamp = self.next_stamp(at);
        let Some(known) = slot(op).and_then(|slot| self.ops.get_mut(slot)) else {
            return self.misuses.push(format!("{op} was finished and never begun"));
        };
        if known.finished.is_some() {
            return self.misuses.push(format!("{op} was finished twice"));
        }
        if !outcome.suits(known.call) {
            return self.misuses.push(format!("{op} is a {:?} and cannot end as {outcome:?}", known.call));
        }
        known.finished = Some((stamp, outcome));
        self.record(at, What::Finished(op));
    }

    /// The token of `from` reaches `to`, which must from now on see what `from` had been told.
    pub fn hand(&mut self, at: u64, from: SessionId, to: SessionId) {
        self.record(at, What::Handed { from, to });
    }

    /// The system tells `session` that history was replaced and that a write of its own is lost.
    pub fn report_loss(&mut self, at: u64, session: SessionId) {
        self.record(at, What::Reported(session));
    }

    /// From now on `instance` answers nothing older than this write of the row, until it is [`renewed`](Self::renewed).
    pub fn retracted(&mut self, at: u64, instance: InstanceId, write: OpId) {
        self.record(at, What::Retracted { at: instance, write });
    }

    /// `instance` has noticed that history was replaced: what was retracted at it before counts no more.
    pub fn renewed(&mut self, at: u64, instance: InstanceId) {
        self.record(at, What::Renewed(instance));
    }

    /// A failover is about to replace history. Add what it lost with [`History::lose`].
    pub fn replaced(&mut self, at: u64) -> Replacement {
        let index = self.events.len();
        self.replacements.push(Replaced { index, lost: Vec::new() });
        let which = self.replacements.len() - 1;
        self.record(at, What::Replaced(which));
        Replacement(which)
    }

    /// Ground truth: `replacement` lost this write, which had made `version`, whenever it was begun or told (an old
    /// primary that nobody fenced goes on committing).
    pub fn lose(&mut self, replacement: Replacement, write: OpId, version: u64) {
        let possible = self
            .op(write)
            .is_some_and(|op| matches!(op.call, Call::Write) && !matches!(op.outcome(), Some(Outcome::RolledBack)));
        if !possible {
            return self.misuses.push(format!("{write} is no write that could be lost"));
        }
        if let Some(replaced) = self.replacements.get_mut(replacement.0) {
            replaced.lost.push((write, version));
        }
    }

    /// The writes of `key` told or seen so far whose version is above `version`, with their versions: what a failover
    /// lost, where `version` is the one that survived and the answer is taken before new writes are made. Writes
    /// already lost are left out.
    #[must_use]
    pub fn above(&self, key: KeyId, version: u64) -> Vec<(OpId, u64)> {
        let of_key = |write: &OpId| self.op(*write).is_some_and(|op| op.key == key);
        let evident = self.ops.iter().filter(|op| op.key == key).filter_map(|op| match op.outcome()? {
            Outcome::Committed { version, .. } => Some((op.id, version)),
            Outcome::Saw(seen) => Some((seen.write?, seen.version)),
            _ => None,
        });
        let lost: BTreeSet<OpId> =
            self.replacements.iter().flat_map(|replaced| &replaced.lost).map(|lost| lost.0).collect();
        let above: BTreeMap<OpId, u64> =
            evident.filter(|(write, v)| *v > version && of_key(write) && !lost.contains(write)).collect();
        above.into_iter().collect()
    }

    /// The run ends at `at`. Without it a history ends with its last event, and what hung to the very end cannot be
    /// told from what was merely cut off.
    pub fn close(&mut self, at: u64) {
        self.closed_at = Some(at);
    }

    /// Every operation, by identity.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// One operation.
    #[must_use]
    pub fn op(&self, id: OpId) -> Option<&Op> {
        self.ops.get(slot(id)?)
    }

    /// How many events were recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn replacements(&self) -> &[Replaced] {
        &self.replacements
    }

    pub(super) fn misuses(&self) -> &[String] {
        &self.misuses
    }

    pub(super) fn ended_at(&self) -> u64 {
        let last = self.events.iter().map(|event| event.at).max().unwrap_or(0);
        self.closed_at.map_or(last, |at| at.max(last))
    }

    fn invoke(&mut self, at: u64, session: SessionId, key: KeyId, call: Call) -> OpId {
        let id = OpId(self.ops.len() as u64);
        let invoked = self.next_stamp(at);
        self.ops.push(Op { id, session, key, call, invoked, finished: None });
        self.record(at, What::Invoked(id));
        id
    }

    fn next_stamp(&self, at: u64) -> Stamp {
        Stamp { index: self.events.len(), at }
    }

    fn record(&mut self, at: u64, what: What) {
        self.events.push(Event { at, what });
    }
}

/// Where an operation stands in a vector with one place for each.
pub(super) fn slot(op: OpId) -> Option<usize> {
    usize::try_from(op.0).ok()
}
