//! A transaction on the primary, from BEGIN to a verdict about COMMIT.

use super::super::{Committed, Fault, FaultKind, Transaction};
use super::held::Held;
use super::link::Own;
use super::node::Node;
use super::sqlstate::{self, Author};
use super::standing;
use super::writer::{Number, Writer, xid};
use crate::rules::{Rule, holds};
use crate::{Lsn, Position, Timeline};
use futures_util::future::{join, join3};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::error::Severity;
use tokio_postgres::{Error, Row};

/// A transaction on a PostgreSQL primary. Dropped, its connection is closed, and the server rolls back by that.
#[derive(Debug)]
pub struct PostgresTransaction {
    writer: Writer,
}

impl PostgresTransaction {
    /// Begins a transaction. Dropped, the connection is closed.
    pub(super) async fn begin(node: Arc<Node>, held: Held, deadline: Instant) -> Result<Self, Fault> {
        // Never ended before COMMIT was answered: whatever happens in between, the connection is not reused.
        held.begin();
        let limit = node.limit(deadline);
        let begin = held.client.batch_execute("BEGIN");
        // On a direct connection the check goes first, so that SET TRANSACTION may still follow BEGIN; behind a pooler
        // only what follows BEGIN is asked of the transaction's server.
        let (begin, end) = if held.is_pooled() {
            node.within(limit, join(begin, held.own(Own::LogEnd))).await?
        } else {
            let (end, begin) = node.within(limit, join(held.own(Own::LogEnd), begin)).await?;
            (begin, end)
        };
        begin.map_err(|error| node.own_fault("beginning a transaction", error))?;
        let end = end.map_err(|error| node.own_fault("asking for the primary's timeline", error))?;
        let (position, _) = log_end(&node, &held, &end)?;
        Ok(Self { writer: Writer::new(held, node, position) })
    }
}

impl Transaction for PostgresTransaction {
    type Conn = Writer;

    fn conn(&self) -> &Writer {
        &self.writer
    }

    fn begun(&self) -> Position {
        self.writer.begun
    }

    fn xid(&self) -> Option<u64> {
        match self.writer.number() {
            Number::Known(xid) => Some(xid),
            Number::None | Number::Unsure => None,
        }
    }

    /// As the trait says. Dropped, the connection is closed, and the server rolls back by that.
    async fn rollback(self, deadline: Instant) {
        let Writer { held, node, .. } = &self.writer;
        // A statement that was given up may still run: nothing could be sent before it has ended.
        if held.exchanges() != 1 || held.client.is_closed() {
            return;
        }
        let limit = node.limit(deadline);
        if matches!(Box::pin(node.within(limit, held.client.batch_execute("ROLLBACK"))).await, Ok(Ok(()))) {
            held.end();
        }
    }

