//! The write path, top to bottom.

use crate::cache::Cache;
use crate::early::Early;
use crate::ledger::announcer::{Announced, Told};
use crate::repository::Repository;
use crate::resolve::{Case, resolve};
use crate::retraction::{Names, Retraction};
use crate::rules::{Rule, holds};
use crate::session::Session;
use crate::source::{Committed, Fault, FaultKind, Outcome, Source, Transaction};
use crate::store::Store;
use crate::trace;
use crate::{Error, Lsn, Position, Postgres};
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

/// A transaction on the primary, begun by [`Highwater::begin`](crate::Highwater::begin). Its statements go through the
/// connection that it dereferences to.
///
/// Where instances share a log of retractions, the commit waits until the log knows that it may come. The first name that is
/// retracted sends that word: named before the statements, it costs no time of its own, but holds the watermark for as
/// long as the transaction takes, up to a lease of 1.5 s, whose end is noticed by the next write or heartbeat. Name first in
/// short transactions, and last in long ones: the log takes at most 256 such words at a time, of all instances together, and
/// a write that it did not take has a token that only tags cover.
///
/// Dropped, it rolls back by closing its connection, and the next transaction has to open one: where rolling back is
/// usual, call [`rollback`](Self::rollback).
pub struct Tx<S: Source = Postgres> {
    tx: S::Tx,
    store: Arc<Store<S>>,
    session: Session,
    retraction: Retraction,
    /// It names something, and so was announced if it can be.
    is_named: bool,
    early: Option<Early>,
}

/// What became of a committed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The position that covers the write; the session's token holds it already.
    pub position: Position,
    /// Whether the shared tier and the other instances were told. Where not, they are told again in the background;
    /// until then readers without a token may see the old rows as long as entries live.
    pub told: bool,
}

