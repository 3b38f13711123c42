//! What a client carries so that it is never served below its own writes.

use crate::Lsn;
use crate::Position;
use crate::history::{History, Standing};

/// How many timelines one token remembers. A client that lived through more promotions than this between two reads is
/// told that a write may be lost, because nobody can show any more that it is not.
const TIMELINES_MAX: usize = 4;

/// A position that a client must not be served below: an upper bound on its own commits.
///
/// It holds at most one position a timeline, because positions of different timelines cannot be merged into one without
/// knowing where one left the other. Every part of it is *pinned*: to be covered by an entry's tag alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// Sorted by timeline, at most one each.
    parts: Vec<Position>,
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
    /// A token that demands everything up to `position`.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { parts: vec![position], forgotten: false }
    }

    /// Whether it demands nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.forgotten
    }

    /// Its positions, one a timeline, oldest timeline first.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.parts.iter().copied()
    }

    /// Raises the token to cover everything that `other` demands.
    pub fn merge(&mut self, other: &Self) {
        self.forgotten |= other.forgotten;
        for &part in &other.parts {
            self.raise(part);
        }
    }

    /// Raises the token to cover everything up to `position`.
    pub fn raise(&mut self, position: Position) {
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

    /// The demand in `history`.
    pub(crate) fn demand(&self, history: &History) -> Demand {
        let mut demand = Demand { floor: Lsn::ZERO, standing: Standing::Floor(Lsn::ZERO) };
        if self.forgotten {
            demand.standing = Standing::Unproven;
        }
        for &part in &self.parts {
            match history.standing(part) {
                Standing::Floor(lsn) => demand.floor = demand.floor.max(lsn),
                worse => demand.standing = worst(demand.standing, worse),
            }
        }
        demand
    }

    /// The same token without the parts that `history` cannot contain: what is left once the loss was accepted.
    pub(crate) fn surviving(&self, history: &History) -> Self {
        let keep = |part: &&Position| matches!(history.standing(**part), Standing::Floor(_) | Standing::Ahead);
        Self { parts: self.parts.iter().filter(keep).copied().collect(), forgotten: false }
    }

    /// The same token where a part on `top`'s timeline that is not above `known` means no more than `top`: after a crash,
    /// positions above it name only what the crash undid.
    pub(crate) fn clamped(&self, known: Lsn, top: Position) -> Self {
        let clamp = |part: &Position| match part.timeline == top.timeline && part.lsn <= known {
            true => Position { lsn: part.lsn.min(top.lsn), ..*part },
            false => *part,
        };
        Self { parts: self.parts.iter().map(clamp).collect(), forgotten: self.forgotten }
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

    fn position(timeline: u32, lsn: u64) -> Position {
        Position::new(timeline, Lsn::new(lsn))
    }

    #[test]
    fn a_lost_part_is_told_however_high_the_others_are() {
        let history = History::new(7, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }]);
        let mut token = Token::at(position(1, 120));
        token.raise(position(2, 5_000));
        assert_eq!(token.demand(&history).standing, Standing::Lost);
        let accepted = token.surviving(&history);
        assert_eq!(accepted.demand(&history), Demand { floor: Lsn::new(5_000), standing: Standing::Floor(Lsn::ZERO) });
    }

    #[test]
    fn more_promotions_than_it_can_hold_are_not_papered_over() {
        let mut token = Token::default();
        for timeline in 1..=5 {
            token.raise(position(timeline, 10));
        }
        let history =
            History::new(7, Timeline(5), (1..5).map(|t| Switch { from: Timeline(t), at: Lsn::new(99) }).collect());
        assert_eq!(token.demand(&history).standing, Standing::Unproven);
    }

    #[test]
    fn a_crash_clamps_only_its_own_timeline() {
        let history = History::new(7, Timeline(2), vec![Switch { from: Timeline(1), at: Lsn::new(100) }]);
        let mut token = Token::at(position(1, 90));
        token.raise(position(2, 500));
        let floor = |known| token.clamped(Lsn::new(known), position(2, 300)).demand(&history).floor;
        assert_eq!(floor(500), Lsn::new(300));
        assert_eq!(floor(400), Lsn::new(500), "it was raised after the position was read");
    }

    fn tokens() -> impl Strategy<Value = Token> {
        prop::collection::vec((1u32..4, 0u64..100), 0..6).prop_map(|parts| {
            let mut token = Token::default();
            parts.into_iter().for_each(|(timeline, lsn)| token.raise(position(timeline, lsn)));
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
            for part in a.positions().chain(b.positions()) {
                prop_assert!(ab.positions().any(|p| p.timeline == part.timeline && p.lsn >= part.lsn));
            }
        }
    }
}
