//! Where tokens come into a service and leave it.

use super::policy::{Budget, WireCounters};
use super::{Context, Keyring, Outcome, Policy, Treatment, WireStats};
use crate::lives::Lives;
use crate::source::Source;
use crate::{Highwater, Session, clock, trace};
use rand::Rng;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where tokens come into a service and leave it: a keyring, a policy, the stores of the service, and counters. Cheap to
/// clone; clones count together.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    keyring: Keyring,
    policy: Policy,
    /// The clusters of the service.
    own: Vec<u64>,
    careful: Vec<BeCareful>,
    lives: Lives,
    budget: Budget,
    /// Of what nobody makes up: whoever sends the rest must not be able to spend it.
    budget_of_ours: Budget,
    counters: WireCounters,
    clock: Clock,
}

type BeCareful = Box<dyn Fn(&Session) + Send + Sync>;
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Puts a [`Gate`] together; begun by [`Gate::builder`].
#[must_use = "a gate is made by build()"]
pub struct GateBuilder(Inner);

impl Gate {
    /// Begins a gate whose tokens are written and opened with `keyring`.
    pub fn builder(keyring: Keyring) -> GateBuilder {
        GateBuilder(Inner {
            keyring,
            policy: Policy::default(),
            own: Vec::new(),
            careful: Vec::new(),
            lives: Lives::default(),
            budget: Budget::default(),
            budget_of_ours: Budget::default(),
            counters: WireCounters::default(),
            clock: Box::new(|| clock::unix_ms() / 1000),
        })
    }

    /// Raises `session` to cover what a client brought, as the policy says. Never waits, never fails, and counts.
    ///
    /// `audience` is what the token was written for: see [`Context::audience`].
    pub fn take_in(&self, session: &Session, text: &[u8], audience: Option<&[u8]>) -> Outcome {
        self.weigh(session, text, audience).0
    }

    /// The same, and whether nothing is lost with the text: it is worth nothing, or the session covers it once care is over.
    pub(crate) fn weigh(&self, session: &Session, text: &[u8], audience: Option<&[u8]>) -> (Outcome, bool) {
        let Inner { keyring, policy, own, counters, .. } = &*self.0;
        let now_unix_s = (self.0.clock)();
        let outcome = match keyring.open(text, &Context { audience, now_unix_s }) {
            Ok(opened) => {
                session.observe(&opened.token);
                let names = |cluster: &u64| opened.token.names(*cluster);
                match (own.iter().all(names), own.iter().any(names)) {
                    (false, _) if opened.token.is_collapsed() => Outcome::Collapsed,
                    (false, false) => Outcome::Foreign,
                    _ => Outcome::Valid,
                }
            }
            Err(unusable) => {
                trace::token_unusable(&unusable);
                unusable.into()
            }
        };
        counters.of(outcome).add_one();
        let is_careful = policy.treatment(outcome) == Treatment::Careful && self.care(session, outcome.is_ours());
        (outcome, is_careful || !outcome.is_unread())
    }

    /// Treats a session as of one who may have written a moment ago, within the policy's budget: see
    /// [`Highwater::be_careful`]. For what a client was to bring and could not be read. Never waits.
    pub fn be_careful(&self, session: &Session) {
        self.care(session, false);
    }

    /// Returns whether there was room for it.
    fn care(&self, session: &Session, is_ours: bool) -> bool {
        let Inner { policy, budget, budget_of_ours, counters, careful, .. } = &*self.0;
        let budget = if is_ours { budget_of_ours } else { budget };
        let has_room = budget.take((self.0.clock)(), policy.careful_per_second_max);
        if has_room {
            counters.careful.add_one();
            careful.iter().for_each(|be_careful| be_careful(session));
        } else {
            counters.careful_refused.add_one();
        }
        has_room
    }

    /// The text of what `session` holds now, or `None` where it holds nothing.
    #[must_use]
    pub fn write(&self, session: &Session, audience: Option<&[u8]>) -> Option<String> {
        let token = session.token();
        if token.is_empty() {
            return None;
        }
        let Inner { keyring, own, lives, counters, .. } = &*self.0;
        lives.compare("clients", keyring.token_life());
        let mut chance = [0; 12];
        rand::rng().fill_bytes(&mut chance);
        counters.written.add_one();
        let context = Context { audience, now_unix_s: (self.0.clock)() };
        Some(keyring.write(&token, own, &context, chance))
    }

    /// How long the tokens live that it writes.
    #[must_use]
    pub fn token_life(&self) -> Duration {
        self.0.keyring.token_life()
    }

    /// What came in so far, and what was done about it.
    #[must_use]
    pub fn stats(&self) -> WireStats {
        self.0.counters.snapshot()
    }
}

impl GateBuilder {
    /// Says which stores the service reads from: a token that names none of them is foreign, and where care is to be
    /// taken it is taken with these.
    pub fn store<S: Source>(mut self, store: &Highwater<S>) -> Self {
        self.0.own.push(store.history().system_identifier());
        self.0.lives.watch(store);
        let store = store.clone();
        self.0.careful.push(Box::new(move |session| store.be_careful(session)));
        self
    }

    /// Replaces the policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.0.policy = policy;
        self
    }

    /// Replaces the clock, which tells seconds since the Unix epoch. Defaults to the system's.
    pub fn clock(mut self, unix_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.0.clock = Box::new(unix_s);
        self
    }

    /// The gate.
    #[must_use]
    pub fn build(self) -> Gate {
        Gate(Arc::new(self.0))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyring, policy, own, counters, .. } = self;
        let mut all = f.debug_struct("Gate");
        all.field("keyring", keyring).field("policy", policy).field("own", own);
        all.field("stats", &counters.snapshot()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GateBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
