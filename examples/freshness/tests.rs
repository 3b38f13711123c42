//! Whole runs in memory: the same again for the same seed, and everybody breaks what they are known to break.

use crate::args::Args;
use crate::bench::work;
use crate::contestant::Contestant;
use crate::report::Report;
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;

fn run(arguments: &str) -> Report {
    let out = tempfile::tempdir().unwrap();
    let words = ["freshness", "--simulate", "--out", out.path().to_str().unwrap()].into_iter();
    let args = Args::parse_from(words.chain(arguments.split(' ')));
    args.check().unwrap();
    let plan = args.plan().unwrap();
    let mut report = Report::new(&args, plan.micros, arguments.to_owned()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(work(&args, plan, &mut report, &ProgressBar::hidden())).unwrap();
    report.complete = true;
    report.save().unwrap();
    report
}

#[test]
fn a_seed_gives_the_same_report_again() {
    let json = |arguments: &str| serde_json::to_string(&run(arguments)).unwrap();
    let arguments = "--seconds 6 --rate 500 --capacity 100 --strategies highwater,ttl-1s,delete,stored,oracle --seed";
    assert_eq!(json(&format!("{arguments} 7")), json(&format!("{arguments} 7")));
    assert_ne!(json(&format!("{arguments} 7")), json(&format!("{arguments} 8")));
}

/// Each run has operations of its own; the tables have the middle and the ends.
#[test]
fn several_runs_have_a_range() {
    let report = run("--seconds 6 --rate 500 --capacity 100 --strategies highwater,ttl-1s,oracle --runs 3");
    let ours = &report.summaries("").unwrap()[0];
    let mut hits: Vec<f64> = report.cells.iter().step_by(3).map(|cell| cell.figures.hit_rate).collect();
    hits.sort_by(f64::total_cmp);
    assert_eq!([ours.least.hit_rate, ours.median.hit_rate, ours.greatest.hit_rate], hits[..]);
    assert!(hits[0] < hits[2], "{hits:?}");
    assert_eq!((report.cells.len(), ours.runs), (9, 3));
    assert_eq!(
        run("--seconds 6 --rate 500 --capacity 100 --strategies highwater --seed 2").cells[0].figures.hit_rate,
        { report.cells[3].figures.hit_rate }
    );
}

#[test]
fn everybody_breaks_what_they_are_known_to_break_and_no_more() {
    let report = run("--seconds 12 --own-reads 0.5 --lag spikes");
    assert_eq!(report.problems(), Vec::<String>::new());
    let of = |contestant: Contestant| {
        &report.of_sweep("").find(|cell| cell.figures.strategy == contestant.name()).unwrap().figures
    };
    for contestant in Contestant::value_variants() {
        let it = of(*contestant);
        let misses = contestant.must_miss()
            || matches!(contestant, Contestant::Sticky | Contestant::Delete | Contestant::WriteThrough);
        assert_eq!(it.own_write_violations > 0, misses, "{}: {}", it.strategy, it.own_write_violations);
        assert!(it.reads > 9_000 && it.failed == 0, "{}: {} reads, {} failed", it.strategy, it.reads, it.failed);
    }
    assert!(of(Contestant::Window).own_write_violations < of(Contestant::Replica).own_write_violations);
    assert!(of(Contestant::Replica).monotonic_violations > 0 && of(Contestant::Sticky).monotonic_violations == 0);
    let (ours, oracle) = (of(Contestant::Highwater), of(Contestant::Oracle));
    let tags = of(Contestant::Tags);
    assert!(ours.fresh_hit_rate < oracle.fresh_hit_rate && ours.fresh_hit_rate > oracle.fresh_hit_rate - 0.03);
    assert!(tags.fresh_hit_rate > 0.5 * oracle.fresh_hit_rate && tags.fresh_hit_rate < ours.fresh_hit_rate - 0.1);
    let keys = of(Contestant::Keys).fresh_hit_rate;
    assert!(keys > tags.fresh_hit_rate + 0.1 && keys < oracle.fresh_hit_rate, "without a watermark");
    assert!(of(Contestant::Ttl60).hit_rate > oracle.hit_rate, "who may be stale hits more");
}

/// What is committed is one run of half a minute; this is a shorter one.
#[test]
fn with_a_lag_of_80_ms_it_is_within_two_points_of_the_oracle() {
    for workload in ["ycsb-b", "feed"] {
        let arguments = format!("--seconds 15 --lag 80ms --strategies highwater,oracle --workload {workload}");
        let report = run(&arguments);
        let hits: Vec<f64> = report.cells.iter().map(|cell| cell.figures.fresh_hit_rate).collect();
        assert!(hits[0] > hits[1] - 0.02 && hits[0] < hits[1], "{workload}: {hits:?}");
        assert_eq!(report.cells[0].figures.own_write_violations, 0);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let check = |arguments: &str| {
        Args::try_parse_from(["freshness"].into_iter().chain(arguments.split(' ')))
            .map_err(|error| error.to_string())
            .and_then(|args| args.check().and_then(|()| args.plan()).map(drop))
            .unwrap_err()
    };
    let cases = [
        ("--tokens 2", "--tokens is a share"),
        ("--keys 0", "--keys is 0"),
        ("--replicas 0", "--replicas is 0"),
        ("--rate 0", "--rate"),
        ("--rate NaN", "--rate"),
        ("--lag soon", "give none, spikes, pause"),
        ("--redis-outage 3-90", "ends after the operations"),
        ("--redis-outage 5-3", "must end after it has begun"),
        ("--trace /nowhere.csv", "/nowhere.csv: No such file"),
        ("--trace /nowhere.csv --workload feed", "cannot be used with"),
        ("--trace /nowhere.csv --sweep lag", "cannot be had with --trace"),
        ("--bound 0s", "--bound"),
        ("--runs 0", "--runs is 0"),
        ("--seconds 0", "--seconds is 0"),
        ("--row-bytes 1000000", "--row-bytes is 1000000"),
        ("--strategies tags,tags", "names tags twice"),
    ];
    for (arguments, expected) in cases {
        let error = check(arguments);
        assert!(error.contains(expected), "{arguments}: {error}");
    }
}

/// The folder is there, and nothing can be written to it.
#[test]
fn where_results_cannot_go_is_told_before_anything_starts() {
    let args = Args::parse_from(["freshness", "--simulate", "--out", "/proc/self"]);
    let error = Report::new(&args, 1, String::new()).unwrap_err().to_string();
    assert!(error.starts_with("--out /proc/self: "), "{error}");
}

/// A trace has a length of its own, and may be long with little in it.
#[test]
fn what_happens_is_shaded_as_long_as_a_trace_is() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&trace, "time,session,operation,key\n0,a,write,k\n1,a,read,k\n2000,a,read,k\n").unwrap();
    let report = run(&format!("--strategies highwater,oracle --trace {}", trace.path().display()));
    assert_eq!((report.shaded.len(), report.cells[0].figures.reads), (100, 1));
}
