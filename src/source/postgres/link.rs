//! One connection to one server, and what is known of it.

use super::super::{Fault, FaultKind};
use super::dial::Dial;
use super::encryption::Encryption;
use super::lock;
use super::sqlstate::{self, Author};
use super::standing::{self, Run};
use crate::{Timeline, WalLayout};
use deadpool_postgres::ClientWrapper;
use futures_util::future::{join, join_all};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_postgres::{Error, Row, Statement};

/// The oldest release whose functions and views are used as they are.
const VERSION_MIN: i32 = 140_000;

/// Distinct statements that one connection keeps prepared; beyond it all are forgotten and prepared anew.
const STATEMENTS_MAX: usize = 512;

/// Requests to cancel a statement that run at once, and how long each may take. Beyond it none is sent: the server
/// notices the closed connection when it next writes to it.
static CANCELS: Semaphore = Semaphore::const_new(16);
const CANCEL_MAX: Duration = Duration::from_secs(2);

/// A connection, with the facts that hold until it ends.
pub(super) struct Link {
    pub(super) client: ClientWrapper,
    /// The server and its run. Behind a pooler only the server that answered first.
    pub(super) run: Run,
    pub(super) layout: WalLayout,
    /// Our own statements, prepared; empty behind a pooler.
    prepared: Vec<Statement>,
    pub(super) version: i32,
    /// The server's process that answered first.
    backend: i32,
    /// In recovery when last seen. A primary's connection does not outlive its becoming a standby.
    standby: AtomicBool,
    /// Whether this very connection has seen the server in recovery, and on which timeline it last did.
    seen_standby: Mutex<Option<Option<Timeline>>>,
    /// Exchanges with the server that did not come to a clean end: begun, given up, or broken off. Only at zero may
    /// the connection be used by anybody else.
    open: AtomicU32,
    severed: AtomicBool,
    task: AbortHandle,
    encryption: Arc<Encryption>,
}

/// Our own statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Own {
    Position,
    LogEnd,
    Xid,
    Upper,
}

impl Own {
    const ALL: [Self; 4] = [Self::Position, Self::LogEnd, Self::Xid, Self::Upper];

    fn sql(self, pooled: bool) -> &'static str {
        match self {
            Self::Position if pooled => standing::POSITION_AND_RUN,
            Self::Position => standing::POSITION,
            Self::LogEnd if pooled => standing::LOG_END_AND_CLUSTER,
            Self::LogEnd => standing::LOG_END,
            Self::Upper => standing::UPPER,
            Self::Xid => "select pg_current_xact_id_if_assigned()::text",
        }
    }
}

impl Link {
    /// Connects and asks who answered. Dropped, the connection is closed.
    pub(super) async fn open(dial: &Dial) -> Result<Self, Fault> {
        let fault = |error| sqlstate::fault(&dial.name, Author::Us, "connecting", error);
        let (client, task) = dial.encryption.connect(&dial.config).await.map_err(fault)?;
        let abort = task.abort_handle();
        let client = ClientWrapper::new(client, task);
        // One round trip: the client library sends in the order of the first polls.
        let own = if dial.pooled { &[][..] } else { &Own::ALL };
        let (facts, prepared) = join(
            client.query_typed(standing::RUN, &[]),
            join_all(own.iter().map(|own| client.prepare(own.sql(false)))),
        )
        .await;
        let facts = facts.map_err(fault)?;
        let facts =
            facts.first().ok_or_else(|| Fault::new(FaultKind::Down, &dial.name, "no answer to the handshake"))?;
        let version = facts.try_get(5).map_err(fault)?;
        check_version(&dial.name, version)?;
        Ok(Self {
            run: Run::of(facts, 0).map_err(fault)?,
            layout: layout(&dial.name, facts.try_get(3).map_err(fault)?, facts.try_get(4).map_err(fault)?)?,
            prepared: prepared.into_iter().collect::<Result<_, _>>().map_err(fault)?,
            version,
            backend: facts.try_get(7).map_err(fault)?,
            seen_standby: Mutex::new(None),
            standby: AtomicBool::new(facts.try_get(6).map_err(fault)?),
            open: AtomicU32::new(0),
            severed: AtomicBool::new(false),
            task: abort,
            encryption: Arc::clone(&dial.encryption),
            client,
        })
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.prepared.is_empty()
    }

