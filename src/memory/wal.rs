//! The write-ahead log of one server: records on pages with headers, as PostgreSQL counts them.

use super::rows::Change;
use crate::Lsn;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

const PAGE: u64 = 8192;
const SEGMENT: u64 = 16 << 20;
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;
/// Bytes for records in a page that does not begin a segment, in the one that does, and in a whole segment.
const PAGE_ROOM: u64 = PAGE - PAGE_HEADER;
const FIRST_PAGE_ROOM: u64 = PAGE - SEGMENT_HEADER;
const SEGMENT_ROOM: u64 = FIRST_PAGE_ROOM + (SEGMENT / PAGE - 1) * PAGE_ROOM;

/// The size of a commit record, of the record that says that a row changed, and of others.
pub(super) const COMMIT_BYTES: u64 = 48;
pub(super) const CHANGE_BYTES: u64 = 72;
pub(super) const ABORT_BYTES: u64 = 40;
pub(super) const MESSAGE_BYTES: u64 = 56;
pub(super) const CHECKPOINT_BYTES: u64 = 120;
pub(super) const END_OF_RECOVERY_BYTES: u64 = 48;

/// How many records a server keeps; a standby that needs an older one has to be built anew.
const RECORDS_MAX: usize = 1 << 16;

/// A place in the log that counts only the bytes of records, not those of headers: two LSNs stand for the place at a
/// page end, one on each side of the header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place(u64);

impl Place {
    /// Where a new cluster begins to write.
    pub(super) fn first() -> Self {
        Self::at(Lsn::new(3 * SEGMENT))
    }

    /// The place of an LSN that a record ends or begins at (`XLogRecPtrToBytePos`).
    pub(super) fn at(lsn: Lsn) -> Self {
        let (segments, rest) = (lsn.offset() / SEGMENT, lsn.offset() % SEGMENT);
        let (pages, offset) = (rest / PAGE, rest % PAGE);
        let within = match pages {
            0 => offset.saturating_sub(SEGMENT_HEADER),
            _ => FIRST_PAGE_ROOM + (pages - 1) * PAGE_ROOM + offset.saturating_sub(PAGE_HEADER),
        };
        Self(segments * SEGMENT_ROOM + within)
    }

    /// Where a record that begins here begins: past the header (`XLogBytePosToRecPtr`). This is what
    /// `pg_current_wal_insert_lsn()` tells.
    pub(super) fn start(self) -> Lsn {
        let (segment, page, left) = self.split();
        let header = if page == 0 { SEGMENT_HEADER } else { PAGE_HEADER };
        Lsn::new(segment * SEGMENT + page * PAGE + header + left)
    }

    /// Where a record that ends here ends: before the header (`XLogBytePosToEndRecPtr`).
    pub(super) fn end(self) -> Lsn {
        match self.split() {
            (segment, page, 0) => Lsn::new(segment * SEGMENT + page * PAGE),
            _ => self.start(),
        }
    }

    pub(super) fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes.next_multiple_of(8))
    }

    /// How large a record must be to leave room for exactly `room` more bytes in its last page.
    pub(super) fn bytes_to_leave(self, room: u64) -> u64 {
        let (_, page, used) = self.split();
        let left = if page == 0 { FIRST_PAGE_ROOM - used } else { PAGE_ROOM - used };
        // Not a record of no size: then it fills the next page, too.
        if left > room { left - room } else { left + PAGE_ROOM - room }
    }

    /// How large a record must be to end at the end of the segment (`pg_switch_wal`).
    pub(super) fn bytes_to_next_segment(self) -> u64 {
        self.0.next_multiple_of(SEGMENT_ROOM) - self.0
    }

    fn split(self) -> (u64, u64, u64) {
        let (segment, within) = (self.0 / SEGMENT_ROOM, self.0 % SEGMENT_ROOM);
        match within.checked_sub(FIRST_PAGE_ROOM) {
            None => (segment, 0, within),
            Some(beyond) => (segment, 1 + beyond / PAGE_ROOM, beyond % PAGE_ROOM),
        }
    }
}

/// The start of the page that an LSN lies in: what a background flush, which writes whole pages, gets to.
pub(super) fn page_start(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.offset() - lsn.offset() % PAGE)
}

