//! Publishing, and the subscriptions.

use super::super::world::World;
use super::redis::Redis;
use crate::ledger;
use crate::sealed::Sealed;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many messages wait for one subscriber before the server closes its subscription.
const WAITING_MAX: usize = 1 << 16;

/// Decides what becomes of each message: after which times it arrives at a client's subscription. None: it is lost; two:
/// it arrives twice; times that cross those of other messages: the order is lost. Given are the number of the client and
/// the message. Without one, all arrive once, at once.
#[derive(Clone)]
pub struct Delivery(Arc<Decide>);

type Decide = dyn Fn(usize, &[u8]) -> Vec<Duration> + Send + Sync;

impl Delivery {
    /// A delivery that asks `decide` for each message and each subscription.
    pub fn new(decide: impl Fn(usize, &[u8]) -> Vec<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self::new(|_, _| vec![Duration::ZERO])
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivery")
    }
}

#[derive(Debug, Default)]
pub(super) struct Bus {
    pub(super) delivery: Delivery,
    pub(super) deaf: BTreeSet<usize>,
    subscribers: BTreeMap<u64, Subscriber>,
    opened: u64,
    sent: u64,
}

#[derive(Debug)]
struct Subscriber {
    client: usize,
    /// By the time of arrival, and then in the order of publication.
    waiting: BTreeMap<(Instant, u64), Vec<u8>>,
}

impl Bus {
    pub(super) fn open(&mut self, client: usize) -> u64 {
        self.opened += 1;
        self.subscribers.insert(self.opened, Subscriber { client, waiting: BTreeMap::new() });
        self.opened
    }

    pub(super) fn publish(&mut self, now: Instant, bytes: &[u8], hears: impl Fn(usize) -> bool) {
        let mut overflown = Vec::new();
        for (&id, subscriber) in &mut self.subscribers {
            if self.deaf.contains(&subscriber.client) || !hears(subscriber.client) {
                continue;
            }
            for delay in (self.delivery.0)(subscriber.client, bytes) {
                self.sent += 1;
                subscriber.waiting.insert((now + delay, self.sent), bytes.to_vec());
            }
            if subscriber.waiting.len() > WAITING_MAX {
                overflown.push(id);
            }
        }
        overflown.iter().for_each(|id| drop(self.subscribers.remove(id)));
    }

    pub(super) fn end_all(&mut self) {
        self.subscribers.clear();
    }

    pub(super) fn end_of(&mut self, ends: impl Fn(usize) -> bool) {
        self.subscribers.retain(|_, subscriber| !ends(subscriber.client));
    }

    pub(super) fn close(&mut self, id: u64) {
        self.subscribers.remove(&id);
    }

    /// When a message will arrive next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let later = |subscriber: &Subscriber| {
            let mut after = subscriber.waiting.range((now, u64::MAX)..);
            after.next().map(|(&(at, _), _)| at)
        };
        self.subscribers.values().filter_map(later).min()
    }

    /// A message that has arrived; inside, `None` where the subscription has ended.
    fn take(&mut self, id: u64, now: Instant) -> Option<Option<Vec<u8>>> {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return Some(None) };
        let first = subscriber.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        Some(Some(first.remove()))
    }
}

/// One open subscription of one client.
#[derive(Debug)]
pub struct Subscription {
    pub(super) world: Arc<World<Redis>>,
    pub(super) id: u64,
}

impl Sealed for Subscription {}

impl ledger::Subscription for Subscription {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let id = self.id;
        self.world.wait(|redis| redis.bus.take(id, redis.now())).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.world.look(|redis| redis.bus.close(self.id));
    }
}
