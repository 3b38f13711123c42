//! What one instance knows for certain at one time: the history it is in, what was retracted, from where on it hears.

mod floors;
mod span;

pub(crate) use floors::{Floors, SlotMap};
pub(crate) use span::Span;

use crate::digest::Digest;
use crate::entry::{Entry, Slots};
use crate::history::{History, SetBack};
use crate::ledger::Pulse;
use crate::lineage::{Lineage, Vouched};
use crate::rules::{Rule, holds};
use crate::source::Role;
use crate::{Lsn, Position};
use arc_swap::{ArcSwap, Guard};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One instance's unbroken knowledge. Immutable but for the floors, which only rise; a reader loads it once and judges
/// by that one object, so it can never mix the floors of one history with the entries of another.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) history: Arc<History>,
    pub(crate) fingerprint: u64,
    pub(crate) floors: Arc<Floors>,
    /// Every retraction above this position has been or will be heard, while the bus is live; `None` while it is not.
    /// Entries tagged below it may have missed one.
    pub(crate) heard_from: Option<Lsn>,
    /// What is known of one log of retractions. It outlives silence: what was heard until then has been applied.
    pub(crate) span: Option<Arc<Span>>,
}

impl Epoch {
    /// Whether nothing has retracted the entry since its tag.
    pub(crate) fn is_live<V>(&self, entry: &Entry<V>, cache_group: u32) -> bool {
        self.floors.are_met_by(entry.stamp.tag, &entry.slots, cache_group) || !holds(Rule::RetractedIsGone)
    }

    /// How far an entry with this tag answers, if nothing has retracted it: up to the watermark, where its tag is no older
    /// than what was heard, and for what its log vouches for. To be asked before [`is_live`](Self::is_live):
    /// floors are raised before the watermark.
    pub(crate) fn reach(&self, tag: Lsn, vouched: Option<Vouched>) -> Lsn {
        if !holds(Rule::ReachIsTheWatermark) {
            return tag.max(self.floors.highest());
        }
        match (&self.span, vouched) {
            (Some(span), Some(vouched)) if span.lineage == vouched.lineage => match tag >= span.start {
                false if holds(Rule::ExtendedFromStart) => tag,
                _ => tag.max(span.watermark()),
            },
            _ => tag,
        }
    }

    /// The log that the watermark is of, in this history.
    pub(crate) fn lineage(&self) -> Option<Lineage> {
        self.span.as_ref().map(|span| span.lineage)
    }

    /// The least tag that would be live in these slots.
    pub(crate) fn floor(&self, slots: &Slots, cache_group: u32) -> Lsn {
        self.floors.of(slots, cache_group)
    }
}

/// The highest positions of the primary that were seen on the current timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HighWater {
    flush: Lsn,
    insert: Lsn,
    /// The highest token or retraction since a primary was sighted last: it may be younger than an answer under way.
    newest: Lsn,
    /// What had been flushed when the primary was seen in the present history: what the log may be told of it.
    confirmed: Lsn,
    /// How often history was replaced, and how often a primary was sighted: what came between a question and its answer.
    replaced: u64,
    sighted: u64,
    /// The store was closed: nothing changes any more.
    ended: bool,
}

impl HighWater {
    /// The highest position that a token can have, as far as is known.
    pub(crate) fn insert(&self) -> Lsn {
        self.insert
    }

    /// What no crash can take back, as far as is known.
    pub(crate) fn flush(&self) -> Lsn {
        self.flush
    }
}

/// What the sight of a primary meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sighted {
    /// The history that is known.
    Same,
    /// The primary crashed and lost what it had not flushed; floors were clamped to this position.
    Crashed(Lsn),
    /// History was replaced: every entry is dropped.
    Replaced,
    /// This server is not the primary of the present history: another cluster, or one that was left behind.
    NotOurs,
}

/// The current epoch, and the one place where it changes.
#[derive(Debug)]
pub(crate) struct Epochs {
    current: ArcSwap<Epoch>,
    slots: SlotMap,
    /// Held while floors are raised or the epoch is replaced, so that no retraction is lost in between. Never on the
    /// path of a read.
    change: Mutex<HighWater>,
}

impl Epochs {
    pub(crate) fn new(history: History, slots: SlotMap, heard_from: Option<Lsn>) -> Self {
        let epoch = epoch(history, Arc::new(Floors::new(&slots)), heard_from, None);
        Self { current: ArcSwap::from_pointee(epoch), slots, change: Mutex::default() }
    }

