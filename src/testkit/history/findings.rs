//! The violations found so far: all counted, the first ones kept.

use std::collections::BTreeMap;

use super::log::History;
use super::op::OpId;
use super::violation::{Kind, Violation};

#[derive(Debug)]
pub(super) struct Findings<'a> {
    history: &'a History,
    kept_max: usize,
    pub(super) kept: Vec<Violation>,
    pub(super) counts: BTreeMap<Kind, u64>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(history: &'a History, kept_max: usize) -> Self {
        Self { history, kept_max, kept: Vec::new(), counts: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, kind: Kind, op: OpId, against: Option<OpId>, note: impl FnOnce() -> String) {
        self.push(kind, Some(op), against, note);
    }

    pub(super) fn malformed(&mut self, note: &str) {
        self.push(Kind::Malformed, None, None, || note.to_owned());
    }

    fn push(&mut self, kind: Kind, op: Option<OpId>, against: Option<OpId>, note: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.kept.len() < self.kept_max {
            let find = |id: Option<OpId>| id.and_then(|id| self.history.op(id)).copied();
            self.kept.push(Violation { kind, op: find(op), against: find(against), note: note() });
        }
    }
}
