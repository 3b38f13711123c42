//! A subscription under whatever the network and the server do: what was published and not heard shows as a gap.
//!
//! The input is a script of one byte for what happens and, for some, one byte of how much.

use super::{Outcome, Target};
use crate::ledger::hearing::{Effect, Heard, Hearing, Phase, Timing};
use crate::ledger::message::{Frame, heartbeat, retraction};
use crate::ledger::{Beat, Lineage, Notice};
use crate::{Digest, Lsn, Position};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

pub(super) const TARGET: Target = Target {
    name: "hearing",
    read: |script| {
        Box::new(|| {
            World::new().play(script);
        })
    },
    check: |script| World::new().play(script),
    // A script is no message: what it makes are 77 bytes each, and the largest that is heard is that of the target `bus`. The
    // script's own log keeps all of them to repair from, and hearing the marks of those that wait behind a gap, 4,096 at most.
    bytes_max: 8 * super::bus::TARGET.bytes_max,
    outcomes: &["never live", "live", "a gap", "deaf"],
};

/// The most messages under way at a time.
const UNDER_WAY_MAX: usize = 32;

/// The server, the way to one subscriber, and what the subscriber must know.
struct World {
    now: Instant,
    hearing: Hearing<Box<dyn FnMut() -> u64>>,
    log: u64,
    sequence: u64,
    generation: u64,
    under_way: Vec<(Frame, Vec<u8>)>,
    /// A subscription was asked for, and nobody has said what became of it.
    asked: bool,
    /// The last heartbeat that was asked for.
    nonce: Option<u64>,
    /// The messages of the present log, and after which of them somebody asks for the rest.
    published: Vec<Vec<u8>>,
    asked_after: Option<(Lineage, u64)>,
    /// Retractions of the present log that were not heard, since hearing last began.
    unheard: BTreeSet<u64>,
    live: bool,
    /// Nothing is said to be missing.
    whole: bool,
    outcome: Outcome,
}