    pub(crate) fn current(&self) -> Guard<Arc<Epoch>> {
        self.current.load()
    }

    pub(crate) fn slots(&self) -> &SlotMap {
        &self.slots
    }

    fn lock(&self) -> MutexGuard<'_, HighWater> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The high-water marks, to be taken before a primary is probed: what it then says is compared with these.
    pub(crate) fn high_water(&self) -> HighWater {
        *self.lock()
    }

    /// How far the log of this history is known to reach. Nothing, where others told of it and no primary was looked at
    /// since: the marks are of the log before, whose numbers mean something else in this one.
    pub(crate) fn known_end(&self, history: &History) -> Option<Lsn> {
        let high = self.lock();
        let sighted = high.confirmed > Lsn::ZERO || !holds(Rule::EndIsOfHistory);
        (sighted && self.current.load().fingerprint == history.fingerprint()).then_some(high.insert)
    }

    /// A position of the primary that a token was read at.
    pub(crate) fn saw_token(&self, token: Position) {
        let mut high = self.lock();
        if self.current.load().history.timeline() == token.timeline {
            high.insert = high.insert.max(token.lsn);
            high.newest = high.newest.max(token.lsn);
        }
    }

    /// Retracts these names at `position`. Returns false where the position lies on a timeline that is not known yet: then
    /// the history has to be looked at first.
    ///
    /// What survived of an ancestor kept its number, and a standby of the present timeline may still have to replay it.
    pub(crate) fn retract(&self, position: Position, keys: &[Digest], groups: &[Digest]) -> bool {
        let mut high = self.lock();
        let epoch = self.current.load();
        let Some(lsn) = epoch.history.surviving(position) else { return false };
        if epoch.history.timeline() == position.timeline {
            high.newest = high.newest.max(lsn);
        }
        keys.iter().for_each(|key| epoch.floors.raise_key(self.slots.key(key), lsn));
        groups.iter().for_each(|group| epoch.floors.raise_group(self.slots.group(group), lsn));
        true
    }

    /// Retractions above the start of `span` are heard from now on, if the history is still the one of this fingerprint. Returns
    /// whether it is.
    pub(crate) fn hear(&self, history: u64, span: Arc<Span>) -> bool {
        let high = self.lock();
        let now = self.current.load();
        let is_present = now.fingerprint == history && !high.ended;
        if is_present {
            let (floors, from) = (Arc::clone(&now.floors), Some(span.start));
            self.current.store(Arc::new(epoch((*now.history).clone(), floors, from, Some(span))));
        }
        is_present
    }

    /// Nothing is heard any more, or not everything is. What was heard until then stays as it is.
    pub(crate) fn suspend(&self) {
        self.rehear(|_, span| (None, span));
    }

    /// Everything since the start of the span has been heard after all.
    pub(crate) fn resume(&self) {
        self.rehear(|heard_from, span| (span.as_ref().map_or(heard_from, |span| Some(span.start)), span));
    }

    /// What was heard counts no more.
    pub(crate) fn forget(&self) {
        self.rehear(|_, _| (None, None));
    }

    fn rehear(&self, change: impl FnOnce(Option<Lsn>, Option<Arc<Span>>) -> (Option<Lsn>, Option<Arc<Span>>)) {
        let high = self.lock();
        let now = self.current.load();
        let (heard_from, span) = change(now.heard_from, now.span.clone());
        if !high.ended && (heard_from != now.heard_from || span.is_some() != now.span.is_some()) {
            self.current.store(Arc::new(epoch((*now.history).clone(), Arc::clone(&now.floors), heard_from, span)));
        }
    }

    /// What a heartbeat says of this instance.
    pub(crate) fn pulse(&self) -> Pulse {
        let high = self.lock();
        let now = self.current.load();
        let flush = if holds(Rule::WatermarkIsFlushed) { high.confirmed } else { high.insert };
        let flush = if holds(Rule::PulseIsOfHistory) { flush } else { high.flush.max(flush) };
        Pulse { generation: now.history.marked_generation(), history: now.fingerprint, flush }
    }

