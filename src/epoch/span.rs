//! What one instance has heard of one log without a gap, and how far that vouches for what it holds.

use crate::Lsn;
use crate::lineage::Lineage;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// One instance's unbroken knowledge of one log of retractions, within one history.
#[derive(Debug)]
pub(crate) struct Span {
    /// The log, in this history.
    pub(crate) lineage: Lineage,
    /// A position of the primary that was read after the place in the log: what is tagged at or above it reflects
    /// everything that was retracted before that place.
    pub(crate) start: Lsn,
    /// Every announced write up to here has been retracted at this instance.
    watermark: AtomicU64,
    raised: Notify,
}

impl Span {
    pub(crate) fn new(lineage: Lineage, start: Lsn, watermark: Lsn) -> Self {
        Self { lineage, start, watermark: AtomicU64::new(watermark.offset()), raised: Notify::new() }
    }

    /// The same for a floors table of its own: who still holds the other table must not be told what this one has heard.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.lineage, self.start, self.watermark())
    }

    pub(crate) fn watermark(&self) -> Lsn {
        Lsn::new(self.watermark.load(Ordering::Acquire))
    }

    /// Raises the watermark, after the floors of everything up to it.
    pub(crate) fn raise(&self, watermark: Lsn) {
        self.watermark.fetch_max(watermark.offset(), Ordering::AcqRel);
        self.raised.notify_waiters();
    }

    /// Waits until the watermark has come so far. May be dropped at any await.
    pub(crate) async fn reached(&self, floor: Lsn) {
        loop {
            let mut raised = pin!(self.raised.notified());
            // From here on no rise is missed.
            raised.as_mut().enable();
            if self.watermark() >= floor {
                return;
            }
            raised.await;
        }
    }
}
