//! What a client carries so that it is never served below its own writes.

use crate::Lsn;
use crate::Position;
use crate::history::{History, Standing};

/// How many timelines of one cluster a token remembers. A client that lived through more promotions than this between two
/// reads is told that a write may be lost, because nobody can show any more that it is not.
const TIMELINES_MAX: usize = 4;

/// How many clusters one token remembers. For any further one, the same is told.
const CLUSTERS_MAX: usize = 16;

/// A position that a client must not be served below: an upper bound on its own commits.
///
/// It holds a part for each cluster that the client wrote to, by system identifier, and in it at most one position a
/// timeline, because positions of different timelines cannot be merged into one without knowing where one left the
/// other. Every part is *pinned*: to be covered by an entry's tag alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// Sorted by cluster, at most one each.
    shards: Vec<Shard>,
    /// A cluster could not be remembered.
    overflown: bool,
}

/// The part of a token that one cluster can judge.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Shard {
    system_identifier: u64,
    /// Sorted by timeline, at most one each.
    parts: Vec<Position>,
    /// A timeline could not be remembered.
    forgotten: bool,
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
    /// A token that demands everything up to `position` of the cluster `system_identifier`.
    #[must_use]
    pub fn at(system_identifier: u64, position: Position) -> Self {
        let mut token = Self::default();
        token.raise(system_identifier, position);
        token
    }

    /// Whether it demands nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Its positions in one cluster, one a timeline, oldest timeline first.
    pub fn positions(&self, system_identifier: u64) -> impl Iterator<Item = Position> + '_ {
        self.shard(system_identifier).into_iter().flat_map(|shard| shard.parts.iter().copied())
    }

    /// Raises the token to cover everything that `other` demands.
    pub fn merge(&mut self, other: &Self) {
        self.overflown |= other.overflown;
        for shard in &other.shards {
            if let Some(own) = self.shard_mut(shard.system_identifier) {
                own.forgotten |= shard.forgotten;
                shard.parts.iter().for_each(|&part| own.raise(part));
            }
        }
    }

    /// Raises the token to cover everything up to `position` of the cluster `system_identifier`.
    pub fn raise(&mut self, system_identifier: u64, position: Position) {
        if let Some(shard) = self.shard_mut(system_identifier) {
            shard.raise(position);
        }
    }

    /// The demand in `history`.
    pub(crate) fn demand(&self, history: &History) -> Demand {
        let mut demand = Demand { floor: Lsn::ZERO, standing: Standing::Floor(Lsn::ZERO) };
        let shard = self.shard(history.system_identifier());
        if shard.map_or(self.overflown, |shard| shard.forgotten) {
            demand.standing = Standing::Unproven;
        }
        for &part in shard.into_iter().flat_map(|shard| &shard.parts) {
            match history.standing(part) {
                Standing::Floor(lsn) => demand.floor = demand.floor.max(lsn),
                worse => demand.standing = worst(demand.standing, worse),
            }
        }
        demand
    }

    /// Drops what `history` cannot contain, once the loss was accepted.
    pub(crate) fn keep_surviving(&mut self, history: &History) {
        self.overflown = false;
        if let Some(shard) = self.shard_mut(history.system_identifier()) {
            shard.forgotten = false;
            shard.parts.retain_mut(|part| match history.survivor(*part) {
                Some(survivor) => {
                    *part = survivor;
                    true
                }
                None => false,
            });
        }
    }

    /// Lets a part on `top`'s timeline that is not above `known` mean no more than `top`: after a crash, positions above
    /// it name only what the crash undid.
    pub(crate) fn clamp(&mut self, system_identifier: u64, known: Lsn, top: Position) {
        let own = self.shards.iter_mut().filter(|shard| shard.system_identifier == system_identifier);
        for part in own.flat_map(|shard| &mut shard.parts) {
            if part.timeline == top.timeline && part.lsn <= known {
                part.lsn = part.lsn.min(top.lsn);
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
    fn raise(&mut self, position: Position) {
        match self.parts.binary_search_by_key(&position.timeline, |part| part.timeline) {
            Ok(at) => {
                if let Some(part) = self.parts.get_mut(at) {
                    part.lsn = part.lsn.max(position.lsn);
                }
            }
            Err(at) => self.parts.insert(at, position),
        }
        if self.parts.len() > TIMELINES_MAX {
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
    use crate::{Switch, Timeline};
    use proptest::prelude::*;

    const CLUSTER: u64 = 7;

    fn position(timeline: u32, lsn: u64) -> Position {
        Position::new(timeline, Lsn::new(lsn))
    }

    fn promoted() -> History {
        History::new(CLUSTER, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }])
    }

    #[test]
    fn a_lost_part_is_told_however_high_the_others_are() {
        let mut token = Token::at(CLUSTER, position(1, 120));
        token.raise(CLUSTER, position(2, 5_000));
        assert_eq!(token.demand(&promoted()).standing, Standing::Lost);
        token.keep_surviving(&promoted());
        let left = Demand { floor: Lsn::new(5_000), standing: Standing::Floor(Lsn::ZERO) };
        assert_eq!(token.demand(&promoted()), left);
    }

    #[test]
    fn more_promotions_than_it_can_hold_are_not_papered_over() {
        let mut token = Token::default();
        for timeline in 1..=5 {
            token.raise(CLUSTER, position(timeline, 10));
        }
        let switches = (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect();
        let history = History::new(CLUSTER, Timeline(5), switches);
        assert_eq!(token.demand(&history).standing, Standing::Unproven);
    }

    #[test]
    fn clusters_do_not_meet() {
        let mut token = Token::at(CLUSTER, position(2, 50));
        token.raise(8, position(2, 9_000));
        assert_eq!(token.demand(&promoted()).floor, Lsn::new(50));
        token.clamp(8, Lsn::MAX, position(2, 10));
        assert_eq!(token.demand(&promoted()).floor, Lsn::new(50));
        for other in 100..120 {
            token.raise(other, position(1, 1));
        }
        assert_eq!(token.demand(&promoted()).standing, Standing::Floor(Lsn::ZERO), "it was there first");
        let unknown = History::new(119, Timeline(1), vec![]);
        assert_eq!(token.demand(&unknown).standing, Standing::Unproven, "there was no room for it");
    }

    #[test]
    fn a_crash_clamps_only_what_was_known_then() {
        let mut token = Token::at(CLUSTER, position(1, 90));
        token.raise(CLUSTER, position(2, 500));
        let floor = |known| {
            let mut token = token.clone();
            token.clamp(CLUSTER, Lsn::new(known), position(2, 300));
            token.demand(&promoted()).floor
        };
        assert_eq!(floor(500), Lsn::new(300));
        assert_eq!(floor(400), Lsn::new(500), "it was raised after the position was read");
    }

    fn tokens() -> impl Strategy<Value = Token> {
        prop::collection::vec((0u64..3, 1u32..4, 0u64..100), 0..6).prop_map(|parts| {
            let mut token = Token::default();
            parts.into_iter().for_each(|(cluster, timeline, lsn)| token.raise(cluster, position(timeline, lsn)));
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
