//! The edge to the system of record: a primary and its replicas.
//!
//! A source only reaches servers and reports what they say. Which server a read goes to, how long it waits and what an
//! answer proves is decided above it, so that the simulator runs the same decisions as production.

pub mod postgres;

use crate::entry::Stamp;
use crate::{Lsn, Position, Switch, Timeline};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// The index of a server in [`Source::nodes`].
pub type NodeId = usize;

/// What is configured about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// A name for logs and statistics, without credentials.
    pub name: String,
    /// Where it stands, to be preferred by clients in the same zone.
    pub zone: Option<String>,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `pg_control_system().system_identifier`.
    pub system_identifier: u64,
    /// What it is, and how far.
    pub role: Role,
}

/// What a server is, and how far it has come. All positions are normalised ([`WalLayout`](crate::WalLayout)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Not in recovery: it takes writes.
    Primary {
        /// The timeline that it writes, exact (`pg_walfile_name`).
        timeline: Timeline,
        /// `pg_current_wal_insert_lsn()`: at or above every commit that it has acknowledged.
        insert: Lsn,
        /// `pg_current_wal_flush_lsn()`: what survives a crash.
        flush: Lsn,
        /// Where its ancestors ended, as far as it tells; where any is given, the parent is.
        switches: Vec<Switch>,
        /// `pg_postmaster_start_time()`, in milliseconds since 1970. It tells two older copies apart that one server was
        /// set back to.
        started_ms: u64,
    },
    /// In recovery.
    Standby {
        /// The timeline that it replays; `None` where it cannot be confirmed (no WAL receiver and no earlier proof).
        timeline: Option<Timeline>,
        /// `pg_last_wal_replay_lsn()`.
        replay: Lsn,
        /// Time since the commit that it replayed last, zero when it has replayed all that it received.
        lag: Option<Duration>,
    },
}

/// What one lease must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The role that the server must have, confirmed on the connection.
    pub primary: bool,
    /// A tag known for the connection is read anew where it is below this.
    pub floor: Lsn,
    /// An upper bound is read after the data ([`Stamp::upper`]). A standby that does not stream cannot tell one, such as
    /// one that recovers from an archive, or whose primary is gone: there [`Lease::finish`] is a fault,
    /// [`FaultKind::Unproven`].
    pub upper: bool,
    /// On the primary: every transaction that was in progress when the lease began must have ended before the data is
    /// read, so that nothing that a standby has shown is missing.
    pub quiesce: bool,
    /// Everything must have happened by then.
    pub deadline: Instant,
}

/// The edge to one database cluster. Every operation ends by the deadline that it is given or by a bound of its own, and
/// every future may be dropped at any await: what it held is discarded, never reused.
pub trait Source: Send + Sync + 'static {
    /// What a loader runs its statements on.
    type Conn: Send + Sync + 'static;
    /// One load's hold of a connection.
    type Lease: Lease<Conn = Self::Conn>;
    /// A transaction on the primary.
    type Tx: Transaction;

    /// The servers, fixed for the life of the source.
    fn nodes(&self) -> &[NodeInfo];

    /// Asks a server what it is and how far. For the monitor: the answer is a belief that may be outdated at once.
    fn probe(&self, node: NodeId) -> impl Future<Output = Result<Probe, Fault>> + Send;

    /// Leases a connection to a server for one load.
    fn lease(&self, node: NodeId, ask: Ask) -> impl Future<Output = Result<Self::Lease, Fault>> + Send;

    /// Begins a transaction on a server that must be the primary.
    fn begin(&self, node: NodeId, deadline: Instant) -> impl Future<Output = Result<Self::Tx, Fault>> + Send;

    /// What became of transaction `xid` (`pg_xact_status`), asked of a server that must be the primary and on
    /// `timeline`, the one that the transaction began on: another timeline gives the same number to somebody else's
    /// transaction. There the answer is a fault, [`FaultKind::Unproven`].
    fn outcome(
        &self,
        node: NodeId,
        xid: u64,
        timeline: Timeline,
    ) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Moves the primary's log by a few bytes, so that a tag read afterwards exceeds every token given out before.
    fn nudge(&self, node: NodeId) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// One load's hold of a connection: the loader's statements go through [`conn`](Self::conn), behind the position.
