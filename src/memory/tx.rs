//! A transaction, and how its commit ends.

use super::connection::{Connection, Run};
use super::network::Step;
use super::server::Server;
use super::source::Source;
use super::state::What;
use super::writer::Writer;
use crate::rules::{Rule, holds};
use crate::source::{self, Committed, Fault, FaultKind, NodeId};
use crate::{Lsn, Position, Timeline, WalLayout};
use tokio::time::{Instant, timeout_at};

/// A transaction on a primary. Dropped, it rolls back.
#[derive(Debug)]
pub struct Tx {
    writer: Writer,
    from: Source,
    begun: Position,
}

impl Tx {
    pub(super) async fn begin(from: &Source, node: NodeId) -> Result<Self, Fault> {
        let connection = from.connection(node).await?;
        let begun = connection.ask(Step::Begin, token).await?;
        Ok(Self { writer: Writer::new(connection), from: from.clone(), begun })
    }

    /// Sends the COMMIT. Once it has arrived, the server carries it out whether anybody waits or not.
    async fn send(&self) -> Result<(), Fault> {
        let connection = self.writer.connection()?;
        connection.travel(Step::Commit).await?;
        if !connection.cluster.look(|state| connection.is_alive_in(state)) {
            return Err(connection.broken());
        }
        let (xid, durable) = (self.writer.xid(), self.writer.draft().durable);
        let Some(xid) = xid else { return Ok(()) };
        let (server, changes) = (connection.server, self.writer.changes());
        connection.cluster.change(|state| {
            let now = state.now;
            state.schedule(now, server, What::Commit { xid, changes, durable });
        });
        let over = connection.cluster.wait(|state| {
            if !connection.is_alive_in(state) {
                return Some(Err(connection.broken()));
            }
            let running = state.server(server).primary().is_some_and(|primary| primary.running.contains_key(&xid));
            (!running && !state.server(server).frozen).then_some(Ok(()))
        });
        over.await?;
        connection.travel(Step::Acknowledge).await
    }

    /// Reads the token, which must lie on the timeline that the transaction began on, and what is flushed.
    async fn place(&self, connection: &Connection) -> Result<(Position, Lsn), Fault> {
        let (token, flush) = connection.ask(Step::Token, |server| Ok((token(server)?, flush(server)?))).await?;
        match token.timeline == self.begun.timeline {
            true => Ok((token, flush)),
            false => {
                Err(connection.fault(FaultKind::Unproven, "the timeline changed between the commit and its token"))
            }
        }
    }

    async fn conclude(&mut self, deadline: Instant) -> Committed {
        let xid = self.writer.xid();
        let late = |node: &str| Fault::new(FaultKind::TimedOut, node, "the server did not answer the commit in time");
        let name = match self.writer.connection() {
            Ok(connection) => connection.fault(FaultKind::TimedOut, "").node,
            Err(fault) => return Committed::RolledBack(fault),
        };
        if let Some(fault) = self.writer.failed() {
            return Committed::RolledBack(fault);
        }
        let run = self.writer.connection().ok().map(Connection::run);
        let early = match self.writer.connection() {
            Ok(connection) if !holds(Rule::TokenAfterCommit) => self.place(connection).await.ok(),
            _ => None,
        };
        let sent = timeout_at(deadline, self.send()).await.unwrap_or_else(|_| Err(late(&name)));
        if let Err(fault) = sent {
            self.doubt(run);
            return Committed::Unknown { xid, fault };
        }
        let Some(connection) = self.writer.release() else { return Committed::RolledBack(late(&name)) };
        let connection = self.from.after_commit(connection);
        let placed = timeout_at(deadline, self.place(&connection)).await.unwrap_or_else(|_| Err(late(&name)));
        match placed {
            Ok(placed) => {
                self.from.shelf.put_back(connection);
                let (token, flush) = early.unwrap_or(placed);
                Committed::Done { token, flush }
            }
            Err(fault) => {
                self.doubt(run);
                Committed::Unplaced { xid, fault }
            }
        }
    }

    fn doubt(&self, run: Option<Run>) {
        if let (Some(xid), Some(run)) = (self.writer.xid(), run) {
            self.from.shelf.doubt(xid, run);
        }
    }
}

impl source::Transaction for Tx {
    type Conn = Writer;

    fn begun(&self) -> Position {
        self.begun
    }

    fn xid(&self) -> Option<u64> {
        self.writer.xid()
    }

    fn conn(&self) -> &Writer {
        &self.writer
    }

    async fn rollback(mut self, deadline: Instant) {
        let Ok(connection) = self.writer.connection() else { return };
        // What was dropped may still be under way, and its answer would be taken for that of the ROLLBACK.
        if self.writer.is_pending()
            || !matches!(timeout_at(deadline, connection.send(Step::Rollback)).await, Ok(Ok(())))
        {
            return;
        }
        self.writer.abandon();
        if let Some(connection) = self.writer.release() {
            self.from.shelf.put_back(connection);
        }
    }

    async fn commit(mut self, deadline: Instant) -> Committed {
        self.conclude(deadline).await
    }
}

/// At or above every commit that the server has acknowledged.
fn token(server: &Server) -> Result<Position, FaultKind> {
    let primary = server.primary().ok_or(FaultKind::WrongRole)?;
    let lsn = if holds(Rule::TokenIsInserted) { primary.token() } else { WalLayout::DEFAULT.normalize(primary.flush) };
    Ok(Position { timeline: Timeline(server.timeline), lsn })
}

/// What no crash takes back.
fn flush(server: &Server) -> Result<Lsn, FaultKind> {
    let primary = server.primary().ok_or(FaultKind::WrongRole)?;
    Ok(WalLayout::DEFAULT.normalize(primary.flush))
}
