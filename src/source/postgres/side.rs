//! What is asked on connections outside the pool: the monitor's probe on one, two small errands on another.

use super::super::{Fault, FaultKind, Outcome, Probe, Role};
use super::link::Link;
use super::lock;
use super::node::{Aside, Node};
use super::standing::{self, Reading, Run};
use super::switches;
use crate::Timeline;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

/// Moves the log and flushes it, so that the flush position passes everything inserted before.
///
/// A message that is not transactional reaches the disk only with the WAL writer, 150 to 200 ms later, unless it can
/// be told to flush (17). Before that a transactional one is flushed by its commit; under `local`, or the commit could
/// be left to the WAL writer too, or wait for a synchronous standby. `set_config` with `true` ends with the statement.
/// On a standby the position fails first, with a SQLSTATE of its own; the message would fail with XX000.
const NUDGE: &str = "select pg_current_wal_insert_lsn(), set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'highwater', '')";
const NUDGE_17: &str = "select pg_current_wal_insert_lsn(), pg_logical_emit_message(false, 'highwater', '', true)";

const OUTCOME: &str =
    "select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), pg_xact_status($1::text::xid8)";

impl Node {
    /// Asks the server what it is and how far. Dropped, the connection is closed.
    pub(super) async fn probe(&self) -> Result<Probe, Fault> {
        self.aside(&self.probes, async |link, deadline| {
            let row = self.within(deadline, link.client.query_typed_one(standing::PROBE, &[])).await?;
            let fault = |error| self.own_fault("probing", error);
            let row = row.map_err(fault)?;
            link.check_backend(self.name(), &row, 9)?;
            // The run too, because behind a pooler every answer may be another server's.
            let (reading, run) = (Reading::of(&row).map_err(fault)?, Run::of(&row, 4).map_err(fault)?);
            self.check_cluster(&run, !reading.standby)?;
            let role = if reading.standby {
                self.standby(link, reading, run, &row)?
            } else {
                Box::pin(self.primary(link, reading, run, &row, deadline)).await?
            };
            Ok(Probe { system_identifier: run.system_identifier, role })
        })
        .await
    }

    fn standby(&self, link: &Link, reading: Reading, run: Run, row: &Row) -> Result<Role, Fault> {
        let fault = |error| self.own_fault("probing", error);
        let lag: Option<f64> = row.try_get(8).map_err(fault)?;
        let lag = lag.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        // A server that replays again may be promoted along another way: nothing known of its timelines remains true.
        lock(&self.switches).clear();
        let mut confirmed = lock(&self.confirmed);
        let place = standing::on_standby(self.name(), reading, link.layout, run, &mut confirmed);
        let (timeline, replay) = match place {
            Ok(place) => (Some(place.timeline), place.tag),
            Err(fault) if fault.kind == FaultKind::Unproven => (None, link.layout.normalize(reading.lsn)),
            Err(fault) => return Err(fault),
        };
        link.remember_standby(timeline);
        Ok(Role::Standby { timeline, replay, lag })
    }

    async fn primary(
        &self,
        link: &Link,
        reading: Reading,
        run: Run,
        row: &Row,
        deadline: Instant,
    ) -> Result<Role, Fault> {
        let fault = |error| self.own_fault("probing", error);
        let timeline =
            reading.timeline.ok_or_else(|| self.fault(FaultKind::Unproven, "the primary did not tell its timeline"))?;
        let insert = link.layout.normalize(standing::lsn(row, 7).map_err(fault)?);
        let flush = link.layout.normalize(reading.lsn);
        let known = lock(&self.switches).get(&timeline).cloned();
        let switches = match known {
            Some(switches) => switches,
            None if timeline <= Timeline(1) => Vec::new(),
            None => {
                let learned = switches::learn(self, link, timeline, deadline).await?;
                if !learned.is_empty() {
                    lock(&self.switches).insert(timeline, learned.clone());
                }
                learned
            }
        };
        Ok(Role::Primary { timeline, insert, flush, switches, started_ms: run.started_ms() })
    }

    /// What became of a transaction. Dropped, the connection is closed.
    pub(super) async fn outcome(&self, xid: u64, begun: Timeline) -> Result<Outcome, Fault> {
        self.aside(&self.errands, async |link, deadline| {
            let number = xid.to_string();
            let params: [(&(dyn ToSql + Sync), Type); 1] = [(&number, Type::TEXT)];
            let row = match self.within(deadline, link.client.query_typed_one(OUTCOME, &params)).await? {
                // "transaction ID is in the future": this server never gave it out.
                Err(error) if error.code().is_some_and(|code| code.code() == "22023") => return Ok(Outcome::Forgotten),
                row => row.map_err(|error| self.own_fault("asking what became of a transaction", error))?,
            };
            let fault = |error| self.own_fault("asking what became of a transaction", error);
            let timeline = standing::timeline(&row, 0).map_err(fault)?;
            if timeline != Some(begun) {
                let text = format!("the transaction began on timeline {begun}, which the primary has left");
                return Err(self.fault(FaultKind::Unproven, text));
            }
            Ok(match row.try_get(1).map_err(fault)? {
                Some("in progress") => Outcome::InProgress,
                // After a crash the id may have been given to another transaction.
                _ if !self.still_means(xid, &link.run) => Outcome::Forgotten,
                Some("committed") => Outcome::Committed,
                Some("aborted") => Outcome::Aborted,
                _ => Outcome::Forgotten,
            })
        })
        .await
    }

    /// Moves the log. Dropped, the connection is closed, and the log may have moved or not.
    pub(super) async fn nudge(&self) -> Result<(), Fault> {
        self.aside(&self.errands, async |link, deadline| {
            let statement = if link.version >= 170_000 { NUDGE_17 } else { NUDGE };
            let sent: Result<Vec<Row>, Error> = self.within(deadline, link.client.query_typed(statement, &[])).await?;
            sent.map(drop).map_err(|error| self.own_fault("moving the log", error))
        })
        .await
    }

    /// Runs an errand on a connection outside the pool, connecting first where there is none. Bounded as a whole, with
    /// the wait for whoever has it; after any fault, and when dropped, the connection is closed.
    async fn aside<T, W>(&self, aside: &Aside, errand: W) -> Result<T, Fault>
    where
        W: AsyncFnOnce(&Link, Instant) -> Result<T, Fault>,
    {
        let deadline = self.bound();
        let busy = |_| self.fault(FaultKind::TimedOut, "no answer in time");
        let mut side = timeout_at(deadline, aside.lock()).await.map_err(busy)?;
        // Taken out while in use: an errand that is given up leaves nothing behind.
        let link = match side.take().filter(|link| link.is_idle() && !link.client.is_closed()) {
            Some(link) => link,
            None => timeout_at(deadline, self.dial.connect()).await.map_err(busy)??,
        };
        link.begin();
        let result = errand(&link, deadline).await?;
        link.end();
        *side = Some(link);
        Ok(result)
    }
}
