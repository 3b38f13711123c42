//! What a client carries so that it is never served below its own writes.

use crate::history::{Branch, History, Standing};
use crate::lineage::{Lineage, Vouched};
use crate::named::{Brief, Named};
use crate::rules::{Rule, holds};
use crate::{Lsn, Position, Timeline};
use smallvec::SmallVec;

/// How many timelines of one cluster, and branches of them, a token remembers. A client that lived through more between
/// two reads is told that a write may be lost, because nobody can show any more that it is not.
pub(crate) const PARTS_MAX: usize = 4;

/// How many clusters one token remembers. For any further one, the same is told.
pub(crate) const CLUSTERS_MAX: usize = 16;

/// A position that a client must not be served below: an upper bound on its own commits.
///
/// It holds a part for each cluster that the client wrote to, by system identifier, and in it at most one position a
/// timeline, because positions of different timelines cannot be merged into one without knowing where one left the
/// other. What the retraction log of a lineage vouches for may be covered by that log's watermark; everything else is
/// *pinned*: to be covered by an entry's tag alone. Beside the position it may hold which few keys the latest writes
/// changed, for caches that are [scoped](crate::CacheBuilder::scoped).
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
    pub(crate) parts: Parts,
    /// A part could not be remembered.
    pub(crate) forgotten: bool,
}

/// Nearly every token has one for each cluster, and opening it allocates nothing for that.
pub(crate) type Parts = SmallVec<[Part; 1]>;

/// A position, the branch of its timeline that it was read in, how much of it a log vouches for, and how much is known by key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Part {
    pub(crate) position: Position,
    pub(crate) branch: Branch,
    /// `None` where no log vouches for anything: it is pinned as a whole.
    pub(crate) vouched: Option<Vouched>,
    /// `None` where nothing is known: all of it is demanded of every key.
    pub(crate) named: Option<Named>,
}

impl Part {
    /// All of it is pinned, and demanded of every key.
    pub(crate) fn pinned(position: Position, branch: Branch) -> Self {
        Self { position, branch, vouched: None, named: None }
    }

    pub(crate) fn order(&self) -> (Timeline, Branch) {
        (self.position.timeline, self.branch)
    }

    pub(crate) fn pin(&self) -> Lsn {
        Vouched::pin(self.vouched, self.position.lsn)
    }

    fn lineage(&self) -> Option<Lineage> {
        self.vouched.map(|vouched| vouched.lineage)
    }

    /// Covers both. Of two lineages the one with the higher position stays, and the other's position is pinned.
    fn merge(self, other: Self) -> Self {
        let rank = |part: &Self| (part.position.lsn, part.lineage());
        let (high, low) = if rank(&self) >= rank(&other) { (self, other) } else { (other, self) };
        let apart = low.lineage().is_some() && low.lineage() != high.lineage() && holds(Rule::OtherLineageIsPinned);
        // A pin alone belongs to every lineage.
        let pinned = high.pin().max(if apart { low.position.lsn } else { low.pin() });
        let vouched = Vouched::below(high.position.lsn, high.lineage(), pinned);
        let (position, branch) = (high.position, high.branch);
        let named = Named::merge((high.named, position.lsn), (low.named, low.position.lsn));
        Self { position, branch, vouched, named }
    }

    /// How far an answer must reach: for these keys alone, or whatever it is the answer to.
    fn floor(&self, scope: Scope<'_>) -> Lsn {
        let lsn = self.position.lsn;
        scope.map_or(lsn, |keys| Named::floor(self.named.as_ref(), lsn, keys))
    }
}

/// What is demanded: what concerns these keys, or everything.
pub(crate) type Scope<'a> = Option<&'a [Brief]>;

/// What a token demands of a read in one history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Demand {
    /// How far an answer must reach.
    pub(crate) floor: Lsn,
    /// What the log that was asked about vouches for.
    pub(crate) vouched: Option<Vouched>,
    /// Worst standing of its parts, `Floor` where all are covered by `floor`.
    pub(crate) standing: Standing,
}

