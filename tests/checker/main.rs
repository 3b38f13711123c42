//! Histories written by hand, good and bad, for each promise that the checker decides.
//!
//! A good history must pass; a bad one must be found to break exactly what its family names, and nothing else.

#![cfg(feature = "testkit")]

mod failovers;
mod invented;
mod latest;
mod liveness;
mod monotonic;
mod notation;
mod order;
mod output;
mod own_writes;
mod positions;
mod replaced;
mod retractions;
mod scale;
mod staleness;

use std::collections::BTreeMap;

use highwater::testkit::history::{Kind, Limits, Liveness, check};

/// A family of histories: what each shows, and the history.
type Family = &'static [(&'static str, &'static str)];

/// After these limits faults are healed at 1000, and operations begun after 1100 may take 200.
fn limits() -> Limits {
    Limits { liveness: Some(Liveness { healed_at: 1_000, grace: 100, bound: 200 }), ..Limits::default() }
}

fn all_good(family: Family) {
    for (name, text) in family {
        let verdict = check(&notation::history(text), &limits());
        assert!(verdict.is_ok(), "{name}\n  {text}\n{verdict}");
    }
}

/// Every history breaks exactly `kind`, once.
fn all_bad(kind: Kind, family: Family) {
    for (name, text) in family {
        let verdict = check(&notation::history(text), &limits());
        assert_eq!(verdict.counts(), &BTreeMap::from([(kind, 1)]), "{name}\n  {text}\n{verdict}");
        for violation in verdict.violations() {
            assert!(violation.to_string().starts_with(&kind.to_string()), "{name}: {violation}");
        }
    }
}

#[test]
fn there_are_a_hundred_of_each() {
    let good = [
        own_writes::GOOD,
        replaced::GOOD,
        monotonic::GOOD,
        staleness::GOOD,
        latest::GOOD,
        retractions::GOOD,
        invented::GOOD,
        positions::GOOD,
        order::GOOD,
        liveness::GOOD,
    ];
    let bad = [
        own_writes::BAD,
        replaced::BAD,
        replaced::BAD_OTHERWISE,
        monotonic::BAD,
        staleness::BAD,
        latest::BAD,
        retractions::BAD,
        invented::NEVER_WRITTEN,
        invented::ROLLED_BACK,
        invented::WRONG_ROW,
        invented::WRONG_VERSION,
        invented::TOO_EARLY,
        positions::BAD,
        order::FORKED,
        order::MALFORMED,
        liveness::STUCK,
        liveness::STARVED,
    ];
    let count = |families: &[Family]| families.iter().map(|family| family.len()).sum::<usize>();
    println!("{} good, {} bad", count(&good), count(&bad));
    assert!(count(&good) >= 100 && count(&bad) >= 100, "{} good, {} bad", count(&good), count(&bad));
    let mut texts: Vec<&str> = good.iter().chain(&bad).flat_map(|f| f.iter().map(|(_, text)| *text)).collect();
    let written = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), written, "a history was written twice");
}
