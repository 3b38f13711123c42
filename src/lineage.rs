//! One unbroken log of retractions in Redis.

use crate::Lsn;
use crate::rules::{Rule, holds};
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;

/// The identity of one unbroken log of retractions: made from the server's replication id, which a restart and a failover
/// change, and a number drawn when the log began and lost with it. So a log that was wiped, evicted, set back or taken over
/// by another server is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(u64);

impl Lineage {
    /// The highest number.
    pub(crate) const MAX: u64 = (1 << 48) - 1;

    pub(crate) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// This log as far as it is of one history: what tokens name, and who may extend entries for them. A log keeps a watermark
    /// for each history, and that waits for what was announced in the same one alone; but where a primary was set back,
    /// instances are in two histories until all know who noticed it.
    pub(crate) fn within(self, history: u64) -> Self {
        if !holds(Rule::VouchedInHistory) {
            return self;
        }
        let mut hasher = SipHasher13::new();
        hasher.write_u64(self.0);
        hasher.write_u64(history);
        Self(hasher.finish() >> 16)
    }

    /// As it is written in messages and tokens: 48 bits.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lineage({:016x})", self.0)
    }
}

/// That a log holds the retraction of every write between a pin and some position above it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Vouched {
    pub(crate) lineage: Lineage,
    /// Up to here only tags count.
    pub(crate) pinned: Lsn,
}

impl Vouched {
    /// What a log vouches for below `position`: nothing, where the pin is not below it.
    pub(crate) fn below(position: Lsn, lineage: Option<Lineage>, pinned: Lsn) -> Option<Self> {
        lineage.filter(|_| pinned < position).map(|lineage| Self { lineage, pinned })
    }

    /// The pin of `position`, which is itself where no log vouches for anything.
    pub(crate) fn pin(vouched: Option<Self>, position: Lsn) -> Lsn {
        vouched.map_or(position, |vouched| vouched.pinned)
    }
}