    /// As the trait says. Dropped before its first poll, it rolls back; later, the server may commit or not.
    async fn commit(self, deadline: Instant) -> Committed {
        let Writer { held, node, begun, .. } = &self.writer;
        let refuse = |kind, text: &str| Committed::RolledBack(node.fault(kind, text));
        if held.exchanges() != 1 {
            return refuse(
                FaultKind::Statement,
                "a statement was given up or broke off, so the transaction was rolled back",
            );
        }
        if held.client.is_closed() {
            return refuse(FaultKind::Down, "the connection ended before COMMIT was sent");
        }
        if deadline <= Instant::now() {
            return refuse(FaultKind::TimedOut, "the deadline passed before COMMIT was sent");
        }
        // Each answer is kept as it comes, so that a time-out leaves what was learned before it.
        let (mut number, mut ack, mut end) = (None, None, None);
        let sent = join3(
            async { number = Some(held.own(Own::Xid).await) },
            async { ack = Some(held.client.batch_execute("COMMIT").await) },
            async { end = Some(held.own(Own::LogEnd).await) },
        );
        let timely = Box::pin(node.within(deadline, sent)).await;
        let late = |text| timely.as_ref().err().cloned().unwrap_or_else(|| node.fault(FaultKind::Down, text));
        let ended = number.as_ref().is_some_and(sqlstate::is_clean)
            && ack.as_ref().is_some_and(sqlstate::is_clean)
            && end.as_ref().is_some_and(sqlstate::is_clean);
        if ended {
            held.end();
        }
        let answered = Answered::of(&number, &ack, self.writer.number());
        let doubt = |xid: Option<u64>| {
            xid.inspect(|&xid| node.doubt(xid, held.run));
            xid
        };
        match answered.verdict() {
            Verdict::RolledBack => Committed::RolledBack(
                rolled_back(node, number, ack)
                    .unwrap_or_else(|| late("the connection was lost before the transaction had written anything")),
            ),
            Verdict::Unknown(xid) => {
                Committed::Unknown { xid: doubt(xid), fault: late("the answer to COMMIT was lost") }
            }
            Verdict::Committed(xid) => {
                let placed = match end {
                    Some(row) => row
                        .map_err(|error| node.own_fault("reading the token", error))
                        .and_then(|row| token(node, held, &row, begun.timeline)),
                    None => Err(late("the token was not read")),
                };
                match placed {
                    Ok((token, flush)) => Committed::Done { token, flush },
                    Err(fault) => Committed::Unplaced { xid: doubt(xid), fault },
                }
            }
        }
    }
}

/// What was heard of a commit.
///
/// The client library keeps the command's tag to itself, and COMMIT of an aborted transaction answers ROLLBACK without
/// an error. So a question travels ahead of it, which such a transaction answers with 25P02.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answered {
    /// The question for the number, asked just before COMMIT.
    probe: Heard<Option<u64>>,
    commit: Heard<()>,
    /// What was known of the number before.
    number: Number,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard<T> {
    Yes(T),
    /// The server reported an error and went on.
    Refused,
    /// No answer, or one with which the server ended the connection.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Committed(Option<u64>),
    RolledBack,
    Unknown(Option<u64>),
}

impl Answered {
    fn of(number: &Option<Result<Row, Error>>, ack: &Option<Result<(), Error>>, known: Number) -> Self {
        let probe = match heard(number) {
            Heard::Yes(row) => xid(row).map_or(Heard::Nothing, Heard::Yes),
            Heard::Refused => Heard::Refused,
            Heard::Nothing => Heard::Nothing,
        };
        let commit = match heard(ack) {
            Heard::Yes(()) => Heard::Yes(()),
            Heard::Refused => Heard::Refused,
            Heard::Nothing => Heard::Nothing,
        };
        Self { probe, commit, number: known }
    }

    fn verdict(self) -> Verdict {
        match (self.probe, self.commit) {
            (Heard::Refused, Heard::Yes(())) if !holds(Rule::RollBackIsHeard) => Verdict::Committed(None),
            // The transaction is aborted: COMMIT can only roll it back, whether its answer came or not.
            (Heard::Refused, _) => Verdict::RolledBack,
            // COMMIT itself failed, such as at a deferred constraint; after the commit record no error is reported.
            (_, Heard::Refused) => Verdict::RolledBack,
            (Heard::Yes(xid), Heard::Yes(())) => Verdict::Committed(xid),
            (Heard::Yes(Some(xid)), Heard::Nothing) => Verdict::Unknown(Some(xid)),
            // Without a number nothing was written, and COMMIT by itself writes nothing.
            (Heard::Yes(None), Heard::Nothing) => Verdict::RolledBack,
            (Heard::Nothing, Heard::Nothing) if self.number == Number::None => Verdict::RolledBack,
            (Heard::Nothing, _) => match self.number {
                Number::Known(xid) => Verdict::Unknown(Some(xid)),
                Number::Unsure | Number::None => Verdict::Unknown(None),
            },
        }
    }
}

