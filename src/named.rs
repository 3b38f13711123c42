//! What of a position is known key by key.

use crate::Lsn;
use crate::digest::Digest;
use crate::rules::{Rule, holds};

/// How many keys a part of a token names. A token matters for as long as replicas and the watermark are behind it, which is
/// seldom more than a second or two, and few clients change more rows in that time; with so many it still fits into the text.
pub(crate) const PAIRS_MAX: usize = 8;

/// Four bytes of a key's digest: the same on every instance. Who shares them with another key is asked for more than it need
/// be, and never for less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Brief(pub(crate) u32);

impl Brief {
    pub(crate) fn of(key: &Digest) -> Self {
        let [a, b, c, d, ..] = *key.as_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }
}

/// A key, and a position that covers what was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Brief,
    pub(crate) lsn: Lsn,
}

/// That between a rest and some position above it nothing was written but to a few keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Named {
    /// Up to here anything may have been written.
    pub(crate) rest: Lsn,
    /// By key, at most [`PAIRS_MAX`], each above the rest.
    pub(crate) pairs: Vec<Pair>,
}

impl Named {
    /// What is known of a write at `lsn` that changed these keys: nothing where they are none or too many.
    pub(crate) fn of_write(lsn: Lsn, keys: &[Brief]) -> Option<Self> {
        let pairs = keys.iter().map(|&key| Pair { key, lsn }).collect();
        Self::of(Lsn::ZERO, pairs)
    }

    /// The rest below `position`, which is itself where nothing is known.
    pub(crate) fn rest(named: Option<&Self>, position: Lsn) -> Lsn {
        named.map_or(position, |named| named.rest)
    }

    /// How far an answer for these keys must reach to have what lies up to `position` and concerns them.
    pub(crate) fn floor(named: Option<&Self>, position: Lsn, keys: &[Brief]) -> Lsn {
        let Some(named) = named else { return position };
        let theirs = named.pairs.iter().filter(|pair| keys.contains(&pair.key)).map(|pair| pair.lsn);
        theirs.fold(named.rest, Lsn::max)
    }

    /// What is known of two positions together: for each key the higher demand of the two.
    pub(crate) fn merge(one: (Option<Self>, Lsn), other: (Option<Self>, Lsn)) -> Option<Self> {
        let rest = Self::rest(one.0.as_ref(), one.1).max(Self::rest(other.0.as_ref(), other.1));
        let pairs = [one.0, other.0].into_iter().flatten().flat_map(|named| named.pairs).collect();
        Self::of(rest, pairs)
    }

    /// The same, of which nothing up to `rest` is known by key.
    pub(crate) fn above(self, rest: Lsn) -> Option<Self> {
        Self::of(self.rest.max(rest), self.pairs)
    }

    /// The same without the keys that were written longest ago.
    pub(crate) fn shorter(self) -> Option<Self> {
        let least = self.pairs.iter().map(|pair| pair.lsn).min()?;
        self.above(least)
    }

    /// Keeps the keys that were written last, and takes what was written to the others into the rest.
    fn of(mut rest: Lsn, mut pairs: Vec<Pair>) -> Option<Self> {
        pairs.sort_unstable_by_key(|pair| (pair.key, std::cmp::Reverse(pair.lsn)));
        pairs.dedup_by_key(|pair| pair.key);
        if pairs.len() > PAIRS_MAX {
            let mut by_age: Vec<Lsn> = pairs.iter().map(|pair| pair.lsn).collect();
            by_age.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = by_age.get(PAIRS_MAX).copied().unwrap_or(Lsn::ZERO);
            if holds(Rule::OverflowIsOfAll) {
                rest = rest.max(oldest);
            } else {
                pairs.retain(|pair| pair.lsn > oldest);
            }
        }
        pairs.retain(|pair| pair.lsn > rest);
        (!pairs.is_empty()).then_some(Self { rest, pairs })
    }
}

#[cfg(test)]
mod tests;
