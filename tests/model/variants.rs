//! The bounds that are explored, and the rules that are broken one at a time.

use crate::model::Bounds;
use stateright::{Checker, Model};
use tokio::time::Instant;

/// One rule taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    TagAtTheFlushPosition,
    TagFromTheInsertPosition,
    TagAfterTheData,
    TokenBeforeTheCommit,
    JoinsAfterDeparture,
    NoFloors,
    LoadsBelowTheFloor,
    LooksAtTheFloorsOnce,
    TrustsTheSharedTier,
    AdvancesTagsFromTheBus,
    KeepsEntriesOverAPromotion,
    DoesNotConfirmTheTimeline,
    ResolvedWhileInProgress,
    DoesNotWaitForWhatAStandbyShowed,
}

impl Bounds {
    pub(crate) fn is_broken(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// Explores everything within the bounds, and returns what was broken, with the steps that led there.
    fn explore(self, name: &str) -> Option<String> {
        let begun = Instant::now();
        let checker = self.checker().threads(2).spawn_bfs().join();
        assert!(checker.is_done());
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{name}: {states} states, {depth} steps deep, {:.1?}", begun.elapsed());
        let path = checker.discovery("the promise")?;
        let steps: Vec<String> = path.clone().into_actions().iter().map(|action| format!("{action:?}")).collect();
        let broken = path.last_state().broken.unwrap_or_default();
        Some(format!("{broken}\n  {}", steps.join("\n  ")))
    }
}

/// A monotonic session that goes from instance to instance, while another writes.
fn shown_by_a_standby() -> Bounds {
    Bounds { instances: 2, roaming: 0..2, writers_read: false, monotonic: true, gaps: true, ..least() }
}

fn least() -> Bounds {
    Bounds { writes: 1, writers: 1, ..Bounds::default() }
}

holds! {
    one_write_whose_answer_may_be_lost: Bounds { fillers: 1, lost_answers: 1, ..least() },
    two_writers_of_one_row: Bounds { writes: 2, writers: 2, ..least() },
    three_sessions: Bounds { sessions: 3, ..least() },
    two_keys: Bounds { keys: 2, ..least() },
    a_crash_that_lets_positions_be_used_again: Bounds { crashes: 1, fillers: 1, ..least() },
    a_promotion_that_loses_writes: Bounds { writes: 2, sessions: 1, promotions: 1, ..least() },
    two_instances_and_a_bus: Bounds { instances: 2, ..least() },
    two_instances_over_a_redis_that_falls_back: Bounds { instances: 2, sessions: 1, shared: true, fallbacks: 1, ..least() },
    a_token_handed_over_across_a_promotion: Bounds { handed_over: 1, promotions: 1, ..least() },
    a_monotonic_session: shown_by_a_standby(),
    a_monotonic_session_across_a_promotion: Bounds { roaming: 1..2, promotions: 1, comes_back: false, gaps: false, ..shown_by_a_standby() },
}

/// Breaks one rule, and expects to be shown what comes of it.
fn found(broken: Broken, bounds: Bounds) {
    let problem = Bounds { broken: Some(broken), ..bounds }.explore(&format!("{broken:?}"));
    println!("{}", problem.unwrap_or_else(|| panic!("{broken:?} breaks nothing within the bounds")));
}

#[test]
fn every_broken_rule_is_found() {
    use Broken::*;
    for (broken, bounds) in [
        (TagAtTheFlushPosition, least()),
        (TagFromTheInsertPosition, Bounds { crashes: 1, fillers: 1, ..least() }),
        (TagAfterTheData, least()),
        (TokenBeforeTheCommit, least()),
        (JoinsAfterDeparture, Bounds { sessions: 3, ..least() }),
        (NoFloors, Bounds { sessions: 3, ..least() }),
        (LoadsBelowTheFloor, least()),
        (LooksAtTheFloorsOnce, Bounds { sessions: 3, ..least() }),
        (TrustsTheSharedTier, Bounds { instances: 2, shared: true, ..least() }),
        (AdvancesTagsFromTheBus, Bounds { keys: 2, writes: 2, writers: 2, ..least() }),
        (KeepsEntriesOverAPromotion, Bounds { promotions: 1, ..least() }),
        (DoesNotConfirmTheTimeline, Bounds { promotions: 1, ..least() }),
        (ResolvedWhileInProgress, Bounds { lost_answers: 1, ..least() }),
        (DoesNotWaitForWhatAStandbyShowed, shown_by_a_standby()),
    ] {
        found(broken, bounds);
    }
}
