//! The log of retractions, as the scripts keep it (`ledger/log.lua`): one value, so that all of it is lost or none.

use crate::Lsn;
use crate::ledger::message::{self, Frame};
use crate::ledger::{Announcement, Beat, Lineage, Notice, Pulse, Retracted, Settlement};
use crate::rules::{Rule, holds};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::time::Duration;
use tokio::time::Instant;

/// As many announcements as may be open.
const PENDING_MAX: usize = 256;
/// Those that were given up are told once more, so long after.
const GIVEN_UP_MAX: usize = 256;
const AGAIN: Duration = Duration::from_secs(10);
/// Announcements that are refused because they were settled before they arrived.
const NOTES_MAX: usize = 64;
/// The last messages are kept for who missed them, if they are no longer than this.
const RING: u64 = 1_024;
const KEPT_BYTES_MAX: usize = 4_096;
/// Histories whose watermarks are kept.
const HISTORIES_MAX: usize = 8;

type Id = [u8; 16];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    id: u64,
    sequence: u64,
    generation: u64,
    watermarks: Vec<(u64, Lsn)>,
    pending: Vec<Pending>,
    given_up: VecDeque<GivenUp>,
    notes: VecDeque<Id>,
    ring: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pending {
    id: Id,
    history: u64,
    above: Lsn,
    until: Instant,
    announced: Vec<u8>,
}

/// What is told once more, and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GivenUp {
    id: Id,
    again: Instant,
    announced: Vec<u8>,
}

