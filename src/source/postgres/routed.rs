//! What a loader runs its statements on: the position goes first, without the loader's doing.

use super::super::{Ask, Fault, FaultKind};
use super::held::Held;
use super::keyword;
use super::link::Own;
use super::lock;
use super::node::Node;
use super::query_error::QueryError;
use super::sqlstate::{self, Author};
use super::standing::{self, Place};
use crate::{Lsn, Origin};
use futures_util::future::{OptionFuture, join, join5};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};
use tokio_postgres::{Error, Row};

/// A connection to one server for the length of one load.
///
/// Statements are prepared once for each connection, which keeps at most 512 of them: beyond that all are forgotten, so
/// values belong into parameters and not into the text. COPY, transactions, settings and cursors are refused.
///
/// Every method is bounded by the load's deadline and by the store's operation time-out. A future that is dropped
/// half-way costs the connection, which is closed instead of reused, and nothing else.
pub struct Routed {
    pub(super) held: Held,
    pub(super) node: Arc<Node>,
    pub(super) ask: Ask,
    seen: Mutex<Seen>,
}

/// What came to pass while the loader had the connection.
#[derive(Debug, Default)]
struct Seen {
    /// The lowest position that precedes any of the load's statements.
    place: Option<Place>,
    /// The highest upper bound that followed any of them.
    upper: Option<Lsn>,
    /// The first trouble for which another server may do better. Kept, because a loader may wrap or swallow it.
    fault: Option<Fault>,
}

impl Routed {
    pub(super) fn new(held: Held, node: Arc<Node>, ask: Ask) -> Self {
        let place = node.known(&held).filter(|place| place.tag >= ask.floor && fits(place, &ask));
        Self { held, node, ask, seen: Mutex::new(Seen { place, ..Seen::default() }) }
    }

