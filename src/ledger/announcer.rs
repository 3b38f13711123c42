//! Tells retractions to the shared log, and tells again what it did not take.

use super::{Announcement, Ledger, Lineage, Notice, Retracted, Settlement, message};
use crate::Lsn;
use crate::epoch::Epochs;
use crate::rules::{Rule, holds};
use crate::stats::StoreCounters;
use crate::tier::TierError;
use crate::trace;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The part of a ledger that writers need, as an object.
trait Log: Send + Sync {
    fn announce<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<Option<Lineage>, TierError>>;

    fn withdraw(&self, id: [u8; 16]) -> BoxFuture<'_, Result<(), TierError>>;

    fn retract<'a>(
        &'a self,
        notice: &'a Notice,
        keep: Duration,
        settlement: Option<Settlement>,
    ) -> BoxFuture<'a, Result<Retracted, TierError>>;
}

impl<L: Ledger> Log for Arc<L> {
    fn announce<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<Option<Lineage>, TierError>> {
        Box::pin(L::announce(self, announcement))
    }

    fn withdraw(&self, id: [u8; 16]) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(L::withdraw(self, id))
    }

    fn retract<'a>(
        &'a self,
        notice: &'a Notice,
        keep: Duration,
        settlement: Option<Settlement>,
    ) -> BoxFuture<'a, Result<Retracted, TierError>> {
        Box::pin(L::retract(self, notice, keep, settlement))
    }
}

/// A write that was announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) id: [u8; 16],
    /// The history that it was announced in.
    pub(crate) history: u64,
    /// The log that acknowledged it, in that history; without one it may still arrive there, and has to be refused then.
    pub(crate) lineage: Option<Lineage>,
}

/// What became of a retraction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// All of it was taken.
    pub(crate) taken: bool,
    /// The log that vouches for the write, in its history.
    pub(crate) lineage: Option<Lineage>,
}

/// Tells retractions. A write never fails because the log does.
pub(crate) struct Announcer {
    ledger: Box<dyn Log>,
    /// What the log gave up, for whoever retracts it.
    abandoned: mpsc::Sender<Vec<u8>>,
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

/// How long an announcement holds the watermark back at most. Late writers pin, so no promise needs it longer.
pub(crate) const LEASE: Duration = Duration::from_millis(1_500);

/// How long a commit waits for its announcement to be acknowledged.
const ANNOUNCE_TIME_MAX: Duration = Duration::from_millis(100);

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
        abandoned: mpsc::Sender<Vec<u8>>,
    ) -> Self {
        let (queue, news) = (Mutex::default(), Notify::new());
        Self { ledger: Box::new(ledger), abandoned, epochs, counters, queue, deferred_max, news }
    }

    /// Tells the log that a commit above the notice's position may come. The commit may be sent when this returns, not
    /// before. Dropped, the announcement may stand until its lease is over.
    pub(crate) async fn announce(&self, id: [u8; 16], notice: Notice, xid: Option<u64>) -> Announced {
        let history = notice.history;
        let announcement = Announcement { id, notice, xid, lease: LEASE, renews: false };
        let answer = timeout(ANNOUNCE_TIME_MAX, self.ledger.announce(&announcement)).await;
        let lineage =
            answer.ok().and_then(|answer| answer.inspect_err(|error| trace::not_announced(error)).ok()).flatten();
        Announced { id, history, lineage: lineage.map(|log| log.in_history(history)) }
    }

    /// Tells more of what was announced, for whoever finds that its writer is gone. May be told behind the commit.
    pub(crate) async fn renew(&self, id: [u8; 16], notice: Notice, xid: Option<u64>) {
        let announcement = Announcement { id, notice, xid, lease: LEASE, renews: true };
        let _ = timeout(ANNOUNCE_TIME_MAX, self.ledger.announce(&announcement)).await;
    }

    /// Nothing was committed. What does not arrive ends with its lease.
    pub(crate) async fn withdraw(&self, announced: Announced) {
        let _ = timeout(LAST_TRY_TIME_MAX, self.ledger.withdraw(announced.id)).await;
    }

    /// Tells a retraction of any size, and what had been announced with it. What the log does not take now is told again in
    /// the background until `keep` has passed or the store is closed. Dropped, what was not told yet is lost: call it in a
    /// task of its own.
    pub(crate) async fn tell(&self, notice: Notice, keep: Duration, announced: Option<(Announced, Lsn)>) -> Told {
        let mut told = Told { taken: true, lineage: None };
        let mut parts = message::split(&notice).peekable();
        while let Some(part) = parts.next() {
            // With the last part all of it stands there.
            let ends = announced.filter(|_| told.taken && parts.peek().is_none());
            let settlement = ends.map(|(announced, flush)| Settlement { id: announced.id, flush });
            match self.ledger.retract(&part, keep, settlement).await {
                Ok(retracted) => {
                    let vouched_by = self.told(retracted).map(|log| log.in_history(part.history));
                    let acknowledged = ends.and_then(|(announced, _)| announced.lineage);
                    let stands = vouched_by == acknowledged || !holds(Rule::UnannouncedIsPinned);
                    told.lineage = vouched_by.filter(|_| stands);
                }
                Err(error) => {
                    let acknowledged = ends.and_then(|(announced, _)| announced.lineage);
                    told = Told { taken: false, lineage: acknowledged.filter(|_| !holds(Rule::UntoldIsPinned)) };
                    trace::retraction_deferred(&error);
                    self.counters.retractions_deferred.add_one();
                    self.defer(Deferred { notice: part, keep, until: Instant::now() + keep });
                }
            }
        }
        told
    }

    /// Takes what the log answered to a retraction, and returns what it vouches for it with.
    fn told(&self, Retracted { vouched_by, abandoned, given_up }: Retracted) -> Option<Lineage> {
        self.counters.retractions_told.add_one();
        self.counters.abandoned.add(given_up);
        // Where the queue is full they end with the lives of what they would retract.
        abandoned.into_iter().for_each(|announced| drop(self.abandoned.try_send(announced)));
        vouched_by
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
        let Ok(retracted) = self.ledger.retract(&deferred.notice, deferred.keep, None).await else { return false };
        self.told(retracted);
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
