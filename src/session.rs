//! One client's token inside the process.

use crate::entry::Stamp;
use crate::history::{History, Standing};
use crate::lineage::{Lineage, Vouched};
use crate::named::Brief;
use crate::rules::{Rule, holds};
use crate::sights::{Seen, Sights};
use crate::source::NodeId;
use crate::token::{Scope, worst};
use crate::{Lsn, Position, Token};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One client's token inside the process; it only rises.
///
/// An explicit value: pass it to every read and write that is made for the client. Clones share one token, so a handler
/// may fan out with clones. Cheap to clone, `Send` and `Sync`; reading it takes no lock.
#[derive(Clone, Default)]
pub struct Session(Arc<Inner>);

#[derive(Default)]
struct Inner {
    monotonic: bool,
    state: ArcSwap<State>,
    /// As it was when its client was told last that a write is lost.
    told: ArcSwapOption<State>,
    clamped: AtomicBool,
    /// How much is still on its way that may raise it.
    arriving: AtomicUsize,
    arrived: Notify,
    /// How often it was raised by what the client did, and not out of care.
    deeds: AtomicUsize,
    habits: Habits,
}

/// Something on its way that may raise the session; it has arrived when this is dropped.
pub(crate) struct Arriving(Session);

impl Drop for Arriving {
    fn drop(&mut self) {
        // After whatever it raised, which reads see that see this.
        self.0.0.arriving.fetch_sub(1, Ordering::Release);
        self.0.0.arrived.notify_waiters();
    }
}

/// What only strategies look at that do not go by position.
#[derive(Default)]
struct Habits {
    /// When it wrote last, in this process.
    wrote: Mutex<Option<Instant>>,
    /// The replica that it sticks to, and one; 0 for none yet.
    replica: AtomicUsize,
}

/// Immutable, replaced as a whole, so that a read never mixes two moments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    token: Token,
    /// By system identifier; clusters that the session neither saw anything of nor has an open case in are not listed.
    clusters: BTreeMap<u64, Sights>,
}

impl State {
    fn keep_surviving(&mut self, history: &History) {
        self.token.keep_surviving(history);
        if let Some(sights) = self.clusters.get_mut(&history.system_identifier()) {
            sights.keep_surviving(history);
        }
    }
}

/// What a session demands of one read, in one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionFloor {
    pub(crate) tag: Lsn,
    pub(crate) vouched: Option<Vouched>,
    pub(crate) seen_on_primary: Option<Lsn>,
    pub(crate) seen_on_standby: Option<Lsn>,
    /// What had been seen by then.
    pub(crate) seen: Seen,
    pub(crate) primary_only: bool,
    /// Worst standing of what it holds: anything but `Floor` keeps the read from being answered.
    pub(crate) standing: Standing,
}

/// A session at one moment.
pub(crate) struct Moment(Arc<State>);

impl Session {
    /// A session that has written nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A session whose reads also never reflect less than an earlier read of it.
    ///
    /// This costs hits: what a session has seen is an upper bound and so usually lies above the tags of what it has
    /// not looked at for a while, and the watermark does not cover it: a standby can show a commit before anybody has settled
    /// it.
    #[must_use]
    pub fn monotonic() -> Self {
        Self(Arc::new(Inner { monotonic: true, ..Inner::default() }))
    }

    /// A session that continues from a token, as another process handed it over.
    #[must_use]
    pub fn from_token(token: Token) -> Self {
        let session = Self::new();
        session.observe(&token);
        session
    }

    /// Whether the session asks for monotonic reads.
    #[must_use]
    pub fn is_monotonic(&self) -> bool {
        self.0.monotonic
    }

    /// The token as it is now.
    #[must_use]
    pub fn token(&self) -> Token {
        self.0.state.load().token.clone()
    }

    /// Raises the session to cover `token`.
    pub fn observe(&self, token: &Token) {
        self.cover(token);
        self.count_deed();
    }

