//! What a primary does with its log: insert, flush, and only then show.

use super::rows::{Change, RowKey};
use super::server::{Primary, Turn};
use super::state::{State, What};
use super::wal::{ABORT_BYTES, Body, COMMIT_BYTES, Record, page_start};
use std::sync::Arc;

impl State {
    /// Gives a transaction its id.
    pub(super) fn assign_xid(&mut self, server: usize) -> Option<u64> {
        let primary = self.server_mut(server).primary_mut()?;
        let xid = primary.next_xid;
        primary.next_xid += 1;
        primary.running.insert(xid, None);
        Some(xid)
    }

    /// Inserts a record. It is not flushed.
    pub(super) fn insert(&mut self, server: usize, xid: u64, body: Body, bytes: u64) -> Option<Arc<Record>> {
        let now = self.now;
        let delay = self.pace.wal_writer;
        let it = self.server_mut(server);
        let timeline = it.timeline;
        let primary = it.primary_mut()?;
        primary.insert = primary.insert.plus(bytes);
        let record = Arc::new(Record { end: primary.insert.end(), timeline, xid, body });
        let wake = !std::mem::replace(&mut primary.flush_is_due, true);
        it.log.push(record.clone());
        if wake {
            self.schedule(now + delay, server, What::WalWriter);
        }
        Some(record)
    }

    /// Flushes everything that was inserted.
    pub(super) fn flush_all(&mut self, server: usize) {
        if let Some(primary) = self.server_mut(server).primary_mut() {
            primary.flush = primary.flush.max(primary.insert.end());
        }
        self.server_mut(server).fold();
    }

    /// A COMMIT: the record goes into the log, to disk, and at last the transaction leaves the list of those in
    /// progress. A standby may be faster than the last step.
    pub(super) fn commit(&mut self, server: usize, xid: u64, changes: Vec<Change>, durable: bool) {
        let (now, pace) = (self.now, self.pace);
        if !self.runs(server, xid) {
            return;
        }
        let body = Body::Commit { changes, at: now };
        let Some(record) = self.insert(server, xid, body, COMMIT_BYTES) else { return };
        let Some(primary) = self.server_mut(server).primary_mut() else { return };
        primary.running.insert(xid, Some(record.clone()));
        if durable {
            return self.schedule(now + pace.flush, server, What::Flushed { xid });
        }
        primary.wanted = primary.wanted.max(record.end);
        self.schedule(now + pace.visible, server, What::Show { xid });
    }

    pub(super) fn flushed(&mut self, server: usize, xid: u64) {
        let (now, pace) = (self.now, self.pace);
        let Some(primary) = self.server_mut(server).primary_mut() else { return };
        let Some(Some(record)) = primary.running.get(&xid) else { return };
        primary.flush = primary.flush.max(record.end);
        if primary.stalled {
            primary.held.push(xid);
        } else {
            self.schedule(now + pace.visible, server, What::Show { xid });
        }
        self.server_mut(server).fold();
    }

    pub(super) fn show(&mut self, server: usize, xid: u64) {
        let it = self.server_mut(server);
        let Some(primary) = it.primary_mut() else { return };
        let Some(Some(record)) = primary.end(xid) else { return };
        it.rows.apply(&record);
    }

    /// Ends a transaction without its changes; one whose commit record is written cannot be stopped.
    pub(super) fn roll_back(&mut self, server: usize, xid: u64) {
        if !self.runs(server, xid) {
            return;
        }
        let Some(record) = self.insert(server, xid, Body::Abort, ABORT_BYTES) else { return };
        let it = self.server_mut(server);
        if let Some(primary) = it.primary_mut() {
            primary.end(xid);
        }
        it.rows.apply(&record);
    }

    /// The background flush writes whole pages, and further only for asynchronous commits: what an open transaction
    /// has written to the last page may stay unflushed for long.
    pub(super) fn background_flush(&mut self, server: usize) {
        let Some(primary) = self.server_mut(server).primary_mut() else { return };
        primary.flush = primary.flush.max(page_start(primary.insert.end())).max(primary.wanted);
        primary.flush_is_due = false;
        self.server_mut(server).fold();
    }

    /// Lets commits wait for a synchronous standby, or lets those go on that waited.
    pub(super) fn stall(&mut self, server: usize, stalled: bool) {
        let (now, pace) = (self.now, self.pace);
        let Some(primary) = self.server_mut(server).primary_mut() else { return };
        primary.stalled = stalled;
        if stalled {
            return;
        }
        for xid in std::mem::take(&mut primary.held) {
            self.schedule(now + pace.visible, server, What::Show { xid });
        }
    }

    /// Leaves just the room of a commit record in the page.
    pub(super) fn fill_page(&mut self, server: usize) {
        let Some(primary) = self.server(server).primary() else { return };
        let bytes = primary.insert.bytes_to_leave(COMMIT_BYTES);
        self.insert(server, 0, Body::Other, bytes);
    }

    /// Goes to the beginning of the next segment, and flushes.
    pub(super) fn switch_segment(&mut self, server: usize) {
        let Some(primary) = self.server(server).primary() else { return };
        let bytes = primary.insert.bytes_to_next_segment();
        if bytes > 0 {
            self.insert(server, 0, Body::Other, bytes);
        }
        self.flush_all(server);
    }

    /// Whether a transaction is in progress and has not begun to commit.
    fn runs(&self, server: usize, xid: u64) -> bool {
        self.server(server).primary().is_some_and(|primary| matches!(primary.running.get(&xid), Some(None)))
    }
}

impl Primary {
    /// Takes a transaction off the list of those in progress, with its locks.
    fn end(&mut self, xid: u64) -> Option<Option<Arc<Record>>> {
        self.locks.retain(|_, &mut holder| holder != xid);
        self.waiting.remove(&xid);
        self.running.remove(&xid)
    }

    /// Locks a row for a transaction, or lets it stand in line.
    pub(super) fn lock(&mut self, row: &RowKey, xid: u64) -> bool {
        let holder = self.locks.get(row).copied();
        let mine = self.waiting.get(&xid).filter(|turn| turn.row == *row).map(|turn| turn.number);
        let before_me = |turn: &Turn| turn.row == *row && mine.is_none_or(|mine| turn.number < mine);
        let free = holder.is_none() && !self.waiting.values().any(before_me);
        if holder == Some(xid) || free {
            self.waiting.remove(&xid);
            self.locks.insert(row.clone(), xid);
            return true;
        }
        if mine.is_none() {
            self.turns += 1;
            self.waiting.insert(xid, Turn { row: row.clone(), number: self.turns });
        }
        false
    }

    /// Whether a transaction waits for itself, over the locks of others.
    pub(super) fn is_deadlocked(&self, xid: u64) -> bool {
        let next = |xid: &u64| self.waiting.get(xid).and_then(|turn| self.locks.get(&turn.row)).copied();
        let mut at = next(&xid);
        for _ in 0..self.waiting.len() {
            match at {
                Some(holder) if holder == xid => return true,
                Some(holder) => at = next(&holder),
                None => return false,
            }
        }
        false
    }
}
