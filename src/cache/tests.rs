//! What is judged while something else goes on.

use super::{Demand, judge};
use crate::digest::Digest;
use crate::entry::{Entry, Floor, Life, Origin, Slots, Stamp};
use crate::epoch::{Epochs, SlotMap, Span};
use crate::history::History;
use crate::lineage::{Lineage, Vouched};
use crate::named::Brief;
use crate::sights::Seen;
use crate::{Lsn, Timeline};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A thread hears of one write after another, each of a key of its own: it raises the floor, and then the watermark. Another one asks
/// meanwhile for the entry of the key that is next, as the session does that wrote it.
#[test]
fn no_entry_is_extended_over_a_retraction_that_arrives_meanwhile() {
    const WRITES: u64 = 400_000;
    let slots = SlotMap::new(1 << 20, (1, 2));
    let epochs = Epochs::new(History::new(7, Timeline(1), Vec::new()), slots, None);
    let (history, lineage) = (epochs.current().fingerprint, Lineage::from_number(9));
    let span = Arc::new(Span::new(lineage, Lsn::ZERO, Lsn::new(1)));
    assert!(epochs.hear(history, Arc::clone(&span)));
    let key = |write: u64| Digest::of_key(&write.to_be_bytes());
    let entry = |write: u64| Entry {
        value: Some(Arc::new(())),
        stamp: Stamp { timeline: Timeline(1), tag: Lsn::new(1), origin: Origin::Primary, upper: None },
        history,
        slots: Slots::new(slots.key(&key(write)), []),
        brief: Brief::of(&key(write)),
        life: Life { filled_ms: 0, expires_ms: u64::MAX },
        fill: 1,
        filled_here: true,
    };
    let (next, epoch) = (AtomicU64::new(2), epochs.current());
    let extended = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut extended = 0;
            loop {
                let write = next.load(Ordering::Acquire);
                if write > WRITES {
                    return extended;
                }
                let token = Lsn::new(write);
                let vouched = Vouched::below(token, Some(lineage), Lsn::ZERO);
                let demand =
                    Demand { history, floor: Floor { tag: token, vouched, ..Floor::default() }, seen: Seen::default() };
                let entry = entry(write);
                for _ in 0..64 {
                    extended += u64::from(judge(&entry, &demand, &epoch, 0, 0, Duration::MAX).is_ok());
                }
            }
        });
        for write in 2..=WRITES + 1 {
            next.store(write, Ordering::Release);
            if write % 16 == 0 {
                std::thread::yield_now();
            }
            epoch.floors.raise_key(slots.key(&key(write)), Lsn::new(write));
            span.raise(Lsn::new(write));
        }
        reader.join().unwrap_or(u64::MAX)
    });
    assert_eq!(extended, 0);
}
