//! One load's hold of a connection, from the first statement to the stamp.

use super::super::{Fault, FaultKind, Lease};
use super::link::Own;
use super::routed::Routed;
use super::sqlstate;
use super::standing::{self, Place};
use crate::{Lsn, Stamp};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Error, Row};

/// One load's hold of a connection to a PostgreSQL server.
#[derive(Debug)]
pub struct PostgresLease {
    routed: Routed,
}

/// How long to wait before looking again whether transactions have ended; it doubles up to the longest.
const QUIESCE_PAUSE: Duration = Duration::from_millis(1);
const QUIESCE_PAUSE_MAX: Duration = Duration::from_millis(16);

impl PostgresLease {
    pub(super) fn new(routed: Routed) -> Self {
        Self { routed }
    }

    /// Makes sure that the server is the primary before anything is asked of it.
    pub(super) async fn confirm_primary(&self) -> Result<(), Fault> {
        let routed = &self.routed;
        if !routed.held.is_standby() || routed.held.is_pooled() {
            // A primary's connection ends when it stops being one; behind a pooler each statement tells.
            return Ok(());
        }
        self.read_place().await.map(drop)
    }

    /// Waits until every transaction has ended that was in progress when this was called.
    ///
    /// A standby may already show their commits. The upper end of a snapshot does not bound them: it is one past the
    /// last transaction *completed*, and one with that number or a higher one can be in the log, shown by a standby
    /// and not yet visible here (seen: snapshot 727:727 while 727 waits for its synchronous standby). So a number is
    /// drawn. Everything in progress has a lower one, and once the own one has ended, it is below the upper end, so
    /// that the lower end of later snapshots tells about all of them.
    pub(super) async fn quiesce(&self) -> Result<(), Fault> {
        let drawn = self.number("select pg_current_xact_id()::text").await?;
        let mut pause = QUIESCE_PAUSE;
        while self.number("select pg_snapshot_xmin(pg_current_snapshot())::text").await? <= drawn {
            if Instant::now() + pause >= self.routed.ask.deadline {
                let text = "transactions in progress did not end before the deadline";
                return Err(self.routed.note(self.routed.node.fault(FaultKind::TimedOut, text)));
            }
            sleep(pause).await;
            pause = (pause * 2).min(QUIESCE_PAUSE_MAX);
        }
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<u64, Fault> {
        let row = self.ask("waiting for transactions to end", sql).await?;
        let text: Option<&str> = row.as_ref().and_then(|row| row.try_get(0).ok());
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| self.routed.node.fault(FaultKind::Unproven, "a transaction number was not a number"))
    }

    /// One unprepared statement of ours, bounded: the first row of its answer.
    async fn ask(&self, doing: &str, sql: &str) -> Result<Option<Row>, Fault> {
        let routed = &self.routed;
        let held = &routed.held;
        held.begin();
        let limit = routed.node.limit(routed.ask.deadline);
        let rows: Result<Vec<Row>, Error> = routed.node.within(limit, held.client.query_typed(sql, &[])).await?;
        if sqlstate::is_clean(&rows) {
            held.end();
        }
        rows.map(|rows| rows.into_iter().next()).map_err(|error| routed.note(routed.node.own_fault(doing, error)))
    }

    async fn read_place(&self) -> Result<Place, Fault> {
        let routed = &self.routed;
        let limit = routed.node.limit(routed.ask.deadline);
        routed.keep(routed.node.read_place(&routed.held, limit).await)
    }

    async fn read_upper(&self, place: Place) -> Result<Lsn, Fault> {
        let routed = &self.routed;
        routed.held.begin();
        let limit = routed.node.limit(routed.ask.deadline);
        let row = routed.node.within(limit, routed.held.own(Own::Upper)).await?;
        if sqlstate::is_clean(&row) {
            routed.held.end();
        }
        let row = row.map_err(|error| routed.node.own_fault("reading the upper bound", error))?;
        standing::upper(routed.node.name(), &row, place, routed.held.layout)
    }
}

impl Lease for PostgresLease {
    type Conn = Routed;

    fn conn(&self) -> &Routed {
        &self.routed
    }

    /// As the trait says. A load that sent no statement depends on no commit; its position is read here, only because
    /// a stamp needs one.
    async fn finish(self) -> Result<Stamp, Fault> {
        let routed = &self.routed;
        if let Some(fault) = routed.noted() {
            return Err(fault);
        }
        let place = match routed.place() {
            Some(place) => place,
            None => Box::pin(self.read_place()).await?,
        };
        let upper = match routed.upper() {
            // Behind a pooler each statement brought its own.
            Some(upper) => Some(upper),
            None if routed.ask.upper => Some(Box::pin(self.read_upper(place)).await?),
            None => None,
        };
        Ok(Stamp { timeline: place.timeline, tag: place.tag, origin: place.origin, upper })
    }
}