fn heard<T>(answer: &Option<Result<T, Error>>) -> Heard<&T> {
    match answer {
        Some(Ok(value)) => Heard::Yes(value),
        // Not FATAL: a backend that is ended while it waits for a synchronous standby has committed already.
        Some(Err(error)) if error.as_db_error().is_some_and(|db| db.parsed_severity() == Some(Severity::Error)) => {
            Heard::Refused
        }
        Some(Err(_)) | None => Heard::Nothing,
    }
}

/// The error that rolled the transaction back.
fn rolled_back(node: &Node, number: Option<Result<Row, Error>>, ack: Option<Result<(), Error>>) -> Option<Fault> {
    match (number, ack) {
        (_, Some(Err(error))) if error.as_db_error().is_some() => {
            Some(sqlstate::fault(node.name(), Author::AtCommit, "COMMIT", error))
        }
        (Some(Err(error)), _) if error.as_db_error().is_some() => {
            let doing = "COMMIT of a transaction that an earlier statement had aborted";
            Some(sqlstate::fault(node.name(), Author::OnPrimary, doing, error))
        }
        _ => None,
    }
}

/// The position that covers a transaction that began on `begun`, and what is flushed.
fn token(node: &Node, held: &Held, row: &Row, begun: Timeline) -> Result<(Position, Lsn), Fault> {
    let (position, flush) = log_end(node, held, row)?;
    if position.timeline != begun {
        // Behind a pooler the token may be another server's than the commit: after a failover it would vouch for a
        // write that is lost.
        let text = format!("the transaction began on timeline {begun}, and the log is now on {}", position.timeline);
        return Err(node.fault(FaultKind::Unproven, text));
    }
    Ok((position, flush))
}

/// The end of the log in an answer to [`Own::LogEnd`], and how much of it is flushed.
fn log_end(node: &Node, held: &Held, row: &Row) -> Result<(Position, Lsn), Fault> {
    let fault = |error| node.own_fault("reading the end of the log", error);
    if held.is_pooled() {
        let identifier: i64 = row.try_get(3).map_err(fault)?;
        if identifier.cast_unsigned() != held.run.system_identifier {
            return Err(node.fault(FaultKind::Foreign, "the pooler led to a server of another cluster"));
        }
    }
    let timeline = standing::timeline(row, 1).map_err(fault)?;
    let timeline = timeline.ok_or_else(|| node.fault(FaultKind::Unproven, "the primary did not tell its timeline"))?;
    let end = standing::lsn(row, 0).map_err(fault)?;
    let lsn = if holds(Rule::PositionsAreNormal) { held.layout.normalize(end) } else { end };
    let flush = held.layout.normalize(standing::lsn(row, 2).map_err(fault)?);
    Ok((Position { timeline, lsn }, flush))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_answers_has_one_verdict() {
        use Heard::{Nothing, Refused, Yes};
        let verdict = |probe, commit, number| Answered { probe, commit, number }.verdict();
        for known in [Number::None, Number::Known(7), Number::Unsure] {
            assert_eq!(verdict(Yes(Some(7)), Yes(()), known), Verdict::Committed(Some(7)));
            assert_eq!(verdict(Yes(None), Yes(()), known), Verdict::Committed(None));
            assert_eq!(verdict(Refused, Yes(()), known), Verdict::RolledBack, "COMMIT answered ROLLBACK");
            assert_eq!(verdict(Refused, Nothing, known), Verdict::RolledBack);
            assert_eq!(verdict(Yes(Some(7)), Refused, known), Verdict::RolledBack, "a deferred constraint");
            assert_eq!(verdict(Yes(Some(7)), Nothing, known), Verdict::Unknown(Some(7)));
            assert_eq!(verdict(Yes(None), Nothing, known), Verdict::RolledBack);
        }
        assert_eq!(verdict(Nothing, Nothing, Number::Known(7)), Verdict::Unknown(Some(7)));
        assert_eq!(verdict(Nothing, Nothing, Number::Unsure), Verdict::Unknown(None));
        assert_eq!(verdict(Nothing, Nothing, Number::None), Verdict::RolledBack);
    }
}
