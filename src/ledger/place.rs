//! A place in the log, and whether anything is missing between it and the next message.

use super::message::{Body, Frame, Message};
use crate::lineage::Lineage;
use siphasher::sip::SipHasher13;
use std::collections::VecDeque;
use std::hash::Hasher;

/// How a gap was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Gap {
    /// A sequence number was passed over.
    Missing,
    /// The sequence fell: the log was set back to an older copy of itself.
    Fell,
    /// Another log: the old one was deleted or lost, or another server took it over.
    OtherLog,
}

/// What a message is, seen from a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The next one, or a heartbeat that stands where the place is.
    Next,
    /// A retraction that was taken before.
    Again,
    Gap(Gap),
}

/// What of a message tells its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Mark {
    pub(crate) frame: Frame,
    /// The history that the watermark is of.
    pub(crate) history: u64,
    /// The hash of a retraction.
    retraction: Option<u64>,
}

/// The retractions that can be told from a repetition of themselves: as many as a log keeps.
const RECENT_MAX: usize = 1_024;

/// The last place heard in the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) lineage: Lineage,
    pub(crate) sequence: u64,
    /// Sequence numbers and hashes of the last retractions.
    recent: VecDeque<(u64, u64)>,
}

impl Mark {
    pub(crate) fn of(message: &Message, bytes: &[u8]) -> Self {
        let retraction = matches!(message.body, Body::Retraction(_)).then(|| hash(bytes));
        Self { frame: message.frame, history: message.body.history(), retraction }
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        self.retraction.is_none()
    }
}

impl Place {
    pub(crate) fn at(frame: Frame) -> Self {
        Self { lineage: frame.lineage, sequence: frame.sequence, recent: VecDeque::new() }
    }

    /// What the message with this mark is.
    pub(crate) fn step(&self, mark: &Mark) -> Step {
        let Frame { lineage, sequence, .. } = mark.frame;
        let due = self.sequence.saturating_add(mark.retraction.is_some().into());
        if lineage != self.lineage {
            Step::Gap(Gap::OtherLog)
        } else if mark.retraction.is_some_and(|hash| self.recent.contains(&(sequence, hash))) {
            Step::Again
        } else if sequence > due {
            Step::Gap(Gap::Missing)
        } else if sequence < due {
            // A retraction with a number that another one had is as bad as a falling heartbeat.
            Step::Gap(Gap::Fell)
        } else {
            Step::Next
        }
    }

    /// Moves to where the message with this mark stands.
    pub(crate) fn take(&mut self, mark: &Mark) {
        self.sequence = mark.frame.sequence;
        if let Some(hash) = mark.retraction {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((self.sequence, hash));
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