pub trait Lease: Send + Sync + 'static {
    /// What a loader runs its statements on.
    type Conn;

    /// The connection, for the loader.
    fn conn(&self) -> &Self::Conn;

    /// Ends the load: reads what is still to be read, gives the connection back and tells how new the data is known
    /// to be, or what went wrong on the connection while the loader had it. Where an upper bound was asked for, its stamp
    /// has one, or there is none. Dropped instead, the connection is discarded.
    fn finish(self) -> impl Future<Output = Result<Stamp, Fault>> + Send;
}

/// A transaction on the primary. Dropped, it rolls back, and its connection is discarded.
pub trait Transaction: Send + Sync + 'static {
    /// What the transaction's statements run on.
    type Conn: Send + Sync;

    /// The connection, for the caller's statements.
    fn conn(&self) -> &Self::Conn;

    /// Where the log ended when the transaction began, or before: whatever it commits, it commits above, on this timeline.
    fn begun(&self) -> Position;

    /// The transaction's id, as far as it is known by now: it has none before it writes.
    fn xid(&self) -> Option<u64>;

    /// Rolls back and keeps the connection for others. Where that does not succeed by the deadline the connection is
    /// discarded instead: one way or the other nothing is committed, also of a transaction that a statement had aborted.
    fn rollback(self, deadline: Instant) -> impl Future<Output = ()> + Send;

    /// Commits, and reads the token behind the commit in the same round trip.
    fn commit(self, deadline: Instant) -> impl Future<Output = Committed> + Send;
}

/// How a commit ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Committed {
    /// The server acknowledged it. The token was read afterwards: `norm(pg_current_wal_insert_lsn())`.
    Done {
        /// The position that covers the transaction.
        token: Position,
        /// `norm(pg_current_wal_flush_lsn())`, read beside the token: what no crash takes back.
        flush: Lsn,
    },
    /// The server acknowledged it, but the token could not be read, or was read on another timeline than the one that
    /// the transaction began on: the write may be visible, or lost with that timeline.
    Unplaced {
        /// The transaction's id, where it had one.
        xid: Option<u64>,
        /// What went wrong.
        fault: Fault,
    },
    /// For certain nothing was committed.
    RolledBack(Fault),
    /// The answer never came: nobody knows yet.
    Unknown {
        /// The transaction's id, where it had one; without one it had written nothing.
        xid: Option<u64>,
        /// What went wrong.
        fault: Fault,
    },
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It committed and is visible.
    Committed,
    /// It rolled back.
    Aborted,
    /// It is not over.
    InProgress,
    /// The server does not remember it, or never knew it.
    Forgotten,
}

/// What went wrong at a server, sorted by what can be done about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{node}: {message}")]
pub struct Fault {
    /// What kind of trouble it is.
    pub kind: FaultKind,
    /// The server's name.
    pub node: String,
    /// What happened, without values of the application.
    pub message: String,
    /// The client library's error, where there is one.
    #[source]
    pub cause: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of trouble with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// It cannot be reached, went away, or is starting up.
    Down,
    /// It did not answer in time.
    TimedOut,
    /// Every connection is in use, in our pool or at the server (53300).
    Busy,
    /// Something else had to go first: recovery on a standby (40001, 57P04), where another server may answer; or at COMMIT
    /// another transaction (40001, 40P01), where the same transaction may succeed once more.
    Conflict,
    /// It is not in the role that was needed, such as a standby asked to write (25006).
    WrongRole,
    /// It belongs to another cluster (system identifier).
    Foreign,
    /// Its timeline could not be confirmed, or its position fell back.
    Unproven,
    /// Its configuration or the credentials are wrong: trying again will not help.
    Misconfigured,
    /// The statement failed for a reason of its own.
    Statement,
}

impl Fault {
    /// A fault without a cause of the client library.
    pub fn new(kind: FaultKind, node: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, node: node.into(), message: message.into(), cause: None }
    }

    /// The same fault with the client library's error behind it.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(std::sync::Arc::new(cause));
        self
    }

    /// Whether another server may do better.
    #[must_use]
    pub fn is_worth_another_server(&self) -> bool {
        !matches!(self.kind, FaultKind::Statement)
    }
}
