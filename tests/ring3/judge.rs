//! From what the workers said to a history, and what the checker says of it.

use crate::messages::{Deed, End, Reading, Shown, Wish};
use crate::strike::Aftermath;
use highwater::Rung;
use highwater::testkit::history::{
    Ask, History, KeyId, Limits, Liveness, OpId, Outcome, Replacement, Seen, SessionId, Verdict, check,
};
use std::collections::{BTreeMap, BTreeSet};

/// After all is calm again, an operation takes no longer than this.
const BOUND_US: u64 = 10_000_000;

/// What a round was.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) deeds: Vec<Deed>,
    pub(crate) aftermath: Aftermath,
    /// The operations in the table at the end, with the versions that they made.
    pub(crate) truth: BTreeMap<u64, u64>,
    /// When every session had been answered after the faults.
    pub(crate) calm_at: u64,
    pub(crate) ended_at: u64,
}

pub(crate) struct Judgement {
    pub(crate) history: History,
    pub(crate) verdict: Verdict,
    /// What contradicts the table, which the checker does not see.
    pub(crate) contradictions: Vec<String>,
}

/// One event, by the time at which it has its place.
enum Event<'a> {
    Begun(&'a Deed),
    Other(&'a Deed),
    ReadBegun(&'a Reading),
    ReadEnded(&'a Reading),
    Replaced,
}

/// A history in the making, with its names for the ring's operations.
#[derive(Default)]
struct Book {
    history: History,
    ops: BTreeMap<u64, OpId>,
    reads: BTreeMap<(u64, u64, i64), Vec<OpId>>,
    replacement: Option<Replacement>,
}

/// What is known of the writes.
#[derive(Default)]
struct Known {
    begun: BTreeSet<u64>,
    committed: BTreeMap<u64, u64>,
    seen: BTreeMap<u64, u64>,
    rolled_back: BTreeSet<u64>,
}

pub(crate) fn judge(evidence: &Evidence) -> Judgement {
    let events = events(evidence);
    let known = Known::of(&events);
    let mut book = Book::default();
    for (at, _, event) in &events {
        book.enter(at / 1_000, event, &known, evidence);
    }
    let void = matches!(evidence.aftermath, Aftermath::Void(_));
    let mut contradictions = Vec::new();
    if !void {
        contradictions = known.contradictions(evidence);
        book.lose(&known, evidence);
        book.history.close(evidence.ended_at / 1_000);
    }
    let liveness = Liveness { healed_at: evidence.calm_at / 1_000, grace: 0, bound: BOUND_US };
    let limits = Limits { liveness: (!void).then_some(liveness), ..Limits::default() };
    let verdict = check(&book.history, &limits);
    Judgement { history: book.history, verdict, contradictions }
}

/// In order; at the same time beginnings come first, so that nothing is held to be earlier than it was.
fn events(evidence: &Evidence) -> Vec<(u64, u8, Event<'_>)> {
    let mut events = Vec::with_capacity(evidence.deeds.len() * 2);
    for deed in &evidence.deeds {
        match deed {
            Deed::WriteBegun { at, .. } => events.push((*at, 0, Event::Begun(deed))),
            Deed::WriteEnded { at, .. } => events.push((*at, 2, Event::Other(deed))),
            Deed::LossTold { at, .. } | Deed::Took { at, .. } => events.push((*at, 3, Event::Other(deed))),
            Deed::Read(reading) => {
                events.push((reading.begun, 0, Event::ReadBegun(reading)));
                events.push((reading.ended, 2, Event::ReadEnded(reading)));
            }
        }
    }
    match evidence.aftermath {
        Aftermath::Replaced(at) => events.push((at, 1, Event::Replaced)),
        Aftermath::Void(from) => events.retain(|(at, ..)| *at < from),
        Aftermath::None => {}
    }
    events.sort_by_key(|(at, order, _)| (*at, *order));
    events
}

impl Known {
    fn of(events: &[(u64, u8, Event<'_>)]) -> Self {
        let mut known = Self::default();
        for (_, _, event) in events {
            match event {
                Event::Begun(Deed::WriteBegun { op, .. }) => drop(known.begun.insert(*op)),
                Event::Other(Deed::WriteEnded { op, end, .. }) => match end {
                    End::Committed { version, .. } => drop(known.committed.insert(*op, *version)),
                    End::RolledBack => drop(known.rolled_back.insert(*op)),
                    End::Unknown { .. } => {}
                },
                Event::ReadEnded(Reading { shown: Some(Shown { maker: Some(op), version, .. }), .. }) => {
                    known.seen.insert(*op, *version);
                }
                _ => {}
            }
        }
        known
    }

    /// The writes that history had and the table has not, with their versions.
    fn lost(&self, truth: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
        let evident = self.seen.iter().chain(&self.committed);
        let gone = evident.filter(|(op, _)| self.begun.contains(op) && !truth.contains_key(op));
        gone.filter(|(op, _)| !self.rolled_back.contains(op)).map(|(op, version)| (*op, *version)).collect()
    }

    fn contradictions(&self, evidence: &Evidence) -> Vec<String> {
        let truth = &evidence.truth;
        let mut found = Vec::new();
        for op in self.rolled_back.iter().filter(|op| truth.contains_key(op)) {
            found.push(format!("write {op} was told to be rolled back and is in the table"));
        }
        for (op, version) in &self.committed {
            if truth.get(op).is_some_and(|made| made != version) {
                found.push(format!("write {op} was told version {version} and made {:?}", truth.get(op)));
            }
        }
        if evidence.aftermath == Aftermath::None {
            for (op, version) in self.lost(truth) {
                found.push(format!("write {op} was told or seen as version {version} and is not in the table"));
            }
        }
        found
    }
}

impl Book {
    fn enter(&mut self, at: u64, event: &Event<'_>, known: &Known, evidence: &Evidence) {
        match event {
            Event::Begun(Deed::WriteBegun { op, session, row, .. }) => {
                let id = self.history.write(at, SessionId(*session), key(*row));
                self.ops.insert(*op, id);
            }
            Event::Other(Deed::WriteEnded { op, end, .. }) => {
                let Some(&id) = self.ops.get(op) else { return };
                self.history.finish(at, id, outcome(*op, end, known, evidence));
            }
            Event::Other(Deed::LossTold { session, .. }) => self.history.report_loss(at, SessionId(*session)),
            Event::Other(Deed::Took { from, to, .. }) => self.history.hand(at, SessionId(*from), SessionId(*to)),
            Event::ReadBegun(reading) => {
                let id = self.history.read(at, SessionId(reading.session), key(reading.row), ask(reading));
                self.reads.entry((reading.session, reading.begun, reading.row)).or_default().push(id);
            }
            Event::ReadEnded(reading) => {
                let begun = self.reads.get_mut(&(reading.session, reading.begun, reading.row)).and_then(Vec::pop);
                let Some(id) = begun else { return };
                let seen = reading.shown.map_or(Outcome::Failed, |shown| Outcome::Saw(self.seen(&shown)));
                self.history.finish(at, id, seen);
            }
            Event::Replaced => self.replacement = Some(self.history.replaced(at)),
            Event::Begun(_) | Event::Other(_) => {}
        }
    }

    fn seen(&self, shown: &Shown) -> Seen {
        // A maker that nobody ever was stays one.
        let maker = |op| self.ops.get(&op).copied().unwrap_or(OpId(u64::MAX));
        let rung = [Rung::Local, Rung::Shared, Rung::Replica, Rung::Primary][usize::from(shown.rung.min(3))];
        Seen {
            version: shown.version,
            write: shown.maker.map(maker),
            rung,
            labelled_stale: shown.stale,
            position: Some(shown.place),
        }
    }

    fn lose(&mut self, known: &Known, evidence: &Evidence) {
        let Some(replacement) = self.replacement else { return };
        for (op, version) in known.lost(&evidence.truth) {
            if let Some(&id) = self.ops.get(&op) {
                self.history.lose(replacement, id, version);
            }
        }
    }
}

fn outcome(op: u64, end: &End, known: &Known, evidence: &Evidence) -> Outcome {
    match end {
        End::Committed { version, place } => {
            Outcome::Committed { version: *version, position: (*place > 0).then_some(*place) }
        }
        End::RolledBack => Outcome::RolledBack,
        End::Unknown { version } => {
            // The table knows better. What a crash took from it in silence was made only if somebody saw it: of a COMMIT that never
            // arrived the version was given to another write.
            let made = evidence.truth.contains_key(&op) || known.seen.contains_key(&op);
            Outcome::Unknown { version: made.then_some(*version) }
        }
    }
}

fn ask(reading: &Reading) -> Ask {
    let ask = match reading.wish {
        Wish::Any => return Ask::none(),
        Wish::Own => Ask::session(),
        Wish::Latest => Ask::latest().own_writes(),
        Wish::WithinMs(bound) => Ask::within(bound * 1_000).own_writes(),
    };
    if reading.monotonic { ask.monotonic() } else { ask }
}

fn key(row: i64) -> KeyId {
    KeyId(row.cast_unsigned())
}
