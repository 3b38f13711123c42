//! A short notation for histories written by hand.
//!
//! Statements are separated by `;`, each 10 us after the one before:
//!
//! ```text
//! @500                        the clock goes to 500
//! a w1 x                      session a begins write w1 of row x
//! w1 ok 3 | ok 3 p70          it was told committed as version 3 (at position 70)
//! w1 fail | info | info 3     it was rolled back; its outcome is unknown (its version would be 3)
//! a w1 x = ok 3               both at once
//! a r1 x session,mono,at-p    session a begins read r1, asking for that, of instance p
//! r1 3:w1 | 3 | 0 | fail      it saw version 3 made by w1, or by nobody, or no row; it failed
//! r1 3:w1 stale replica p60   the label, the rung (local, if not said), the position
//! a r1 x none = 3:w1          both at once
//! a > b                       b is handed a's token
//! a warned                    a is told that it lost something
//! retracted p w1               w1 is retracted at instance p
//! renewed p                    instance p begins anew
//! replaced w1 w2:3            history is replaced; that lost w1 (with the version it was told) and w2, version 3
//! close                       the run ends
//! ```

use std::collections::BTreeMap;

use highwater::Rung;
use highwater::testkit::history::{Ask, History, InstanceId, KeyId, OpId, Outcome, Seen, SessionId};

/// Reads the notation.
pub(super) fn history(text: &str) -> History {
    let names = names(text);
    let (mut history, mut at) = (History::new(), 0);
    // What was lost may have begun after the replacement, so it is named last.
    let mut losses = Vec::new();
    for statement in statements(text) {
        at += 10;
        if let Some(time) = statement.strip_prefix('@') {
            at = number(time);
            continue;
        }
        let (begin, end) = statement.split_once('=').map_or((statement, None), |(begin, end)| (begin, Some(end)));
        let words: Vec<&str> = begin.split_whitespace().collect();
        match words.as_slice() {
            ["close"] => history.close(at),
            [from, ">", to] => history.hand(at, session(from), session(to)),
            [who, "warned"] => history.report_loss(at, session(who)),
            ["retracted", instance, write] => {
                history.retracted(at, InstanceId(letter(instance)), op(&names, write));
            }
            ["renewed", instance] => history.renewed(at, InstanceId(letter(instance))),
            ["replaced", lost @ ..] => {
                let replacement = history.replaced(at);
                losses.extend(lost.iter().map(|lost| (replacement, *lost)));
            }
            [who, name, key] if name.starts_with('w') => {
                history.write(at, session(who), row(key));
                finish(&mut history, &names, at, name, end);
            }
            [who, name, key, asked] if name.starts_with('r') => {
                history.read(at, session(who), row(key), ask(asked));
                finish(&mut history, &names, at, name, end);
            }
            [name, ..] => {
                let end = begin.trim_start().strip_prefix(name);
                finish(&mut history, &names, at, name, end);
            }
            [] => {}
        }
    }
    for (replacement, lost) in losses {
        let (name, version) = lost.split_once(':').unwrap_or((lost, "1"));
        let write = op(&names, name);
        let told = match history.op(write).and_then(|op| op.finished) {
            Some((_, Outcome::Committed { version, .. })) if !lost.contains(':') => version,
            _ => number(version),
        };
        history.lose(replacement, write, told);
    }
    history
}

fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

/// Identities are dealt in the order of invocation, so that a value can name a write that begins later.
fn names(text: &str) -> BTreeMap<&str, OpId> {
    let invoked = statements(text).filter_map(|statement| {
        let words: Vec<&str> = statement.split('=').next().unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            ["replaced" | "retracted", ..] => None,
            [_, name, _] if name.starts_with('w') => Some(*name),
            [_, name, _, _] if name.starts_with('r') => Some(*name),
            _ => None,
        }
    });
    invoked.zip((0..).map(OpId)).collect()
}

fn finish(history: &mut History, names: &BTreeMap<&str, OpId>, at: u64, name: &str, end: Option<&str>) {
    let Some(end) = end else { return };
    let words: Vec<&str> = end.split_whitespace().collect();
    let outcome = match words.as_slice() {
        ["ok", version] => Outcome::committed(number(version)),
        ["ok", version, position] => {
            Outcome::Committed { version: number(version), position: Some(number(position.trim_start_matches('p'))) }
        }
        ["info"] => Outcome::Unknown { version: None },
        ["info", version] => Outcome::Unknown { version: Some(number(version)) },
        ["fail"] if name.starts_with('w') => Outcome::RolledBack,
        ["fail"] => Outcome::Failed,
        [value, labels @ ..] => Outcome::Saw(seen(names, value, labels)),
        [] => panic!("{name} ends with nothing"),
    };
    history.finish(at, op(names, name), outcome);
}

fn seen(names: &BTreeMap<&str, OpId>, value: &str, labels: &[&str]) -> Seen {
    let mut seen = Seen::absent(Rung::Local);
    let (version, write) = value.split_once(':').map_or((value, None), |(version, write)| (version, Some(write)));
    seen.version = number(version);
    seen.write = write.map(|write| op(names, write));
    for label in labels {
        match *label {
            "stale" => seen.labelled_stale = true,
            "local" => seen.rung = Rung::Local,
            "shared" => seen.rung = Rung::Shared,
            "replica" => seen.rung = Rung::Replica,
            "primary" => seen.rung = Rung::Primary,
            position => seen.position = Some(number(position.trim_start_matches('p'))),
        }
    }
    seen
}

fn ask(words: &str) -> Ask {
    words.split(',').fold(Ask::none(), |ask, word| match word {
        "none" => ask,
        "session" => ask.own_writes(),
        "mono" => ask.monotonic(),
        "latest" => Ask { latest: true, ..ask },
        at if at.starts_with("at-") => ask.at(InstanceId(letter(&at[3..]))),
        bound => Ask { within: Some(number(bound.trim_start_matches("within"))), ..ask },
    })
}

/// A name that nothing begins is an operation that nobody recorded.
fn op(names: &BTreeMap<&str, OpId>, name: &str) -> OpId {
    names.get(name).copied().unwrap_or(OpId(9_999))
}

fn session(name: &str) -> SessionId {
    SessionId(letter(name))
}

fn row(name: &str) -> KeyId {
    KeyId(letter(name))
}

fn letter(name: &str) -> u64 {
    name.bytes().next().map_or(0, u64::from)
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
