//! Histories in the form that Jepsen and Elle read.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::log::{Event, History, What};
use super::op::{Call, Op, OpId, Outcome, SessionId, name};

impl History {
    /// The history as EDN, one map a line, times in nanoseconds.
    ///
    /// Operations are transactions of one read or write of a register (`elle.rw-register`); the value written is the
    /// write's identity, which is unique. An answer labelled stale carries `:stale true`: leave it out before asking
    /// for a session guarantee. Handovers, loss reports, retractions, renewals and replaced histories are operations of `:nemesis`.
    #[must_use]
    pub fn to_edn(&self) -> String {
        let mut edn = String::new();
        let mut processes = Processes::of(self);
        for (index, event) in self.events().iter().enumerate() {
            let line = self.line(event, &mut processes).unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(edn, "{{:index {index}, :time {}, {line}}}", event.at.saturating_mul(1000));
        }
        edn
    }

    fn line(&self, event: &Event, processes: &mut Processes) -> Option<String> {
        Some(match event.what {
            What::Invoked(id) => {
                let op = self.op(id)?;
                format!(":process {}, :type :invoke, :f :txn, :value {}", processes.take(op), value(op, None))
            }
            What::Finished(id) => {
                let op = self.op(id)?;
                let outcome = op.outcome()?;
                let kind = match outcome {
                    Outcome::Committed { .. } | Outcome::Saw(_) => "ok",
                    Outcome::RolledBack | Outcome::Failed => "fail",
                    Outcome::Unknown { .. } => "info",
                };
                let process = processes.give_back(op, kind == "info");
                format!(
                    ":process {process}, :type :{kind}, :f :txn, :value {}{}",
                    value(op, Some(outcome)),
                    more(outcome)
                )
            }
            What::Handed { from, to } => nemesis("handed", format_args!("[{} {}]", from.0, to.0)),
            What::Reported(session) => nemesis("loss-reported", session.0),
            What::Retracted { at, write } => nemesis("retracted", format_args!("[{} {}]", at.0, write.0)),
            What::Renewed(instance) => nemesis("renewed", instance.0),
            What::Replaced(which) => {
                let lost = self.replacements().get(which)?.lost.iter().map(|(op, _)| op.0.to_string());
                nemesis("replaced", format_args!("[{}]", lost.collect::<Vec<_>>().join(" ")))
            }
        })
    }
}

fn nemesis(f: &str, value: impl Display) -> String {
    format!(":process :nemesis, :type :info, :f :{f}, :value {value}")
}

fn value(op: &Op, outcome: Option<Outcome>) -> String {
    let key = op.key.0;
    match (op.call, outcome) {
        (Call::Write, _) => format!("[[:w {key} {}]]", op.id.0),
        (Call::Read(_), Some(Outcome::Saw(seen))) => match seen.write {
            Some(write) => format!("[[:r {key} {}]]", write.0),
            None => format!("[[:r {key} nil]]"),
        },
        (Call::Read(_), _) => format!("[[:r {key} nil]]"),
    }
}

/// What Elle does not ask for and a reader may want.
fn more(outcome: Outcome) -> String {
    match outcome {
        Outcome::Committed { version, .. } => format!(", :version {version}"),
        Outcome::Saw(seen) => {
            let stale = if seen.labelled_stale { ", :stale true" } else { "" };
            format!(", :version {}, :rung :{}{stale}", seen.version, name(seen.rung))
        }
        _ => String::new(),
    }
}

/// Jepsen's processes do one thing at a time, and one whose outcome is unknown does nothing ever after. A session that
/// does several things at once therefore takes several, all equal modulo the number of sessions.
struct Processes {
    sessions: u64,
    free: BTreeMap<SessionId, Vec<u64>>,
    used: BTreeMap<SessionId, u64>,
    numbers: BTreeMap<SessionId, u64>,
    busy: BTreeMap<OpId, u64>,
}

impl Processes {
    fn of(history: &History) -> Self {
        let mut numbers = BTreeMap::new();
        for op in history.ops() {
            let next = numbers.len() as u64;
            numbers.entry(op.session).or_insert(next);
        }
        Self {
            sessions: numbers.len() as u64,
            free: BTreeMap::new(),
            used: BTreeMap::new(),
            numbers,
            busy: BTreeMap::new(),
        }
    }

    fn take(&mut self, op: &Op) -> u64 {
        let free = self.free.entry(op.session).or_default().pop();
        let process = free.unwrap_or_else(|| {
            let used = self.used.entry(op.session).or_default();
            *used += 1;
            (*used - 1) * self.sessions + self.numbers.get(&op.session).copied().unwrap_or(0)
        });
        self.busy.insert(op.id, process);
        process
    }

    fn give_back(&mut self, op: &Op, retired: bool) -> u64 {
        let process = self.busy.remove(&op.id).unwrap_or(0);
        if !retired {
            self.free.entry(op.session).or_default().push(process);
        }
        process
    }
}
