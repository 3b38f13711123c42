//! What one server shows: rows, and how transactions ended.

use super::wal::{Body, Record};
use crate::source::Outcome;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row's value, of whatever type the application stored.
pub type Value = Arc<dyn Any + Send + Sync>;

/// A table and the text of a key in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct RowKey {
    pub(super) table: String,
    pub(super) key: String,
}

impl RowKey {
    pub(super) fn new(table: &str, key: &impl ToString) -> Self {
        Self { table: table.to_owned(), key: key.to_string() }
    }
}

/// What a transaction makes of one row; without a value the row is deleted.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) row: RowKey,
    pub(super) value: Option<Value>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}] {}", self.row.table, self.row.key, if self.value.is_some() { "put" } else { "deleted" })
    }
}

/// How many ended transactions a server remembers (`pg_xact_status` answers null for older ones).
const ENDED_MAX: usize = 1 << 16;

#[derive(Clone, Default)]
pub(super) struct Rows {
    rows: BTreeMap<RowKey, Value>,
    /// By transaction: whether it committed.
    ended: BTreeMap<u64, bool>,
    /// One above the greatest transaction id that the log mentioned.
    next_xid: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows", self.rows.len())
    }
}

impl Rows {
    pub(super) fn get(&self, row: &RowKey) -> Option<&Value> {
        self.rows.get(row)
    }

    pub(super) fn table(&self, table: &str) -> impl Iterator<Item = (&RowKey, &Value)> {
        let first = RowKey { table: table.to_owned(), key: String::new() };
        self.rows.range(first..).take_while(move |(row, _)| row.table == table)
    }

    pub(super) fn next_xid(&self) -> u64 {
        self.next_xid.max(700)
    }

    /// What `pg_xact_status` says of a transaction that is not running.
    pub(super) fn outcome(&self, xid: u64, next_xid: u64) -> Outcome {
        match self.ended.get(&xid) {
            Some(true) => Outcome::Committed,
            Some(false) => Outcome::Aborted,
            // Above what was ever assigned: an error on the real server. Below what is remembered: null.
            None if xid >= next_xid => Outcome::Forgotten,
            None if self.ended.len() >= ENDED_MAX && self.ended.keys().next().is_some_and(|&oldest| xid < oldest) => {
                Outcome::Forgotten
            }
            None => Outcome::Aborted,
        }
    }

    /// Shows what a record brings.
    pub(super) fn apply(&mut self, record: &Record) {
        self.next_xid = self.next_xid.max(record.xid + 1);
        match &record.body {
            Body::Other => {}
            Body::Commit { changes, .. } => self.commit(record.xid, changes),
            Body::Abort => self.end(record.xid, false),
        }
    }

    fn commit(&mut self, xid: u64, changes: &[Change]) {
        for change in changes {
            match &change.value {
                Some(value) => self.rows.insert(change.row.clone(), value.clone()),
                None => self.rows.remove(&change.row),
            };
        }
        self.end(xid, true);
    }

    fn end(&mut self, xid: u64, committed: bool) {
        self.ended.insert(xid, committed);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }
}
