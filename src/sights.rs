//! What a monotonic session was shown.

use crate::entry::{Origin, Stamp};
use crate::history::{Branch, History, Standing};
use crate::rules::{Rule, holds};
use crate::token::worst;
use crate::{Lsn, Position};

/// What a session knows of one cluster besides its token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sights {
    pub(crate) seen: Seen,
    /// A sight that gave way to one in another log, of reads that were under way at once: if it is lost, nobody was told.
    overtaken: Option<Sight>,
    /// How many transactions there are whose outcome is unknown: until they are over, only the primary can answer.
    pub(crate) unresolved: usize,
}

/// What a monotonic session was shown. Kept apart from the token, because a tag proves tokens and not what was seen:
/// a standby can show a commit before its replay position says so, and before the primary shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Seen {
    on_standby: Option<Sight>,
    on_primary: Option<Sight>,
    /// The fill shown last, while the sights cover it. It reflects everything seen before it, so it satisfies itself.
    pub(crate) fill: Option<u64>,
}

/// An upper bound of what was shown, and the branch of its timeline that it was shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sight {
    position: Position,
    branch: Branch,
}

impl Sights {
    /// Takes in what was shown: a fill whose value is bounded by `upper`. `before` is what had been seen when the read's demand
    /// was made up: only if nothing was seen since does this fill reflect all of it, and satisfy itself.
    pub(crate) fn show(&mut self, history: &History, stamp: &Stamp, upper: Lsn, fill: u64, before: &Seen) {
        let position = Position { timeline: stamp.timeline, lsn: upper };
        let shown = Sight { position, branch: history.branch(position.timeline) };
        let survived = |sight: &Sight| {
            let standing = history.standing_in(sight.position, sight.branch);
            sight.position.timeline < history.timeline() && matches!(standing, Standing::Floor(_))
        };
        let is_all = self.seen == *before || !holds(Rule::FillCoversAllSeen);
        let side = match stamp.origin {
            Origin::Standby => &mut self.seen.on_standby,
            Origin::Primary => &mut self.seen.on_primary,
        };
        let (latest, other) = later(*side, shown);
        *side = Some(latest);
        if let Some(other) = other.filter(|other| !is_all && !survived(other)) {
            self.overtaken = Some(later(self.overtaken, other).0);
        }
        self.seen.fill = is_all.then_some(fill);
    }

    /// What `history` has of what was seen, on a standby and on the primary, and the worst standing of it.
    pub(crate) fn demand(&self, history: &History) -> (Option<Lsn>, Option<Lsn>, Standing) {
        let mut worst_of_all = Standing::Floor(Lsn::ZERO);
        let mut resolve = |seen: Sight| match history.standing_in(seen.position, seen.branch) {
            Standing::Floor(lsn) => Some(lsn),
            standing => {
                worst_of_all = worst(worst_of_all, standing);
                None
            }
        };
        let on_standby = self.seen.on_standby.and_then(&mut resolve);
        let on_primary = self.seen.on_primary.and_then(&mut resolve);
        if let Some(overtaken) = self.overtaken {
            // What survived of it lies below the sight that overtook it.
            resolve(overtaken);
        }
        (on_standby, on_primary, worst_of_all)
    }

    /// Drops what `history` cannot contain, once the loss was accepted.
    pub(crate) fn keep_surviving(&mut self, history: &History) {
        let survivor = |seen: Sight| {
            let (position, branch) = history.survivor(seen.position, seen.branch)?;
            Some(Sight { position, branch })
        };
        self.seen.on_standby = self.seen.on_standby.and_then(survivor);
        self.seen.on_primary = self.seen.on_primary.and_then(survivor);
        self.overtaken = None;
        // An instance that has not noticed the loss may show that fill again, which is a sight anew.
        self.seen.fill = None;
    }
}

/// The later of two sights, and the other one where it is of another log. Where the timelines differ the younger one counts:
/// the older is in its past or was lost. So it is with branches, of which the present one is shown.
fn later(seen: Option<Sight>, shown: Sight) -> (Sight, Option<Sight>) {
    let Some(seen) = seen else { return (shown, None) };
    let log = |sight: &Sight| (sight.position.timeline, sight.branch);
    let place = |sight: &Sight| (sight.position.timeline, sight.position.lsn);
    let keeps =
        seen.position.timeline > shown.position.timeline || seen.branch == shown.branch && place(&seen) > place(&shown);
    let (latest, other) = if keeps { (seen, shown) } else { (shown, seen) };
    (latest, (log(&seen) != log(&shown)).then_some(other))
}
