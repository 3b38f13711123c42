//! What a transaction's statements run on: the transaction's number is learned as soon as it has one.

use super::super::Fault;
use super::held::Held;
use super::keyword;
use super::link::Own;
use super::lock;
use super::node::Node;
use super::query_error::QueryError;
use super::routed::is_outdated_plan;
use super::sqlstate;
use crate::Position;
use futures_util::future::join;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

/// A transaction's connection to the primary.
///
/// Statements are prepared as those of a load are, at most 512 for each connection. COPY, and whatever would outlive the
/// transaction or end it, is refused; savepoints, SET LOCAL and SET TRANSACTION are not.
///
/// Every method is bounded by the store's operation time-out. A future that is dropped half-way, or that runs out of
/// time, costs the transaction: it can only roll back from then on.
pub struct Writer {
    pub(super) held: Held,
    pub(super) node: Arc<Node>,
    /// Where the log ended before the transaction began.
    pub(super) begun: Position,
    number: Mutex<Number>,
}

/// What is known of the transaction's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Number {
    /// It had none after the last statement, so it has written nothing.
    None,
    /// Its number.
    Known(u64),
    /// A statement ran, and what became of the number was not learned.
    Unsure,
}

impl Writer {
    pub(super) fn new(held: Held, node: Arc<Node>, begun: Position) -> Self {
        Self { held, node, begun, number: Mutex::new(Number::None) }
    }

    /// Runs a statement and returns how many rows it changed. It is prepared once for each connection; not available
    /// behind a pooler, see [`execute_typed`](Self::execute_typed). Dropping the future costs the transaction.
    ///
    /// # Errors
    ///
    /// What the server answered, or why the statement was not sent or not answered.
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, QueryError> {
        let statement = Box::pin(self.prepare(sql)).await?;
        let result = Box::pin(self.exchange(self.held.client.execute(&statement, params))).await;
        self.forget_outdated(sql, result)
    }

    /// Runs a statement and returns its rows. As [`execute`](Self::execute), also for dropping and errors.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, QueryError> {
        let statement = Box::pin(self.prepare(sql)).await?;
        let result = Box::pin(self.exchange(self.held.client.query(&statement, params))).await;
        self.forget_outdated(sql, result)
    }

    /// Runs a statement that returns at most one row. As [`execute`](Self::execute), also for dropping.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), or more than one row.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, QueryError> {
        let mut rows = self.query(sql, params).await?;
        if rows.len() > 1 { Err(QueryError::rows("at most one", rows.len())) } else { Ok(rows.pop()) }
    }

    /// Runs a statement that returns exactly one row. As [`execute`](Self::execute), also for dropping.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), or another number of rows.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, QueryError> {
        self.query_opt(sql, params).await?.ok_or_else(|| QueryError::rows("exactly one", 0))
    }

    /// Runs a statement whose parameters come with their types, unprepared: the form that works everywhere, also
    /// behind a pooler. Returns how many rows it changed. Dropping the future costs the transaction.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64, QueryError> {
        admit(sql)?;
        Box::pin(self.exchange(self.held.client.execute_typed(sql, params))).await
    }

    /// Runs a statement whose parameters come with their types, and returns its rows. As
    /// [`execute_typed`](Self::execute_typed), also for dropping.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, QueryError> {
        admit(sql)?;
        Box::pin(self.exchange(self.held.client.query_typed(sql, params))).await
    }

    pub(super) fn number(&self) -> Number {
        *lock(&self.number)
    }

    async fn prepare(&self, sql: &str) -> Result<tokio_postgres::Statement, QueryError> {
        admit(sql)?;
        if self.held.is_pooled() {
            return Err(QueryError::refused(
                "behind a pooler a statement cannot be prepared: use execute_typed or query_typed, which tell the types \
                 of their parameters",
            ));
        }
        self.bounded(self.held.prepare(sql), sqlstate::is_clean).await?.map_err(|error| self.told(error))
    }

    /// One statement. As long as the transaction has no number, a question for it travels behind the statement, so
    /// that it is known before COMMIT is sent: whoever loses the answer to COMMIT can ask what became of that number.
    async fn exchange<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, QueryError> {
        if let Number::Known(_) = self.number() {
            return self.bounded(work, sqlstate::is_clean).await?.map_err(|error| self.told(error));
        }
        *lock(&self.number) = Number::Unsure;
        let both = join(work, self.held.own(Own::Xid));
        let clean = |(result, number): &(_, _)| sqlstate::is_clean(result) && sqlstate::is_clean(number);
        let (result, number) = self.bounded(both, clean).await?;
        match number {
            Ok(row) => {
                if let Ok(number) = xid(&row) {
                    *lock(&self.number) = number.map_or(Number::None, Number::Known);
                }
            }
            // The statement was answered and the connection broke behind it: the transaction is over all the same.
            Err(error) if result.is_ok() => return Err(self.told(error)),
            Err(_) => {}
        }
        result.map_err(|error| self.told(error))
    }

    fn told(&self, error: Error) -> QueryError {
        QueryError::from_server(self.node.name(), error)
    }

    async fn bounded<T>(&self, work: impl Future<Output = T>, clean: impl Fn(&T) -> bool) -> Result<T, Fault> {
        self.held.begin();
        let result = self.node.within(self.node.bound(), work).await?;
        if clean(&result) {
            self.held.end();
        }
        Ok(result)
    }

    /// Inside a transaction an outdated plan costs the transaction; forgotten, it does not cost the next one too.
    fn forget_outdated<T>(&self, sql: &str, result: Result<T, QueryError>) -> Result<T, QueryError> {
        result.inspect_err(|error| {
            if is_outdated_plan(error) {
                self.held.forget(sql);
            }
        })
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("node", &self.node.info.name)
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}

fn admit(sql: &str) -> Result<(), QueryError> {
    keyword::refuse_write(sql).map_or(Ok(()), |reason| Err(QueryError::refused(reason)))
}

/// The number in an answer to [`Own::Xid`].
pub(super) fn xid(row: &Row) -> Result<Option<u64>, Error> {
    let text: Option<&str> = row.try_get(0)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
