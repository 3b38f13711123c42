//! Who is whose child, as the operating system sees it now.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    pid: i32,
    parent: i32,
    /// The letter of `ps`: `T` is stopped, `Z` is dead but not yet waited for.
    state: char,
}

/// A picture of all processes, taken once.
#[derive(Debug)]
pub(crate) struct ProcessTable {
    entries: Vec<Entry>,
}

impl ProcessTable {
    /// Takes the picture, from `/proc` where there is one and from `ps` elsewhere.
    pub(crate) fn now() -> Self {
        Self {
            entries: from_proc().unwrap_or_else(from_ps),
        }
    }

    /// All children of `root`, and theirs, without `root` itself.
    ///
    /// Parenthood is what counts because each PostgreSQL backend leads a session and a process
    /// group of its own: a signal to the postmaster's group would reach none of them.
    pub(crate) fn descendants(&self, root: i32) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let mut frontier = vec![root];
        // Bounded: each process enters the frontier at most once.
        while let Some(parent) = frontier.pop() {
            for entry in self.entries.iter().filter(|entry| entry.parent == parent) {
                if found.insert(entry.pid) {
                    frontier.push(entry.pid);
                }
            }
        }
        found
    }

    /// The process runs no code any more and holds no file: it is gone, or waits to be reaped.
    pub(crate) fn is_over(&self, pid: i32) -> bool {
        self.state(pid)
            .is_none_or(|state| matches!(state, 'Z' | 'X'))
    }

    /// The process was stopped by a signal, or is over.
    pub(crate) fn is_still(&self, pid: i32) -> bool {
        self.is_over(pid)
            || self
                .state(pid)
                .is_some_and(|state| matches!(state, 'T' | 't'))
    }

    /// Processes that work inside `folder`: PostgreSQL's all have their data folder as working
    /// directory, so this finds even those whose postmaster is dead. Needs `/proc`.
    pub(crate) fn working_in(&self, folder: &Path) -> BTreeSet<i32> {
        self.entries
            .iter()
            .map(|entry| entry.pid)
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
            })
            .collect()
    }

    fn state(&self, pid: i32) -> Option<char> {
        self.entries
            .iter()
            .find(|entry| entry.pid == pid)
            .map(|entry| entry.state)
    }
}

fn from_proc() -> Option<Vec<Entry>> {
    let entries: Vec<Entry> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(folder.path().join("stat")).ok()?;
            parse_stat(pid, &stat)
        })
        .collect();
    // Some systems have an empty /proc; there our own process would be missing.
    (!entries.is_empty()).then_some(entries)
}

/// Reads `pid (name) state parent …`; the name may itself hold spaces and brackets.
fn parse_stat(pid: i32, stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Entry { pid, parent, state })
}

fn from_ps() -> Vec<Entry> {
    let Ok(output) = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,stat="])
        .output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(parse_ps)
        .collect()
}

fn parse_ps(line: &str) -> Option<Entry> {
    let mut fields = line.split_whitespace();
    Some(Entry {
        pid: fields.next()?.parse().ok()?,
        parent: fields.next()?.parse().ok()?,
        state: fields.next()?.chars().next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Entry, ProcessTable, parse_ps, parse_stat};

    #[test]
    fn reads_both_forms() {
        let expected = Some(Entry {
            pid: 7,
            parent: 3,
            state: 'T',
        });
        assert_eq!(parse_stat(7, "7 (odd) name (x)) T 3 7 7 0"), expected);
        assert_eq!(parse_ps("    7     3 Ts+"), expected);
    }

    #[test]
    fn descendants_leave_strangers_alone() {
        let entry = |pid, parent| Entry {
            pid,
            parent,
            state: 'S',
        };
        let table = ProcessTable {
            entries: vec![
                entry(1, 0),
                entry(2, 1),
                entry(3, 2),
                entry(4, 3),
                entry(5, 1),
            ],
        };
        assert_eq!(table.descendants(2).into_iter().collect::<Vec<_>>(), [3, 4]);
        assert!(table.is_over(9) && !table.is_over(4));
    }
}
