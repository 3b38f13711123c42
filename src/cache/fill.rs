//! How an answer becomes an entry, and where it is kept.

use super::{Lives, Name, Shelf};
use crate::digest::{Digest, KEY_BYTES_MAX};
use crate::entry::{Entry, Life, Slots};
use crate::epoch::Epoch;
use crate::fleet::{Loaded, Need, Rung};
use crate::named::Brief;
use crate::repository::{GROUPS_MAX, Repository};
use crate::source::Source;
use crate::tier::{Address, Offer};
use std::sync::Arc;
use std::time::Duration;

/// An entry as it was filled, with what the shared tier has to be told of it.
pub(super) struct Filled<V> {
    pub(super) entry: Entry<V>,
    pub(super) groups: Vec<Digest>,
}

impl<R: Repository<S::Conn>, S: Source> Shelf<R, S> {
    /// Makes an entry of a loaded row.
    pub(super) fn fill(
        &self,
        key: &R::Key,
        name: &Name,
        row: Option<R::Value>,
        loaded: &Loaded<()>,
        epoch: &Epoch,
    ) -> Filled<R::Value> {
        let groups: Vec<_> = self.repository.groups(key, row.as_ref()).into_iter().take(GROUPS_MAX + 1).collect();
        let fit = groups.len() <= GROUPS_MAX && groups.iter().all(|group| group.len() <= KEY_BYTES_MAX);
        let groups: Vec<Digest> = groups.iter().map(|group| Digest::of_group(group)).collect();
        let own = self.repository.time_to_live(key, row.as_ref());
        // An entry whose groups cannot all be remembered could not be retracted by them: it lives for no one else.
        if !fit {
            self.counters.fills_oversized.add_one();
        }
        let life = if fit { self.lives.of(row.is_some(), own) } else { Duration::ZERO };
        let life = Life {
            filled_ms: loaded.filled_ms,
            expires_ms: loaded.filled_ms.saturating_add(self.store.jitter(life).as_millis() as u64),
        };
        let slots = self.slots(name, &groups);
        let (stamp, history, fill) = (loaded.stamp, epoch.fingerprint, self.store.next_fill());
        let (value, brief) = (row.map(Arc::new), Brief::of(&name.digest));
        Filled { entry: Entry { value, stamp, history, slots, brief, life, fill, filled_here: true }, groups }
    }

    /// Offers a fill to the in-process tier, and returns what is to be offered to the shared one, unless it was retracted
    /// meanwhile or history moved.
    pub(super) fn take_in(
        self: &Arc<Self>,
        key: &R::Key,
        name: &Name,
        filled: &Filled<R::Value>,
        rung: Rung,
        need: &Need,
    ) -> Option<Offer> {
        let entry = &filled.entry;
        let now = self.store.epochs.current();
        let lives = entry.history == now.fingerprint && now.is_live(entry, self.group);
        if rung == Rung::Primary && (!lives || entry.stamp.tag < need.floor.tag) {
            self.nudge();
        }
        if !lives {
            self.counters.fills_refused.add_one();
            return None;
        }
        let now_ms = self.clock().now_ms();
        if entry.life.is_over(now_ms) {
            return None;
        }
        let is_live = |present: &Entry<R::Value>| now.is_live(present, self.group);
        if !self.local.admit(key.clone(), entry, now_ms, is_live) {
            // What is there could not answer, for its age or its kind, and on an idle primary no fill would ever replace it.
            self.nudge();
        }
        self.seal(name, entry, &filled.groups, now_ms)
    }

    /// What is to be offered to the shared tier, where the cache uses it.
    pub(super) fn seal(&self, name: &Name, entry: &Entry<R::Value>, groups: &[Digest], now_ms: u64) -> Option<Offer> {
        let packer = self.packer.as_ref().filter(|_| self.store.shared().is_some())?;
        match packer.seal(&name.canonical, entry, groups) {
            Ok(envelope) => {
                let address = Address { history: entry.history, key: name.digest };
                Some(Offer {
                    address,
                    envelope,
                    life: Duration::from_millis(entry.life.expires_ms.saturating_sub(now_ms)),
                })
            }
            Err(_) => {
                self.counters.fills_oversized.add_one();
                None
            }
        }
    }

    /// Has the primary's log moved, so that the next fill can be tagged higher.
    fn nudge(&self) {
        let fleet = Arc::clone(&self.store.fleet);
        self.store.spawn(async move { fleet.nudge().await });
    }

    /// Offers fills to the shared tier. An error costs the next reader a miss.
    pub(super) async fn offer(&self, offers: Vec<Offer>) {
        let Some(shared) = self.store.shared().filter(|_| !offers.is_empty()) else { return };
        // Where Redis is slow, fills do not pile up before it.
        let Ok(_permit) = self.store.offering.try_acquire() else {
            self.store.counters.offers_dropped.add(offers.len() as u64);
            return;
        };
        if let Err(error) = shared.admit(offers).await {
            self.store.count_shared_error(&error);
        }
    }

    /// The slots of an entry that belongs to these groups.
    pub(super) fn slots(&self, name: &Name, groups: &[Digest]) -> Slots {
        let map = self.store.epochs.slots();
        Slots::new(map.key(&name.digest), groups.iter().map(|group| map.group(group)))
    }

    /// The slots of an entry whose groups are not known yet.
    pub(super) fn key_slots(&self, name: &Name) -> Slots {
        self.slots(name, &[])
    }
}

impl Lives {
    fn of(&self, present: bool, own: Option<Duration>) -> Duration {
        match own {
            Some(own) => own.min(self.longest()),
            None if present => self.present,
            None => self.absent,
        }
    }

    /// The longest life of any entry: retractions are remembered for no longer.
    pub(super) fn longest(&self) -> Duration {
        self.present.max(self.absent)
    }
}

impl<T> Loaded<T> {
    /// The value, and what else is known of the load.
    pub(super) fn split(self) -> (T, Loaded<()>) {
        let Self { value, stamp, rung, filled_ms, stale } = self;
        (value, Loaded { value: (), stamp, rung, filled_ms, stale })
    }
}
