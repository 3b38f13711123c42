//! What a client carries so that it is never served below its own writes.

use crate::history::{Branch, History, Standing};
use crate::rules::{Rule, holds};
use crate::{Lsn, Position, Timeline};

/// How many timelines of one cluster, and branches of them, a token remembers. A client that lived through more between
/// two reads is told that a write may be lost, because nobody can show any more that it is not.
pub(crate) const PARTS_MAX: usize = 4;

/// How many clusters one token remembers. For any further one, the same is told.
pub(crate) const CLUSTERS_MAX: usize = 16;

/// A position that a client must not be served below: an upper bound on its own commits.
///
/// It holds a part for each cluster that the client wrote to, by system identifier, and in it at most one position a
/// timeline, because positions of different timelines cannot be merged into one without knowing where one left the
/// other. Every part is *pinned*: to be covered by an entry's tag alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Token {
    /// Sorted by cluster, at most one each.
    shards: Vec<Shard>,
    /// A cluster could not be remembered.
    overflown: bool,
    /// Clusters were left out when it was written down, because it would have been too long.
    collapsed: bool,
}

/// The part of a token that one cluster can judge.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Shard {
    pub(crate) system_identifier: u64,
    /// Sorted by timeline and branch, at most one each.
    pub(crate) parts: Vec<Part>,
    /// A part could not be remembered.
    pub(crate) forgotten: bool,
}

/// A position, and the branch of its timeline that it was read in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Part {
    pub(crate) position: Position,
    pub(crate) branch: Branch,
}

impl Part {
    pub(crate) fn order(&self) -> (Timeline, Branch) {
        (self.position.timeline, self.branch)
    }
}

/// What a token demands of a read in one history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Demand {
    /// The least tag that covers it.
    pub(crate) floor: Lsn,
    /// Worst standing of its parts, `Floor` where all are covered by `floor`.
    pub(crate) standing: Standing,
}

impl Token {
    /// A token that demands everything up to `position` in `history`.
    #[must_use]
    pub fn at(history: &History, position: Position) -> Self {
        let mut token = Self::default();
        token.raise(history, position);
        token
    }

    /// The token of these parts, each sorted as its field says, as they were read from somewhere.
    pub(crate) fn from_shards(shards: Vec<Shard>, overflown: bool, collapsed: bool) -> Self {
        Self { shards, overflown, collapsed }
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(crate) fn is_overflown(&self) -> bool {
        self.overflown
    }

    pub(crate) fn is_collapsed(&self) -> bool {
        self.collapsed
    }

    /// Whether it says anything about this cluster.
    pub(crate) fn names(&self, system_identifier: u64) -> bool {
        self.shard(system_identifier).is_some()
    }

    /// Whether it demands nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Its positions in one cluster, one a timeline and branch of it, oldest first.
    pub fn positions(&self, system_identifier: u64) -> impl Iterator<Item = Position> + '_ {
        self.shard(system_identifier).into_iter().flat_map(|shard| &shard.parts).map(|part| part.position)
    }

    /// Raises the token to cover everything that `other` demands.
    pub fn merge(&mut self, other: &Self) {
        self.overflown |= other.overflown;
        self.collapsed |= other.collapsed;
        for shard in &other.shards {
            if let Some(own) = self.shard_mut(shard.system_identifier) {
                own.forgotten |= shard.forgotten;
                shard.parts.iter().for_each(|&part| own.raise(part));
            }
        }
    }

    /// Raises the token to cover everything up to `position`, which was read in `history`.
    pub(crate) fn raise(&mut self, history: &History, position: Position) {
        if let Some(shard) = self.shard_mut(history.system_identifier()) {
            shard.raise(Part { position, branch: history.branch(position.timeline) });
        }
    }

    /// Drops what a part of `history`'s own timeline covers: positions of ancestors that survived lie below where it began.
    /// Without this, a client that lives through a failover a month would one day hold more than can be remembered.
    pub(crate) fn fold(&mut self, history: &History) {
        let Some(shard) = self.shards.iter_mut().find(|shard| shard.system_identifier == history.system_identifier())
        else {
            return;
        };
        let own = (history.timeline(), history.branch(history.timeline()));
        let Some(top) = shard.parts.iter().find(|part| part.order() == own).map(|part| part.position.lsn) else {
            return;
        };
        let covered = |part: &Part| {
            let standing = history.standing_in(part.position, part.branch);
            part.order() != own && matches!(standing, Standing::Floor(lsn) if lsn <= top)
        };
        shard.parts.retain(|part| !covered(part));
    }

