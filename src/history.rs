//! One unbroken history of one database cluster, and what a position of another timeline means in it.

use crate::rules::{Rule, holds};
use crate::{Lsn, Position, Timeline};
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;

/// Where a timeline ended: the next one of the same history began at this LSN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Switch {
    /// The timeline that ended.
    pub from: Timeline,
    /// The last LSN of it that the next timeline kept.
    pub at: Lsn,
}

/// The identity of one unbroken history of the primary: what entries and floors are valid within.
///
/// Two servers of one cluster are in the same history when the system identifier, the timeline and the switch points
/// agree. The generation tells apart what these cannot: a primary that was set back to an older copy of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct History {
    system_identifier: u64,
    timeline: Timeline,
    switches: Vec<Switch>,
    /// Which log of this timeline it is, and below that a mark of who noticed ([`set_back`](Self::set_back)).
    generation: u64,
    /// Where the primary was set back to, as far as this instance saw it happen.
    cuts: Vec<Cut>,
}

/// A primary was set back to an older copy of itself, without a new timeline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Cut {
    /// The timeline that it happened on, and the generation that began with it.
    timeline: Timeline,
    generation: u64,
    /// What was written before and lies above this is lost.
    at: Lsn,
}

/// How a primary was found set back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetBack {
    /// Where its log ends now.
    pub(crate) at: Lsn,
    /// When it started, in milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// Others had told of it, and the primary was not looked at since.
    pub(crate) told: bool,
    /// Another number for each instance and each time.
    pub(crate) mark: u32,
}

/// Which of several logs that bear the number of one timeline a position was read in: its generation, and a mark of where
/// it began, because two standbys may be promoted to one number. Small while all is as it should be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Branch(u64);

/// Two logs that began elsewhere have the same mark once in 2 to this power.
const MARK_BITS: u32 = 16;

impl Branch {
    fn new(generation: u64, began: Option<Lsn>) -> Self {
        let mark = began.map_or(0, |began| {
            let mut hasher = SipHasher13::new();
            hasher.write(&began.offset().to_be_bytes());
            1 + hasher.finish() % ((1 << MARK_BITS) - 1)
        });
        Self(generation << MARK_BITS | mark)
    }

    /// As it is written in tokens.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    fn generation(self) -> u64 {
        self.0 >> MARK_BITS
    }

    /// Whether both are known to have begun, and not at one place.
    fn began_elsewhere(self, other: Self) -> bool {
        let mark = |branch: Self| branch.0 & ((1 << MARK_BITS) - 1);
        mark(self) != 0 && mark(other) != 0 && mark(self) != mark(other) && holds(Rule::BranchesDiffer)
    }
}

/// Where the time begins in a generation; its mark is below. What is left is enough for the milliseconds of 139 years.
const TIME_SHIFT: u32 = 22;
const TIME_MAX: u64 = u64::MAX >> TIME_SHIFT;

/// How many cuts are remembered. Further back, nothing is claimed to be lost that may not be.
const CUTS_MAX: usize = 16;

/// What a position means in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It demands everything up to this LSN of the current timeline.
    Floor(Lsn),
    /// It names a write that this history does not contain.
    Lost,
    /// The switch point is not known, so nobody can say whether the write survived.
    Unproven,
    /// It lies on a timeline that this history has not reached: the history is out of date, or the position foreign.
    Ahead,
}

impl History {
    /// The history of the cluster `system_identifier` on `timeline`, whose known ancestors ended at `switches`. Where
    /// any ancestor is given, the parent of `timeline` must be.
    #[must_use]
    pub fn new(system_identifier: u64, timeline: Timeline, mut switches: Vec<Switch>) -> Self {
        switches.retain(|switch| switch.from < timeline);
        switches.sort_by_key(|switch| switch.from);
        switches.dedup_by_key(|switch| switch.from);
        Self { system_identifier, timeline, switches, generation: 0, cuts: Vec::new() }
    }

    /// The same history after it was replaced without a new timeline, as somebody else saw and numbered it.
    #[must_use]
    pub(crate) fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// The same history, with what was seen happen to the cluster before.
    #[must_use]
    pub(crate) fn after(mut self, past: &Self) -> Self {
        (self.generation, self.cuts) = (past.generation, past.cuts.clone());
        self
    }

