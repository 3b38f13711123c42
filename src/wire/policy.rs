//! What becomes of tokens that cannot be used, and how often each thing happened.

use super::Unusable;
use crate::rules::{Rule, holds};
use crate::stats::Counter;
use std::sync::atomic::{AtomicU64, Ordering};

/// What came in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// A token of ours; the session covers it. Whether it lies above the primary's position is seen by the first read, which
    /// then takes it for that position and tells it by [`Session::was_clamped`](crate::Session::was_clamped).
    Valid,
    /// A token of ours that names none of the gate's stores. The session carries it on, and it demands nothing here.
    Foreign,
    /// A token of ours that left out clusters for want of room, and maybe one of the gate's stores. The session covers the rest.
    Collapsed,
    /// See [`Unusable::Expired`].
    Expired,
    /// See [`Unusable::UnknownKey`].
    UnknownKey,
    /// See [`Unusable::UnknownForm`].
    UnknownForm,
    /// See [`Unusable::Forged`].
    Forged,
    /// See [`Unusable::Malformed`].
    Malformed,
}

impl Outcome {
    /// Only who has a key can bring it about.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Valid | Self::Foreign | Self::Collapsed | Self::Expired)
    }

    /// Another instance may be able to read it.
    pub(crate) fn is_unread(self) -> bool {
        matches!(self, Self::UnknownKey | Self::UnknownForm)
    }
}

impl From<Unusable> for Outcome {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Expired => Self::Expired,
            Unusable::UnknownKey => Self::UnknownKey,
            Unusable::UnknownForm => Self::UnknownForm,
            Unusable::Forged => Self::Forged,
            Unusable::Malformed => Self::Malformed,
        }
    }
}

/// How a request is treated whose token says less than it might.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Treatment {
    /// As one without a token, as far as this token goes.
    NoToken,
    /// As one that may have written a moment ago: see [`Highwater::be_careful`](crate::Highwater::be_careful). At most
    /// [`careful_per_second_max`](Policy::careful_per_second_max) at a time; the others are treated as without a token.
    Careful,
}

/// How the outcomes are treated. A valid token is always used, and one that [collapsed](Outcome::Collapsed) makes careful.
///
/// The defaults follow from who can bring an outcome about. Anybody can send nonsense and forgeries, so these must cost
/// nothing. Expired tokens were ours, and unknown keys and forms are what a deployment looks like that changes them, so
/// these are treated carefully, within a budget that whoever sends many cannot exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Defaults to [`Treatment::Careful`].
    pub expired: Treatment,
    /// Defaults to [`Treatment::Careful`].
    pub unknown_key: Treatment,
    /// Defaults to [`Treatment::Careful`].
    pub unknown_form: Treatment,
    /// Defaults to [`Treatment::NoToken`]. Set it to careful while clients move from a cluster that this one replaces.
    pub foreign: Treatment,
    /// Defaults to [`Treatment::NoToken`].
    pub forged: Treatment,
    /// Defaults to [`Treatment::NoToken`].
    pub malformed: Treatment,
    /// How many requests a second this instance treats carefully: so many that brought tokens of ours, and as many others,
    /// since these can be made up and must not take the care from those. Each asks the primary for its position, together
    /// with others that come at the same time, and reads from the primary until the answer is there. Defaults to 50.
    pub careful_per_second_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            expired: Treatment::Careful,
            unknown_key: Treatment::Careful,
            unknown_form: Treatment::Careful,
            foreign: Treatment::NoToken,
            forged: Treatment::NoToken,
            malformed: Treatment::NoToken,
            careful_per_second_max: 50,
        }
    }
}

impl Policy {
    pub(crate) fn treatment(&self, outcome: Outcome) -> Treatment {
        match outcome {
            Outcome::Valid => Treatment::NoToken,
            Outcome::Collapsed => Treatment::Careful,
            Outcome::Foreign => self.foreign,
            Outcome::Expired if !holds(Rule::ExpiredIsCareful) => Treatment::NoToken,
            Outcome::Expired => self.expired,
            Outcome::UnknownKey => self.unknown_key,
            Outcome::UnknownForm => self.unknown_form,
            Outcome::Forged => self.forged,
            Outcome::Malformed => self.malformed,
        }
    }
}

/// So many in each second.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// The second, and above it how many were taken in it.
    window: AtomicU64,
}

/// By how many seconds a clock may be set back and still be in the second that it was in.
const WAVER_S: u64 = 2;

const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Budget {
    /// Whether one more may be had in this second.
    pub(crate) fn take(&self, now_unix_s: u64, per_second_max: u32) -> bool {
        let max = u64::from(per_second_max).min(COUNT_MAX);
        let taken = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            let (second, count) = (window >> COUNT_BITS, window & COUNT_MAX);
            // A clock that wavers must not open the budget anew, and one that was far ahead must not keep it closed.
            let is_another = now_unix_s > second || second - now_unix_s > WAVER_S;
            let (second, count) = if is_another { (now_unix_s, 0) } else { (second, count) };
            (count < max).then_some(second << COUNT_BITS | (count + 1))
        });
        taken.is_ok()
    }
}

crate::stats::counters! {
    /// What a gate has seen since it was built.
    WireCounters => WireStats {
        /// Tokens that were used.
        valid,
        /// Tokens of ours that name none of the gate's stores.
        foreign,
        /// Tokens that had left out clusters, and maybe one of the gate's stores.
        collapsed,
        /// Tokens that had expired.
        expired,
        /// Tokens that name a key which the keyring does not hold.
        unknown_key,
        /// Tokens of a form that this release does not know.
        unknown_form,
        /// Tokens whose signature does not fit.
        forged,
        /// Texts that are no tokens.
        malformed,
        /// Requests treated carefully.
        careful,
        /// Requests that were to be treated carefully and were not, because too many were already.
        careful_refused,
        /// Tokens written.
        written,
    }
}

impl WireCounters {
    pub(crate) fn of(&self, outcome: Outcome) -> &Counter {
        match outcome {
            Outcome::Valid => &self.valid,
            Outcome::Foreign => &self.foreign,
            Outcome::Collapsed => &self.collapsed,
            Outcome::Expired => &self.expired,
            Outcome::UnknownKey => &self.unknown_key,
            Outcome::UnknownForm => &self.unknown_form,
            Outcome::Forged => &self.forged,
            Outcome::Malformed => &self.malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_budget_is_spent_once_a_second_whatever_the_clock_does() {
        let budget = Budget::default();
        let taken = |now| (0..10).filter(|_| budget.take(now, 3)).count();
        assert_eq!(taken(1_700_000_000), 3);
        assert_eq!(taken(1_700_000_001), 3);
        assert_eq!(taken(1_700_000_000), 0, "the clock was set back");
        assert_eq!((taken(1_800_000_000), taken(1_700_000_002)), (3, 3), "it had leapt ahead");
        assert!(!budget.take(1_700_000_009, 0));
    }
}
