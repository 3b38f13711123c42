//! One request of a user.

use super::Devices;
use super::store::Known;
use crate::watched::Watched;
use crate::{Digest, Session, Token};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One request of a user, begun by [`Devices::visit`]. Dropped without [`remember`](Self::remember), what was written in it may
/// not be seen by the user's other devices.
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    devices: Devices,
    session: Session,
    user: Digest,
    /// What the session had been handed when it began, and how often it had been raised by then.
    held: Token,
    deeds: usize,
    known: Watched<Option<Known>>,
}

/// What became of what a session holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Remembered {
    /// The store holds as much already, or the session holds no more than it was handed when the visit began.
    Unchanged,
    /// The store took it: whoever visits from now on, on any instance, is not served below it.
    Stored,
    /// The store did not take it. It is told again in the background until it is, for as long as a record lives; until then
    /// this instance alone knows of it.
    Deferred,
}

impl Visit {
    pub(super) fn begin(devices: &Devices, session: &Session, user: Digest) -> Self {
        let arriving = session.arriving();
        // What it wrote before this request was begun, the store need not have been told of.
        let held = if session.has_written() { Token::default() } else { session.token() };
        let deeds = session.deeds();
        let (devices, session) = (devices.clone(), session.clone());
        let visit = Self(Arc::new(Inner { devices, session, user, held, deeds, known: Watched::default() }));
        let asked = visit.clone();
        visit.0.devices.0.tasks.spawn(async move {
            let Inner { devices, session, user, held, known, .. } = &*asked.0;
            let recalled = devices.recall(session, *user, held.clone()).await;
            known.change(|known| *known = Some(recalled));
            drop(arriving);
        });
        visit
    }

    /// Puts what the session holds into the store, if that does not hold it yet. Call it before the answer goes out that tells
    /// the user of a write. Takes one round trip where there is something to be stored, and otherwise none; it never takes longer
    /// than the store's time-outs, twice where the store has not answered the visit yet.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await: what it began goes on.
    pub async fn remember(&self) -> Remembered {
        let token = self.0.session.token();
        let asked = self.0.known.now().is_some();
        if !asked && token == self.0.held {
            return Remembered::Unchanged;
        }
        let known = self.0.known.wait_for(Clone::clone).await;
        let did_something = self.0.session.deeds() != self.0.deeds;
        let token = self.0.session.token();
        if !known.is_news(&token, did_something) {
            return Remembered::Unchanged;
        }
        let (tell, told) = oneshot::channel();
        let visit = self.clone();
        self.0.devices.0.tasks.spawn(async move {
            let stored = visit.0.devices.save(visit.0.user, token, known.record).await;
            let outcome = if stored.is_some() { Remembered::Stored } else { Remembered::Deferred };
            if let Some(stored) = stored {
                visit.0.known.change(|known| *known = Some(stored));
            }
            let _ = tell.send(outcome);
        });
        told.await.unwrap_or(Remembered::Deferred)
    }
}

impl Known {
    /// Whether the store is to be told of a session that holds this.
    pub(super) fn is_news(&self, token: &Token, did_something: bool) -> bool {
        // A position that the primary told out of care is no write, but may cover one that the store knows nothing of.
        let more = if did_something { !covers(&self.token, token) } else { !covers(&self.present(), token) };
        // It may also hold less: of a lost write that the user was told of, or of what a crash undid, the store is to know too.
        more || !covers(token, &self.token)
    }
}

fn covers(high: &Token, low: &Token) -> bool {
    let mut both = high.clone();
    both.merge(low);
    both == *high
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").finish_non_exhaustive()
    }
}
