//! A place in the log, and whether anything is missing between it and the next message.

use super::message::{Body, Frame, Message};
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
    /// Another log: the old one was deleted or lost.
    OtherLog,
}

/// The retractions that can be told from a repetition of themselves.
const RECENT_MAX: usize = 64;

/// The last place heard in the log.
pub(super) struct Place {
    log: u64,
    sequence: u64,
    /// Sequence numbers and hashes of the last retractions.
    recent: VecDeque<(u64, u64)>,
}

impl Place {
    pub(super) fn at(frame: Frame) -> Self {
        Self { log: frame.log, sequence: frame.sequence, recent: VecDeque::new() }
    }

    /// Moves to where `message` stands, and says if anything may lie between.
    pub(super) fn follow(&mut self, message: &Message, bytes: &[u8]) -> Option<Gap> {
        let Frame { log, sequence, .. } = message.frame;
        let retraction = matches!(message.body, Body::Retraction(_));
        let repeated = retraction.then(|| (sequence, hash(bytes)));
        let gap = if log != self.log {
            Some(Gap::OtherLog)
        } else if repeated.is_some_and(|told| self.recent.contains(&told)) {
            return None;
        } else if sequence > self.sequence.saturating_add(retraction.into()) {
            Some(Gap::Missing)
        } else if sequence < self.sequence.saturating_add(retraction.into()) {
            // A retraction with a number that another one had is as bad as a falling heartbeat.
            Some(Gap::Fell)
        } else {
            None
        };
        if gap.is_some() {
            self.recent.clear();
        }
        if let Some(told) = repeated {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(told);
        }
        (self.log, self.sequence) = (log, sequence);
        gap
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}
