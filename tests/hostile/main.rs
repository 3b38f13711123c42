//! Hostile bytes: what the fuzz targets of `tests/fuzz` found is fed to the same functions again, and their memory is
//! measured. No fuzzer is needed for it.
#![cfg(feature = "internals")]
#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use allocation_counter::measure;
use highwater::internals::hostile::{TARGETS, Target};
use std::collections::BTreeSet;
use std::path::PathBuf;

mod limits;
mod seeds;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name)
}

/// The corpus of a target: names and inputs.
fn corpus(target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for file in std::fs::read_dir(folder(target))? {
        let file = file?;
        inputs.push((file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Feeds one input, and returns what became of it and the most bytes that were allocated at a time.
fn feed(target: &Target, input: &[u8]) -> (&'static str, u64) {
    let read = (target.read)(input);
    let peak = measure(read).bytes_max;
    ((target.check)(input), peak)
}

#[test]
fn every_corpus_is_replayed_within_memory_and_reaches_every_outcome() -> Result {
    for target in &TARGETS {
        let (mut outcomes, mut highest) = (BTreeSet::new(), (0, String::new()));
        let inputs = corpus(target)?;
        for (name, input) in &inputs {
            let (outcome, peak) = feed(target, input);
            outcomes.insert(outcome);
            highest = highest.max((peak, name.clone()));
            let most = 2 * target.bytes_max as u64;
            assert!(peak <= most, "{}/{name} made it allocate {peak} bytes; the most is {most}", target.name);
        }
        println!("{}: {} inputs, at most {} bytes, for {}", target.name, inputs.len(), highest.0, highest.1);
        // An input above the cap of an envelope is not kept in a file.
        let kept = |outcome: &&str| target.name != "envelope" || *outcome != "too long";
        let expected: BTreeSet<_> = target.outcomes.iter().copied().filter(kept).collect();
        assert_eq!(outcomes, expected, "{}", target.name);
    }
    Ok(())
}

/// A fuzzer changes its inputs; without one, each is at least cut short at every place and has every byte turned over.
#[test]
fn no_truncation_or_damage_of_a_seed_breaks_a_rule() -> Result {
    let mut fed = 0;
    for target in &TARGETS {
        for (_, input) in corpus(target)?.iter().filter(|(_, input)| input.len() <= 300) {
            for at in 0..input.len() {
                let (cut, rest) = input.split_at(at);
                (target.check)(cut);
                let turned = rest.iter().take(1).map(|byte| !byte).collect::<Vec<_>>();
                (target.check)(&[cut, &turned, rest.get(1..).unwrap_or_default()].concat());
                fed += 2;
            }
        }
    }
    println!("{fed} inputs");
    assert!(fed > 5_000, "the corpora are nearly empty");
    Ok(())
}
