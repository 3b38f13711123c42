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
use tokio::time::{Instant, sleep};

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
    deferred: Mutex<VecDeque<Deferred>>,
    deferred_max: usize,
    news: Notify,
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

impl Announcer {
    pub(crate) fn new<L: Ledger>(
        ledger: Arc<L>,
        epochs: Arc<Epochs>,
        counters: Arc<StoreCounters>,
        deferred_max: usize,
    ) -> Self {
        let (deferred, news) = (Mutex::default(), Notify::new());
        Self { ledger: Box::new(ledger), epochs, counters, deferred, deferred_max, news }
    }

    /// Tells a retraction of any size, and returns whether all of it was taken now. What was not is told again in the
    /// background until `keep` has passed. Dropped, what was not told yet is lost: call it in a task of its own.
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
        if queue.len() >= self.deferred_max {
            queue.pop_front();
            self.counters.retractions_dropped.add_one();
        }
        queue.push_back(deferred);
        drop(queue);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Deferred>> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells again what was deferred, oldest first, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let Some(deferred) = self.take() else {
                self.news.notified().await;
                continue;
            };
            if self.ledger.retract(&deferred.notice, deferred.keep).await.is_ok() {
                self.counters.retractions_told.add_one();
            } else {
                // Back to the front: newer ones of the same key would only repeat it.
                self.lock().push_front(deferred);
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// The oldest retraction that still matters.
    fn take(&self) -> Option<Deferred> {
        let timeline = self.epochs.current().history.timeline();
        let mut queue = self.lock();
        while let Some(deferred) = queue.pop_front() {
            if deferred.until > Instant::now() && deferred.notice.position.timeline == timeline {
                return Some(deferred);
            }
            self.counters.retractions_dropped.add_one();
        }
        None
    }
}
