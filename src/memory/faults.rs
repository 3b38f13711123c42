//! What can be done to a cluster.

use super::cluster::Cluster;
use super::life::Backup;
use super::server::Standby;
use super::state::What;
use super::wal::Body;
use crate::source::{NodeId, Probe};
use crate::{Position, Timeline};
use std::sync::Arc;
use std::time::Duration;

/// How many records a standby goes back over a restart, where nothing else is said.
const RESTART_BACK: u64 = 8;

/// Life and death.
impl Cluster {
    /// Kills a server and all connections to it (`SIGKILL`). A primary loses what it had not flushed, committed or not.
    pub fn kill(&self, server: usize) {
        self.change(|state| state.kill(server));
    }

    /// Starts a server that was killed, in the role that it had. A standby begins a few records before where it was, and
    /// goes on at once; see [`start_back`](Self::start_back).
    pub fn start(&self, server: usize) {
        self.start_back(server, RESTART_BACK, Duration::ZERO);
    }

    /// Starts a server that was killed; a standby begins this many records before where it was, and stays there for
    /// `hold` before it replays on.
    pub fn start_back(&self, server: usize, records: u64, hold: Duration) {
        self.change(|state| state.start(server, records, hold));
    }

    /// Kills a server and starts it again: of a primary, the positions beyond the flushed one are used a second time.
    pub fn crash(&self, server: usize) {
        self.kill(server);
        self.start(server);
    }

    /// Stops a server in its tracks (`SIGSTOP`), or lets it go on. Connections stay open, requests pile up, and a COMMIT
    /// that arrived meanwhile is carried out later, even if the client has given up.
    pub fn freeze(&self, server: usize, frozen: bool) {
        self.change(|state| match frozen {
            true => state.server_mut(server).frozen = state.server(server).up,
            false => state.thaw(server),
        });
    }

    /// Promotes a standby: it replays what it has received, and begins a new timeline there. What it had not received is
    /// not part of that timeline. False where the server is not a running standby.
    pub fn promote(&self, server: usize) -> bool {
        self.change(|state| state.promote(server))
    }

    /// Points a standby to another server to stream from. It streams only if it has replayed nothing that the other does
    /// not have; otherwise it stays where it is, and keeps serving that.
    pub fn follow(&self, server: usize, upstream: usize) {
        self.standby(server, |standby| (standby.upstream, standby.link) = (upstream, None));
    }

    /// Builds a server anew as a standby of another, from a base backup.
    pub fn rebuild(&self, server: usize, upstream: usize) {
        self.change(|state| state.rebuild(server, upstream));
    }

    /// A copy of what a server has on disk.
    #[must_use]
    pub fn backup(&self, server: usize) -> Backup {
        self.look(|state| state.backup(server))
    }

    /// Sets a server back to an older copy of itself, on the same timeline and with the same identity, and starts it.
    pub fn restore(&self, server: usize, backup: &Backup) {
        self.change(|state| state.restore(server, backup));
    }
}

/// Replication.
impl Cluster {
    /// Lets a standby replay commits this long after they were made, by the time of the commit
    /// (`recovery_min_apply_delay`).
    pub fn set_lag(&self, server: usize, delay: Duration) {
        self.standby(server, |standby| standby.delay = delay);
    }

    /// Lets the log take this long from its upstream to a standby.
    pub fn set_transit(&self, server: usize, transit: Duration) {
        self.standby(server, |standby| standby.transit = transit);
    }

    /// Lets a standby show a commit this long before its replay position says so.
    pub fn set_report_gap(&self, server: usize, gap: Duration) {
        self.standby(server, |standby| standby.report_gap = gap);
    }

    /// Pauses a standby's replay, or resumes it. It goes on receiving, and a restart resumes.
    pub fn pause(&self, server: usize, paused: bool) {
        self.standby(server, |standby| standby.paused = paused);
    }

    /// Lets recovery cancel the next statement on a standby.
    pub fn conflict(&self, server: usize) {
        self.change(|state| state.server_mut(server).conflicts += 1);
    }

    /// Whom a running standby streams from, and which timeline.
    #[must_use]
    pub fn upstream(&self, server: usize) -> Option<(usize, Timeline)> {
        self.look(|state| {
            let server = state.server(server);
            let standby = server.standby().filter(|standby| server.up && !server.frozen && standby.link.is_some())?;
            Some((standby.upstream, Timeline(server.timeline)))
        })
    }

