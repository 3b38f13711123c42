//! A cached value with the proof of how new it is, and the Answer and Admit rules.

use crate::lineage::Vouched;
use crate::named::Brief;
use crate::rules::{Rule, holds};
use crate::{Lsn, Timeline};
use std::sync::Arc;
use std::time::Duration;

/// Which kind of server an entry was filled on. A standby can show a commit before the primary does, so the two kinds
/// of answer cannot stand in for each other where a session asks for monotonic reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// A server in recovery.
    Standby,
    /// The primary.
    Primary,
}

/// How new a filled value is known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The timeline that the LSNs are counted on, confirmed on the connection that answered, after the position was
    /// read and before the data.
    pub timeline: Timeline,
    /// Every transaction whose token is at or below this is visible in the value: a lower bound.
    pub tag: Lsn,
    /// Where it was filled.
    pub origin: Origin,
    /// A position read on the same server after the data, at or above everything visible in the value: an upper bound.
    /// Only read for sessions that ask for monotonic reads.
    pub upper: Option<Lsn>,
}

/// The part of the Admit order that a slot is compared by: the tag, and with equal tags the knowledge of an upper bound.
///
/// The same comparison is made by the admission script in Redis.
pub(crate) type Rank = (Lsn, bool);

impl Stamp {
    pub(crate) fn rank(&self) -> Rank {
        (self.tag, self.upper.is_some())
    }
}

/// The Admit rule: a slot that holds `present` is replaced only by something newer, so that no tier moves backwards.
pub(crate) fn admits(present: Rank, incoming: Rank) -> bool {
    incoming > present
}

/// The Admit rule where the slot holds a retraction marker: the marker gives way to an entry that is not below it.
pub(crate) fn admits_over_marker(marker: Lsn, incoming: Rank) -> bool {
    incoming.0 >= marker
}

/// Whether a marker at `marker` replaces an entry tagged `present`: only one that the retraction reaches.
pub(crate) fn marks(present: Lsn, marker: Lsn) -> bool {
    marker > present
}

/// A value as the tiers hold it: `None` inside is a row known to be absent.
///
/// A clone allocates nothing. The in-process tier holds entries themselves and not pointers to them: behind a pointer, each
/// hit waited for memory once more.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) stamp: Stamp,
    /// The history that it was filled in: it answers in no other.
    pub(crate) history: u64,
    /// The floors that can retract it: the key's own, then its groups'.
    pub(crate) slots: Slots,
    /// What tokens call its key.
    pub(crate) brief: Brief,
    pub(crate) life: Life,
    /// Tells this fill from every other of the process, so that a monotonic session knows what it saw.
    pub(crate) fill: u64,
    /// This process read it from the database itself, so that `filled_ms` is a moment of its own clock.
    pub(crate) filled_here: bool,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), slots: self.slots.clone(), ..*self }
    }
}

impl<V> Entry<V> {
    /// When this process sent the statement, where it did.
    pub(crate) fn sent_ms(&self) -> Option<u64> {
        (self.filled_here || !holds(Rule::BoundByOwnClock)).then_some(self.life.filled_ms)
    }
}

/// Indices into the floors tables of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) key: u32,
    /// Most entries belong to no group.
    groups: Option<Arc<[u32]>>,
}

impl Slots {
    pub(crate) fn new(key: u32, groups: impl IntoIterator<Item = u32>) -> Self {
        let groups: Vec<u32> = groups.into_iter().collect();
        Self { key, groups: (!groups.is_empty()).then(|| groups.into()) }
    }

    pub(crate) fn groups(&self) -> &[u32] {
        self.groups.as_deref().unwrap_or_default()
    }
}

/// When an entry was filled and until when it may be used, in milliseconds of the instance's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Just before the statement that read the data was sent.
    pub(crate) filled_ms: u64,
    pub(crate) expires_ms: u64,
}

impl Life {
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms
    }

    pub(crate) fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.filled_ms))
    }
}

