//! One server of the cluster: what it has on disk, what it shows, and what it is.

use super::rows::{RowKey, Rows};
use super::state::Event;
use super::wal::{Log, Place, Record};
use crate::rules::{Rule, holds};
use crate::{Lsn, Switch, WalLayout};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) system_identifier: u64,
    /// Raised whenever the server starts or dies: a connection of another boot is broken.
    pub(super) boot: u64,
    /// When it started, in milliseconds since 1970.
    pub(super) started_ms: u64,
    /// Raised when all connections are broken and the server goes on.
    pub(super) sessions: u64,
    pub(super) up: bool,
    pub(super) frozen: bool,
    /// Of a standby: the timeline of the stream that it follows or followed last.
    pub(super) timeline: u32,
    pub(super) switches: Vec<Switch>,
    pub(super) log: Log,
    /// The rows before the first record of the log: what a restart replays the log over.
    pub(super) base: Rows,
    /// The rows that a statement sees.
    pub(super) rows: Rows,
    /// How often records were taken off the end of the log.
    pub(super) cuts: u64,
    pub(super) mode: Mode,
    /// What would have happened, had the server not been frozen.
    pub(super) deferred: Vec<Event>,
    /// How many of the next statements recovery will cancel.
    pub(super) conflicts: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Mode {
    Primary(Primary),
    Standby(Standby),
}

#[derive(Debug, Clone)]
pub(super) struct Primary {
    pub(super) insert: Place,
    pub(super) flush: Lsn,
    /// How far asynchronous commits want the background flush to go.
    pub(super) wanted: Lsn,
    pub(super) next_xid: u64,
    /// The transactions in progress, with the commit record of those that have written it and are not visible yet.
    pub(super) running: BTreeMap<u64, Option<Arc<Record>>>,
    pub(super) locks: BTreeMap<RowKey, u64>,
    /// The transactions that wait for a row, and who came first.
    pub(super) waiting: BTreeMap<u64, Turn>,
    pub(super) turns: u64,
    /// Commits wait for a synchronous standby that does not answer.
    pub(super) stalled: bool,
    pub(super) held: Vec<u64>,
    pub(super) flush_is_due: bool,
}

/// A transaction's place in the line for a row.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) row: RowKey,
    pub(super) number: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Standby {
    pub(super) upstream: usize,
    pub(super) link: Option<Link>,
    /// How far the stream was asked for, and how far it came.
    pub(super) requested: Lsn,
    pub(super) received: Lsn,
    /// The number of the next record to replay, and the position that is told of those replayed.
    pub(super) applied: u64,
    pub(super) replay: Lsn,
    /// The position of a record that can be seen already, and when it will be told.
    pub(super) unreported: Option<(Lsn, Instant)>,
    pub(super) last_commit: Option<Instant>,
    pub(super) paused: bool,
    /// Replay stands still until then: the server has just started.
    pub(super) held_until: Option<Instant>,
    /// Commits are replayed this long after they were made (`recovery_min_apply_delay`).
    pub(super) delay: Duration,
    /// How long a commit can be seen before the replay position says so.
    pub(super) report_gap: Duration,
    /// How long the log is on its way.
    pub(super) transit: Duration,
    /// When it was last told to wake up.
    pub(super) wake: Option<Instant>,
}

/// What a stream was opened against: any change of it ends the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) boot: u64,
    pub(super) timeline: u32,
    pub(super) cuts: u64,
}

impl Primary {
    pub(super) fn starting_at(end: Lsn, next_xid: u64) -> Self {
        Self {
            insert: Place::at(end),
            flush: end,
            wanted: end,
            next_xid,
            running: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            turns: 0,
            stalled: false,
            held: Vec::new(),
            flush_is_due: false,
        }
    }

    /// The token that a client gets after its commit.
    pub(super) fn token(&self) -> Lsn {
        let end = self.insert.start();
        if holds(Rule::PositionsAreNormal) { WalLayout::DEFAULT.normalize(end) } else { end }
    }

    fn tag(&self) -> Lsn {
        let end = if holds(Rule::TagIsFlushed) { self.flush } else { self.insert.end() };
        let end = WalLayout::DEFAULT.normalize(end);
        if holds(Rule::TagIsStrict) { end.just_below() } else { end }
    }
}

impl Server {
    /// The tag of what is read from now on.
    pub(super) fn tag(&self) -> Lsn {
        match &self.mode {
            Mode::Primary(primary) => primary.tag(),
            Mode::Standby(standby) => WalLayout::DEFAULT.normalize(standby.replay),
        }
    }

    pub(super) fn primary(&self) -> Option<&Primary> {
        match &self.mode {
            Mode::Primary(primary) => Some(primary),
            Mode::Standby(_) => None,
        }
    }

    pub(super) fn primary_mut(&mut self) -> Option<&mut Primary> {
        match &mut self.mode {
            Mode::Primary(primary) => Some(primary),
            Mode::Standby(_) => None,
        }
    }

    pub(super) fn standby(&self) -> Option<&Standby> {
        match &self.mode {
            Mode::Primary(_) => None,
            Mode::Standby(standby) => Some(standby),
        }
    }

    pub(super) fn standby_mut(&mut self) -> Option<&mut Standby> {
        match &mut self.mode {
            Mode::Primary(_) => None,
            Mode::Standby(standby) => Some(standby),
        }
    }

    /// How far the log can be streamed from here: never beyond what would survive a crash.
    pub(super) fn streamable(&self) -> Lsn {
        match &self.mode {
            Mode::Primary(primary) => primary.flush,
            Mode::Standby(standby) => standby.received,
        }
    }

    /// The rows as replaying the log up to record `number` makes them.
    pub(super) fn replayed(&self, number: u64) -> Rows {
        let mut rows = self.base.clone();
        let count = usize::try_from(number.saturating_sub(self.log.first())).unwrap_or(usize::MAX);
        self.log.from(self.log.first()).take(count).for_each(|record| rows.apply(record));
        rows
    }

    /// Keeps the log short: what every restart will have replayed goes into the base.
    pub(super) fn fold(&mut self) {
        let limit = match &self.mode {
            Mode::Primary(primary) => primary.flush,
            Mode::Standby(standby) => standby.replay,
        };
        while let Some(record) = self.log.fold_one(limit) {
            self.base.apply(&record);
        }
    }

    /// The server dies: what was not on disk is gone.
    pub(super) fn die(&mut self) {
        (self.up, self.frozen) = (false, false);
        self.boot += 1;
        self.deferred.clear();
        match &mut self.mode {
            Mode::Primary(primary) => {
                let flush = primary.flush;
                self.log.truncate_at(flush);
                self.cuts += 1;
                self.mode = Mode::Primary(Primary::starting_at(flush, 0));
            }
            Mode::Standby(standby) => {
                (standby.link, standby.unreported, standby.wake) = (None, None, None);
                standby.paused = false;
            }
        }
    }
}
