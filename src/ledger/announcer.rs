//! Tells retractions to the shared log, and tells again what it did not take.

use super::{Ledger, Notice, message};
use crate::epoch::Epochs;
use crate::stats::StoreCounters;
use crate::tier::TierError;
use crate::trace;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// The part of a ledger that writers need, as an object.
trait Retract: Send + Sync {
    fn retract<'a>(&'a self, notice: &'a Notice, keep: Duration) -> BoxFuture<'a, Result<(), TierError>>;
}

impl<L: Ledger> Retract for Arc<L> {
    fn retract<'a>(&'a self, notice: &'a Notice, keep: Duration) -> BoxFuture<'a, Result<(), TierError>> {
        Box::pin(L::retract(self, notice, keep))
    }
}

/// Tells retractions. A write never fails because the log does.
pub(crate) struct Announcer {
    ledger: Box<dyn Retract>,
    epochs: Arc<Epochs>,
    counters: Arc<StoreCounters>,
    queue: Mutex<Queue>,
    deferred_max: usize,
    news: Notify,
}

/// What is to be told again, oldest first.
#[derive(Default)]
struct Queue {
    deferred: VecDeque<Arc<Deferred>>,
    /// The store was closed: nobody tells anything again.
    ended: bool,
}

/// A retraction to be told again.
struct Deferred {
    notice: Notice,
    /// How long its markers stay.
    keep: Duration,
    /// After that every entry that it could reach has ended its life.
    until: Instant,
}

/// How long the log is left alone after it did not take a retraction.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long the last try may take, after the store was closed.
const LAST_TRY_TIME_MAX: Duration = Duration::from_secs(1);

impl Announcer {
    pub(crate) fn new<L: Ledger>(
        ledger: Arc<L>,
        epochs: Arc<Epochs>,
        counters: Arc<StoreCounters>,
        deferred_max: usize,
    ) -> Self {
        let (queue, news) = (Mutex::default(), Notify::new());
        Self { ledger: Box::new(ledger), epochs, counters, queue, deferred_max, news }
    }

    /// Tells a retraction of any size, and returns whether all of it was taken now. What was not is told again in the
    /// background until `keep` has passed or the store is closed. Dropped, what was not told yet is lost: call it in a
    /// task of its own.
    pub(crate) async fn tell(&self, notice: Notice, keep: Duration) -> bool {
        let mut taken = true;
        for part in message::split(&notice) {
            match self.ledger.retract(&part, keep).await {
                Ok(()) => self.counters.retractions_told.add_one(),
                Err(error) => {
                    taken = false;
                    trace::retraction_deferred(&error);
                    self.counters.retractions_deferred.add_one();
                    self.defer(Deferred { notice: part, keep, until: Instant::now() + keep });
                }
            }
        }
        taken
    }

    fn defer(&self, deferred: Deferred) {
        let mut queue = self.lock();
        if queue.ended {
            drop(queue);
            return self.drop_last(1);
        }
        if queue.deferred.len() >= self.deferred_max {
            queue.deferred.pop_front();
            self.counters.retractions_dropped.add_one();
        }
        queue.deferred.push_back(Arc::new(deferred));
        drop(queue);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells again what was deferred, oldest first, until `closing` is cancelled; then all of it once more, for a short
    /// time, and counts what is left.
    pub(crate) async fn run(self: Arc<Self>, closing: CancellationToken) {
        closing.run_until_cancelled(self.tell_again()).await;
        let until = Instant::now() + LAST_TRY_TIME_MAX;
        while let Some(deferred) = self.oldest() {
            match timeout_at(until, self.retell(&deferred)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        let mut queue = self.lock();
        queue.ended = true;
        let left = std::mem::take(&mut queue.deferred).len();
        drop(queue);
        self.drop_last(left as u64);
    }

    async fn tell_again(&self) {
        loop {
            let Some(deferred) = self.oldest() else {
                self.news.notified().await;
                continue;
            };
            if !self.retell(&deferred).await {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Tells one again, and takes it out of the queue if the log took it. Dropped, it stays there.
    async fn retell(&self, deferred: &Arc<Deferred>) -> bool {
        if self.ledger.retract(&deferred.notice, deferred.keep).await.is_err() {
            return false;
        }
        self.counters.retractions_told.add_one();
        let mut queue = self.lock();
        // Unless the queue was full meanwhile, and it had to go.
        if queue.deferred.front().is_some_and(|oldest| Arc::ptr_eq(oldest, deferred)) {
            queue.deferred.pop_front();
        }
        true
    }

    /// The oldest retraction that still matters. It stays in the queue.
    fn oldest(&self) -> Option<Arc<Deferred>> {
        let timeline = self.epochs.current().history.timeline();
        let mut queue = self.lock();
        while let Some(oldest) = queue.deferred.front() {
            if oldest.until > Instant::now() && oldest.notice.position.timeline == timeline {
                return Some(Arc::clone(oldest));
            }
            queue.deferred.pop_front();
            self.counters.retractions_dropped.add_one();
        }
        None
    }

    /// Counts what was still to be told when the store was closed.
    fn drop_last(&self, count: u64) {
        if count > 0 {
            self.counters.retractions_dropped.add(count);
            trace::retractions_dropped(count);
        }
    }
}
