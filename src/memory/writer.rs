//! What a transaction writes with.

use super::connection::Connection;
use super::network::Step;
use super::rows::{Change, RowKey, Value};
use super::state::State;
use super::view::{Pending, typed, within};
use super::wal::{Body, CHANGE_BYTES};
use crate::source::{Fault, FaultKind};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long one statement may take, locks included.
const STATEMENT_BOUND: Duration = Duration::from_secs(30);

/// After this long a transaction that waits for a row looks whether it waits for itself (`deadlock_timeout`).
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The statements of one transaction on a primary, at READ COMMITTED. A row that it writes is locked until it ends.
///
/// As in PostgreSQL, a statement that fails aborts the transaction. Dropping the future of a statement does too: its
/// answer would be taken for that of the next.
#[derive(Debug)]
pub struct Writer {
    connection: Option<Connection>,
    pub(super) draft: Mutex<Draft>,
    pending: Pending,
}

/// What the transaction has done so far.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) xid: Option<u64>,
    changes: BTreeMap<RowKey, Option<Value>>,
    failed: Option<Fault>,
    pub(super) durable: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        let draft = Draft { xid: None, changes: BTreeMap::new(), failed: None, durable: true };
        Self { connection: Some(connection), draft: Mutex::new(draft), pending: Pending::default() }
    }

    /// The row's value as this transaction sees it now: its own change, or what is visible.
    ///
    /// # Errors
    ///
    /// The server is gone or did not answer in time, or the row holds a value of another type.
    pub async fn get<V: Any + Send + Sync>(
        &self,
        table: &str,
        key: impl ToString + Send,
    ) -> Result<Option<Arc<V>>, Fault> {
        let row = RowKey::new(table, &key);
        let value = self.statement(async |connection| Ok(self.see(connection, &row))).await?;
        value.map(|value| self.typed(value)).transpose()
    }

    /// Locks the row until the transaction ends, and returns its newest value (`SELECT .. FOR UPDATE`).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and where waiting for the lock would be a deadlock.
    pub async fn lock<V: Any + Send + Sync>(
        &self,
        table: &str,
        key: impl ToString + Send,
    ) -> Result<Option<Arc<V>>, Fault> {
        let row = RowKey::new(table, &key);
        let value = self.statement(async |connection| {
            self.take(connection, &row).await?;
            Ok(self.see(connection, &row))
        });
        value.await?.map(|value| self.typed(value)).transpose()
    }

    /// Writes the row, whether there was one or not.
    ///
    /// # Errors
    ///
    /// The server is gone or did not answer in time, or waiting for the row's lock would be a deadlock.
    pub async fn put<V: Any + Send + Sync>(
        &self,
        table: &str,
        key: impl ToString + Send,
        value: V,
    ) -> Result<(), Fault> {
        self.change(RowKey::new(table, &key), Some(Arc::new(value)), false).await
    }

    /// Writes a row that there must not be yet.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and where there is such a row (`unique_violation`).
    pub async fn insert<V: Any + Send + Sync>(
        &self,
        table: &str,
        key: impl ToString + Send,
        value: V,
    ) -> Result<(), Fault> {
        self.change(RowKey::new(table, &key), Some(Arc::new(value)), true).await
    }

    /// Deletes the row, if there is one.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn delete(&self, table: &str, key: impl ToString + Send) -> Result<(), Fault> {
        self.change(RowKey::new(table, &key), None, false).await
    }

    /// Commits without waiting for the flush (`SET LOCAL synchronous_commit = off`): a crash soon afterwards undoes what
    /// was acknowledged.
    pub fn commit_asynchronously(&self) {
        self.draft().durable = false;
    }

    /// The transaction's id, once it has written anything.
    #[must_use]
    pub fn xid(&self) -> Option<u64> {
        self.draft().xid
    }

    async fn change(&self, row: RowKey, value: Option<Value>, fresh: bool) -> Result<(), Fault> {
        let changed = self.statement(async |connection| {
            let xid = self.take(connection, &row).await?;
            if fresh && self.see(connection, &row).is_some() {
                return Err(connection.fault(FaultKind::Statement, "duplicate key value violates unique constraint"));
            }
            let server = connection.server;
            connection.cluster.change(|state| state.insert(server, xid, Body::Other, CHANGE_BYTES));
            self.draft().changes.insert(row.clone(), value.clone());
            Ok(())
        });
        changed.await
    }

    /// What the transaction sees of a row at this moment.
    fn see(&self, connection: &Connection, row: &RowKey) -> Option<Value> {
        let own = self.draft().changes.get(row).cloned();
        own.unwrap_or_else(|| connection.cluster.look(|state| state.server(connection.server).rows.get(row).cloned()))
    }

    /// Locks a row, and gives the transaction its id with its first lock.
    async fn take(&self, connection: &Connection, row: &RowKey) -> Result<u64, Fault> {
        let server = connection.server;
        let assigned = self.draft().xid;
        let xid = assigned.or_else(|| connection.cluster.change(|state| state.assign_xid(server)));
        let xid = xid.ok_or_else(|| connection.fault(FaultKind::WrongRole, "cannot write in recovery"))?;
        self.draft().xid = Some(xid);
        loop {
            let lock = |state: &mut State| match connection.is_alive_in(state) {
                true if state.server(server).frozen => None,
                true => state.server_mut(server).primary_mut()?.lock(row, xid).then_some(Ok(xid)),
                false => Some(Err(connection.broken())),
            };
            if let Ok(taken) = timeout(DEADLOCK_TIMEOUT, connection.cluster.wait(lock)).await {
                return taken;
            }
            let deadlocked = |state: &mut State| state.server(server).primary().is_some_and(|it| it.is_deadlocked(xid));
            if connection.cluster.look(deadlocked) {
                return Err(connection.fault(FaultKind::Statement, "deadlock detected"));
            }
        }
    }

    /// One statement: it travels, runs, and its answer travels back. Whatever fails aborts the transaction.
    async fn statement<T>(&self, run: impl AsyncFnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        if let Some(fault) = self.failed() {
            return Err(fault);
        }
        let connection = self.connection()?;
        let deadline = Instant::now() + STATEMENT_BOUND;
        let ran = within(connection, deadline, async {
            connection.send(Step::Statement).await?;
            let ran = run(connection).await;
            if ran.is_err() {
                self.abandon();
            }
            connection.travel(Step::Answer).await?;
            ran
        });
        let result = self.pending.during(ran).await;
        if let Err(fault) = &result {
            self.draft().failed.get_or_insert_with(|| fault.clone());
        }
        result
    }

    /// Lets the server roll back, unless it has begun to commit.
    pub(super) fn abandon(&self) {
        let xid = self.draft().xid;
        if let (Some(connection), Some(xid)) = (&self.connection, xid) {
            connection.cluster.abandon(connection.server, connection.boot, xid);
        }
    }

    /// Whether a statement was dropped before its answer came.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.any()
    }

    /// Why the transaction can only roll back.
    pub(super) fn failed(&self) -> Option<Fault> {
        let aborted = |connection: &Connection| {
            connection.fault(FaultKind::Statement, "a statement was dropped before its answer came")
        };
        let dropped = if self.is_pending() { self.connection.as_ref().map(aborted) } else { None };
        self.draft().failed.clone().or(dropped)
    }

    pub(super) fn connection(&self) -> Result<&Connection, Fault> {
        self.connection.as_ref().ok_or_else(|| Fault::new(FaultKind::Down, "", "the transaction has ended"))
    }

    pub(super) fn draft(&self) -> MutexGuard<'_, Draft> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything out that a COMMIT sends.
    pub(super) fn changes(&self) -> Vec<Change> {
        let changes = std::mem::take(&mut self.draft().changes);
        changes.into_iter().map(|(row, value)| Change { row, value }).collect()
    }

    /// Takes the connection out of a transaction that is over.
    pub(super) fn release(&mut self) -> Option<Connection> {
        self.connection.take()
    }

    fn typed<V: Any + Send + Sync>(&self, value: Value) -> Result<Arc<V>, Fault> {
        typed(self.connection()?, value)
    }
}

impl Drop for Writer {
    /// The connection closes, and the server rolls back what it has not begun to commit.
    fn drop(&mut self) {
        self.abandon();
    }
}