    /// Lets no entry answer any more: the store was closed.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        let now = self.current.load();
        let (history, floors) = (Arc::clone(&now.history), Arc::clone(&now.floors));
        self.current.store(Arc::new(Epoch { fingerprint: 0, history, floors, heard_from: None, span: None }));
    }

    /// The shared log says that the primary was set back, and which generation began with it. Returns whether that
    /// was news: then every entry is dropped.
    pub(crate) fn adopt_generation(&self, generation: u64) -> bool {
        let mut high = self.lock();
        let now = self.current.load();
        let news = generation > now.history.marked_generation() && !high.ended;
        if news {
            // The marks stay: if this instance has not seen the primary set back itself, it still will. Until it has looked,
            // nobody is told that so much is flushed in the new history.
            (high.confirmed, high.replaced) = (Lsn::ZERO, high.replaced + 1);
            // So do the floors: where the log was set back to is seen then.
            self.replace((*now.history).clone().with_generation(generation), now.floors.clamped(Lsn::MAX));
        }
        news
    }

    /// Takes in what a server that claims to be the primary said. `before` is the high-water mark taken before it was
    /// asked, so that an answer that was merely slow is not taken for a history that went back.
    pub(crate) fn saw_primary(&self, system_identifier: u64, role: &Role, before: HighWater) -> Sighted {
        let Role::Primary { timeline, insert, flush, switches, started_ms } = role else { return Sighted::NotOurs };
        let mut high = self.lock();
        let before = if holds(Rule::AnswersOvertake) { before } else { *high };
        let now = self.current.load();
        let ours = &now.history;
        if high.ended || system_identifier != ours.system_identifier() || *timeline < ours.timeline() {
            return Sighted::NotOurs;
        }
        let theirs = History::new(system_identifier, *timeline, switches.clone()).after(ours);
        let forked = match (theirs.switches().last(), ours.switches().last()) {
            (Some(theirs), Some(ours)) => theirs != ours,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let overtaken = before.sighted != high.sighted;
        high.sighted += 1;
        let seen = HighWater { flush: *flush, insert: *insert, confirmed: *flush, newest: Lsn::ZERO, ..*high };
        let anew = HighWater { replaced: seen.replaced + 1, ..seen };
        if *timeline > ours.timeline() || forked && holds(Rule::ForkIsNews) {
            *high = anew;
            // What was retracted and survived stays so: a standby of the new timeline may still have to replay it.
            let end = theirs.switches().iter().find(|switch| switch.from == ours.timeline()).map(|switch| switch.at);
            let floors = end.map_or_else(|| Floors::new(&self.slots), |end| now.floors.clamped(end));
            self.replace(theirs, floors);
            return Sighted::Replaced;
        }
        if *flush < before.flush && holds(Rule::SetBackIsNews) {
            // What had been flushed is gone: no crash does that, the server was set back to an older copy.
            let told = high.confirmed == Lsn::ZERO;
            let mark = self.slots.mark(ours.fingerprint());
            *high = anew;
            let found = SetBack { at: *insert, started_ms: *started_ms, told, mark };
            self.replace((**ours).clone().set_back(found), now.floors.clamped(*insert));
            return Sighted::Replaced;
        }
        if *insert < before.insert {
            if overtaken && holds(Rule::ClampSparesNews) {
                // What was retracted since may lie above it. The next answer will tell of the crash.
                return Sighted::Same;
            }
            // Not below what was retracted while this answer was on its way.
            let top = if holds(Rule::ClampSparesNews) { (*insert).max(high.newest) } else { *insert };
            *high = HighWater { insert: top, ..seen };
            let clamped = Arc::new(now.floors.clamped(top));
            let span = now.span.as_ref().map(|span| match holds(Rule::WatermarkIsOfFloors) {
                true => Arc::new(span.again()),
                false => Arc::clone(span),
            });
            self.current.store(Arc::new(epoch((**ours).clone(), clamped, now.heard_from, span)));
            return Sighted::Crashed(top);
        }
        if before.replaced != high.replaced && holds(Rule::PulseIsOfHistory) {
            // Asked in another history, it says nothing of this one.
            return Sighted::Same;
        }
        high.flush = high.flush.max(*flush);
        high.insert = high.insert.max(*insert);
        (high.confirmed, high.newest) = (high.flush, Lsn::ZERO);
        Sighted::Same
    }

    /// A new history, in which nothing is heard yet.
    fn replace(&self, history: History, floors: Floors) {
        let heard_from = self.current.load().heard_from.filter(|from| *from == Lsn::ZERO);
        self.current.store(Arc::new(epoch(history, Arc::new(floors), heard_from, None)));
    }
}

fn epoch(history: History, floors: Arc<Floors>, heard_from: Option<Lsn>, span: Option<Arc<Span>>) -> Epoch {
    Epoch { fingerprint: history.fingerprint(), history: Arc::new(history), floors, heard_from, span }
}

#[cfg(test)]
mod tests;
