//! Everything that the cluster is, under one lock, and the agenda of what happens next.

use super::rows::Change;
use super::server::{Link, Server};
use super::world::Timed;
use crate::Lsn;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// When a cluster begins to exist, by the clocks of its servers.
pub(super) const BEGAN_MS: u64 = 1_700_000_000_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Instant,
    began: Instant,
    pub(super) servers: Vec<Server>,
    /// Which server answers under each node's name.
    pub(super) routes: Vec<Route>,
    pub(super) pace: Pace,
    agenda: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) server: usize,
    /// A pooler stands before it: every transaction goes to whichever server the route names then.
    pub(super) pooled: bool,
}

/// How long the steps of a commit take on a primary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) flush: Duration,
    pub(super) visible: Duration,
    pub(super) wal_writer: Duration,
}

/// Something that happens on a server at a moment.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) server: usize,
    /// It happens only if the server is still up since then.
    pub(super) boot: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A COMMIT arrives; `durable` says whether it waits for the flush.
    Commit { xid: u64, changes: Vec<Change>, durable: bool },
    /// The client is gone, or asked for it.
    RollBack { xid: u64 },
    /// The log is flushed up to the commit record of `xid`.
    Flushed { xid: u64 },
    /// The commit of `xid` becomes visible.
    Show { xid: u64 },
    /// The background flush.
    WalWriter,
    /// The stream brings everything up to here.
    Received { upto: Lsn, link: Link },
    /// A standby has something to do.
    Wake,
}

impl Timed for State {
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let end = self.now;
        self.pump();
        while let Some(entry) = self.agenda.first_entry() {
            let at = entry.key().0;
            if at > end {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.happen(event);
            self.pump();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|&(at, _)| at)
    }
}

impl State {
    pub(super) fn new(servers: Vec<Server>, now: Instant) -> Self {
        let routes = (0..servers.len()).map(|server| Route { server, pooled: false }).collect();
        let pace = Pace { flush: Duration::ZERO, visible: Duration::ZERO, wal_writer: Duration::from_millis(200) };
        Self { now, began: now, servers, routes, pace, agenda: BTreeMap::new(), scheduled: 0 }
    }

    /// What the servers' clocks show, in milliseconds since 1970.
    pub(super) fn clock_ms(&self) -> u64 {
        BEGAN_MS + u64::try_from((self.now - self.began).as_millis()).unwrap_or_default()
    }

    #[expect(clippy::indexing_slicing, reason = "a server that does not exist is a bug of the test that names it")]
    pub(super) fn server(&self, server: usize) -> &Server {
        &self.servers[server]
    }

    #[expect(clippy::indexing_slicing, reason = "a server that does not exist is a bug of the test that names it")]
    pub(super) fn server_mut(&mut self, server: usize) -> &mut Server {
        &mut self.servers[server]
    }

    #[expect(clippy::indexing_slicing, reason = "a node that does not exist is a bug of the test that names it")]
    pub(super) fn route(&mut self, node: usize) -> &mut Route {
        &mut self.routes[node]
    }

    pub(super) fn schedule(&mut self, at: Instant, server: usize, what: What) {
        let boot = self.server(server).boot;
        self.scheduled += 1;
        self.agenda.insert((at, self.scheduled), Event { server, boot, what });
    }

    /// Lets go on what a frozen server did not do.
    pub(super) fn thaw(&mut self, server: usize) {
        self.server_mut(server).frozen = false;
        let now = self.now;
        for event in std::mem::take(&mut self.server_mut(server).deferred) {
            self.scheduled += 1;
            self.agenda.insert((now, self.scheduled), event);
        }
    }

    fn happen(&mut self, event: Event) {
        let server = self.server_mut(event.server);
        if server.boot != event.boot || !server.up {
            return;
        }
        if server.frozen {
            return server.deferred.push(event);
        }
        let server = event.server;
        match event.what {
            What::Commit { xid, changes, durable } => self.commit(server, xid, changes, durable),
            What::RollBack { xid } => self.roll_back(server, xid),
            What::Flushed { xid } => self.flushed(server, xid),
            What::Show { xid } => self.show(server, xid),
            What::WalWriter => self.background_flush(server),
            What::Received { upto, link } => self.receive(server, upto, link),
            What::Wake => {}
        }
    }

    /// Streams and replays until nothing moves; a standby that feeds another may stand behind it in the list.
    fn pump(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for server in 0..self.servers.len() {
                moved |= self.stream(server) | self.replay(server);
            }
        }
    }
}