    /// The history that began when the primary was found set back.
    ///
    /// Its generation is when the server started that was found so, which all who find it agree on without a word between
    /// them: a server is set back while it is down. Who was told of it (`told`) and finds it afterwards is in that
    /// generation already. Where the server's clock went back the next number does, which two instances may give to two
    /// logs: so the mark is another one for each instance and each time, or entries of one would answer in the other.
    #[must_use]
    pub(crate) fn set_back(mut self, SetBack { at, started_ms, told, mark }: SetBack) -> Self {
        let (before, mark) = (self.generation(), u64::from(mark) % (1 << TIME_SHIFT));
        let started_ms = started_ms.min(TIME_MAX);
        self.generation = match () {
            () if !holds(Rule::SetBackIsNumbered) => (before + 1).min(TIME_MAX) << TIME_SHIFT | mark,
            () if started_ms > before => started_ms << TIME_SHIFT | mark,
            () if told => self.generation.saturating_add(1),
            () => (before + 1).min(TIME_MAX) << TIME_SHIFT | mark,
        };
        self.cuts.push(Cut { timeline: self.timeline, generation: self.generation(), at });
        if self.cuts.len() > CUTS_MAX {
            self.cuts.remove(0);
        }
        self
    }

    /// `pg_control_system().system_identifier`: the same on every server of a cluster.
    #[must_use]
    pub fn system_identifier(&self) -> u64 {
        self.system_identifier
    }

