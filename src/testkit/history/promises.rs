//! The walk through a history, in order, that holds every answer against what it had to reflect.

use std::collections::BTreeMap;

use super::fates::Fates;
use super::findings::Findings;
use super::log::{Event, History, What};
use super::needs::{Need, Needs};
use super::op::{Ask, Call, InstanceId, KeyId, Op, OpId, Outcome, Seen};
use super::positions::Positions;
use super::sessions::{Sessions, Standing};
use super::told::ToldBefore;
use super::values::invented;
use super::verdict::Tally;
use super::violation::Kind;

pub(super) struct Walk<'a, 'f> {
    history: &'a History,
    fates: &'a Fates,
    findings: &'f mut Findings<'a>,
    tally: &'f mut Tally,
    before: ToldBefore,
    positions: Positions,
    sessions: Sessions,
    /// By row, what has been told to anybody.
    told: BTreeMap<KeyId, Needs>,
    /// By instance and row, what was retracted there since it was renewed last.
    retracted: BTreeMap<(InstanceId, KeyId), Needs>,
    /// What the operations under way must reflect.
    owed: BTreeMap<OpId, Owed>,
}

/// What was known when an operation began.
struct Owed {
    own: Needs,
    seen: Needs,
    told: Needs,
    retracted: Needs,
}

/// A promise that an answer does not keep, and the write that shows it.
struct Broken {
    kind: Kind,
    need: Need,
}

impl<'a, 'f> Walk<'a, 'f> {
    pub(super) fn new(
        history: &'a History,
        fates: &'a Fates,
        findings: &'f mut Findings<'a>,
        tally: &'f mut Tally,
    ) -> Self {
        Self {
            before: ToldBefore::of(history, fates),
            positions: Positions::of(history, fates),
            sessions: Sessions::default(),
            told: BTreeMap::new(),
            retracted: BTreeMap::new(),
            owed: BTreeMap::new(),
            history,
            fates,
            findings,
            tally,
        }
    }

    pub(super) fn run(mut self) {
        for (index, event) in self.history.events().iter().enumerate() {
            self.step(index, event);
        }
    }

    fn step(&mut self, index: usize, event: &Event) {
        match event.what {
            What::Invoked(op) => self.begin(op),
            What::Finished(op) => self.end(index, op),
            What::Handed { from, to } => self.sessions.hand(self.fates, from, to, index),
            What::Reported(session) => {
                let any = self.sessions.report(self.fates, session, index);
                self.tally.needless_loss_reports += u64::from(!any);
            }
            What::Retracted { at, write } => self.retract(index, at, write),
            What::Renewed(instance) => self.renew(instance),
            What::Replaced(_) => {}
        }
    }

    fn retract(&mut self, index: usize, at: InstanceId, write: OpId) {
        // What nobody knows to have happened cannot be missed.
        if let Some(op) = self.history.op(write).filter(|op| self.fates.version(op.id).is_some()) {
            self.retracted.entry((at, op.key)).or_default().raise(self.fates, Need { write, since: index });
        }
    }

    fn renew(&mut self, instance: InstanceId) {
        self.retracted.retain(|(at, _), _| *at != instance);
        for (&op, owed) in &mut self.owed {
            if let Some(Call::Read(Ask { at: Some(at), .. })) = self.history.op(op).map(|op| op.call)
                && at == instance
            {
                owed.retracted = Needs::default();
            }
        }
    }

    fn begin(&mut self, op: OpId) {
        let Some(op) = self.history.op(op) else {
            return;
        };
        let owed = Owed {
            own: self.sessions.own(op.session, op.key),
            seen: self.sessions.seen(op.session, op.key),
            told: self.told.get(&op.key).cloned().unwrap_or_default(),
            retracted: match op.call {
                Call::Read(Ask { at: Some(at), .. }) => self.retracted.get(&(at, op.key)).cloned().unwrap_or_default(),
                _ => Needs::default(),
            },
        };
        self.owed.insert(op.id, owed);
    }

    fn end(&mut self, index: usize, op: OpId) {
        let (Some(op), Some(owed)) = (self.history.op(op), self.owed.remove(&op)) else {
            return;
        };
        match (op.call, op.outcome()) {
            (_, Some(Outcome::Committed { .. })) => {
                self.order(op, &owed);
                let need = Need { write: op.id, since: index };
                self.sessions.told(self.fates, op.session, op.key, need);
                self.told.entry(op.key).or_default().raise(self.fates, need);
            }
            (Call::Read(ask), Some(Outcome::Saw(seen))) => self.answer(index, op, ask, seen, &owed),
            _ => {}
        }
    }