impl Token {
    /// A token that demands everything up to `position` in `history`. It is pinned: no log vouches for it.
    #[must_use]
    pub fn at(history: &History, position: Position) -> Self {
        let mut token = Self::default();
        token.raise(history, position, None);
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
                shard.parts.iter().for_each(|part| own.raise(part.clone()));
            }
        }
    }

    /// Raises the token to cover everything up to `position`, which was read in `history`. `lineage` is the log that holds
    /// the retraction of what was written there, where one does.
    pub(crate) fn raise(&mut self, history: &History, position: Position, lineage: Option<Lineage>) {
        self.raise_for(history, position, lineage, &[]);
    }

    /// The same for a write that changed these keys and nothing else. None is everything.
    pub(crate) fn raise_for(
        &mut self,
        history: &History,
        position: Position,
        lineage: Option<Lineage>,
        keys: &[Brief],
    ) {
        if let Some(shard) = self.shard_mut(history.system_identifier()) {
            let vouched = Vouched::below(position.lsn, lineage, Lsn::ZERO);
            let named = Named::of_write(position.lsn, keys);
            shard.raise(Part { position, branch: history.branch(position.timeline), vouched, named });
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
        let Some(mut present) = shard.parts.iter().find(|part| part.order() == own).cloned() else {
            return;
        };
        shard.parts.retain(|part| {
            let standing = history.standing_in(part.position, part.branch);
            match standing {
                Standing::Floor(lsn) if part.order() != own && lsn <= present.position.lsn => {
                    // No log of this timeline vouches for it.
                    let pinned = present.pin().max(lsn);
                    present.vouched = Vouched::below(present.position.lsn, present.lineage(), pinned);
                    present.named = present.named.take().and_then(|named| named.above(lsn));
                    false
                }
                _ => true,
            }
        });
        if let Some(part) = shard.parts.iter_mut().find(|part| part.order() == own) {
            *part = present;
        }
    }

    /// The demand in `history`, of an instance that hears the log of `lineage`.
    pub(crate) fn demand(&self, history: &History, lineage: Option<Lineage>) -> Demand {
        self.demand_of(history, lineage, None)
    }

    /// The same of what answers a read of these keys.
    pub(crate) fn demand_of(&self, history: &History, lineage: Option<Lineage>, scope: Scope<'_>) -> Demand {
        let mut demand = Demand { floor: Lsn::ZERO, vouched: None, standing: Standing::Floor(Lsn::ZERO) };
        let mut pinned = Lsn::ZERO;
        let shard = self.shard(history.system_identifier());
        if shard.map_or(self.overflown, |shard| shard.forgotten) {
            demand.standing = Standing::Unproven;
        }
        for part in shard.into_iter().flat_map(|shard| &shard.parts) {
            match history.standing_in(part.position, part.branch) {
                Standing::Floor(lsn) => {
                    let ours = part.lineage() == lineage || !holds(Rule::ForeignIsPinned);
                    let vouched = ours && part.position.timeline == history.timeline();
                    let floor = part.floor(scope).min(lsn);
                    demand.floor = demand.floor.max(floor);
                    pinned = pinned.max(if vouched { part.pin().min(floor) } else { floor });
                }
                worse => demand.standing = worst(demand.standing, worse),
            }
        }
        demand.vouched = Vouched::below(demand.floor, lineage, pinned);
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
                match history.survivor(part.position, part.branch) {
                    Some(same) if same == (part.position, part.branch) => shard.raise(part),
                    // An instance that had not noticed may have written in the present log under the name of the old one.
                    Some(_) if history.is_set_back(part.position, part.branch) => {
                        let branch = history.branch(history.timeline());
                        shard.raise(Part::pinned(part.position, branch));
                    }
                    Some((position, branch)) if holds(Rule::SurvivorsStay) => {
                        shard.raise(Part::pinned(position, branch));
                    }
                    _ => {}
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
            if part.position.timeline == top.timeline && part.position.lsn > top.lsn {
                *part = Part::pinned(top, part.branch);
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
                self.shards.insert(at, Shard { system_identifier, parts: Parts::new(), forgotten: false });
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
                    *part = part.clone().merge(raised);
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
pub(crate) mod tests;
