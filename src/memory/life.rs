//! Death and birth of servers: crashes, restarts, promotions, copies.

use super::server::{Mode, Primary, Server, Standby};
use super::state::{BEGAN_MS, State};
use super::wal::{Body, CHECKPOINT_BYTES, END_OF_RECOVERY_BYTES, Log, Place};
use crate::{Lsn, Switch, Timeline};
use std::time::Duration;

/// What a server had on disk at one moment: a file-system copy, to be put back later.
#[derive(Debug, Clone)]
pub struct Backup {
    pub(super) server: Server,
}

impl State {
    /// A new cluster: server 0 is the primary, all others stream from it.
    pub(super) fn initial(standbys: usize) -> Vec<Server> {
        let end = Place::first().end();
        let primary = Server {
            system_identifier: 7_300_000_000_000_000_001,
            boot: 1,
            started_ms: BEGAN_MS,
            sessions: 1,
            up: true,
            frozen: false,
            timeline: 1,
            switches: Vec::new(),
            log: Log::default(),
            base: super::rows::Rows::default(),
            rows: super::rows::Rows::default(),
            cuts: 0,
            mode: Mode::Primary(Primary::starting_at(end, super::rows::Rows::default().next_xid())),
            deferred: Vec::new(),
            conflicts: 0,
        };
        let standby = Server { mode: Mode::Standby(Standby::default()), ..primary.clone() };
        std::iter::once(primary).chain(std::iter::repeat_n(standby, standbys)).collect()
    }

    pub(super) fn kill(&mut self, server: usize) {
        if self.server(server).up {
            self.server_mut(server).die();
        }
    }

    /// Starts a server. A primary recovers to the end of what it had flushed; a standby begins again `back` records
    /// before where it was and stays there for `hold`.
    pub(super) fn start(&mut self, server: usize, back: u64, hold: Duration) {
        let (now, started_ms) = (self.now, self.clock_ms());
        let it = self.server_mut(server);
        if it.up {
            return;
        }
        // Starting takes time.
        (it.up, it.started_ms) = (true, started_ms.max(it.started_ms + 1));
        it.boot += 1;
        match &it.mode {
            Mode::Primary(primary) => {
                let flush = primary.flush;
                it.rows = it.replayed(it.log.next());
                it.mode = Mode::Primary(Primary::starting_at(flush, it.rows.next_xid()));
                self.insert(server, 0, Body::Other, CHECKPOINT_BYTES);
                self.flush_all(server);
            }
            Mode::Standby(standby) => {
                // The first record makes the database: nobody connects before it was replayed.
                let oldest = it.log.first().max(1);
                let applied = standby.applied.saturating_sub(back).max(oldest).min(standby.applied);
                it.rows = it.replayed(applied);
                let replay = it.log.end_before(applied).unwrap_or_default();
                if let Some(standby) = it.standby_mut() {
                    (standby.applied, standby.replay) = (applied, replay);
                    standby.held_until = Some(now + hold);
                }
            }
        }
    }

    /// Ends recovery: everything received is replayed, and a new timeline begins there. False where the server is not
    /// a running standby.
    pub(super) fn promote(&mut self, server: usize) -> bool {
        let it = self.server_mut(server);
        let Some(standby) = it.standby().filter(|_| it.up && !it.frozen) else { return false };
        for number in standby.applied..it.log.next() {
            let Some(record) = it.log.get(number).cloned() else { break };
            it.rows.apply(&record);
        }
        let last = it.log.get(it.log.next().saturating_sub(1));
        let (at, parent) = last.map_or((Lsn::ZERO, it.timeline), |record| (record.end, record.timeline));
        it.switches.retain(|switch| switch.from.0 < parent);
        it.switches.push(Switch { from: Timeline(parent), at });
        it.timeline = it.timeline.max(parent) + 1;
        it.mode = Mode::Primary(Primary::starting_at(at, it.rows.next_xid()));
        self.insert(server, 0, Body::Other, END_OF_RECOVERY_BYTES);
        self.flush_all(server);
        true
    }

    /// Puts a copy of `upstream`'s disk on a server and starts it as its standby.
    pub(super) fn rebuild(&mut self, server: usize, upstream: usize) {
        self.kill(server);
        let source = self.server(upstream).clone();
        let old = self.server(server).standby().cloned().unwrap_or_default();
        let (boot, cuts) = (self.server(server).boot, self.server(server).cuts);
        let streamable = source.streamable();
        let mut copy = Server { boot, up: false, frozen: false, cuts: cuts + 1, deferred: Vec::new(), ..source };
        copy.log.truncate_at(streamable);
        let applied = copy.log.next();
        copy.mode = Mode::Standby(Standby {
            upstream,
            applied,
            delay: old.delay,
            report_gap: old.report_gap,
            transit: old.transit,
            ..Standby::default()
        });
        *self.server_mut(server) = copy;
        self.start(server, 0, Duration::ZERO);
    }

    pub(super) fn backup(&self, server: usize) -> Backup {
        let mut copy = self.server(server).clone();
        if copy.up {
            copy.die();
        }
        Backup { server: copy }
    }

    /// Sets a server back to an older copy of itself, on the same timeline and under the same identity, and starts it.
    pub(super) fn restore(&mut self, server: usize, backup: &Backup) {
        self.kill(server);
        let it = self.server_mut(server);
        let (boot, cuts, started_ms) = (it.boot, it.cuts, it.started_ms);
        *it = Server { boot: boot + 1, cuts: cuts + 1, started_ms, ..backup.server.clone() };
        self.start(server, 0, Duration::ZERO);
    }
}
