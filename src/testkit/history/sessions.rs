//! What each session knows, and so must find again.

use std::collections::BTreeMap;

use super::fates::Fates;
use super::needs::{Need, Needs};
use super::op::{KeyId, SessionId};

/// What has become of a need when an answer misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is part of history: the answer is too old.
    Stands,
    /// It is lost, and the session does not know.
    LostUnreported,
    /// It is lost and the session was told so.
    LostReported,
}

#[derive(Debug, Default)]
struct Known {
    own: BTreeMap<KeyId, Needs>,
    seen: BTreeMap<KeyId, Needs>,
    reported: Option<usize>,
}

/// All sessions, as of the event that the walk has reached.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<SessionId, Known>);

impl Sessions {
    pub(super) fn told(&mut self, fates: &Fates, session: SessionId, key: KeyId, need: Need) {
        self.known(session).own.entry(key).or_default().raise(fates, need);
    }

    /// A value was seen. Should it be lost, what it was built on must still be found.
    pub(super) fn saw(&mut self, fates: &Fates, session: SessionId, key: KeyId, need: Need) {
        let seen = self.known(session).seen.entry(key).or_default();
        let mut next = Some(need.write);
        while let Some(write) = next {
            seen.raise(fates, Need { write, ..need });
            // A stump outlives what stood on it, so this ends after at most one step for each replacement.
            next = fates.stump(write);
        }
    }

    /// A token carries what its session had been told, and not what it had seen.
    pub(super) fn hand(&mut self, fates: &Fates, from: SessionId, to: SessionId, index: usize) {
        let Some(giver) = self.0.get(&from) else {
            return;
        };
        let handed: Vec<(KeyId, Needs)> = giver.own.iter().map(|(&key, needs)| (key, needs.clone())).collect();
        for (key, needs) in handed {
            for need in needs.iter() {
                self.told(fates, to, key, Need { since: index, ..need });
            }
        }
    }

    /// The session learns of its losses, up to now. Whether there was any.
    pub(super) fn report(&mut self, fates: &Fates, session: SessionId, index: usize) -> bool {
        let known = self.known(session);
        known.reported = Some(index);
        let mut any = false;
        for needs in known.own.values_mut().chain(known.seen.values_mut()) {
            let lost = |need: &Need| fates.lost_at(need.write).is_some_and(|at| at < index);
            any |= needs.iter().any(|need| lost(&need));
            needs.retain(|need| !lost(need));
        }
        any
    }

    pub(super) fn own(&self, session: SessionId, key: KeyId) -> Needs {
        self.0.get(&session).and_then(|known| known.own.get(&key)).cloned().unwrap_or_default()
    }

    pub(super) fn seen(&self, session: SessionId, key: KeyId) -> Needs {
        self.0.get(&session).and_then(|known| known.seen.get(&key)).cloned().unwrap_or_default()
    }

    /// How an answer given by now stands to a need that it misses.
    pub(super) fn standing(&self, fates: &Fates, session: SessionId, need: Need, now: usize) -> Standing {
        let Some(lost_at) = fates.lost_at(need.write).filter(|&at| at < now) else {
            return Standing::Stands;
        };
        // A report speaks of what was lost before it, to whoever knew of it before.
        let reported = self.0.get(&session).and_then(|known| known.reported);
        if reported.is_some_and(|at| at > lost_at && at > need.since) {
            Standing::LostReported
        } else {
            Standing::LostUnreported
        }
    }

    fn known(&mut self, session: SessionId) -> &mut Known {
        self.0.entry(session).or_default()
    }
}