    /// The demand in `history`.
    pub(crate) fn demand(&self, history: &History) -> Demand {
        let mut demand = Demand { floor: Lsn::ZERO, standing: Standing::Floor(Lsn::ZERO) };
        let shard = self.shard(history.system_identifier());
        if shard.map_or(self.overflown, |shard| shard.forgotten) {
            demand.standing = Standing::Unproven;
        }
        for &part in shard.into_iter().flat_map(|shard| &shard.parts) {
            match history.standing_in(part.position, part.branch) {
                Standing::Floor(lsn) => demand.floor = demand.floor.max(lsn),
                worse => demand.standing = worst(demand.standing, worse),
            }
        }
        demand
    }

    /// Drops what `history` cannot contain, once the loss was accepted. What it may contain is demanded further on.
    ///
    /// Of a part that could not be remembered nothing need be left: it was the oldest, and a position of a later timeline
    /// lies above where that one left the earlier. A cluster that could not be remembered is forgotten.
    pub(crate) fn keep_surviving(&mut self, history: &History) {
        self.overflown = false;
        let own = |shard: &&mut Shard| shard.system_identifier == history.system_identifier();
        if let Some(shard) = self.shards.iter_mut().find(own) {
            shard.forgotten = false;
            for part in std::mem::take(&mut shard.parts) {
                let survivor = history.survivor(part.position, part.branch);
                let kept =
                    |(position, _): &(Position, Branch)| *position == part.position || holds(Rule::SurvivorsStay);
                if let Some((position, branch)) = survivor.filter(kept) {
                    shard.raise(Part { position, branch });
                }
            }
        }
        // A cluster of which nothing is demanded is not named: written down, nobody could read it.
        self.shards.retain(|shard| shard.forgotten || !shard.parts.is_empty());
    }

    /// Lets no part on `top`'s timeline mean more than `top`: after a crash, positions above it name only what the crash
    /// undid.
    pub(crate) fn clamp(&mut self, system_identifier: u64, top: Position) {
        let own = self.shards.iter_mut().filter(|shard| shard.system_identifier == system_identifier);
        for part in own.flat_map(|shard| &mut shard.parts) {
            if part.position.timeline == top.timeline {
                part.position.lsn = part.position.lsn.min(top.lsn);
            }
        }
    }

    fn shard(&self, system_identifier: u64) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.system_identifier == system_identifier)
    }

    /// The cluster's part, made where there is none; `None` where there is no room for it.
    fn shard_mut(&mut self, system_identifier: u64) -> Option<&mut Shard> {
        let at = match self.shards.binary_search_by_key(&system_identifier, |shard| shard.system_identifier) {
            Ok(at) => at,
            Err(_) if self.shards.len() == CLUSTERS_MAX => {
                self.overflown = true;
                return None;
            }
            Err(at) => {
                self.shards.insert(at, Shard { system_identifier, parts: Vec::new(), forgotten: false });
                at
            }
        };
        self.shards.get_mut(at)
    }
}

impl Shard {
    fn raise(&mut self, raised: Part) {
        match self.parts.binary_search_by_key(&raised.order(), Part::order) {
            Ok(at) => {
                if let Some(part) = self.parts.get_mut(at) {
                    part.position.lsn = part.position.lsn.max(raised.position.lsn);
                }
            }
            Err(at) => self.parts.insert(at, raised),
        }
        if self.parts.len() > PARTS_MAX {
            self.parts.remove(0);
            self.forgotten = true;
        }
    }
}

