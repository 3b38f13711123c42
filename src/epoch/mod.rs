//! What one instance knows for certain at one time: the history it is in, what was retracted, from where on it hears.

mod floors;
mod span;

pub(crate) use floors::{Floors, SlotMap};
pub(crate) use span::Span;

use crate::digest::Digest;
use crate::entry::{Entry, Slots};
use crate::history::History;
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
            (Some(span), Some(vouched)) if span.vouches == vouched.lineage => match tag >= span.start {
                false if holds(Rule::ExtendedFromStart) => tag,
                _ => tag.max(span.watermark()),
            },
            _ => tag,
        }
    }

    /// The log that the watermark is of, as tokens name it.
    pub(crate) fn lineage(&self) -> Option<Lineage> {
        self.span.as_ref().map(|span| span.vouches)
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

    /// Retractions above the start of `span` are heard from now on, in the history of this fingerprint.
    pub(crate) fn hear(&self, history: u64, span: Arc<Span>) {
        let high = self.lock();
        let now = self.current.load();
        if now.fingerprint == history && !high.ended {
            let (floors, from) = (Arc::clone(&now.floors), Some(span.start));
            self.current.store(Arc::new(epoch((*now.history).clone(), floors, from, Some(span))));
        }
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
        let flush = if holds(Rule::WatermarkIsFlushed) { high.flush } else { high.insert };
        Pulse { generation: now.history.marked_generation(), history: now.fingerprint, flush }
    }

    /// Lets no entry answer any more: the store was closed.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        let now = self.current.load();
        let (history, floors) = (Arc::clone(&now.history), Arc::clone(&now.floors));
        self.current.store(Arc::new(Epoch { fingerprint: 0, history, floors, heard_from: None, span: None }));
    }

    /// The shared log says that history was replaced `generation` times without a new timeline. Returns whether that
    /// was news: then every entry is dropped.
    pub(crate) fn adopt_generation(&self, generation: u64) -> bool {
        let high = self.lock();
        let now = self.current.load();
        let news = generation > now.history.marked_generation() && !high.ended;
        if news {
            // The marks stay: if this instance has not seen the primary set back itself, it still will.
            // So do the floors: where the log was set back to is seen then.
            self.replace((*now.history).clone().with_generation(generation), now.floors.clamped(Lsn::MAX));
        }
        news
    }

    /// Takes in what a server that claims to be the primary said. `before` is the high-water mark taken before it was
    /// asked, so that an answer that was merely slow is not taken for a history that went back.
    pub(crate) fn saw_primary(&self, system_identifier: u64, role: &Role, before: HighWater) -> Sighted {
        let Role::Primary { timeline, insert, flush, switches } = role else { return Sighted::NotOurs };
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
        let seen = HighWater { flush: *flush, insert: *insert, ..HighWater::default() };
        if *timeline > ours.timeline() || forked && holds(Rule::ForkIsNews) {
            *high = seen;
            // What was retracted and survived stays so: a standby of the new timeline may still have to replay it.
            let end = theirs.switches().iter().find(|switch| switch.from == ours.timeline()).map(|switch| switch.at);
            let floors = end.map_or_else(|| Floors::new(&self.slots), |end| now.floors.clamped(end));
            self.replace(theirs, floors);
            return Sighted::Replaced;
        }
        if *flush < before.flush && holds(Rule::SetBackIsNews) {
            // What had been flushed is gone: no crash does that, the server was set back to an older copy.
            *high = seen;
            let mark = self.slots.mark(ours.fingerprint());
            self.replace((**ours).clone().set_back(*insert, mark), now.floors.clamped(*insert));
            return Sighted::Replaced;
        }
        if *insert < before.insert {
            // Not below what was retracted while this answer was on its way.
            let top = if holds(Rule::ClampSparesNews) { (*insert).max(high.newest) } else { *insert };
            *high = HighWater { insert: top, ..seen };
            let clamped = Arc::new(now.floors.clamped(top));
            self.current.store(Arc::new(epoch((**ours).clone(), clamped, now.heard_from, now.span.clone())));
            return Sighted::Crashed(top);
        }
        high.flush = high.flush.max(*flush);
        high.insert = high.insert.max(*insert);
        high.newest = Lsn::ZERO;
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
mod tests {
    use super::*;
    use crate::{Switch, Timeline, Token};

    fn epochs() -> Epochs {
        let slots = SlotMap::new(64, (1, 2));
        Epochs::new(History::new(7, Timeline(1), vec![]), slots, Some(Lsn::ZERO))
    }

    fn primary(timeline: u32, insert: u64, flush: u64, switch: Option<u64>) -> Role {
        let switches = switch.map(|at| Switch { from: Timeline(timeline - 1), at: Lsn::new(at) });
        Role::Primary {
            timeline: Timeline(timeline),
            insert: Lsn::new(insert),
            flush: Lsn::new(flush),
            switches: switches.into_iter().collect(),
        }
    }

    fn sight(epochs: &Epochs, role: &Role) -> Sighted {
        epochs.saw_primary(7, role, epochs.high_water())
    }

    fn floor_of(epochs: &Epochs, key: &Digest) -> Lsn {
        let slots = Slots::new(epochs.slots().key(key), []);
        epochs.current().floor(&slots, 0)
    }

    #[test]
    fn a_crash_clamps_and_a_set_back_server_replaces() {
        let epochs = epochs();
        let key = Digest::of_key(b"k");
        assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[key], &[]));
        assert_eq!(sight(&epochs, &primary(1, 300, 200, None)), Sighted::Same);
        let first = epochs.current().fingerprint;
        assert_eq!(sight(&epochs, &primary(1, 210, 210, None)), Sighted::Crashed(Lsn::new(210)));
        assert_eq!(floor_of(&epochs, &key), Lsn::new(210));
        assert_eq!(epochs.current().fingerprint, first, "entries survive a crash");
        assert_eq!(sight(&epochs, &primary(1, 150, 150, None)), Sighted::Replaced);
        assert_eq!(floor_of(&epochs, &key), Lsn::new(150), "what was retracted before is retracted in the copy");
        assert_ne!(epochs.current().fingerprint, first);
    }

    #[test]
    fn a_retraction_made_while_the_answer_after_a_crash_travelled_stands() {
        let epochs = epochs();
        let key = Digest::of_key(b"k");
        sight(&epochs, &primary(1, 100, 80, None));
        let before = epochs.high_water();
        epochs.saw_token(Position::new(1, Lsn::new(95)));
        assert!(epochs.retract(Position::new(1, Lsn::new(95)), &[key], &[]));
        epochs.saw_primary(7, &primary(1, 90, 90, None), before);
        assert!(floor_of(&epochs, &key) >= Lsn::new(95));
    }

    #[test]
    fn a_slow_answer_is_not_a_history_that_went_back() {
        let epochs = epochs();
        let before = epochs.high_water();
        assert_eq!(sight(&epochs, &primary(1, 300, 300, None)), Sighted::Same);
        assert_eq!(epochs.saw_primary(7, &primary(1, 100, 100, None), before), Sighted::Same);
        assert_eq!(sight(&epochs, &primary(1, 300, 300, None)), Sighted::Same);
    }

    #[test]
    fn a_promotion_replaces_and_the_old_primary_is_not_ours() {
        let epochs = epochs();
        assert_eq!(sight(&epochs, &primary(2, 300, 300, Some(280))), Sighted::Replaced);
        assert_eq!(sight(&epochs, &primary(1, 900, 900, None)), Sighted::NotOurs);
        assert_eq!(epochs.saw_primary(8, &primary(3, 900, 900, None), epochs.high_water()), Sighted::NotOurs);
        assert_eq!(sight(&epochs, &primary(2, 310, 310, None)), Sighted::Same, "a restart forgets the switch point");
        assert_eq!(sight(&epochs, &primary(2, 310, 310, Some(281))), Sighted::Replaced, "two promoted to one number");
        assert!(!epochs.retract(Position::new(3, Lsn::new(1)), &[], &[]), "a timeline that is not known yet");
    }

    /// A standby of the new timeline may be far behind where that began, and readers without a token are not held to it.
    #[test]
    fn what_was_retracted_and_survived_a_promotion_stays_retracted() {
        let epochs = epochs();
        let (before, late, lost) = (Digest::of_key(b"before"), Digest::of_key(b"late"), Digest::of_key(b"lost"));
        assert!(epochs.retract(Position::new(1, Lsn::new(200)), &[before], &[]));
        assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[lost], &[]));
        assert_eq!(sight(&epochs, &primary(2, 300, 300, Some(280))), Sighted::Replaced);
        assert_eq!(floor_of(&epochs, &before), Lsn::new(200));
        assert_eq!(floor_of(&epochs, &lost), Lsn::new(280), "no further than the log went");
        // Its commit was acknowledged before the promotion, and the answer is heard only now.
        assert!(epochs.retract(Position::new(1, Lsn::new(250)), &[late], &[]));
        assert_eq!(floor_of(&epochs, &late), Lsn::new(250));
        // The token lies beyond the end, and the commit that it covers perhaps does not.
        assert!(epochs.retract(Position::new(1, Lsn::new(290)), &[late], &[]));
        assert_eq!(floor_of(&epochs, &late), Lsn::new(280));
    }

    /// Who hears of it first and sees it then counts it twice, and is at the number that the next time has elsewhere.
    #[test]
    fn two_instances_at_one_number_do_not_share_what_was_filled_in_two_logs() {
        let instance = |seed| {
            let history = History::new(7, Timeline(1), vec![]);
            let epochs = Epochs::new(history, SlotMap::new(64, (seed, 2)), Some(Lsn::ZERO));
            sight(&epochs, &primary(1, 900, 900, None));
            epochs
        };
        let (one, other) = (instance(1), instance(9));
        assert_eq!(sight(&other, &primary(1, 600, 600, None)), Sighted::Replaced);
        assert!(one.adopt_generation(other.current().history.marked_generation()));
        assert_eq!(sight(&one, &primary(1, 600, 600, None)), Sighted::Replaced);
        let filled_before = one.current().fingerprint;
        assert_eq!(sight(&other, &primary(1, 300, 300, None)), Sighted::Replaced);
        assert_eq!(one.current().history.generation(), other.current().history.generation());
        assert_ne!(other.current().fingerprint, filled_before);
    }

    /// Both noticed by themselves that the primary was set back, and have not told each other. The log's watermark for one
    /// of these histories does not wait for what was announced in the other.
    #[test]
    fn what_a_log_vouches_for_in_one_history_is_pinned_in_another() {
        let log = Lineage::from_number(5);
        let instance = |seed| {
            let epochs = Epochs::new(History::new(7, Timeline(1), vec![]), SlotMap::new(64, (seed, 2)), None);
            sight(&epochs, &primary(1, 900, 900, None));
            assert_eq!(sight(&epochs, &primary(1, 600, 600, None)), Sighted::Replaced);
            let history = epochs.current().fingerprint;
            epochs.hear(history, Arc::new(Span::new(log, history, Lsn::new(600), Lsn::new(800))));
            epochs
        };
        let (one, other) = (instance(1).current().clone(), instance(9).current().clone());
        let mut token = Token::default();
        token.raise(&one.history, Position::new(1, Lsn::new(700)), Some(log.within(one.fingerprint)));
        let reach = |epoch: &Epoch| {
            let demand = token.demand(&epoch.history, epoch.lineage());
            (demand.floor, epoch.reach(Lsn::new(650), demand.vouched))
        };
        assert_eq!(reach(&one), (Lsn::new(700), Lsn::new(800)));
        assert_eq!(reach(&other), (Lsn::new(700), Lsn::new(650)));
    }

    #[test]
    fn a_generation_only_rises() {
        let epochs = epochs();
        assert!(epochs.adopt_generation(2 << 32 | 7));
        assert!(!epochs.adopt_generation(2 << 32 | 7) && !epochs.adopt_generation(1 << 32 | 9));
        assert_eq!(epochs.current().history.generation(), 2);
    }
}