/// Why a write was not committed, or is not known to be. `E` is the error of the closure given to
/// [`Highwater::write`](crate::Highwater::write).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E: std::error::Error + 'static = Infallible> {
    /// The caller's closure failed, and the transaction was rolled back.
    #[error("the transaction was rolled back: its closure failed")]
    Caller(#[source] E),
    /// The database refused to commit; nothing was written.
    #[error("the transaction was rolled back")]
    RolledBack(#[source] Error),
    /// Nobody knows whether the transaction was committed. Its keys are retracted all the same, and its session is
    /// answered by the primary alone until the transaction is over.
    #[error("the outcome of the transaction is unknown")]
    Unknown(#[source] Unknown),
    /// It could not be begun, or a name that it retracts cannot be used; nothing was written.
    #[error("the transaction could not be begun or named")]
    Store(#[source] Error),
}

impl<E: std::error::Error + 'static> WriteError<E> {
    /// Nobody knows whether the write was committed: repeated, it may be made twice. [`Unknown::resolve`] waits until it is
    /// known. Every other error says for certain that nothing was written.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// For certain nothing was written, and the whole transaction, begun anew, may succeed. Never of the caller's own error,
    /// which the caller has to judge; a statement's [`QueryError::is_transient`](crate::QueryError::is_transient) may help.
    #[must_use]
    pub fn is_safe_to_retry(&self) -> bool {
        self.as_store().is_some_and(Error::is_transient)
    }

    /// The error of highwater or of the database, to be asked what is wrong: timed out, overloaded, unavailable. `None` of
    /// the caller's own error and of an unknown outcome.
    #[must_use]
    pub fn as_store(&self) -> Option<&Error> {
        match self {
            Self::RolledBack(error) | Self::Store(error) => Some(error),
            Self::Caller(_) | Self::Unknown(_) => None,
        }
    }
}

/// A write whose outcome was unknown when it was told.
#[derive(Clone, thiserror::Error)]
#[error("the commit was not confirmed")]
pub struct Unknown {
    /// The transaction's id, where it had one.
    pub xid: Option<u64>,
    #[source]
    fault: Fault,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Unknown {
    /// Waits until it is known what became of the transaction; for a commit the session has been raised by then.
    /// [`Outcome::Forgotten`] where it will never be known: a failover came between, or nobody answered for
    /// [`resolve_time_max`](crate::Settings::resolve_time_max). May be dropped and called again.
    pub async fn resolve(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        // The task that would tell it is gone only when the store was closed.
        outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome).unwrap_or(Outcome::Forgotten)
    }
}

impl Unknown {
    /// The task that carried the commit is gone, and its session stays with the primary.
    fn abandoned() -> Self {
        let fault = Fault::new(FaultKind::Down, "this process", "the task that carried the commit ended");
        Self { xid: None, fault, outcome: watch::channel(None).1 }
    }
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unknown").field("xid", &self.xid).field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// How long a commit may take before its outcome counts as unknown.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);

impl<S: Source> Tx<S> {
    pub(crate) async fn begin(store: Arc<Store<S>>, session: &Session) -> Result<Self, Error> {
        store.check_open()?;
        let deadline = Instant::now() + store.fleet.settings.load_time_max;
        let node = store.fleet.find_primary(deadline).await?;
        let tx = match timeout_at(deadline, store.fleet.source.begin(node, deadline)).await {
            Err(_) => {
                let text = "no transaction could be begun by the deadline";
                return Err(Fault::new(FaultKind::TimedOut, store.fleet.name(node), text).into());
            }
            Ok(Ok(tx)) => tx,
            // Nothing was sent yet, so a primary that has moved costs one more question and no doubt.
            Ok(Err(fault)) if fault.is_worth_another_server() => {
                store.fleet.look_for_primary(store.history().timeline(), deadline).await;
                let node = store.fleet.find_primary(deadline).await?;
                store.fleet.source.begin(node, deadline).await?
            }
            Ok(Err(fault)) => return Err(fault.into()),
        };
        if tx.begun().timeline > store.history().timeline() {
            // A name that leads to a new primary: which history it is in has to be known before it can be left again.
            store.fleet.look_for_primary(tx.begun().timeline, deadline).await;
        }
        Ok(Self { tx, store, session: session.clone(), retraction: Retraction::new(), is_named: false, early: None })
    }

    /// Retracts a key when the transaction commits.
    pub fn retract<R: Repository<S::Conn>>(&mut self, cache: &Cache<R, S>, key: &R::Key) -> &mut Self {
        self.retraction.key(cache, key);
        self.named()
    }

    /// Retracts every entry of a group when the transaction commits.
    pub fn retract_group(&mut self, name: &str) -> &mut Self {
        self.retraction.group(name);
        self.named()
    }

    /// Retracts a whole cache when the transaction commits.
    pub fn retract_cache<R: Repository<S::Conn>>(&mut self, cache: &Cache<R, S>) -> &mut Self {
        self.retraction.cache(cache);
        self.named()
    }

    fn named(&mut self) -> &mut Self {
        if !self.is_named && self.store.announcer.is_some() {
            self.is_named = true;
            self.early = self.retraction.names().and_then(|names| Early::send(&self.store, &self.tx, names));
        }
        self
    }

    /// Commits. When it returns, the session holds the write's token, and this instance answers nothing older from the
    /// keys that were named.
    ///
    /// # Errors
    ///
    /// [`WriteError::RolledBack`], [`WriteError::Unknown`], and [`WriteError::Store`] for a name that cannot be used.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its first poll it rolls back. Afterwards the commit, the session and the retraction go on to their
    /// end in a task of their own; only the answer is lost.
    pub async fn commit(self) -> Result<Receipt, WriteError> {
        let Self { tx, store, session, retraction, early, .. } = self;
        let names = match retraction.into_names() {
            Ok(names) => names,
            Err(error) => {
                roll_back(&store, tx).await;
                return Err(WriteError::Store(error));
            }
        };
        let (tell, told) = oneshot::channel();
        let keeper = Arc::clone(&store);
        keeper.spawn(async move {
            // The caller may have gone away; the write has not.
            let _ = tell.send(settle(store, tx, session, names, early).instrument(trace::commit()).await);
        });
        told.await.unwrap_or_else(|_| Err(WriteError::Unknown(Unknown::abandoned())))
    }

    /// Rolls back, also after a statement that failed and so aborted the transaction, and gives the connection back to the
    /// pool. Where the server does not answer within [`load_time_max`](crate::Settings::load_time_max) or the source's own
    /// bound for a statement, or a statement's future was dropped before, the connection is closed instead, as by a drop.
    /// One way or the other nothing is committed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await: the same as dropping the transaction.
    pub async fn rollback(self) {
        roll_back(&self.store, self.tx).await;
    }
}

async fn roll_back<S: Source>(store: &Store<S>, tx: S::Tx) {
    store.counters.rollbacks.add_one();
    tx.rollback(Instant::now() + store.fleet.settings.load_time_max).await;
}

impl<S: Source> Deref for Tx<S> {
    type Target = <S::Tx as Transaction>::Conn;

    fn deref(&self) -> &Self::Target {
        self.tx.conn()
    }
}

impl<S: Source> fmt::Debug for Tx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("retraction", &self.retraction).finish_non_exhaustive()
    }
}

/// From COMMIT to the end of its consequences.
async fn settle<S: Source>(
    store: Arc<Store<S>>,
    tx: S::Tx,
    session: Session,
    names: Names,
    early: Option<Early>,
) -> Result<Receipt, WriteError> {
    let begun_on = tx.begun().timeline;
    let before = store.epochs.high_water();
    let announced = match early {
        Some(early) => early.take(&store, &tx, &names).await,
        None => None,
    };
    // The one that the transaction is part of, whatever comes after it.
    let mut history = store.history();
    let mut doubt = Doubt { session: &session, cluster: history.system_identifier(), stands: true };
    match tx.commit(Instant::now() + COMMIT_TIME_MAX).await {
        Committed::Done { token, flush } => {
            store.counters.commits.add_one();
            if store.announcer.is_some() && announced.is_none_or(|announced| announced.lineage.is_none()) {
                store.counters.unannounced.add_one();
            }
            // Below what had been flushed the primary was set back. One way or the other nobody has noticed yet.
            let set_back = token.timeline == begun_on && token.lsn < before.flush();
            if set_back || token.timeline > history.timeline() {
                let until = Instant::now() + store.fleet.settings.load_time_max;
                store.fleet.look_for_primary(token.timeline, until).await;
                history = store.history();
            }
            // Before anybody is told that it committed; only now is it known whether a log vouches for it.
            let keys = store.briefs(&names);
            let told = retract(&store, token, names, announced.map(|announced| (announced, flush))).await;
            if holds(Rule::CommitRaises) {
                session.raise_for(&history, token, told.lineage, &keys);
            }
            doubt.stands = false;
            Ok(Receipt { position: token, told: told.taken })
        }
        Committed::RolledBack(fault) => {
            doubt.stands = false;
            if let (Some(announced), Some(announcer)) = (announced, store.announcer.clone()) {
                store.spawn(async move { announcer.withdraw(announced).await });
            }
            store.counters.rollbacks.add_one();
            Err(WriteError::RolledBack(fault.into()))
        }
        Committed::Unknown { fault, .. } if !holds(Rule::UnknownIsUnknown) => {
            doubt.stands = false;
            Err(WriteError::RolledBack(fault.into()))
        }
        Committed::Unknown { xid, fault } | Committed::Unplaced { xid, fault } => {
            store.counters.unknown_outcomes.add_one();
            trace::outcome_unknown(&fault);
            // At once, and before anybody is told: until it is over, only the primary can know. Whoever takes the token
            // elsewhere meanwhile has at least what is known of the log.
            drop(doubt);
            if let Some(lsn) = store.epochs.known_end(&history) {
                session.raise(&history, Position { timeline: begun_on, lsn }, None);
            }
            let (found, outcome) = watch::channel(None);
            let case = Case { xid, begun_on, history, session, names };
            let keeper = Arc::clone(&store);
            keeper.spawn(async move {
                let _ = found.send(Some(resolve(&store, case).await));
            });
            Err(WriteError::Unknown(Unknown { xid, fault, outcome }))
        }
    }
}

/// Dropped while it stands, it leaves the session with the primary: whatever ends the task, a panic included, nobody knows
/// what became of the transaction.
struct Doubt<'a> {
    session: &'a Session,
    cluster: u64,
    stands: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if self.stands && holds(Rule::UnknownPins) {
            self.session.begin_unresolved(self.cluster);
        }
    }
}