    /// Runs a statement and returns its rows. It is prepared once for each connection.
    ///
    /// Not available behind a pooler, where a prepared statement does not survive: use
    /// [`query_typed`](Self::query_typed). Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// What the server answered, or why the statement was not sent or not answered.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, QueryError> {
        self.admit(sql)?;
        if self.held.is_pooled() {
            return Err(QueryError::refused(
                "behind a pooler a statement cannot be prepared: use query_typed, which tells the types of its parameters",
            ));
        }
        match Box::pin(self.prepared(sql, params)).await {
            Err(error) if is_outdated_plan(&error) => {
                // The table changed under the prepared statement. Nothing was executed, so once more is safe.
                self.held.forget(sql);
                Box::pin(self.prepared(sql, params)).await
            }
            result => result,
        }
    }

    /// Runs a statement that returns at most one row. As [`query`](Self::query), also for dropping and errors.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), or more than one row.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, QueryError> {
        at_most_one(self.query(sql, params).await?)
    }

    /// Runs a statement that returns exactly one row. As [`query`](Self::query), also for dropping and errors.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), or another number of rows.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, QueryError> {
        self.query_opt(sql, params).await?.ok_or_else(|| QueryError::rows("exactly one", 0))
    }

    /// Runs a statement and returns the first column of each row. As [`query`](Self::query), also for dropping.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), or a column of another type.
    pub async fn query_scalar<T: FromSqlOwned>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<T>, QueryError> {
        let rows = self.query(sql, params).await?;
        rows.iter().map(|row| row.try_get(0).map_err(QueryError::from)).collect()
    }

    /// Runs a statement whose parameters come with their types, unprepared: the form that works everywhere, also
    /// behind a pooler. Dropping the future closes the connection.
    ///
    /// Columns of types that PostgreSQL does not come with (enumerations, extensions) are looked up with a prepared
    /// statement by the client library; behind a pooler cast them, such as `status::text`.
    ///
    /// # Errors
    ///
    /// What the server answered, or why the statement was not sent or not answered.
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, QueryError> {
        self.admit(sql)?;
        let data = self.held.client.query_typed(sql, params);
        if self.held.is_pooled() { Box::pin(self.enclosed(data)).await } else { Box::pin(self.placed(data)).await }
    }

    fn admit(&self, sql: &str) -> Result<(), QueryError> {
        keyword::refuse_read(sql).map_or(Ok(()), |reason| Err(QueryError::refused(reason)))
    }

    async fn prepared(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, QueryError> {
        // Prepared beforehand, or the position and the data could not travel together.
        let statement = self.exchange(self.held.prepare(sql)).await?;
        self.placed(self.held.client.query(&statement, params)).await
    }

    /// Runs `data` behind a position: one that is known already, or one that is read in the same round trip, in
    /// statements and transactions of their own, so that the data's snapshot is the later one under every isolation
    /// level.
    async fn placed<T>(&self, data: impl Future<Output = Result<T, Error>>) -> Result<T, QueryError> {
        if self.place().is_some() {
            return self.exchange(data).await;
        }
        let asked = Instant::now();
        self.held.begin();
        // The client library sends in the order of the first polls, and `join` polls in the order of its arguments.
        let (position, data) = self.within(join(self.held.own(Own::Position), data)).await?;
        if sqlstate::is_clean(&position) && sqlstate::is_clean(&data) {
            self.held.end();
        }
        self.keep(self.node.place(&self.held, position, asked))?;
        self.answer(data)
    }

    /// Runs `data` behind its position in one transaction, because behind a pooler only a transaction stays on one
    /// server. READ COMMITTED, or the data would share the position's snapshot.
    async fn enclosed<T>(&self, data: impl Future<Output = Result<T, Error>>) -> Result<T, QueryError> {
        let asked = Instant::now();
        let client = &self.held.client;
        self.held.begin();
        let all = join5(
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"),
            self.held.own(Own::Position),
            data,
            OptionFuture::from(self.ask.upper.then(|| self.held.own(Own::Upper))),
            client.batch_execute("COMMIT"),
        );
        let (begin, position, data, upper, end) = self.within(all).await?;
        let clean =
            sqlstate::is_clean(&position) && sqlstate::is_clean(&data) && upper.as_ref().is_none_or(sqlstate::is_clean);
        // Where BEGIN failed, the others may each have reached another server.
        if clean && begin.is_ok() && end.is_ok() {
            self.held.end();
        }
        begin.map_err(|error| self.note(self.node.own_fault("beginning a read behind the pooler", error)))?;
        let place = self.keep(self.node.place(&self.held, position, asked))?;
        let data = self.answer(data)?;
        if let Some(row) = upper {
            self.keep_upper(row, place)?;
        }
        Ok(data)
    }

    fn keep_upper(&self, row: Result<Row, Error>, place: Place) -> Result<(), Fault> {
        let upper = row
            .map_err(|error| self.node.own_fault("reading the upper bound", error))
            .and_then(|row| standing::upper(self.node.name(), &row, place, self.held.layout))
            .map_err(|fault| self.note(fault))?;
        let mut seen = lock(&self.seen);
        seen.upper = seen.upper.max(Some(upper));
        Ok(())
    }

    /// One exchange of the application's with the server, bounded.
    async fn exchange<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, QueryError> {
        self.held.begin();
        let result = self.within(work).await?;
        if sqlstate::is_clean(&result) {
            self.held.end();
        }
        self.answer(result)
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        let limit = self.node.limit(self.ask.deadline);
        self.node.within(limit, work).await.map_err(|fault| self.note(fault))
    }

    /// The application's answer; what another server may do better is remembered.
    fn answer<T>(&self, result: Result<T, Error>) -> Result<T, QueryError> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let standby = self.place().map_or_else(|| self.held.is_standby(), |place| place.origin == Origin::Standby);
        let author = if standby { Author::ReaderOnStandby } else { Author::OnPrimary };
        let kind = sqlstate::kind(&error, author);
        if kind != FaultKind::Statement {
            let what = error.code().map_or_else(|| "a broken connection".to_owned(), sqlstate::told);
            self.note(self.node.fault(kind, format!("the load's statement failed with {what}")));
        }
        Err(QueryError::from_server(self.node.name(), error))
    }

    /// Keeps a position that was read for this load, or the fault that there is none.
    pub(super) fn keep(&self, read: Result<Place, Fault>) -> Result<Place, Fault> {
        let place = read.map_err(|fault| self.note(fault))?;
        if !fits(&place, &self.ask) {
            return Err(self.note(
                self.node.fault(FaultKind::WrongRole, "the server is in recovery, and the primary was asked for"),
            ));
        }
        let mut seen = lock(&self.seen);
        let merged = match seen.place {
            None => place,
            // Behind a pooler every statement may have reached another server: the load is as new as its oldest part.
            Some(first)
                if self.held.is_pooled() && (first.timeline, first.origin) != (place.timeline, place.origin) =>
            {
                drop(seen);
                return Err(self.note(
                    self.node.fault(FaultKind::Unproven, "the load's statements reached servers that do not agree"),
                ));
            }
            Some(first) if first.tag <= place.tag => first,
            Some(_) => place,
        };
        seen.place = Some(merged);
        Ok(merged)
    }

    /// Remembers the first fault and hands it on.
    pub(super) fn note(&self, fault: Fault) -> Fault {
        lock(&self.seen).fault.get_or_insert_with(|| fault.clone());
        fault
    }

    pub(super) fn place(&self) -> Option<Place> {
        lock(&self.seen).place
    }

    pub(super) fn upper(&self) -> Option<Lsn> {
        lock(&self.seen).upper
    }

    pub(super) fn noted(&self) -> Option<Fault> {
        lock(&self.seen).fault.clone()
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routed").field("node", &self.node.info.name).field("ask", &self.ask).finish_non_exhaustive()
    }
}

fn fits(place: &Place, ask: &Ask) -> bool {
    !ask.primary || place.origin == Origin::Primary
}

fn at_most_one(mut rows: Vec<Row>) -> Result<Option<Row>, QueryError> {
    if rows.len() > 1 { Err(QueryError::rows("at most one", rows.len())) } else { Ok(rows.pop()) }
}

/// "cached plan must not change result type" has no SQLSTATE of its own; the routine that raises it tells it apart.
pub(super) fn is_outdated_plan(error: &QueryError) -> bool {
    error.as_db_error().is_some_and(|db| db.code().code() == "0A000" && db.routine() == Some("RevalidateCachedQuery"))
}
