//! The handle of one database cluster.

use crate::cache::CacheBuilder;
use crate::history::Standing;
use crate::repository::Repository;
use crate::retraction::Retraction;
use crate::session::Session;
use crate::source::Source;
use crate::stats::StoreStats;
use crate::store::Store;
use crate::token::Demand;
use crate::write::{Receipt, Tx, WriteError, retract};
use crate::{Error, History, Postgres, Token};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The handle of one database cluster: it makes caches and begins writes. Cheap to clone; the tasks behind it end when
/// the last handle, cache and transaction are gone, or with [`close`](Self::close).
pub struct Highwater<S: Source = Postgres>(pub(crate) Arc<Store<S>>);

impl<S: Source> Clone for Highwater<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> Highwater<S> {
    /// Begins a cache of what `repository` loads. The name is part of every key's identity on every instance: two caches
    /// of one name are one cache to the shared tier and to retractions.
    pub fn cache<R: Repository<S::Conn>>(&self, name: impl Into<String>, repository: R) -> CacheBuilder<R, S> {
        CacheBuilder::new(name, repository, Arc::clone(&self.0))
    }

    /// Begins a transaction on the primary for `session`.
    ///
    /// # Errors
    ///
    /// No primary is reachable, all its connections are in use, or the store is closed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await: a connection that it had is discarded.
    pub async fn begin(&self, session: &Session) -> Result<Tx<S>, Error> {
        Tx::begin(Arc::clone(&self.0), session).await
    }

    /// Runs `work` in a transaction and commits it; an error of `work` rolls back.
    ///
    /// It runs once. To try again after a serialization failure, loop over [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// [`WriteError::Caller`] with the error of `work`, and what [`Tx::commit`] returns.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the commit it rolls back; afterwards as [`Tx::commit`].
    pub async fn write<T, E, F>(&self, session: &Session, work: F) -> Result<(T, Receipt), WriteError<E>>
    where
        E: std::error::Error + 'static,
        F: AsyncFnOnce(&mut Tx<S>) -> Result<T, E>,
    {
        let mut tx = self.begin(session).await.map_err(WriteError::Store)?;
        let value = match work(&mut tx).await {
            Ok(value) => value,
            Err(error) => {
                tx.rollback().await;
                return Err(WriteError::Caller(error));
            }
        };
        match tx.commit().await {
            Ok(receipt) => Ok((value, receipt)),
            Err(WriteError::Caller(never)) => match never {},
            Err(WriteError::RolledBack(error)) => Err(WriteError::RolledBack(error)),
            Err(WriteError::Unknown(unknown)) => Err(WriteError::Unknown(unknown)),
            Err(WriteError::Store(error)) => Err(WriteError::Store(error)),
        }
    }

    /// For writes that the application made through another client and that were acknowledged before this call: raises
    /// the session to cover them, and retracts the names given.
    ///
    /// # Errors
    ///
    /// No primary is reachable, or a name cannot be used. Nothing was raised then, so the caller must not go on as if the
    /// session covered the write: try again.
    ///
    /// The position is pinned: the log was not told before the commit, so only entries with a tag at or above it answer the
    /// session, until its next read of them has filled them anew. Writes through [`begin`](Self::begin) keep the hits.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the session may not be raised; if it is, the names are retracted all the same.
    pub async fn capture(&self, session: &Session, retraction: Retraction) -> Result<Receipt, Error> {
        self.0.check_open()?;
        let names = retraction.into_names()?;
        let deadline = Instant::now() + self.0.fleet.settings.load_time_max;
        let (history, position) = self.0.fleet.primary_place(deadline).await?;
        session.raise(&history, position, None);
        let (tell, told) = oneshot::channel();
        let store = Arc::clone(&self.0);
        self.0.spawn(async move {
            // The caller may have gone away; the write has not.
            let _ = tell.send(retract(&store, position, names, None).await.taken);
        });
        Ok(Receipt { position, told: told.await.unwrap_or(false) })
    }

    /// A token that covers every write that was acknowledged before this call, whoever made it.
    ///
    /// # Errors
    ///
    /// No primary is reachable.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await.
    pub async fn token(&self) -> Result<Token, Error> {
        self.0.check_open()?;
        let deadline = Instant::now() + self.0.fleet.settings.load_time_max;
        let (history, position) = self.0.fleet.primary_place(deadline).await?;
        Ok(Token::at(&history, position))
    }

    /// Covers every write that was acknowledged before this call, without waiting for it: until the primary has said how
    /// far it is, `session` is answered by the primary alone, and from then on it holds that position. For a client that
    /// may have written a moment ago and cannot show it. Where the primary does not answer, the session stays with it.
    pub fn be_careful(&self, session: &Session) {
        let careful = self.careful(session, |_| {});
        self.0.spawn(async move { drop(careful.await) });
    }

    /// The same, as the rest that the caller has to drive, which ends with the position as a token; `told` is given it before
    /// the session is raised.
    pub(crate) fn careful<F: FnOnce(&Token) + Send + 'static>(
        &self,
        session: &Session,
        told: F,
    ) -> impl Future<Output = Option<Token>> + Send + use<S, F> + 'static {
        session.begin_unresolved(self.0.history().system_identifier());
        let (store, session) = (Arc::clone(&self.0), session.clone());
        async move {
            let deadline = Instant::now() + store.fleet.settings.load_time_max;
            let (history, position) = store.fleet.primary_place(deadline).await.ok()?;
            let token = Token::at(&history, position);
            told(&token);
            session.end_care(&history, position);
            Some(token)
        }
    }

    /// The longest life of an entry in any cache that was built by now.
    pub(crate) fn entry_life_max(&self) -> std::time::Duration {
        self.0.entry_life_max()
    }

    /// How far the nearest replica says it is behind, where none is believed to have reached `token` and one may yet.
    pub(crate) fn replicas_lag(&self, token: &Token) -> Option<std::time::Duration> {
        let history = self.0.history();
        match token.demand(&history, None) {
            Demand { floor, standing: Standing::Floor(_), .. } => self.0.fleet.replicas_lag(history.timeline(), floor),
            // It is lost, or cannot be judged here: no replica will change that.
            _ => None,
        }
    }

    /// Lets a session go on after [`Error::is_write_lost`]: what the present history cannot contain is dropped from it.
    /// Call it once the user was told.
    ///
    /// Writes that survived are still demanded: those below the point where the present timeline left the session's; where
    /// that point is not known, all of the session's that can have survived. What a session of more than 16 clusters
    /// could not remember is given up in all of them. Where the session wrote or saw something after the error, nothing is dropped,
    /// and its next read tells again what is lost.
    pub fn accept_loss(&self, session: &Session) {
        session.accept_loss(&self.0.epochs.current().history);
    }

    /// The history that this instance is in.
    #[must_use]
    pub fn history(&self) -> History {
        (*self.0.epochs.current().history).clone()
    }

    /// What the store has done and what it believes of its servers.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    /// Ends the background tasks and waits for loads and commits that are under way. Reads and writes fail afterwards.
    ///
    /// Retractions that Redis has not taken yet are tried once more, for at most a second; what it does not take then is
    /// counted as [`retractions_dropped`](crate::StoreCounts::retractions_dropped), told in the log, and left to the
    /// entries' time to live.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; the tasks end all the same.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl<S: Source> fmt::Debug for Highwater<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Highwater").field("history", &self.0.epochs.current().history).finish_non_exhaustive()
    }
}
