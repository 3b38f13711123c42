//! The whole library over servers in memory, in virtual time, from one seed, against the checker.
//!
//! `HIGHWATER_SEED=17 cargo test --features testkit --test sim` runs one seed and prints what it did;
//! `HIGHWATER_SEEDS=10000` runs that many, beginning with `HIGHWATER_FIRST` or 0.
#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod abandon;
mod chaos;
mod client;
mod edge;
mod plan;
mod run;
mod truth;
mod world;

use edge::Mutant;
use plan::Plan;
use run::run;

/// As many failures are enough to look at.
const FAILURES_MAX: usize = 5;

/// How many seeds a plain run of the tests takes.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The line that brings a failure back.
fn replay(seed: u64) -> String {
    format!("HIGHWATER_SEED={seed} cargo test --features testkit --test sim promise -- --nocapture")
}

#[test]
fn the_promise_holds_for_every_seed() {
    if let Some(seed) = number("HIGHWATER_SEED") {
        let report = run(&Plan::draw(seed), Mutant::None);
        println!("{:#?}\n{}\n{}", Plan::draw(seed), report.diary(), report.story());
        if let Ok(path) = std::env::var("HIGHWATER_EDN") {
            std::fs::write(path, report.trace()).unwrap();
        }
        assert!(report.is_ok(), "{}", replay(seed));
        return;
    }
    let first = number("HIGHWATER_FIRST").unwrap_or(0);
    let count = number("HIGHWATER_SEEDS").unwrap_or(SEEDS);
    let (mut failed, mut sum) = (Vec::new(), run::Sum::default());
    for seed in first..first + count {
        let report = run(&Plan::draw(seed), Mutant::None);
        sum.add(&report);
        if !report.is_ok() {
            println!("{}\n{}", replay(seed), report.story());
            failed.push(seed);
            if failed.len() == FAILURES_MAX {
                break;
            }
        }
    }
    println!("{count} seeds from {first}: {sum}");
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}\n{}", failed.len(), replay(failed[0]));
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..12 {
        let (one, two) = (run(&Plan::draw(seed), Mutant::None), run(&Plan::draw(seed), Mutant::None));
        let (one, two) = (one.trace(), two.trace());
        let differ = one.lines().zip(two.lines()).find(|(one, two)| one != two);
        assert!(one == two, "seed {seed} ran in two ways, first here:\n{differ:#?}");
    }
}

#[test]
fn every_broken_edge_is_found_out() {
    for &mutant in Mutant::ALL {
        let caught = (0..400).find(|&seed| !run(&Plan::draw(seed), mutant).is_ok());
        println!(
            "{mutant:?}: {}",
            caught.map_or_else(|| "NOT FOUND".to_owned(), |seed| format!("found by seed {seed}"))
        );
        assert!(caught.is_some(), "{mutant:?} was not found");
    }
}
