//! What one reader must find in one row.

use super::fates::Fates;
use super::op::OpId;

/// One write that must be reflected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) write: OpId,
    /// The event by which the need arose.
    pub(super) since: usize,
}

/// The writes of one row that must be reflected.
///
/// Of the writes that share a last era it is enough to keep the newest: in that era they form one chain. So there is at
/// most one need for each replaced history, and one for what survived.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs(Vec<Need>);

impl Needs {
    pub(super) fn raise(&mut self, fates: &Fates, need: Need) {
        let era = fates.last_era(need.write);
        match self.0.iter_mut().find(|old| fates.last_era(old.write) == era) {
            Some(old) if fates.version(old.write) < fates.version(need.write) => *old = need,
            Some(_) => {}
            None => self.0.push(need),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Need) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Need> {
        self.0.iter().copied()
    }

    /// The needs that a value does not meet.
    pub(super) fn missed(&self, fates: &Fates, value: Option<OpId>) -> impl Iterator<Item = Need> {
        self.iter().filter(move |need| !fates.reflects(value, need.write))
    }
}
