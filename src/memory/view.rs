//! What a loader reads with.

use super::connection::Connection;
use super::network::Step;
use super::rows::{RowKey, Rows, Value};
use crate::source::{Fault, FaultKind};
use std::any::Any;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{Instant, timeout_at};

/// One load's statements on one server. Each sees what is visible when it arrives there.
#[derive(Debug)]
pub struct View {
    pub(super) connection: Connection,
    deadline: Instant,
    pending: Pending,
    /// What went wrong on the connection first.
    fault: Mutex<Option<Fault>>,
}

impl View {
    pub(super) fn new(connection: Connection, deadline: Instant) -> Self {
        Self { connection, deadline, pending: Pending::default(), fault: Mutex::new(None) }
    }

    /// The row's value, or `None` where there is no such row.
    ///
    /// # Errors
    ///
    /// The server is gone, did not answer in time or cancelled the statement, or the row holds a value of another type.
    pub async fn get<V: Any + Send + Sync>(
        &self,
        table: &str,
        key: impl ToString + Send,
    ) -> Result<Option<Arc<V>>, Fault> {
        let row = RowKey::new(table, &key);
        let value = self.statement(|rows| rows.get(&row).cloned()).await?;
        value.map(|value| self.typed(value)).transpose()
    }

    /// All rows of a table, ordered by the text of their keys.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn scan<V: Any + Send + Sync>(&self, table: &str) -> Result<Vec<(String, Arc<V>)>, Fault> {
        let copy = |rows: &Rows| {
            let row = |(row, value): (&RowKey, &Value)| (row.key.clone(), value.clone());
            rows.table(table).map(row).collect::<Vec<_>>()
        };
        let rows = self.statement(copy).await?;
        rows.into_iter().map(|(key, value)| Ok((key, self.typed(value)?))).collect()
    }

    /// One statement: it travels, reads what is visible then, and its answer travels back.
    async fn statement<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, Fault> {
        let ran = within(&self.connection, self.deadline, async {
            self.connection.send(Step::Statement).await?;
            let read = self.connection.cluster.look(|state| {
                let server = state.server_mut(self.connection.server);
                if server.standby().is_some() && server.conflicts > 0 {
                    server.conflicts -= 1;
                    return Err(self.connection.fault(FaultKind::Conflict, "canceled due to conflict with recovery"));
                }
                Ok(read(&server.rows))
            });
            self.connection.travel(Step::Answer).await?;
            read
        });
        let result = self.pending.during(ran).await;
        if let Err(fault) = &result {
            let mut first = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| fault.clone());
        }
        result
    }

    fn typed<V: Any + Send + Sync>(&self, value: Value) -> Result<Arc<V>, Fault> {
        typed(&self.connection, value)
    }

    /// What went wrong while the loader had it.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the connection can be used by another load: no answer is still to come.
    pub(super) fn is_clean(&self) -> bool {
        self.connection.is_usable() && !self.pending.any()
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }
}

pub(super) fn typed<V: Any + Send + Sync>(connection: &Connection, value: Value) -> Result<Arc<V>, Fault> {
    let wrong = |_| connection.fault(FaultKind::Statement, "the row holds a value of another type");
    value.downcast::<V>().map_err(wrong)
}

/// Runs until the deadline, and says so where that passes.
pub(super) async fn within<T>(
    connection: &Connection,
    deadline: Instant,
    run: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match timeout_at(deadline, run).await {
        Ok(result) => result,
        Err(_) => Err(connection.fault(FaultKind::TimedOut, "the server did not answer in time")),
    }
}

/// Statements whose answers did not come back: their futures were dropped, or gave up.
#[derive(Debug, Default)]
pub(super) struct Pending(AtomicU32);

impl Pending {
    pub(super) async fn during<T>(&self, run: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let result = run.await;
        if !matches!(&result, Err(fault) if fault.kind == FaultKind::TimedOut) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}
