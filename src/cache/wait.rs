//! Waiting for the watermark, where that is all that keeps an entry from answering.

use super::{Shelf, judge};
use crate::Lsn;
use crate::epoch::Span;
use crate::freshness::ReadOptions;
use crate::repository::Repository;
use crate::session::Session;
use crate::source::Source;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// Waits until the watermark has come to where entries of these keys answer that lack nothing else, within the settings'
    /// bound for it. Returns whether it has: then it is worth looking again.
    ///
    /// Who reads what it has just written about is ahead of the watermark by a millisecond or so. A load would have to find a
    /// server that is as far.
    pub(super) async fn watermark_comes<'a>(
        &self,
        session: &Session,
        keys: impl Iterator<Item = &'a R::Key>,
        options: &ReadOptions,
        deadline: Instant,
    ) -> bool {
        let wait = self.store.fleet.settings.watermark_wait;
        if !self.extends || wait.is_zero() {
            return false;
        }
        let lacking = keys.filter_map(|key| self.lacks(session, key, options));
        let Some((span, floor)) = lacking.max_by_key(|(_, floor)| *floor) else { return false };
        timeout_at(deadline.min(Instant::now() + wait), span.reached(floor)).await.is_ok()
    }

    /// How far the watermark has to be for the entry of this key to answer, if it then does. It may have come there since the entry
    /// was judged.
    fn lacks(&self, session: &Session, key: &R::Key, options: &ReadOptions) -> Option<(Arc<Span>, Lsn)> {
        let epoch = self.store.epochs.current();
        // While nothing is heard, it does not move.
        let span = epoch.span.as_ref().filter(|_| epoch.heard_from.is_some())?;
        let entry = self.local.get(key)?;
        let mut demand = self.floor(session, options, &epoch, &[entry.brief]).ok()?;
        let (floor, tag) = (demand.floor.tag, entry.stamp.tag);
        let may = demand.floor.vouched.is_some_and(|vouched| vouched.lineage == span.lineage && tag >= vouched.pinned);
        if !may || tag < span.start || tag >= floor {
            return None;
        }
        (demand.floor.tag, demand.floor.vouched) = (tag, None);
        let (now_ms, deaf_age_max) = (self.clock().coarse_ms(), self.store.fleet.settings.deaf_age_max);
        judge(&entry, &demand, &epoch, self.group, now_ms, deaf_age_max).ok()?;
        Some((Arc::clone(span), floor))
    }
}