    /// The same where the token is no news of what the client did.
    pub(crate) fn cover(&self, token: &Token) {
        self.update(|state| state.token.merge(token));
    }

    fn count_deed(&self) {
        self.0.deeds.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was raised by what the client did.
    pub(crate) fn deeds(&self) -> usize {
        self.0.deeds.load(Ordering::Relaxed)
    }

    /// Waits until the session covers what was on its way when it was made: what the user's other devices hold
    /// ([`Devices`](crate::devices::Devices)). Reads wait for that by themselves; call this before the token goes elsewhere, as
    /// with a call to another service. Bounded by the store's time-out.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await.
    pub async fn gathered(&self) {
        loop {
            let mut arrived = pin!(self.0.arrived.notified());
            arrived.as_mut().enable();
            if !self.is_gathering() {
                return;
            }
            arrived.await;
        }
    }

    /// Whether something is on its way that may raise the session.
    pub(crate) fn is_gathering(&self) -> bool {
        self.0.arriving.load(Ordering::Acquire) > 0
    }

    /// Lets reads wait until what this returns is dropped.
    pub(crate) fn arriving(&self) -> Arriving {
        self.0.arriving.fetch_add(1, Ordering::Relaxed);
        Arriving(self.clone())
    }

    /// `lineage` is the log that holds the retraction of what was written, where one does.
    pub(crate) fn raise(&self, history: &History, position: Position, lineage: Option<Lineage>) {
        self.raise_for(history, position, lineage, &[]);
    }

    /// The same for a write that changed these keys and nothing else. None is everything.
    pub(crate) fn raise_for(&self, history: &History, position: Position, lineage: Option<Lineage>, keys: &[Brief]) {
        *self.0.habits.wrote.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.update(|state| {
            state.token.raise_for(history, position, lineage, keys);
            state.token.fold(history);
        });
        self.count_deed();
    }

    /// Whether it wrote in this process.
    pub(crate) fn has_written(&self) -> bool {
        self.0.habits.wrote.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether it wrote less than this long ago.
    pub(crate) fn wrote_within(&self, window: Duration) -> bool {
        let wrote = *self.0.habits.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        wrote.is_some_and(|wrote| wrote.elapsed() < window)
    }

    /// The replica that it sticks to, if that `serves`; otherwise the `next`, to which it sticks from now on.
    pub(crate) fn stick(
        &self,
        serves: impl Fn(NodeId) -> bool,
        next: impl FnOnce() -> Option<NodeId>,
    ) -> Option<NodeId> {
        let own = self.0.habits.replica.load(Ordering::Relaxed).checked_sub(1).filter(|own| serves(*own));
        let node = own.or_else(next)?;
        self.0.habits.replica.store(node + 1, Ordering::Relaxed);
        Some(node)
    }

    /// Remembers what a monotonic session was shown; nothing for others.
    /// `before` is what had been seen when the read's demand was made up: only if nothing was seen since does this fill
    /// reflect all of it, and satisfy itself.
    pub(crate) fn saw(&self, history: &History, stamp: &Stamp, fill: u64, before: &Seen) {
        let cluster = history.system_identifier();
        let Some(upper) = stamp.upper.filter(|_| self.0.monotonic && holds(Rule::SightsAreKept)) else { return };
        if self.0.state.load().clusters.get(&cluster).is_some_and(|sights| sights.seen.fill == Some(fill)) {
            return;
        }
        self.update(|state| {
            state.clusters.entry(cluster).or_default().show(history, stamp, upper, fill, before);
        });
    }

    /// A transaction of the session has an unknown outcome.
    pub(crate) fn begin_unresolved(&self, cluster: u64) {
        self.update(|state| state.clusters.entry(cluster).or_default().unresolved += 1);
    }

    /// Whether a case is open, so that the token does not cover yet all that it will.
    #[cfg(feature = "http")]
    pub(crate) fn is_unresolved(&self) -> bool {
        self.0.state.load().clusters.values().any(|sights| sights.unresolved > 0)
    }

    /// One such transaction is over, and `position` was read after that: the session may go on above it.
    pub(crate) fn end_unresolved(&self, history: &History, position: Position) {
        self.end_care(history, position);
        self.count_deed();
    }

    /// The same where it was only possible that there is one.
    pub(crate) fn end_care(&self, history: &History, position: Position) {
        let cluster = history.system_identifier();
        self.update(|state| {
            if holds(Rule::ResolvedRaises) {
                state.token.raise(history, position, None);
            }
            let sights = state.clusters.entry(cluster).or_default();
            sights.unresolved = sights.unresolved.saturating_sub(1);
        });
    }

    /// The client is told that something of what the session held at this moment is lost.
    pub(crate) fn tell_loss(&self, moment: Moment) {
        self.0.told.store(Some(moment.0));
    }

    /// Drops what `history` cannot contain. Nothing, where the session was changed since its client was told: an instance that
    /// has not noticed yet that the log was set back may have written for it meanwhile, in the new one, under the name of the
    /// old. The next read tells what is lost of that.
    pub(crate) fn accept_loss(&self, history: &History) {
        let told = self.0.told.swap(None);
        self.update(|state| {
            if told.as_deref().is_none_or(|told| told == state) {
                state.keep_surviving(history);
            }
        });
    }

    /// Whether a read found the token above the primary's log, and took it for the log's end. Either the primary crashed and lost what
    /// it had not flushed, or the token was made with a stolen secret. Only the primary can say that, so of a token that
    /// was just taken in it is not known.
    #[must_use]
    pub fn was_clamped(&self) -> bool {
        self.0.clamped.load(Ordering::Relaxed)
    }

    /// The session as it is at this moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.0.state.load_full())
    }

    /// After a crash that undid everything above `top`, which was read after `moment`: what the session held then means
    /// no more than `top`. A session that was changed since is left alone; the next read will see to it.
    pub(crate) fn clamp(&self, moment: &Moment, cluster: u64, top: Position) {
        self.0.clamped.store(true, Ordering::Relaxed);
        let mut state = State::clone(&moment.0);
        state.token.clamp(cluster, top);
        if holds(Rule::ClampIsOfMoment) {
            self.0.state.compare_and_swap(&moment.0, Arc::new(state));
        } else {
            self.update(|state| state.token.clamp(cluster, top));
        }
    }

    /// What the session demands in `history`, of an instance that hears the log of `lineage`. What it saw is demanded of
    /// every key.
    pub(crate) fn floor(&self, history: &History, lineage: Option<Lineage>, scope: Scope<'_>) -> SessionFloor {
        let state = self.0.state.load();
        let demand = state.token.demand_of(history, lineage, scope);
        let mut floor = SessionFloor {
            tag: demand.floor,
            vouched: demand.vouched,
            seen_on_primary: None,
            seen_on_standby: None,
            seen: Seen::default(),
            primary_only: false,
            standing: demand.standing,
        };
        let Some(sights) = state.clusters.get(&history.system_identifier()) else { return floor };
        floor.primary_only = sights.unresolved > 0;
        if self.0.monotonic {
            let standing;
            (floor.seen_on_standby, floor.seen_on_primary, standing) = sights.demand(history);
            floor.standing = worst(floor.standing, standing);
            floor.seen = sights.seen;
        }
        floor
    }

    #[cfg(feature = "internals")]
    pub(crate) fn resume(monotonic: bool, state: State) -> Self {
        Self(Arc::new(Inner { monotonic, state: ArcSwap::from_pointee(state), ..Inner::default() }))
    }

    #[cfg(feature = "internals")]
    pub(crate) fn state(&self) -> State {
        State::clone(&self.0.state.load())
    }

    fn update(&self, change: impl Fn(&mut State)) {
        self.0.state.rcu(|state| {
            let mut state = State::clone(state);
            change(&mut state);
            state
        });
    }
}

impl fmt::Debug for Session {
    /// Without positions: what a client wrote is its own affair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("monotonic", &self.0.monotonic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