    /// Rows are locked to raise their version, so a write begun after another was told is above it.
    fn order(&mut self, write: &Op, owed: &Owed) {
        let stands = |id: OpId| self.fates.lost_at(id).is_none();
        let version = self.fates.version(write.id);
        let above = owed.told.iter().find(|need| stands(need.write) && self.fates.version(need.write) > version);
        if let Some(above) = above.filter(|_| stands(write.id)) {
            self.findings.add(Kind::ForkedHistory, write.id, Some(above.write), String::new);
        }
    }

    fn answer(&mut self, index: usize, read: &Op, ask: Ask, seen: Seen, owed: &Owed) {
        if let Some(kind) = invented(self.history, self.fates, read, &seen) {
            // Nothing can be compared with a value that never was.
            return self.findings.add(kind, read.id, seen.write, String::new);
        }
        self.tally.behind += u64::from(self.unreflected(index, seen.write, &owed.told).is_some());
        let broken = self.broken(index, read, ask, seen, owed);
        if seen.labelled_stale {
            self.tally.labels_needed += u64::from(!broken.is_empty());
        } else {
            for Broken { kind, need } in broken {
                self.findings.add(kind, read.id, Some(need.write), || {
                    format!("That was owed to {} from event {} on", read.session, need.since)
                });
            }
        }
        self.position(read, seen);
        // What was shown as perhaps too old, or to a read that asked for nothing, is outside the promise of monotonic reads.
        let promised = Ask { at: None, ..ask } != Ask::none();
        if let Some(write) = seen.write.filter(|_| !seen.labelled_stale && promised) {
            self.sessions.saw(self.fates, read.session, read.key, Need { write, since: index });
        }
    }

    /// The promises that an answer does not keep, each once.
    fn broken(&self, index: usize, read: &Op, ask: Ask, seen: Seen, owed: &Owed) -> Vec<Broken> {
        let mut broken = Vec::new();
        if ask.own_writes || ask.latest {
            // Without a session's promise a latest read owes it no more than the rest, but a loss must be reported.
            let stale = ask.own_writes.then_some(Kind::ReadYourWrites);
            self.miss(index, read, seen, &owed.own, stale, &mut broken);
        }
        if ask.monotonic {
            self.miss(index, read, seen, &owed.seen, Some(Kind::MonotonicReads), &mut broken);
        }
        if let Some(bound) = ask.within {
            let mut old = Needs::default();
            for write in self.before.newest(read.key, read.invoked.at.saturating_sub(bound)) {
                old.raise(self.fates, Need { write, since: read.invoked.index });
            }
            let missed = self.unreflected(index, seen.write, &old);
            broken.extend(missed.map(|need| Broken { kind: Kind::BoundedStaleness, need }));
        }
        let missed = self.unreflected(index, seen.write, &owed.retracted);
        broken.extend(missed.map(|need| Broken { kind: Kind::Retraction, need }));
        if ask.latest {
            let missed = self.unreflected(index, seen.write, &owed.told);
            broken.extend(missed.map(|need| Broken { kind: Kind::Latest, need }));
        }
        broken
    }

    /// Adds what a session had known of and an answer misses.
    fn miss(&self, index: usize, read: &Op, seen: Seen, needs: &Needs, stale: Option<Kind>, broken: &mut Vec<Broken>) {
        for need in needs.missed(self.fates, seen.write) {
            let kind = match self.sessions.standing(self.fates, read.session, need, index) {
                Standing::Stands => stale,
                Standing::LostUnreported => Some(Kind::LossPaperedOver),
                Standing::LostReported => None,
            };
            if let Some(kind) = kind.filter(|&kind| broken.iter().all(|old| old.kind != kind)) {
                broken.push(Broken { kind, need });
            }
        }
    }

    /// A write that an answer misses, whoever was told of it, unless history had lost it by the time of the answer.
    fn unreflected(&self, index: usize, value: Option<OpId>, needs: &Needs) -> Option<Need> {
        let lost = |need: &Need| self.fates.lost_at(need.write).is_some_and(|at| at < index);
        needs.missed(self.fates, value).find(|need| !lost(need))
    }

    /// A label that says where the answer stands must be true on stale answers as well.
    fn position(&mut self, read: &Op, seen: Seen) {
        let Some(position) = seen.position else {
            return;
        };
        let write = self.positions.newest(read, position);
        if let Some(write) = write.filter(|&write| !self.fates.reflects(seen.write, write)) {
            self.findings.add(Kind::PositionOverstated, read.id, Some(write), String::new);
        }
    }
}