#[derive(Debug)]
pub(super) struct Record {
    /// Where it ends, before a header that may follow.
    pub(super) end: Lsn,
    pub(super) timeline: u32,
    /// The transaction that it belongs to; 0 for none.
    pub(super) xid: u64,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Anything whose content nobody reads back: a row's change before its commit, a message, a checkpoint.
    Other,
    Commit {
        changes: Vec<Change>,
        /// The time stamp that a delayed standby counts from.
        at: Instant,
    },
    Abort,
}

/// The records that a server wrote or received, oldest first, numbered from the beginning of the cluster: a record has
/// the same number on every server, as long as they share their history.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    first: u64,
    records: VecDeque<Arc<Record>>,
    /// The record before the first: tells whether another server's log continues this one.
    folded: Option<Arc<Record>>,
}

impl Log {
    /// The number that the next record gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// The number of the oldest record that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn push(&mut self, record: Arc<Record>) {
        self.records.push_back(record);
    }

    pub(super) fn get(&self, number: u64) -> Option<&Arc<Record>> {
        match number.checked_sub(self.first) {
            Some(index) => self.records.get(usize::try_from(index).ok()?),
            None if number + 1 == self.first => self.folded.as_ref(),
            None => None,
        }
    }

    /// Where the log ends before record `number`.
    pub(super) fn end_before(&self, number: u64) -> Option<Lsn> {
        self.get(number.checked_sub(1)?).map(|record| record.end)
    }

    /// Drops record `number` and all behind it.
    pub(super) fn truncate(&mut self, number: u64) {
        let keep = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.records.truncate(keep);
    }

    /// Drops every record that ends beyond `lsn`.
    pub(super) fn truncate_at(&mut self, lsn: Lsn) {
        let keep = self.records.partition_point(|record| record.end <= lsn);
        self.records.truncate(keep);
    }

    /// Whether both logs are the same up to record `number`.
    pub(super) fn agrees(&self, other: &Self, number: u64) -> bool {
        let Some(last) = number.checked_sub(1) else { return true };
        matches!((self.get(last), other.get(last)), (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs))
    }

    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &Arc<Record>> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.records.iter().skip(skip)
    }

    /// Takes the oldest record out where there are too many and it ends at or below `limit`.
    pub(super) fn fold_one(&mut self, limit: Lsn) -> Option<Arc<Record>> {
        let due = self.records.len() > RECORDS_MAX && self.records.front().is_some_and(|record| record.end <= limit);
        let record = if due { self.records.pop_front() } else { None }?;
        self.first += 1;
        self.folded = Some(record.clone());
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WalLayout;
    use proptest::prelude::*;

    #[test]
    fn a_page_end_has_two_numbers() {
        let end = Place::at(Lsn::new(0xD00_2000));
        assert_eq!(end.end().to_string(), "0/D002000");
        assert_eq!(end.start().to_string(), "0/D002018");
        let segment = Place::at(Lsn::new(0xD00_0000));
        assert_eq!(segment.end().to_string(), "0/D000000");
        assert_eq!(segment.start().to_string(), "0/D000028");
    }

    proptest! {
        #[test]
        fn places_and_positions_agree(place in 0u64..(1 << 40), near in 0u64..10) {
            // Records are padded, so places are multiples of eight.
            let (place, near) = (place * 8, near * 8);
            for place in [Place(place), Place(place - place % SEGMENT_ROOM + near)] {
                prop_assert_eq!(Place::at(place.start()), place);
                prop_assert_eq!(Place::at(place.end()), place);
                prop_assert_eq!(WalLayout::DEFAULT.normalize(place.start()), WalLayout::DEFAULT.normalize(place.end()));
                prop_assert!(place.end() <= place.start());
                prop_assert!(place.start() < place.plus(8).end());
                prop_assert_eq!(place.plus(0), place);
                prop_assert_eq!(place.plus(place.bytes_to_next_segment()).end().offset() % SEGMENT, 0);
                prop_assert_eq!(place.plus(place.bytes_to_leave(48)).plus(48).end().offset() % PAGE, 0);
            }
        }
    }
}