/// Retracts names at a position: here at once, then in the shared tier and on every instance in one round trip, which ends
/// the announcement. `flush` is what the primary had flushed by then.
pub(crate) async fn retract<S: Source>(
    store: &Store<S>,
    position: Position,
    names: Names,
    announced: Option<(Announced, Lsn)>,
) -> Told {
    store.epochs.saw_token(position);
    if holds(Rule::CommitRetracts) && !store.epochs.retract(position, &names.keys, &names.groups) {
        // The write was made on a timeline that nobody here has heard of: look, and then every entry is dropped anyway.
        let until = Instant::now() + store.fleet.settings.load_time_max;
        store.fleet.look_for_primary(position.timeline, until).await;
        store.epochs.retract(position, &names.keys, &names.groups);
    }
    let Some(announcer) = store.announcer.as_ref().filter(|_| !names.is_empty()) else {
        return Told { taken: true, lineage: None };
    };
    // Also while the store closes.
    let history = store.history().fingerprint();
    // History was replaced since: the log that was told first vouches for nothing in this one.
    let announced = announced.filter(|(announced, _)| announced.history == history);
    let told = announcer.tell(names.notice(history, position), store.life_max(), announced).await;
    if let (Some(bus), Some(_)) = (&store.bus, told.lineage) {
        bus.settled(history, position.lsn);
    }
    told
}
