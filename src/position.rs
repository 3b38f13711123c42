//! Positions in the primary's log, and the page layout that decides what a position means.

use crate::Lsn;
use std::fmt;

/// The number of a timeline: PostgreSQL begins a new one at every promotion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timeline(pub u32);

impl Timeline {
    /// The least number of a timeline that comes after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the primary's write-ahead log: timeline and LSN.
///
/// Deliberately without an order: positions on different timelines are comparable only through a
/// [`History`](crate::History), which knows where one timeline left the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The timeline that the LSN is counted on.
    pub timeline: Timeline,
    /// The place on that timeline.
    pub lsn: Lsn,
}

impl Position {
    /// The place `lsn` on timeline number `timeline`.
    #[must_use]
    pub const fn new(timeline: u32, lsn: Lsn) -> Self {
        Self { timeline: Timeline(timeline), lsn }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.timeline)
    }
}

/// Sizes of the pages and segments that a server's log is cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalLayout {
    block_size: u64,
    segment_size: u64,
}

/// Bytes of the header of a log page (`XLogPageHeaderData`, aligned), and of the first page of a segment
/// (`XLogLongPageHeaderData`). They are the same from PostgreSQL 10 to 19.
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;

impl WalLayout {
    /// PostgreSQL's default: pages of 8 KiB in segments of 16 MiB.
    pub const DEFAULT: Self = Self { block_size: 8192, segment_size: 16 << 20 };

    /// A layout from `wal_block_size` and `wal_segment_size` in bytes, or `None` where no server can have it: both are
    /// powers of two, a page holds at least its header and a segment at least a page.
    #[must_use]
    pub const fn new(block_size: u64, segment_size: u64) -> Option<Self> {
        let sound = block_size.is_power_of_two()
            && segment_size.is_power_of_two()
            && block_size >= 1024
            && segment_size >= block_size;
        if sound { Some(Self { block_size, segment_size }) } else { None }
    }

    /// Floors a position inside a page header to the start of the page.
    ///
    /// `pg_current_wal_insert_lsn()` tells where the *next* record starts, so after a record that ends exactly at a
    /// page end it points past the next page's header (`XLogBytePosToRecPtr`, xlog.c). Replay stops at the page end and
    /// stays there until other log is written: seconds to minutes on an idle primary. No record ends inside a header,
    /// so the floored position demands exactly the same commits.
    #[must_use]
    pub const fn normalize(&self, lsn: Lsn) -> Lsn {
        let in_page = lsn.offset() % self.block_size;
        let first_page = lsn.offset() % self.segment_size < self.block_size;
        let header = if first_page { SEGMENT_HEADER } else { PAGE_HEADER };
        if in_page <= header { Lsn::new(lsn.offset() - in_page) } else { lsn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        WalLayout::DEFAULT.normalize(text.parse().unwrap()).to_string()
    }

    #[test]
    fn measured_positions_after_a_page_end() {
        assert_eq!(normal("0/D002018"), "0/D002000", "24 bytes of page header");
        assert_eq!(normal("0/D000028"), "0/D000000", "40 bytes of segment header");
        assert_eq!(normal("0/3BA8028"), "0/3BA8028", "40 bytes into an ordinary page is a real position");
        assert_eq!(normal("0/D000018"), "0/D000000", "inside a segment header");
        assert_eq!(normal("0/D002019"), "0/D002019");
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert!(WalLayout::new(8192, 16 << 20).is_some());
        assert!(WalLayout::new(0, 16 << 20).is_none());
        assert!(WalLayout::new(8192, 0).is_none());
        assert!(WalLayout::new(8192, 4096).is_none());
        assert!(WalLayout::new(8000, 16 << 20).is_none());
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent_and_keeps_the_order(a in any::<u64>(), b in any::<u64>(), near in 0u64..100) {
            let layout = WalLayout::DEFAULT;
            for (a, b) in [(a, b), (a, a.saturating_add(near)), (a & !8191, (a & !8191).saturating_add(near))] {
                let (low, high) = (Lsn::new(a.min(b)), Lsn::new(a.max(b)));
                prop_assert!(layout.normalize(low) <= layout.normalize(high));
                prop_assert!(layout.normalize(low) <= low);
                prop_assert_eq!(layout.normalize(layout.normalize(low)), layout.normalize(low));
            }
        }
    }
}
