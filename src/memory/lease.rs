//! One load's hold of a connection, and what its answer proves.

use super::connection::{Connection, Run};
use super::network::Step;
use super::server::{Mode, Server};
use super::source::{Shelf, Source};
use super::view::{View, within};
use crate::entry::{Origin, Stamp};
use crate::rules::{Rule, holds};
use crate::source::{self, Ask, Fault, FaultKind, NodeId};
use crate::{Lsn, Timeline};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a position that was read is used for later loads.
const POSITION_AGE_MAX: Duration = Duration::from_millis(5);

/// A position that was read: everything at or below it is visible to all later statements of this run of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    run: Run,
    place: Place,
    read: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    timeline: Timeline,
    tag: Lsn,
    origin: Origin,
}

/// The highest replay position of a standby that was confirmed to lie on a timeline, while it ran without a stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirmed {
    server: usize,
    boot: u64,
    timeline: Timeline,
    replay: Lsn,
}

/// One load's hold of a connection.
#[derive(Debug)]
pub struct Lease {
    view: View,
    place: Place,
    ask: Ask,
    shelf: Arc<Shelf>,
}

impl Lease {
    /// Position first, then the timeline, then the connection is the loader's.
    pub(super) async fn open(from: &Source, node: NodeId, ask: Ask) -> Result<Self, Fault> {
        let connection = from.connection(node).await?;
        if ask.quiesce {
            quiesce(&connection).await?;
        }
        let good = |known: &Known| {
            let role = (known.place.origin == Origin::Primary) == ask.primary;
            let same = known.run == connection.run() && !connection.pooled;
            same && role && known.place.tag >= ask.floor && known.read.elapsed() < POSITION_AGE_MAX
        };
        let known = from.shelf.known().get(&node).copied();
        let place = match known.filter(good) {
            Some(known) => known.place,
            None => {
                let read = Instant::now();
                let place = locate(from, &connection, ask.primary).await?;
                from.shelf.known().insert(node, Known { run: connection.run(), place, read });
                place
            }
        };
        Ok(Self { view: View::new(connection, ask.deadline), place, ask, shelf: from.shelf.clone() })
    }
}

impl source::Lease for Lease {
    type Conn = View;

    fn conn(&self) -> &View {
        &self.view
    }

    async fn finish(self) -> Result<Stamp, Fault> {
        if let Some(fault) = self.view.fault() {
            return Err(fault);
        }
        let Place { timeline, mut tag, origin } = self.place;
        if !holds(Rule::PositionBeforeData) {
            tag = self.view.connection.ask(Step::Position, |server| Ok(server.tag())).await?;
        }
        let upper = match self.ask.upper {
            true => {
                let ask = self.view.connection.ask(Step::Upper, |server| upper(server, origin));
                Some(within(&self.view.connection, self.ask.deadline, ask).await?)
            }
            false => None,
        };
        if self.view.is_clean() {
            self.shelf.put_back(self.view.into_connection());
        }
        Ok(Stamp { timeline, tag, origin, upper })
    }
}

/// Waits until every transaction has ended that was in progress when the question arrived.
async fn quiesce(connection: &Connection) -> Result<(), Fault> {
    let running = |server: &Server| match server.primary() {
        Some(primary) => Ok(primary.running.keys().copied().collect::<BTreeSet<u64>>()),
        None => Err(FaultKind::WrongRole),
    };
    let before = connection.ask(Step::Quiesce, running).await?;
    let over = connection.cluster.wait(|state| {
        if !connection.is_alive_in(state) {
            return Some(Err(connection.broken()));
        }
        let primary = state.server(connection.server).primary()?;
        before.iter().all(|xid| !primary.running.contains_key(xid)).then_some(Ok(()))
    });
    over.await?;
    connection.travel(Step::Answer).await
}

/// Reads the position and then the timeline. In the other order a standby could move to a new timeline in between, and
/// the position would be told as one of the old.
async fn locate(from: &Source, connection: &Connection, primary: bool) -> Result<Place, Fault> {
    let read = |server: &Server| match &server.mode {
        Mode::Primary(_) if primary => Ok((server.tag(), Some(Timeline(server.timeline)))),
        Mode::Standby(_) if !primary => Ok((server.tag(), None)),
        Mode::Primary(_) | Mode::Standby(_) => Err(FaultKind::WrongRole),
    };
    let early = match primary || holds(Rule::TimelineAfterPosition) {
        true => None,
        false => connection.ask(Step::Timeline, streamed).await?,
    };
    let (tag, timeline) = connection.ask(Step::Position, read).await?;
    if let Some(timeline) = timeline {
        return Ok(Place { timeline, tag, origin: Origin::Primary });
    }
    let streamed = connection.ask(Step::Timeline, streamed).await?.map(|streamed| early.unwrap_or(streamed));
    let place = |timeline, tag| Place { timeline, tag, origin: Origin::Standby };
    let memory = from.shelf.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |known: &Confirmed| known.server == connection.server && known.boot == connection.boot;
    let known = memory.get(&connection.node).copied().filter(same);
    match (streamed, known) {
        (Some(timeline), _) => {
            drop(memory);
            confirm(from, connection, timeline, tag);
            Ok(place(timeline, tag))
        }
        // Replay may have gone on along another timeline; up to where it was confirmed it has the old one.
        (None, Some(known)) => Ok(place(known.timeline, tag.min(known.replay))),
        (None, None) => Err(connection.fault(FaultKind::Unproven, "the standby streams from nowhere")),
    }
}

/// The timeline that a standby streams, which it has replayed along so far; `None` where it streams from nowhere.
pub(super) fn streamed(server: &Server) -> Result<Option<Timeline>, FaultKind> {
    let standby = server.standby().ok_or(FaultKind::WrongRole)?;
    Ok(standby.link.map(|_| Timeline(server.timeline)))
}

/// Remembers that a standby's replay position lies on a timeline.
pub(super) fn confirm(from: &Source, connection: &Connection, timeline: Timeline, replay: Lsn) {
    let (server, boot) = (connection.server, connection.boot);
    let mut memory = from.shelf.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
    let known = memory.get(&connection.node).filter(|known| known.server == server && known.boot == boot);
    if known.is_none_or(|known| (known.timeline, known.replay) < (timeline, replay)) {
        memory.insert(connection.node, Confirmed { server, boot, timeline, replay });
    }
}

/// A position at or above everything that was visible: of a standby `max(replay, receive)`, where it streams.
fn upper(server: &Server, origin: Origin) -> Result<Lsn, FaultKind> {
    match (&server.mode, origin) {
        (Mode::Primary(primary), Origin::Primary) => Ok(primary.token()),
        (Mode::Standby(_), Origin::Standby) if !holds(Rule::SightCoversReceived) => Ok(server.tag()),
        (Mode::Standby(standby), Origin::Standby) => standby.upper().ok_or(FaultKind::Unproven),
        _ => Err(FaultKind::WrongRole),
    }
}
