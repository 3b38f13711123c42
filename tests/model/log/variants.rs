//! The bounds that are explored, and the rules that are broken one at a time.

use super::model::Bounds;
use highwater::rules::Rule;
use stateright::{Checker, Model};
use tokio::time::Instant;

/// One rule taken out: of the crate, or of the order of things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    Rule(Rule),
    AnnouncedWithTheCommit,
    VouchedUnannounced,
    VouchedUnacknowledged,
    WatermarkAtTheInsertPosition,
    WatermarkBeforeFloors,
    StartsBeforeItHears,
}

impl Bounds {
    pub(super) fn is_broken(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    pub(super) fn rule(&self) -> Option<Rule> {
        if let Some(Broken::Rule(rule)) = self.broken { Some(rule) } else { None }
    }

    /// Explores everything within the bounds, and returns the steps that led to a broken promise.
    fn explore(self, name: &str) -> Option<String> {
        let (begun, broken) = (Instant::now(), self.broken);
        let checker = self.checker().threads(2).spawn_bfs().join();
        assert!(checker.is_done());
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{name}: {states} states, {depth} steps deep, {:.1?}", begun.elapsed());
        assert!(broken.is_some() || checker.discovery("the watermark extends").is_some(), "nothing is shown of it");
        let path = checker.discovery("the promise")?;
        let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        Some(format!("a session was not answered with its own write:\n  {}", steps.join("\n  ")))
    }
}

fn least() -> Bounds {
    Bounds {
        writes: 2,
        hears: true,
        names: 1,
        crashes: 0,
        failovers: 0,
        losses: 0,
        calls: 0,
        deafs: 0,
        deaths: 0,
        leases: 0,
        fillers: 0,
        handed_over: 0,
        renewals: 0,
        queue: 2,
        broken: None,
    }
}

holds! {
    three_writes: Bounds { writes: 3, ..least() },
    who_begins_to_hear_and_is_deaf_for_a_time: Bounds { hears: false, deafs: 1, losses: 1, ..least() },
    messages_that_are_lost: Bounds { writes: 3, losses: 1, ..least() },
    calls_that_are_lost_and_writers_that_die: Bounds { losses: 1, calls: 1, deaths: 1, leases: 1, ..least() },
    more_that_is_told_late: Bounds { leases: 1, renewals: 1, ..least() },
    a_crash: Bounds { crashes: 1, fillers: 1, ..least() },
    a_server_that_takes_over: Bounds { failovers: 1, ..least() },
    a_token_that_is_handed_over: Bounds { calls: 1, handed_over: 1, ..least() },
    two_names_of_one_history: Bounds { names: 2, leases: 1, ..least() },
}

/// Breaks one rule, and expects to be shown what comes of it.
fn found(broken: Broken, bounds: Bounds) {
    let problem = Bounds { broken: Some(broken), ..bounds }.explore(&format!("{broken:?}"));
    println!("  {}", problem.unwrap_or_else(|| panic!("{broken:?} breaks nothing within the bounds")));
}

#[test]
fn every_broken_rule_is_found() {
    use Broken::{
        AnnouncedWithTheCommit, StartsBeforeItHears, VouchedUnacknowledged, VouchedUnannounced,
        WatermarkAtTheInsertPosition, WatermarkBeforeFloors,
    };
    for (broken, bounds) in [
        (AnnouncedWithTheCommit, least()),
        (VouchedUnannounced, Bounds { calls: 1, ..least() }),
        (VouchedUnacknowledged, Bounds { calls: 1, leases: 1, ..least() }),
        (WatermarkAtTheInsertPosition, Bounds { crashes: 1, fillers: 1, ..least() }),
        (WatermarkBeforeFloors, least()),
        (StartsBeforeItHears, Bounds { hears: false, ..least() }),
        (Broken::Rule(Rule::WatermarkAwaitsAnnounced), least()),
        (Broken::Rule(Rule::AbandonedIsPinned), Bounds { leases: 1, ..least() }),
        (Broken::Rule(Rule::GivenUpStaysSo), Bounds { leases: 1, renewals: 1, ..least() }),
        (Broken::Rule(Rule::GapStopsWatermark), Bounds { losses: 1, ..least() }),
        (Broken::Rule(Rule::GapsAreNoticed), Bounds { losses: 1, ..least() }),
        (Broken::Rule(Rule::ExtendedFromStart), Bounds { hears: false, ..least() }),
        (Broken::Rule(Rule::PinAsksTag), Bounds { calls: 1, leases: 1, ..least() }),
        (Broken::Rule(Rule::ForeignIsPinned), Bounds { failovers: 1, ..least() }),
        (Broken::Rule(Rule::OtherLineageIsPinned), Bounds { failovers: 1, ..least() }),
        (Broken::Rule(Rule::LineageIsOfServer), Bounds { failovers: 1, losses: 1, ..least() }),
        (Broken::Rule(Rule::LineageIsOfHistory), Bounds { names: 2, ..least() }),
        (Broken::Rule(Rule::RetractedIsGone), least()),
    ] {
        found(broken, bounds);
    }
}