impl World {
    fn new() -> Self {
        let (now, mut last) = (Instant::now(), 0_u64);
        let random: Box<dyn FnMut() -> u64> = Box::new(move || {
            last += 1;
            last.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        Self {
            now,
            hearing: Hearing::new(Timing::default(), random, now),
            log: 1,
            sequence: 0,
            generation: 0,
            under_way: Vec::new(),
            asked: false,
            nonce: None,
            published: Vec::new(),
            asked_after: None,
            unheard: BTreeSet::new(),
            live: false,
            whole: false,
            outcome: "never live",
        }
    }

    fn play(mut self, script: &[u8]) -> Outcome {
        let mut script = script.iter().copied();
        while let Some(step) = script.next() {
            let now = self.now;
            match step % 16 {
                0 | 1 => self.now += Duration::from_millis(u64::from(script.next().unwrap_or(0)) * 20),
                2 => self.now = self.now.max(self.hearing.wake_at()),
                3 if std::mem::take(&mut self.asked) => self.hearing.subscribed(now),
                4 if std::mem::take(&mut self.asked) => self.hearing.not_subscribed(now),
                3 | 4 => {}
                5 => self.hearing.ended(now),
                6 => self.hearing.beat_answered(None, now),
                7 => self.hearing.beat_answered(Some(&Beat { generation: self.generation, ..Beat::default() }), now),
                8 => self.retract(),
                9 => self.beat(),
                10 | 11 => self.deliver(script.next().unwrap_or(0), false),
                12 => self.deliver(script.next().unwrap_or(0), true),
                13 => self.lose(script.next().unwrap_or(0)),
                14 => self.lose_the_log(),
                _ if self.asked_after.is_some() => self.repair(script.next().unwrap_or(0)),
                _ => self.generation += 1,
            }
            self.hearing.tick(self.now);
            self.settle();
        }
        self.outcome
    }

    fn publish(&mut self, body: &[u8]) {
        let (sequence, generation) = (self.sequence, self.generation);
        let frame = Frame { lineage: self.lineage(), sequence, generation, watermark: Lsn::new(sequence) };
        let message = [&frame.encode()[..], body].concat();
        if self.published.len() < self.sequence as usize {
            self.published.push(message.clone());
        }
        if self.under_way.len() < UNDER_WAY_MAX {
            self.under_way.push((frame, message));
        }
    }

    fn lineage(&self) -> Lineage {
        Lineage::from_number(self.log)
    }

    /// The log answers what was asked of it, or not.
    fn repair(&mut self, how: u8) {
        let Some((lineage, after)) = self.asked_after.take() else { return };
        let known = lineage == self.lineage() && after <= self.sequence && !how.is_multiple_of(4);
        let missed = self.published.get(after as usize..).filter(|_| known);
        self.hearing.repaired(missed);
        self.settle();
    }

    fn retract(&mut self) {
        self.sequence += 1;
        self.unheard.insert(self.sequence);
        let keys = vec![Digest::of_key(&self.sequence.to_be_bytes())];
        let position = Position::new(1, Lsn::new(self.log << 32 | self.sequence));
        self.publish(&retraction(&Notice { history: 1, position, keys, groups: Vec::new() }));
    }

    fn beat(&mut self) {
        if let Some(nonce) = self.nonce {
            self.publish(&heartbeat(nonce, 1));
        }
    }

    /// One message arrives, in any order, and perhaps once more.
    fn deliver(&mut self, which: u8, again: bool) {
        let Some(at) = usize::from(which).checked_rem(self.under_way.len()) else { return };
        let Some((frame, message)) = self.under_way.get(at).cloned() else { return };
        if !again {
            self.under_way.remove(at);
        }
        self.hearing.message(&message, self.now);
        self.settle();
        if self.live && self.whole && frame.lineage == self.lineage() {
            let missing: Vec<_> = self.unheard.range(..=frame.sequence).collect();
            assert!(missing.is_empty(), "it is live at {} and never heard {missing:?}", frame.sequence);
        }
    }

    fn lose(&mut self, which: u8) {
        if let Some(at) = usize::from(which).checked_rem(self.under_way.len()) {
            self.under_way.remove(at);
        }
    }

    fn lose_the_log(&mut self) {
        (self.log, self.sequence) = (self.log + 1, 0);
        self.unheard.clear();
        self.published.clear();
    }

    /// Takes in what the subscriber was told.
    fn settle(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.hearing.next_effect() {
            effects += 1;
            match effect {
                Effect::Reopen => (self.asked, self.nonce, self.asked_after) = (true, None, None),
                Effect::SendBeat(nonce) => self.nonce = Some(nonce),
                Effect::Repair { lineage, after } => self.asked_after = Some((lineage, after)),
                Effect::Tell(Heard::Live) => (self.live, self.outcome) = (true, "live"),
                Effect::Tell(Heard::Gap(_)) => (self.whole, self.outcome) = (false, "a gap"),
                // A position of the primary that is read from here on covers what was published before.
                Effect::Tell(Heard::Begun(_)) => {
                    self.whole = true;
                    self.unheard.clear();
                }
                Effect::Tell(Heard::Whole) => self.whole = true,
                Effect::Tell(Heard::Deaf(_)) => (self.live, self.whole, self.outcome) = (false, false, "deaf"),
                Effect::Tell(Heard::Covered { lineage, watermark, .. }) => {
                    let missing: Vec<_> = self.unheard.range(..=watermark.offset()).collect();
                    let ours = lineage == self.lineage();
                    assert!(!ours || missing.is_empty(), "covered up to {watermark} without {missing:?}");
                }
                Effect::Tell(Heard::Retracted(notice)) => {
                    let offset = notice.position.lsn.offset();
                    if offset >> 32 == self.log {
                        self.unheard.remove(&(offset & 0xFFFF_FFFF));
                    }
                }
                Effect::Tell(Heard::Generation(generation)) => assert!(generation <= self.generation),
                Effect::Tell(Heard::Unreadable(_)) => panic!("all that is published can be read"),
            }
        }
        assert!(effects <= 8 + 3 * self.published.len(), "one call leaves {effects} effects");
        assert_eq!(self.live, self.hearing.phase() == Phase::Live);
    }
}
