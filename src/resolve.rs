//! What became of a transaction when nobody was told.

use crate::ledger::message;
use crate::retraction::Names;
use crate::rules::{Rule, holds};
use crate::session::Session;
use crate::source::{Outcome, Source};
use crate::store::Store;
use crate::trace;
use crate::write::retract;
use crate::{History, Position, Timeline};
use futures_util::stream::{self, StreamExt};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two questions what became of a transaction.
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

/// A transaction whose outcome is unknown.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) xid: Option<u64>,
    pub(crate) begun_on: Timeline,
    /// The history that was known when it was sent.
    pub(crate) history: Arc<History>,
    pub(crate) session: Session,
    pub(crate) names: Names,
}

impl Case {
    /// Whether this is still the log that the transaction was sent to: another may have given the same id to another
    /// transaction, and may have lost what this one committed.
    fn is_of(&self, now: &History) -> bool {
        let known = self.history.timeline() != self.begun_on || now.fingerprint() == self.history.fingerprint();
        now.timeline() == self.begun_on && known || !holds(Rule::OutcomeOfHistory)
    }
}

/// Finds out what became of a transaction, and lets its session go on when it is over.
pub(crate) async fn resolve<S: Source>(store: &Store<S>, case: Case) -> Outcome {
    let until = Instant::now() + store.fleet.settings.resolve_time_max;
    let mut retracted = false;
    // At once, as far as the log is known: should nobody ever answer, what was filled before is gone all the same. Where the
    // history was only told of, that is the end of the log before, and more is retracted than need be, which loses nothing.
    let known = Position { timeline: case.begun_on, lsn: store.epochs.high_water().insert() };
    retract(store, known, case.names.clone(), None).await;
    while Instant::now() < until && store.check_open().is_ok() {
        if let Some(outcome) = ask_after(store, &case, until).await {
            // Read after the transaction was over, so at or above its commit.
            if let Ok((history, position)) = store.fleet.primary_place(until).await {
                // The position of another log covers nothing of what the old one committed.
                let outcome = if case.is_of(&history) { outcome } else { Outcome::Forgotten };
                if outcome == Outcome::InProgress {
                    if !retracted {
                        retract(store, position, case.names.clone(), None).await;
                        retracted = true;
                    }
                } else {
                    retract(store, position, case.names, None).await;
                    // History may have been replaced since: what this one committed is told as lost then.
                    case.session.end_unresolved(&history, position);
                    return outcome;
                }
            }
        }
        sleep(RESOLVE_PAUSE).await;
    }
    Outcome::Forgotten
}

/// What the primary says became of the transaction; `None` where no primary answers.
async fn ask_after<S: Source>(store: &Store<S>, case: &Case, until: Instant) -> Option<Outcome> {
    let node = store.fleet.find_primary(until).await.ok()?;
    if !case.is_of(&store.history()) {
        return Some(Outcome::Forgotten);
    }
    let Some(xid) = case.xid else { return Some(Outcome::Aborted) };
    timeout_at(until, store.fleet.source.outcome(node, xid, case.begun_on)).await.ok()?.ok()
}

/// How many transactions whose writers are gone are looked after at a time, and as many wait: as many as a log lets be open, for
/// a process may die with all of them.
pub(crate) const ABANDONED_MAX: usize = 256;

/// Retracts, for as long as there is a store, what the log gave up: its writer is gone, and perhaps it committed.
pub(crate) async fn retract_abandoned<S: Source>(store: Weak<Store<S>>, abandoned: mpsc::Receiver<Vec<u8>>) {
    let each = stream::unfold(abandoned, async |mut abandoned| Some((abandoned.recv().await?, abandoned)));
    each.for_each_concurrent(ABANDONED_MAX, async |announced| {
        if let Some(store) = store.upgrade() {
            retract_one(&store, &announced).await;
        }
    })
    .await;
}

async fn retract_one<S: Source>(store: &Store<S>, announced: &[u8]) {
    let Some((xid, notice)) = message::read_announced(announced) else { return };
    let history = store.history();
    if notice.history != store.epochs.current().fingerprint {
        return;
    }
    trace::announcement_abandoned();
    let names = Names { keys: notice.keys, groups: notice.groups };
    let case = Case { xid, begun_on: notice.position.timeline, history, session: Session::new(), names };
    if xid.is_none() {
        // It had not written when it was announced, and perhaps it has since: nobody can be asked when that is over.
        resolve(store, case.clone()).await;
        sleep(store.fleet.settings.resolve_time_max).await;
    }
    resolve(store, case).await;
}