/// The least that one read accepts, resolved to the current history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Floor {
    /// From the session's token: met by whatever reaches it.
    pub(crate) tag: Lsn,
    /// What a log vouches for; the rest of it must be met by the tag itself.
    pub(crate) vouched: Option<Vouched>,
    /// What a monotonic session saw on the primary: met by a tag at or above it.
    pub(crate) seen_on_primary: Option<Lsn>,
    /// What a monotonic session saw on a standby: met only by what was filled on a standby at or above it.
    pub(crate) seen_on_standby: Option<Lsn>,
    /// A staleness bound: met by a tag at or above the position, or by a primary fill that began late enough.
    pub(crate) bound: Option<Bound>,
    /// Nothing that was read before can do: only the primary, now.
    pub(crate) latest: bool,
    /// The session asks for monotonic reads, so what it is shown must have an upper bound to remember.
    pub(crate) monotonic: bool,
}

/// A staleness bound as one read sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Bound {
    /// A position of the primary, read at or after the moment that the bound names; `Lsn::MAX` where none is known.
    pub(crate) tag: Lsn,
    /// The moment that the bound names.
    pub(crate) since_ms: u64,
}

/// Why a value does not answer a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Short {
    /// Its tag is below the floor.
    BelowFloor,
    /// It was filled on the wrong kind of server, or without the upper bound, for a monotonic session.
    NotMonotonic,
}

impl Floor {
    /// The Answer rule, but for retractions, which are the epoch's: whether a value with this stamp reaches the floor.
    ///
    /// `reach` is the position up to which it is known to be what it was: the tag, or the watermark where that may extend
    /// it. Only tokens are judged by it: what others wrote without the library is in no log. `sent_ms` is when this
    /// process sent the statement, if it did.
    pub(crate) fn is_met_by(&self, stamp: &Stamp, reach: Lsn, sent_ms: Option<u64>) -> Result<(), Short> {
        let latest = self.latest && holds(Rule::LatestAsksPrimary);
        let pinned = stamp.tag < Vouched::pin(self.vouched, self.tag) && holds(Rule::PinAsksTag);
        if latest || (pinned || reach < self.tag) && holds(Rule::TagReachesToken) {
            return Err(Short::BelowFloor);
        }
        if let Some(bound) = self.bound {
            // Strictly: both moments are cut to milliseconds.
            let on_primary = stamp.origin == Origin::Primary || !holds(Rule::BoundByOwnClock);
            let by_clock = on_primary && sent_ms.is_some_and(|sent_ms| sent_ms > bound.since_ms);
            let bounded = if holds(Rule::BoundAsksTag) { stamp.tag } else { reach };
            if bounded < bound.tag && !by_clock && holds(Rule::BoundIsReached) {
                return Err(Short::BelowFloor);
            }
        }
        let of_standby = stamp.origin == Origin::Standby || !holds(Rule::StandbySightOnStandby);
        let covers = if holds(Rule::SightAsksTag) { stamp.tag } else { reach };
        let on_primary = self.seen_on_primary.is_none_or(|seen| covers >= seen) || !holds(Rule::SeenOnPrimary);
        let on_standby =
            self.seen_on_standby.is_none_or(|seen| of_standby && covers >= seen) || !holds(Rule::SeenOnStandby);
        let unbounded = self.monotonic && stamp.upper.is_none() && holds(Rule::SightsAreBounded);
        if !on_primary || !on_standby || unbounded {
            return Err(Short::NotMonotonic);
        }
        Ok(())
    }

    /// The least tag that meets it by tag alone.
    pub(crate) fn least_tag(&self) -> Lsn {
        let bound = self.bound.map_or(Lsn::ZERO, |bound| bound.tag);
        let seen = self.seen_on_primary.max(self.seen_on_standby).unwrap_or(Lsn::ZERO);
        self.tag.max(bound).max(seen)
    }

    /// Whether every entry would meet it.
    pub(crate) fn asks_nothing(&self) -> bool {
        self.least_tag() == Lsn::ZERO && !self.latest
    }

    /// The floor for the very fill that the session was shown last: it reflects all that the session has seen.
    pub(crate) fn for_what_was_seen(self) -> Self {
        Self { seen_on_primary: None, seen_on_standby: None, ..self }
    }