/// A loss that is certain is told before one that is possible, and both before a history that is merely out of date.
pub(crate) fn worst(a: Standing, b: Standing) -> Standing {
    let rank = |standing| match standing {
        Standing::Floor(_) => 0,
        Standing::Ahead => 1,
        Standing::Unproven => 2,
        Standing::Lost => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Switch;
    use proptest::prelude::*;

    const CLUSTER: u64 = 7;

    fn position(timeline: u32, lsn: u64) -> Position {
        Position::new(timeline, Lsn::new(lsn))
    }

    /// Raises a token in a log whose beginning is not known.
    fn raise(token: &mut Token, cluster: u64, position: Position) {
        token.raise(&History::new(cluster, position.timeline, vec![]), position);
    }

    fn promoted() -> History {
        History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }])
    }

    #[test]
    fn a_lost_part_is_told_however_high_the_others_are() {
        let mut token = Token::at(&first(), position(1, 120));
        raise(&mut token, CLUSTER, position(2, 5_000));
        assert_eq!(token.demand(&promoted()).standing, Standing::Lost);
        token.keep_surviving(&promoted());
        let left = Demand { floor: Lsn::new(5_000), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&promoted()), left);
    }

    /// As a monotonic session does whose sight was lost and who had written nothing.
    #[test]
    fn who_accepts_a_loss_without_a_write_holds_no_token_yet() {
        let mut token = Token::default();
        token.keep_surviving(&promoted());
        assert!(token.is_empty());
        raise(&mut token, CLUSTER + 1, position(1, 120));
        token.keep_surviving(&promoted());
        assert!(!token.names(CLUSTER));
    }

    #[test]
    fn more_promotions_than_it_can_hold_are_not_papered_over() {
        let mut token = Token::default();
        for timeline in 1..=5 {
            raise(&mut token, CLUSTER, position(timeline, 10));
        }
        let switches = (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect();
        let history = History::new(CLUSTER, Timeline(5), switches);
        assert_eq!(token.demand(&history).standing, Standing::Unproven);
    }

    #[test]
    fn clusters_do_not_meet() {
        let mut token = Token::at(&first(), position(2, 50));
        raise(&mut token, 8, position(2, 9_000));
        assert_eq!(token.demand(&promoted()).floor, Lsn::new(50));
        token.clamp(8, position(2, 10));
        assert_eq!(token.demand(&promoted()).floor, Lsn::new(50));
        for other in 100..120 {
            raise(&mut token, other, position(1, 1));
        }
        assert_eq!(token.demand(&promoted()).standing, Standing::Floor(Lsn::ZERO), "it was there first");
        let unknown = History::new(119, Timeline(1), vec![]);
        assert_eq!(token.demand(&unknown).standing, Standing::Unproven, "there was no room for it");
    }

    #[test]
    fn a_crash_clamps_only_its_own_timeline() {
        let mut token = Token::at(&first(), position(1, 90));
        raise(&mut token, CLUSTER, position(2, 500));
        token.clamp(CLUSTER, position(2, 300));
        assert_eq!(token.demand(&promoted()).floor, Lsn::new(300));
        assert_eq!(token.positions(CLUSTER).next(), Some(position(1, 90)));
    }

    #[test]
    fn what_a_set_back_primary_lost_is_told_however_far_its_log_has_grown_since() {
        let mut token = Token::at(&first(), position(1, 500));
        let set_back = first().set_back(Lsn::new(300), 0);
        assert_eq!(token.demand(&set_back).standing, Standing::Lost);
        token.raise(&set_back, position(1, 900));
        assert_eq!(token.demand(&set_back).standing, Standing::Lost, "a newer write does not cover it");
        token.keep_surviving(&set_back);
        let left = Demand { floor: Lsn::new(900), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&set_back), left);
        let early = Token::at(&first(), position(1, 300));
        assert_eq!(early.demand(&set_back).floor, Lsn::new(300));
    }

    #[test]
    fn what_may_have_survived_is_still_demanded_once_the_loss_was_accepted() {
        // Where timeline 1 ended, nobody knows: its writes up to there are in the present history.
        let unproven = History::new(CLUSTER, Timeline(2), vec![]);
        let mut token = Token::at(&first(), position(1, 120));
        assert_eq!(token.demand(&unproven).standing, Standing::Unproven);
        token.keep_surviving(&unproven);
        let left = Demand { floor: Lsn::new(120), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&unproven), left);
        assert_eq!(token.positions(CLUSTER).collect::<Vec<_>>(), [position(2, 120)], "one part a timeline");
        // The same where the history was set back besides, which it must not be told a second time.
        let mut token = Token::at(&first(), position(1, 500));
        raise(&mut token, CLUSTER, position(2, 100));
        let set_back = unproven.set_back(Lsn::new(300), 0);
        token.keep_surviving(&set_back);
        assert!(matches!(token.demand(&set_back).standing, Standing::Floor(_)));
        assert!(token.demand(&set_back).floor >= Lsn::new(300));
    }

    #[test]
    fn what_was_forgotten_is_covered_by_what_is_left() {
        let mut token = Token::default();
        for timeline in 1..=5 {
            raise(&mut token, CLUSTER, position(timeline, 10 * u64::from(timeline)));
        }
        let switches = (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect();
        let history = History::new(CLUSTER, Timeline(5), switches);
        token.keep_surviving(&history);
        // A position of a later timeline lies above where it left the earlier ones, and so above their writes.
        let left = Demand { floor: Lsn::new(50), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&history), left);
    }

    #[test]
    fn what_survived_is_folded_into_the_present_timeline_and_what_was_lost_is_not() {
        let mut token = Token::at(&first(), position(1, 100));
        token.fold(&promoted());
        assert_eq!(token.positions(CLUSTER).count(), 1, "nothing covers it yet");
        token.raise(&promoted(), position(2, 90));
        token.fold(&promoted());
        assert_eq!(token.positions(CLUSTER).count(), 2, "what is lower covers nothing");
        token.raise(&promoted(), position(2, 5_000));
        let before = token.demand(&promoted());
        token.fold(&promoted());
        assert_eq!(token.positions(CLUSTER).collect::<Vec<_>>(), [position(2, 5_000)]);
        assert_eq!(token.demand(&promoted()), before);

        raise(&mut token, CLUSTER, position(1, 101));
        token.fold(&promoted());
        assert_eq!(token.demand(&promoted()).standing, Standing::Lost);
    }

    #[test]
    fn what_a_set_back_primary_lost_is_told_after_the_next_failover_too() {
        let (token, kept) = (Token::at(&first(), position(1, 500)), Token::at(&first(), position(1, 300)));
        let set_back = first().set_back(Lsn::new(300), 0);
        let switch = Switch { from: Timeline(1), at: Lsn::new(900) };
        let promoted = History::new(CLUSTER, Timeline(2), vec![switch]).after(&set_back);
        assert_eq!(token.demand(&promoted).standing, Standing::Lost);
        assert_eq!(kept.demand(&promoted).standing, Standing::Floor(Lsn::ZERO));
    }

    #[test]
    fn what_was_lost_with_a_twin_of_the_timeline_is_told() {
        let forked = |at| History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(at) }]);
        let (one, other) = (forked(100), forked(80));
        let mut token = Token::at(&one, position(2, 150));
        assert_eq!(token.demand(&one).standing, Standing::Floor(Lsn::ZERO));
        assert_eq!(token.demand(&other).standing, Standing::Lost);
        token.raise(&other, position(2, 400));
        token.fold(&other);
        assert_eq!(token.demand(&other).standing, Standing::Lost, "a newer write does not cover it");
        let switch = Switch { from: Timeline(2), at: Lsn::new(500) };
        let later = History::new(CLUSTER, Timeline(3), [other.switches(), &[switch]].concat());
        assert_eq!(token.demand(&later).standing, Standing::Lost, "nor does another failover");
        token.keep_surviving(&other);
        let left = Demand { floor: Lsn::new(400), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&other), left);
        let early = Token::at(&one, position(1, 70));
        assert_eq!(early.demand(&other).floor, Lsn::new(70), "what both logs have");
    }

    fn first() -> History {
        History::new(CLUSTER, Timeline(1), vec![])
    }

    fn tokens() -> impl Strategy<Value = Token> {
        prop::collection::vec((0u64..3, 1u32..4, 0u64..100), 0..6).prop_map(|parts| {
            let mut token = Token::default();
            parts.into_iter().for_each(|(cluster, timeline, lsn)| raise(&mut token, cluster, position(timeline, lsn)));
            token
        })
    }

    proptest! {
        #[test]
        fn merging_never_lowers_and_has_no_order(a in tokens(), b in tokens()) {
            let mut ab = a.clone();
            ab.merge(&b);
            let mut ba = b.clone();
            ba.merge(&a);
            prop_assert_eq!(&ab, &ba);
            let mut again = ab.clone();
            again.merge(&a);
            prop_assert_eq!(&again, &ab);
            for cluster in 0..3 {
                for part in a.positions(cluster).chain(b.positions(cluster)) {
                    let covers = |p: Position| p.timeline == part.timeline && p.lsn >= part.lsn;
                    prop_assert!(ab.positions(cluster).any(covers));
                }
            }
        }
    }
}