impl Log {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            sequence: 0,
            generation: 0,
            watermarks: Vec::new(),
            pending: Vec::new(),
            given_up: VecDeque::new(),
            notes: VecDeque::new(),
            ring: BTreeMap::new(),
        }
    }

    /// Which log it is, on a server with this replication id.
    pub(crate) fn lineage(&self, replication: u64) -> Lineage {
        let mut hasher = SipHasher13::new();
        hasher.write_u64(if holds(Rule::LineageIsOfServer) { replication } else { 0 });
        hasher.write_u64(self.id);
        Lineage::from_number(hasher.finish() >> 16)
    }

    fn frame(&self, replication: u64, history: u64) -> Frame {
        let watermark = self.watermark(history);
        let (sequence, generation) = (self.sequence, self.generation);
        Frame { lineage: self.lineage(replication), sequence, generation, watermark }
    }

    fn watermark(&self, history: u64) -> Lsn {
        self.watermarks.iter().find(|(of, _)| *of == history).map_or(Lsn::ZERO, |(_, watermark)| *watermark)
    }

    pub(crate) fn announce(&mut self, announcement: &Announcement, now: Instant) -> bool {
        let Announcement { id, notice, xid, lease, renews } = announcement;
        let told = Some(message::announced(*xid, notice)).filter(|told| !told.is_empty());
        let at = self.pending.iter().position(|pending| pending.id == *id);
        if *renews && (at.is_some() || holds(Rule::GivenUpStaysSo)) {
            // Its place on the list stays, and its end.
            let stands = at.and_then(|at| self.pending.get_mut(at));
            if let (Some(stands), Some(told)) = (stands, told) {
                stands.announced = told;
            }
            return at.is_some();
        }
        if at.is_some() || self.notes.contains(id) || self.pending.len() >= PENDING_MAX {
            return false;
        }
        self.pending.push(Pending {
            id: *id,
            history: notice.history,
            above: notice.position.lsn,
            until: now + *lease,
            announced: told.unwrap_or_default(),
        });
        true
    }

    pub(crate) fn withdraw(&mut self, id: Id) {
        self.finish(id);
        self.note(id);
    }

    /// Takes the next number, and the announcement off the list. Returns what was found, and the message.
    pub(crate) fn retract(
        &mut self,
        replication: u64,
        notice: &Notice,
        settlement: Option<Settlement>,
        now: Instant,
    ) -> (Retracted, Vec<u8>) {
        let (abandoned, given_up) = self.sweep(now);
        let mut vouched = false;
        if let Some(Settlement { id, flush }) = settlement {
            vouched = self.finish(id);
            self.note(id);
            self.raise(notice.history, flush);
        }
        self.sequence += 1;
        let bytes = [&self.frame(replication, notice.history).encode()[..], &message::retraction(notice)].concat();
        self.ring.insert(self.sequence % RING, if bytes.len() > KEPT_BYTES_MAX { Vec::new() } else { bytes.clone() });
        let vouched = vouched || !holds(Rule::AbandonedIsPinned) && settlement.is_some();
        (Retracted { vouched_by: vouched.then(|| self.lineage(replication)), abandoned, given_up }, bytes)
    }

    /// Returns the answer and the message.
    pub(crate) fn beat(&mut self, replication: u64, nonce: u64, pulse: Pulse, now: Instant) -> (Beat, Vec<u8>) {
        let (abandoned, given_up) = self.sweep(now);
        self.generation = self.generation.max(pulse.generation);
        self.raise(pulse.history, pulse.flush);
        let frame = self.frame(replication, pulse.history);
        let bytes = [&frame.encode()[..], &message::heartbeat(nonce, pulse.history)].concat();
        let first_ends = self.pending.iter().map(|pending| pending.until.saturating_duration_since(now)).min();
        let (generation, open) = (self.generation, self.pending.len() as u64);
        (Beat { generation, abandoned, given_up, open, first_ends: first_ends.unwrap_or_default() }, bytes)
    }

    pub(crate) fn repair(&self, replication: u64, lineage: Lineage, after: u64) -> Option<Vec<Vec<u8>>> {
        let missing = self.sequence.checked_sub(after)?;
        if self.lineage(replication) != lineage || missing > RING {
            return None;
        }
        (after + 1..=self.sequence)
            .map(|number| self.ring.get(&(number % RING)).filter(|bytes| !bytes.is_empty()).cloned())
            .collect()
    }

    /// As far as is flushed and nobody who announced may still commit.
    fn raise(&mut self, history: u64, flush: Lsn) {
        let least = self.pending.iter().filter(|pending| pending.history == history).map(|pending| pending.above).min();
        let least = least.filter(|_| holds(Rule::WatermarkAwaitsAnnounced));
        let before = self.watermark(history);
        let after = before.max(least.map_or(flush, |least| least.min(flush)));
        self.watermarks.retain(|(of, _)| *of != history);
        self.watermarks.push((history, after));
        if self.watermarks.len() > HISTORIES_MAX {
            self.watermarks.remove(0);
        }
    }

    /// Returns what is to be told of those whose writers are gone, and how many were given up now.
    fn sweep(&mut self, now: Instant) -> (Vec<Vec<u8>>, u64) {
        let mut told = Vec::new();
        self.given_up.retain_mut(|given_up| {
            let is_due = given_up.again <= now;
            if is_due {
                told.push(std::mem::take(&mut given_up.announced));
            }
            !is_due
        });
        let over: Vec<Pending> = self.pending.extract_if(.., |pending| pending.until <= now).collect();
        let count = over.len() as u64;
        for Pending { id, announced, .. } in over.into_iter().filter(|pending| !pending.announced.is_empty()) {
            told.push(announced.clone());
            self.given_up.push_back(GivenUp { id, again: now + AGAIN, announced });
        }
        let too_many = self.given_up.len().saturating_sub(GIVEN_UP_MAX);
        self.given_up.drain(..too_many);
        (told, count)
    }

    /// Takes an announcement off both lists; whether it was still waited for.
    fn finish(&mut self, id: Id) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.id != id);
        self.given_up.retain(|given_up| given_up.id != id);
        self.pending.len() < before
    }

    fn note(&mut self, id: Id) {
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(id);
    }
}