    /// The current timeline.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Which of several logs with the number of this timeline it is. 0 until the primary is found set back to an older copy
    /// of itself; then when the server started that was found so, in milliseconds since 1970.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation >> TIME_SHIFT
    }

    /// The same with its mark, as instances tell each other: the higher one holds.
    pub(crate) fn marked_generation(&self) -> u64 {
        self.generation
    }

    /// The switch points known of the ancestors, oldest first.
    #[must_use]
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// What `position` means here.
    ///
    /// A position of an ancestor counts up to the LSN where the next timeline left it, whatever was written on the old
    /// timeline afterwards (postgres.md 5: every server of the new timeline has replayed to the switch point).
    pub(crate) fn standing(&self, position: Position) -> Standing {
        if position.timeline == self.timeline {
            return Standing::Floor(position.lsn);
        }
        if position.timeline > self.timeline {
            return Standing::Ahead;
        }
        match self.switches.iter().find(|switch| switch.from == position.timeline) {
            Some(switch) if position.lsn <= switch.at => Standing::Floor(position.lsn),
            Some(switch) if !holds(Rule::LossIsTold) => Standing::Floor(switch.at),
            Some(_) => Standing::Lost,
            // Between the parent and the current timeline lie only other servers' failed promotions.
            None if self.switches.last().is_some_and(|parent| parent.from < position.timeline) => Standing::Lost,
            None => Standing::Unproven,
        }
    }

    /// The most that can have survived of what `position` covers: an upper bound of commits may lie beyond the end of its
    /// timeline, and they below it. `None` on a timeline that this history has not reached.
    pub(crate) fn surviving(&self, position: Position) -> Option<Lsn> {
        let end = self.switches.iter().find(|switch| switch.from == position.timeline).map(|switch| switch.at);
        (position.timeline <= self.timeline).then(|| end.map_or(position.lsn, |end| position.lsn.min(end)))
    }

    /// Which log of its number this history has as this timeline.
    pub(crate) fn branch(&self, timeline: Timeline) -> Branch {
        Branch::new(self.generation(), self.began(timeline))
    }

    /// Where this timeline, the present one or an ancestor, began.
    fn began(&self, timeline: Timeline) -> Option<Lsn> {
        let parent = self.switches.iter().rev().find(|switch| switch.from < timeline)?;
        (timeline <= self.timeline).then_some(parent.at)
    }

    /// What `position` means here, which was read in this branch of its timeline.
    pub(crate) fn standing_in(&self, position: Position, branch: Branch) -> Standing {
        let cut = self.cut(position.timeline, branch);
        match self.standing(position) {
            Standing::Floor(_) if branch.began_elsewhere(self.branch(position.timeline)) => Standing::Lost,
            Standing::Floor(lsn) if cut.is_some_and(|at| lsn > at) => Standing::Lost,
            standing => standing,
        }
    }

    /// Where this timeline was set back to since that branch of it.
    fn cut(&self, timeline: Timeline, branch: Branch) -> Option<Lsn> {
        let since = |cut: &&Cut| cut.timeline == timeline && cut.generation > branch.generation();
        self.cuts.iter().filter(since).map(|cut| cut.at).min()
    }

    /// What is to be demanded in the place of `position` once its loss was accepted, and in which branch it counts.
    /// `None` where nothing of its timeline is in this history.
    ///
    /// A token is an upper bound on its commits, so one beyond the switch point may cover commits below it, and these
    /// survived. Where the switch point is not known, the same number of the present timeline is demanded: survivors lie
    /// below the switch point and keep their numbers, so whoever has replayed that far on the present timeline has them.
    /// Of another log of the same number only what came before both is left, and so before where the present one began.
    pub(crate) fn survivor(&self, position: Position, branch: Branch) -> Option<(Position, Branch)> {
        let ours = self.branch(position.timeline);
        match self.standing_in(position, branch) {
            Standing::Floor(_) | Standing::Ahead => return Some((position, branch)),
            Standing::Unproven => {
                return Some((Position { timeline: self.timeline, ..position }, self.branch(self.timeline)));
            }
            Standing::Lost => {}
        }
        let elsewhere = branch.began_elsewhere(ours);
        let fork = self.began(position.timeline).filter(|_| elsewhere);
        let switches = self.switches.iter().filter(|switch| switch.from == position.timeline).map(|switch| switch.at);
        let end = switches.chain(fork).chain(self.cut(position.timeline, branch)).min()?;
        let branch = if elsewhere { ours } else { branch };
        Some((Position { timeline: position.timeline, lsn: position.lsn.min(end) }, branch))
    }

    /// Whether this position was lost when the log of the present timeline was set back. What was written since lies in the
    /// present log, also at positions that the old one had, and not everybody may know of the difference at once.
    pub(crate) fn is_set_back(&self, position: Position, branch: Branch) -> bool {
        position.timeline == self.timeline
            && !branch.began_elsewhere(self.branch(position.timeline))
            && self.standing_in(position, branch) == Standing::Lost
    }

    /// Eight bytes that differ between histories: part of every address in the shared tier.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        if !holds(Rule::HistoriesDiffer) {
            return hasher.finish();
        }
        hasher.write(&self.system_identifier.to_be_bytes());
        hasher.write(&self.timeline.0.to_be_bytes());
        // Only the parent's switch: an instance that started later may not have learned the older ones.
        if let Some(parent) = self.switches.last() {
            hasher.write(&parent.at.offset().to_be_bytes());
        }
        hasher.write(&self.generation.to_be_bytes());
        hasher.finish()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {} timeline {}", self.system_identifier, self.timeline)?;
        if self.generation > 0 { write!(f, " generation {}", self.generation()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(timeline: u32, switches: &[(u32, u64)]) -> History {
        let switches = switches.iter().map(|&(from, at)| Switch { from: Timeline(from), at: Lsn::new(at) }).collect();
        History::new(7, Timeline(timeline), switches)
    }

    fn standing(history: &History, timeline: u32, lsn: u64) -> Standing {
        history.standing(Position::new(timeline, Lsn::new(lsn)))
    }

    #[test]
    fn an_old_position_counts_up_to_the_switch_point() {
        let history = history(3, &[(1, 100), (2, 250)]);
        assert_eq!(standing(&history, 3, 900), Standing::Floor(Lsn::new(900)));
        assert_eq!(standing(&history, 2, 250), Standing::Floor(Lsn::new(250)));
        assert_eq!(standing(&history, 2, 251), Standing::Lost);
        assert_eq!(standing(&history, 1, 100), Standing::Floor(Lsn::new(100)));
        assert_eq!(standing(&history, 1, 101), Standing::Lost);
        assert_eq!(standing(&history, 4, 1), Standing::Ahead);
    }

    #[test]
    fn a_timeline_that_was_never_an_ancestor_is_lost() {
        let history = history(3, &[(1, 100)]);
        assert_eq!(standing(&history, 2, 110), Standing::Lost);
    }

    #[test]
    fn without_the_switch_point_nothing_is_claimed() {
        assert_eq!(standing(&history(2, &[]), 1, 5), Standing::Unproven);
        assert_eq!(standing(&history(3, &[(2, 250)]), 1, 5), Standing::Unproven);
    }

    #[test]
    fn fingerprints_tell_histories_apart() {
        let one = history(2, &[(1, 100)]);
        assert_ne!(
            one.fingerprint(),
            history(2, &[(1, 101)]).fingerprint(),
            "two standbys promoted to the same number"
        );
        assert_ne!(one.fingerprint(), history(1, &[]).fingerprint());
        assert_ne!(one.fingerprint(), one.clone().with_generation(1).fingerprint());
        assert_eq!(one.fingerprint(), history(2, &[(1, 100)]).fingerprint());
    }
}