    fn standby(&self, server: usize, change: impl FnOnce(&mut Standby)) {
        self.change(|state| state.server_mut(server).standby_mut().map(change));
    }
}

/// The primary.
impl Cluster {
    /// How long a COMMIT takes to reach the disk, and how long from there until it can be seen on the primary. A standby
    /// may have it in between.
    pub fn set_commit_pace(&self, flush: Duration, visible: Duration) {
        self.change(|state| (state.pace.flush, state.pace.visible) = (flush, visible));
    }

    /// How long after an insertion the background flush runs (`wal_writer_delay`).
    pub fn set_wal_writer_delay(&self, delay: Duration) {
        self.change(|state| state.pace.wal_writer = delay);
    }

    /// Lets all commits of a primary wait for a synchronous standby that does not answer, or lets them go on: they are
    /// in the log, flushed and replayed by standbys, and cannot be seen on the primary.
    pub fn stall(&self, server: usize, stalled: bool) {
        self.change(|state| state.stall(server, stalled));
    }

    /// Writes log as somebody else's transaction that has not ended: it stays unflushed until something flushes it.
    pub fn write_unflushed(&self, server: usize, bytes: u64) {
        self.change(|state| state.insert(server, 0, Body::Other, bytes));
    }

    /// Flushes all log of a primary.
    pub fn flush(&self, server: usize) {
        self.change(|state| state.flush_all(server));
    }

    /// Writes log up to just before a page end, so that a COMMIT that comes next ends exactly there: the insert position
    /// is then behind the next page's header, and the replay position before it.
    pub fn fill_page(&self, server: usize) {
        self.change(|state| state.fill_page(server));
    }

    /// Begins a new segment of the log (`pg_switch_wal`).
    pub fn switch_segment(&self, server: usize) {
        self.change(|state| state.switch_segment(server));
    }

    /// Forgets where the timelines before this one ended, as a primary does for roles without privileges once it was
    /// restarted after its promotion.
    pub fn forget_switches(&self, server: usize) {
        self.change(|state| state.server_mut(server).switches.clear());
    }

    /// Where a primary is, and `None` of a standby: the token that a client would get now.
    #[must_use]
    pub fn token(&self, server: usize) -> Option<Position> {
        self.look(|state| {
            let server = state.server(server);
            server.primary().map(|primary| Position { timeline: Timeline(server.timeline), lsn: primary.token() })
        })
    }
}

/// The way to the servers.
impl Cluster {
    /// Lets another server answer under a node's name from now on, such as DNS or a pooler does. Open connections stay
    /// where they are, unless the node is [`pooled`](Self::set_pooled).
    pub fn reroute(&self, node: NodeId, server: usize) {
        self.change(|state| state.route(node).server = server);
    }

    /// Puts a pooler before a node: each transaction goes to whichever server the node is routed to when it begins, and
    /// the token of a commit is read from whichever it is then.
    pub fn set_pooled(&self, node: NodeId, pooled: bool) {
        self.change(|state| state.route(node).pooled = pooled);
    }

    /// Breaks all connections to a server, which goes on: transactions that have not begun to commit roll back.
    pub fn disconnect(&self, server: usize) {
        self.change(|state| {
            let now = state.now;
            let running = state.server(server).primary().map(|primary| primary.running.keys().copied().collect());
            let running: Vec<u64> = running.unwrap_or_default();
            running.into_iter().for_each(|xid| state.schedule(now, server, What::RollBack { xid }));
            state.server_mut(server).sessions += 1;
        });
    }

    /// Lets the monitor be told something else than what the node's server says.
    pub fn lie(&self, node: NodeId, lie: impl Fn(Probe) -> Probe + Send + Sync + 'static) {
        self.lies().insert(node, Arc::new(lie));
    }

    /// Lets the monitor be told the truth again.
    pub fn tell_the_truth(&self, node: NodeId) {
        self.lies().remove(&node);
    }

    /// Lets a server claim to belong to another cluster.
    pub fn set_system_identifier(&self, server: usize, system_identifier: u64) {
        self.change(|state| state.server_mut(server).system_identifier = system_identifier);
    }
}
