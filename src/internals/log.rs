//! The log of retractions and how one instance hears it, as plain values: for a model that explores every order of things,
//! and which must not have rules of its own. The log is the one in memory, which tests hold together with the scripts.

use super::rules::name;
use crate::ledger::message::{Body, Message};
use crate::ledger::order::{Found, Order};
use crate::ledger::place::Mark;
use crate::ledger::{Announcement, Notice, Pulse, Settlement};
use crate::lineage::Lineage;
use crate::memory::Log as Record;
use crate::{Lsn, Position};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;

/// All that happens, happens now, or after every lease that was given now.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
const LEASE: Duration = Duration::from_secs(1);

/// The log of one server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log(Record);

/// A key that changed, at a position of a history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::exhaustive_structs, missing_docs, reason = "no part of the public interface; as in `Notice`")]
pub struct Retraction {
    pub history: u64,
    pub key: usize,
    pub at: (u32, u64),
}

impl Retraction {
    fn notice(self) -> Notice {
        let (timeline, lsn) = self.at;
        let position = Position::new(timeline, Lsn::new(lsn));
        Notice { history: self.history, position, keys: vec![name(self.key)], groups: Vec::new() }
    }

    fn of(notice: &Notice) -> Option<Self> {
        let key = (0..super::rules::KEYS).find(|key| notice.keys.contains(&name(*key)))?;
        Some(Self { history: notice.history, key, at: (notice.position.timeline.0, notice.position.lsn.offset()) })
    }
}

/// What a log of this lineage vouches for in a history, as tokens carry it.
#[must_use]
pub fn vouches(lineage: u64, history: u64) -> u64 {
    Lineage::from_number(lineage).in_history(history).number()
}

fn id(write: u8) -> [u8; 16] {
    [write; 16]
}

impl Log {
    /// An empty one.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self(Record::new(id))
    }

    /// A commit may come above the position, or more is told of it. Returns the lineage of the log on this server; nothing
    /// where it was settled before, or does not stand any more.
    pub fn announce(&mut self, server: u64, write: u8, what: Retraction, renews: bool) -> Option<u64> {
        let announcement = Announcement { id: id(write), notice: what.notice(), xid: None, lease: LEASE, renews };
        self.0.announce(&announcement, *NOW).then(|| self.0.lineage(server).number())
    }

    /// Numbers a retraction, which settles a write if one is given, with what is flushed. Returns the lineage that vouches for
    /// the write, and the message.
    pub fn retract(&mut self, server: u64, what: Retraction, settles: Option<(u8, u64)>) -> (Option<u64>, Vec<u8>) {
        let settlement = settles.map(|(write, flush)| Settlement { id: id(write), flush: Lsn::new(flush) });
        let (retracted, message) = self.0.retract(server, &what.notice(), settlement, *NOW);
        (retracted.vouched_by.map(Lineage::number), message)
    }

    /// The message of a heartbeat, now or after every lease.
    pub fn beat(&mut self, server: u64, history: u64, flush: u64, later: bool) -> Vec<u8> {
        let now = if later { *NOW + 2 * LEASE } else { *NOW };
        let (_, message) = self.0.beat(server, 0, Pulse { generation: 0, history, flush: Lsn::new(flush) }, now);
        message
    }

    /// The messages after one.
    #[must_use]
    pub fn repair(&self, server: u64, lineage: u64, after: u64) -> Option<Vec<Vec<u8>>> {
        self.0.repair(server, Lineage::from_number(lineage), after)
    }
}

/// How one instance hears a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ear(Option<Order>);

/// What it is told by that, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::exhaustive_enums, missing_docs, reason = "no part of the public interface; as in `Heard`")]
pub enum Told {
    Retracted(Retraction),
    Covered { lineage: u64, history: u64, watermark: u64 },
    Gap,
    Ask { lineage: u64, after: u64 },
    Whole,
    Begun { lineage: u64 },
}

impl Ear {
    /// A message came through a subscription that is live.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Told> {
        let Some((mark, mut told)) = read(bytes) else { return Vec::new() };
        told.extend(self.0.as_mut().map(|order| order.hear(mark)).unwrap_or_default().iter().map(Told::of));
        told
    }

    /// The heartbeat came back that shows a new subscription to be live.
    pub fn resume(&mut self, bytes: &[u8]) -> Vec<Told> {
        let Some((mark, mut told)) = read(bytes) else { return Vec::new() };
        let found = match &mut self.0 {
            Some(order) => order.resume(mark),
            None => {
                self.0 = Some(Order::at(mark.frame));
                vec![Found::Begun(mark.frame), Found::Ordered(mark)]
            }
        };
        told.extend(found.iter().map(Told::of));
        told
    }

    /// What the log said of what is missing.
    pub fn answered(&mut self, messages: Option<&[Vec<u8>]>) -> Vec<Told> {
        let Some(order) = &mut self.0 else { return Vec::new() };
        let read: Option<Vec<(Mark, Vec<Told>)>> =
            messages.and_then(|messages| messages.iter().map(|bytes| read(bytes)).collect());
        let found = order.answered(read.as_ref().map(|read| read.iter().map(|(mark, _)| *mark).collect()));
        let mut told: Vec<Told> = read.into_iter().flatten().flat_map(|(_, told)| told).collect();
        told.extend(found.iter().map(Told::of));
        told
    }

    /// How many messages wait for others.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, Order::waiting)
    }

    /// Nothing is heard any more.
    pub fn pause(&mut self) {
        if let Some(order) = &mut self.0 {
            order.pause();
        }
    }
}

/// A message's mark, and what it retracts.
fn read(bytes: &[u8]) -> Option<(Mark, Vec<Told>)> {
    let message = Message::decode(bytes).ok()?;
    let retraction = match &message.body {
        Body::Retraction(notice) => Retraction::of(notice).map(Told::Retracted),
        Body::Heartbeat { .. } => None,
    };
    Some((Mark::of(&message, bytes), retraction.into_iter().collect()))
}

impl Told {
    fn of(found: &Found) -> Self {
        match *found {
            Found::Ordered(Mark { frame, history, .. }) => {
                let (lineage, watermark) = (frame.lineage.number(), frame.watermark.offset());
                Self::Covered { lineage, history, watermark }
            }
            Found::Gap(_) => Self::Gap,
            Found::Ask { lineage, after } => Self::Ask { lineage: lineage.number(), after },
            Found::Whole => Self::Whole,
            Found::Begun(frame) => Self::Begun { lineage: frame.lineage.number() },
        }
    }
}
