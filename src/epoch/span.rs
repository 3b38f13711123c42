//! What one instance has heard of one log without a gap, and how far that vouches for what it holds.

use crate::Lsn;
use crate::lineage::Lineage;
use std::sync::atomic::{AtomicU64, Ordering};

/// One instance's unbroken knowledge of one log of retractions, within one history.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) lineage: Lineage,
    /// What tokens name that the log vouches for here.
    pub(crate) vouches: Lineage,
    /// A position of the primary that was read after the place in the log: what is tagged at or above it reflects
    /// everything that was retracted before that place.
    pub(crate) start: Lsn,
    /// Every announced write up to here has been retracted at this instance.
    watermark: AtomicU64,
}

impl Span {
    pub(crate) fn new(lineage: Lineage, history: u64, start: Lsn, watermark: Lsn) -> Self {
        Self { lineage, vouches: lineage.within(history), start, watermark: AtomicU64::new(watermark.offset()) }
    }

    pub(crate) fn watermark(&self) -> Lsn {
        Lsn::new(self.watermark.load(Ordering::Acquire))
    }

    /// Raises the watermark, after the floors of everything up to it.
    pub(crate) fn raise(&self, watermark: Lsn) {
        self.watermark.fetch_max(watermark.offset(), Ordering::AcqRel);
    }
}