    /// Checks that the answer, with the process in this column, is of the one that the connection was made to. A pooler that
    /// nobody told us of hands statements to any, and newer ones prepare them there (PgBouncer 1.21, max_prepared_statements):
    /// position and data could be two servers'.
    pub(super) fn check_backend(&self, node: &str, row: &Row, column: usize) -> Result<(), Fault> {
        let answered: Option<i32> = row.try_get(column).ok();
        if self.is_pooled() || answered == Some(self.backend) {
            return Ok(());
        }
        let text = "statements of one connection reach several processes of the server: \
                    a pooler stands in between; say so with pooled(true), or let it pool sessions";
        Err(Fault::new(FaultKind::Misconfigured, node, text))
    }

    /// Runs one of our own statements. On the wire with the first poll, so that what is polled after it comes after it.
    pub(super) async fn own(&self, own: Own) -> Result<Row, Error> {
        match Own::ALL.iter().position(|other| *other == own).and_then(|at| self.prepared.get(at)) {
            Some(statement) => self.client.query_one(statement, &[]).await,
            None => self.client.query_typed_one(own.sql(true), &[]).await,
        }
    }

    /// A statement of the application, prepared once.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        if self.client.statement_cache.size() >= STATEMENTS_MAX {
            self.client.statement_cache.clear();
        }
        self.client.prepare_cached(sql).await
    }

    pub(super) fn forget(&self, sql: &str) {
        drop(self.client.statement_cache.remove(sql, &[]));
    }

    pub(super) fn is_standby(&self) -> bool {
        self.standby.load(Ordering::Relaxed)
    }

    /// The server was just seen in recovery, or out of it.
    pub(super) fn saw(&self, standby: bool) {
        self.standby.store(standby, Ordering::Relaxed);
    }

    pub(super) fn remember_standby(&self, timeline: Option<Timeline>) {
        *lock(&self.seen_standby) = Some(timeline);
    }

    /// What was last seen of the server in recovery, if ever it was on this connection. Behind a pooler nothing counts.
    pub(super) fn was_standby(&self) -> Option<Option<Timeline>> {
        if self.is_pooled() { None } else { *lock(&self.seen_standby) }
    }

    /// Marks the beginning of an exchange. Unless [`end`](Self::end) follows, the connection is not reused: so an
    /// exchange whose future was dropped needs no code that runs.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks the clean end of an exchange.
    pub(super) fn end(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn exchanges(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.exchanges() == 0 && !self.severed.load(Ordering::Relaxed)
    }

    /// Closes a connection that is not idle, and asks the server to stop what it does there.
    ///
    /// A request to cancel names the connection, not the statement: on one that lives on it could hit the next
    /// borrower's statement. This one is closed, so it can hit nobody.
    pub(super) fn sever(&self) {
        if self.severed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.task.abort();
        let (Ok(runtime), Ok(permit)) = (tokio::runtime::Handle::try_current(), CANCELS.try_acquire()) else { return };
        let (encryption, token) = (Arc::clone(&self.encryption), self.client.cancel_token());
        runtime.spawn(async move {
            let _ = tokio::time::timeout(CANCEL_MAX, encryption.cancel(token)).await;
            drop(permit);
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.is_idle() {
            self.sever();
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("run", &self.run).field("open", &self.open).finish_non_exhaustive()
    }
}

fn check_version(node: &str, version: i32) -> Result<(), Fault> {
    if version >= VERSION_MIN {
        return Ok(());
    }
    let (major, least) = (version / 10_000, VERSION_MIN / 10_000);
    let text = format!("the server is PostgreSQL {major}, and {least} is the oldest that is supported: upgrade it");
    Err(Fault::new(FaultKind::Misconfigured, node, text))
}

fn layout(node: &str, block: i32, segment: i32) -> Result<WalLayout, Fault> {
    let size = |bytes: i32| u64::try_from(bytes).unwrap_or(0);
    WalLayout::new(size(block), size(segment)).ok_or_else(|| {
        Fault::new(FaultKind::Misconfigured, node, "the server's sizes of log pages and segments are impossible")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_with_its_version() {
        let fault = check_version("a:5432", 130_014).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert_eq!(
            fault.to_string(),
            "a:5432: the server is PostgreSQL 13, and 14 is the oldest that is supported: upgrade it"
        );
        assert!(check_version("a:5432", 140_000).is_ok());
    }
}
