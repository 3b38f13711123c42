//! A trace of the user's: one line for each operation.
//!
//! ```csv
//! time,session,operation,key
//! 0.000,alice,read,user:7
//! 0.250,alice,write,user:7
//! ```
//!
//! `time` is in seconds from the start, with a fraction, and does not go back; `session` and `key` are any text;
//! `operation` is `read`, `write` or `read-write`. A `session` that is empty reads for nobody, without a token.

use crate::workload::{Act, Op, Plan};
use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use std::collections::BTreeMap;
use std::io::{self, BufRead};

/// More operations than this are not a trace for this program, which holds all of them in memory.
const OPS_MAX: usize = 5_000_000;

/// A day and more, as for what is planned.
pub(crate) const SECONDS_MAX: u64 = 100_000;

/// Room for a usual line; longer ones take more.
const LINE_BYTES: usize = 256;

const HEADER: [&str; 4] = ["time", "session", "operation", "key"];

/// Reads a trace. An error names the line.
pub(crate) fn read(from: impl BufRead, instances: usize) -> Result<Plan, String> {
    let mut lines = from.split(b'\n').zip(1_u64..);
    let header = lines.next().map(|(header, line)| fields(header, line)).transpose()?;
    if header.is_none_or(|header| header.iter().ne(HEADER)) {
        return Err(format!("line 1: the first line must be {:?}", HEADER.join(",")));
    }
    let (mut sessions, mut keys) = (Names::default(), Names::default());
    let (mut ops, mut last) = (Vec::new(), 0);
    for (text, line) in lines {
        let record = fields(text, line)?;
        if record.is_empty() {
            continue;
        }
        let [time, session, operation, key] = [0, 1, 2, 3].map(|at| record.get(at).unwrap_or_default());
        let problem = |what: String| format!("line {line}: {what}");
        if record.len() != HEADER.len() {
            return Err(problem(format!("there are {} fields and not {}", record.len(), HEADER.len())));
        }
        let at = microseconds(time).map_err(problem)?;
        if at < last {
            return Err(problem(format!("the time {time} lies before that of the line above")));
        }
        last = at;
        let act = match operation {
            "read" => Act::Read,
            "write" => Act::Write,
            "read-write" => Act::ReadThenWrite,
            _ => {
                return Err(problem(format!(
                    "{operation:?} is not an operation; there are read, write and read-write"
                )));
            }
        };
        if key.is_empty() {
            return Err(problem("the key is missing".to_owned()));
        }
        let token = !session.is_empty();
        if !token && act != Act::Read {
            return Err(problem("a write needs a session".to_owned()));
        }
        if ops.len() >= OPS_MAX {
            return Err(problem(format!("there are more than {OPS_MAX} operations")));
        }
        // Requests are spread over the instances by turns.
        let (session, key, instance) = (sessions.number(session), keys.number(key), ops.len() % instances);
        ops.push(Op { at, session: session as u32, act, key, instance, token });
    }
    if ops.is_empty() {
        return Err("the trace holds no operation".to_owned());
    }
    Ok(Plan { ops, sessions: sessions.0.len() as u32, rows: keys.0.len() as u64, micros: last + 1 })
}

/// The fields of one line, none of an empty one. Line by line, because the parser does not count lines that it skips.
fn fields(line: io::Result<Vec<u8>>, number: u64) -> Result<StringRecord, String> {
    let line = line.map_err(|error| format!("it cannot be read: {error}"))?;
    let mut builder = ReaderBuilder::new();
    builder.has_headers(false).trim(Trim::All).buffer_capacity(LINE_BYTES);
    let record = builder.from_reader(line.as_slice()).records().next().unwrap_or_else(|| Ok(StringRecord::new()));
    record.map_err(|error| match error.kind() {
        ErrorKind::Utf8 { .. } => format!("line {number}: this is not UTF-8"),
        _ => format!("line {number}: {error}"),
    })
}

fn microseconds(time: &str) -> Result<u64, String> {
    let seconds: f64 = time.parse().map_err(|_| format!("{time:?} is not a number of seconds"))?;
    if (0.0..=SECONDS_MAX as f64).contains(&seconds) {
        Ok((seconds * 1e6) as u64)
    } else {
        Err(format!("the time {time} does not lie between 0 and {SECONDS_MAX} seconds from the start"))
    }
}

/// Numbers names in the order in which they come.
#[derive(Default)]
struct Names(BTreeMap<String, u64>);

impl Names {
    fn number(&mut self, name: &str) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry(name.to_owned()).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, String> {
        read(text.as_bytes(), 2)
    }

    #[test]
    fn a_trace_becomes_a_plan() {
        let text =
            "time,session,operation,key\n0,alice,write,a\n0.5, bob ,read,b\n0.5,,read,a\n1.25,alice,read-write,a\n";
        let plan = parse(text).unwrap();
        assert_eq!((plan.sessions, plan.rows, plan.micros), (3, 2, 1_250_001));
        let seen: Vec<_> = plan.ops.iter().map(|op| (op.at, op.session, op.act, op.key, op.token)).collect();
        let expected = [
            (0, 0, Act::Write, 0, true),
            (500_000, 1, Act::Read, 1, true),
            (500_000, 2, Act::Read, 0, false),
            (1_250_000, 0, Act::ReadThenWrite, 0, true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("", "line 1: the first line must be"),
            ("when,who,what,which\n", "line 1: the first line must be"),
            ("time,session,operation,key\n", "no operation"),
            ("time,session,operation,key\n0,a,read,k\nsoon,a,read,k\n", "line 3: \"soon\" is not a number"),
            ("time,session,operation,key\n0,a,read,k\n\n1,a,erase,k\n", "line 4: \"erase\" is not an operation"),
            ("time,session,operation,key\n2,a,read,k\n1,a,read,k\n", "line 3: the time 1 lies before"),
            ("time,session,operation,key\n-1,a,read,k\n", "line 2: the time -1"),
            ("time,session,operation,key\nNaN,a,read,k\n", "line 2: the time NaN"),
            ("time,session,operation,key\n1700000000,a,read,k\n", "line 2: the time 1700000000 does not lie"),
            ("time,session,operation,key\r\n0,a,read\r\n", "line 2: there are 3 fields"),
            ("time,session,operation,key\n0,a,read,\n", "line 2: the key is missing"),
            ("time,session,operation,key\n0,,write,k\n", "line 2: a write needs a session"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?} gave {error:?} and not {expected:?}");
        }
        let error = read(&b"time,session,operation,key\n0,a,read,k\n0,\xff,read,k\n"[..], 1).unwrap_err();
        assert_eq!(error, "line 3: this is not UTF-8");
    }
}
