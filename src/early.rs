//! The announcement of a write, on its way while the transaction works.

use crate::ledger::announcer::{Announced, LEASE};
use crate::retraction::Names;
use crate::rules::{Rule, holds};
use crate::source::{Source, Transaction};
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// An announcement that was sent before the transaction was ready to commit. Dropped, it is withdrawn.
pub(crate) struct Early {
    id: [u8; 16],
    sent: Instant,
    /// How many names it told, and the transaction's number.
    told: (usize, Option<u64>),
    acknowledged: oneshot::Receiver<Announced>,
    /// Sent once the commit ends the announcement itself.
    taken: oneshot::Sender<()>,
}

impl Early {
    /// Sends the announcement of what is named so far. `None` where there is nothing to announce or nobody to tell.
    pub(crate) fn send<S: Source>(store: &Store<S>, tx: &S::Tx, names: Names) -> Option<Self> {
        let (id, told) = (store.random_id(), (names.count(), tx.xid()));
        let (announcer, notice) = store.announcement(tx.begun(), names)?;
        let (acknowledge, acknowledged) = oneshot::channel();
        let (taken, ended) = oneshot::channel();
        let closing = store.closing();
        store.spawn(async move {
            let announced = announcer.announce(id, notice, told.1).await;
            let _ = acknowledge.send(announced);
            if !matches!(closing.run_until_cancelled(ended).await, Some(Ok(()))) {
                announcer.withdraw(announced).await;
            }
        });
        Some(Self { id, sent: Instant::now(), told, acknowledged, taken })
    }

    /// Waits until the log has taken it; then COMMIT may be sent. What was not known when it was sent follows it, for
    /// whoever finds that its writer is gone: the commit does not wait for that.
    pub(crate) async fn take<S: Source>(self, store: &Arc<Store<S>>, tx: &S::Tx, names: &Names) -> Option<Announced> {
        let Self { id, sent, told, acknowledged, taken } = self;
        let announced = if holds(Rule::AnnouncedFirst) {
            acknowledged.await.ok()?
        } else {
            let epoch = store.epochs.current();
            Announced { id, history: epoch.fingerprint, lineage: epoch.span.as_ref().map(|span| span.lineage) }
        };
        let _ = taken.send(());
        if told == (names.count(), tx.xid()) {
            return Some(announced);
        }
        let xid = tx.xid();
        let (announcer, notice) = store.announcement(tx.begun(), names.clone())?;
        if sent.elapsed() > LEASE / 2 {
            // It may be given up while the commit is on its way.
            return Some(announcer.announce(id, notice, xid).await);
        }
        store.spawn(async move {
            announcer.announce(id, notice, xid).await;
        });
        Some(announced)
    }
}