    /// The least floor that is above both. Where two logs vouch for parts of it, none does for the whole.
    pub(crate) fn join(self, other: Self) -> Self {
        let tag = self.tag.max(other.tag);
        let pin = Vouched::pin(self.vouched, self.tag).max(Vouched::pin(other.vouched, other.tag));
        let lineage = match (self.vouched, other.vouched) {
            (Some(ours), Some(theirs)) if ours.lineage != theirs.lineage => None,
            (ours, theirs) => ours.or(theirs).map(|vouched| vouched.lineage),
        };
        Self {
            tag,
            vouched: Vouched::below(tag, lineage, pin),
            seen_on_primary: self.seen_on_primary.max(other.seen_on_primary),
            seen_on_standby: self.seen_on_standby.max(other.seen_on_standby),
            bound: match (self.bound, other.bound) {
                (Some(a), Some(b)) => Some(Bound { tag: a.tag.max(b.tag), since_ms: a.since_ms.max(b.since_ms) }),
                (a, b) => a.or(b),
            },
            latest: self.latest || other.latest,
            monotonic: self.monotonic || other.monotonic,
        }
    }

    /// Whether whatever was loaded for `other` was asked for enough to answer a read with this floor.
    pub(crate) fn is_within(self, other: Self) -> bool {
        self.join(other) == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(origin: Origin, tag: u64, upper: Option<u64>) -> Stamp {
        Stamp { timeline: Timeline(1), tag: Lsn::new(tag), origin, upper: upper.map(Lsn::new) }
    }

    #[test]
    fn a_tag_meets_what_it_reaches() {
        let floor = Floor { tag: Lsn::new(10), ..Floor::default() };
        assert_eq!(floor.is_met_by(&stamp(Origin::Standby, 10, None), Lsn::new(10), None), Ok(()));
        assert_eq!(floor.is_met_by(&stamp(Origin::Standby, 9, None), Lsn::new(9), None), Err(Short::BelowFloor));
    }

    #[test]
    fn a_bound_is_met_by_tag_or_by_a_late_primary_fill() {
        let bound = Some(Bound { tag: Lsn::new(50), since_ms: 1_000 });
        let floor = Floor { bound, ..Floor::default() };
        assert!(floor.is_met_by(&stamp(Origin::Standby, 50, None), Lsn::new(50), None).is_ok());
        assert!(
            floor.is_met_by(&stamp(Origin::Standby, 49, None), Lsn::new(49), Some(2_000)).is_err(),
            "a standby may lag for ever"
        );
        assert!(floor.is_met_by(&stamp(Origin::Primary, 49, None), Lsn::new(49), Some(1_001)).is_ok());
        assert!(floor.is_met_by(&stamp(Origin::Primary, 49, None), Lsn::new(49), Some(1_000)).is_err());
        assert!(
            floor.is_met_by(&stamp(Origin::Primary, 49, None), Lsn::new(49), None).is_err(),
            "by somebody else's clock"
        );
    }

    #[test]
    fn what_was_seen_on_a_standby_is_met_only_by_standbys() {
        let floor = Floor { seen_on_standby: Some(Lsn::new(14)), monotonic: true, ..Floor::default() };
        assert!(floor.is_met_by(&stamp(Origin::Standby, 14, Some(20)), Lsn::new(14), None).is_ok());
        assert_eq!(
            floor.is_met_by(&stamp(Origin::Primary, 15, Some(20)), Lsn::new(15), None),
            Err(Short::NotMonotonic)
        );
        assert_eq!(floor.is_met_by(&stamp(Origin::Standby, 14, None), Lsn::new(14), None), Err(Short::NotMonotonic));
    }

    #[test]
    fn no_slot_moves_backwards() {
        let rank = |tag, upper| (Lsn::new(tag), upper);
        assert!(admits(rank(5, false), rank(6, false)));
        assert!(admits(rank(5, false), rank(5, true)), "an upper bound is worth having");
        assert!(!admits(rank(5, false), rank(5, false)));
        assert!(!admits(rank(5, true), rank(5, false)));
        assert!(admits_over_marker(Lsn::new(5), rank(5, false)));
        assert!(!admits_over_marker(Lsn::new(5), rank(4, true)));
        assert!(marks(Lsn::new(4), Lsn::new(5)) && !marks(Lsn::new(5), Lsn::new(5)));
    }
}
