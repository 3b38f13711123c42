//! What a standby does: stream, replay, and only then say how far.

use super::server::{Link, Mode, Server, Standby};
use super::state::{State, What};
use super::wal::{Body, Record};
use crate::Lsn;
use std::sync::Arc;
use tokio::time::Instant;

impl State {
    /// Opens, keeps or ends the stream of a standby, and asks for what is new. Tells whether anything changed.
    pub(super) fn stream(&mut self, server: usize) -> bool {
        let Some(standby) = self.server(server).standby() else { return false };
        let (upstream, before) = (self.server(standby.upstream), standby.link);
        let link = Link { boot: upstream.boot, timeline: upstream.timeline, cuts: upstream.cuts };
        if !self.server(server).up || self.server(server).frozen {
            return false;
        }
        let open = upstream.up && (before == Some(link) || continues(upstream, self.server(server), standby.applied));
        let upto = upstream.streamable();
        if !open {
            if let Some(standby) = self.server_mut(server).standby_mut() {
                standby.link = None;
            }
            return before.is_some();
        }
        if before != Some(link) {
            self.connect(server, link);
        }
        let now = self.now;
        let Some(standby) = self.server_mut(server).standby_mut() else { return false };
        if upto <= standby.requested {
            return before != Some(link);
        }
        standby.requested = upto;
        if standby.transit.is_zero() {
            self.receive(server, upto, link);
        } else {
            let at = now + standby.transit;
            self.schedule(at, server, What::Received { upto, link });
        }
        true
    }

    /// Takes the timeline of the stream, and throws away what was received and is not in it.
    fn connect(&mut self, server: usize, link: Link) {
        let Some(upstream) = self.server(server).standby().map(|standby| standby.upstream) else { return };
        let source = self.server(upstream);
        let (switches, log) = (source.switches.clone(), &source.log);
        let mine = self.server(server);
        let applied = mine.standby().map_or(0, |standby| standby.applied);
        let mut common = mine.log.next();
        while common > applied && !mine.log.agrees(log, common) {
            common -= 1;
        }
        let it = self.server_mut(server);
        if common < it.log.next() {
            it.log.truncate(common);
            it.cuts += 1;
        }
        (it.timeline, it.switches) = (link.timeline, switches);
        let received = it.log.end_before(common).unwrap_or_default();
        if let Some(standby) = it.standby_mut() {
            (standby.link, standby.received, standby.requested) = (Some(link), received, received);
        }
    }

    /// The stream brings the log up to `upto`, which may lie inside a record.
    pub(super) fn receive(&mut self, server: usize, upto: Lsn, link: Link) {
        let Some(standby) = self.server(server).standby() else { return };
        let upstream = self.server(standby.upstream);
        let same = Link { boot: upstream.boot, timeline: upstream.timeline, cuts: upstream.cuts };
        if standby.link != Some(link) || same != link {
            return;
        }
        let next = self.server(server).log.next();
        let records: Vec<Arc<Record>> =
            upstream.log.from(next).take_while(|record| record.end <= upto).cloned().collect();
        let it = self.server_mut(server);
        records.into_iter().for_each(|record| it.log.push(record));
        if let Some(standby) = it.standby_mut() {
            standby.received = standby.received.max(upto);
        }
    }

    /// Replays what may be replayed by now. Tells whether anything changed.
    pub(super) fn replay(&mut self, server: usize) -> bool {
        let mut moved = false;
        let now = self.now;
        while self.server(server).up && !self.server(server).frozen {
            match self.server_mut(server).replay_one(now) {
                Replay::Moved => moved = true,
                Replay::Idle => break,
                Replay::Until(at) => {
                    // Waking more often than needed does no harm, and the agenda is short.
                    if self.server(server).standby().is_some_and(|standby| standby.wake != Some(at)) {
                        self.schedule(at, server, What::Wake);
                    }
                    if let Some(standby) = self.server_mut(server).standby_mut() {
                        standby.wake = Some(at);
                    }
                    break;
                }
            }
        }
        if moved {
            self.server_mut(server).fold();
        }
        moved
    }
}

enum Replay {
    Moved,
    Idle,
    Until(Instant),
}

impl Server {
    fn replay_one(&mut self, now: Instant) -> Replay {
        let Mode::Standby(standby) = &mut self.mode else { return Replay::Idle };
        if let Some((lsn, due)) = standby.unreported {
            if due > now {
                return Replay::Until(due);
            }
            (standby.replay, standby.unreported) = (lsn, None);
            return Replay::Moved;
        }
        if let Some(until) = standby.held_until.filter(|&until| until > now) {
            return Replay::Until(until);
        }
        let Some(record) = self.log.get(standby.applied).filter(|_| !standby.paused) else { return Replay::Idle };
        if let Body::Commit { at, .. } = &record.body {
            // As on the real server only commits wait, by the time that they were made.
            if *at + standby.delay > now {
                return Replay::Until(*at + standby.delay);
            }
            standby.last_commit = Some(*at);
        }
        self.rows.apply(record);
        standby.applied += 1;
        match &record.body {
            Body::Commit { .. } if !standby.report_gap.is_zero() => {
                standby.unreported = Some((record.end, now + standby.report_gap));
            }
            _ => standby.replay = record.end,
        }
        Replay::Moved
    }
}

impl Standby {
    /// `max(replay, receive)` of a standby that streams: at or above everything that it shows.
    pub(super) fn upper(&self) -> Option<Lsn> {
        self.link.map(|_| self.received.max(self.replay))
    }
}

/// Whether a standby that replayed up to record `applied` can stream from `upstream`: that one has all these records, and
/// still has the next.
fn continues(upstream: &Server, standby: &Server, applied: u64) -> bool {
    let known = upstream.log.first() <= applied && applied <= upstream.log.next();
    known && upstream.system_identifier == standby.system_identifier && standby.log.agrees(&upstream.log, applied)
}
