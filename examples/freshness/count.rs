//! Counts what a run comes to from the log of the versions, and never from the cache's own word.

use crate::contestant::Contestant;
use crate::figures::{Cell, Figures, Slice};
use crate::log::{Extra, Log, RUNGS, Staleness, Told};
use crate::oracle;
use crate::run::{Counts, Ran, Script};
use crate::stage::Result;
use hdrhistogram::Histogram;
use highwater::testkit::history::{KeyId, Kind, Limits, Op, Outcome, check};
use highwater::{CacheStats, Rung, StoreCounts};
use std::collections::BTreeSet;

/// As long as one slice of time is.
pub(crate) const SLICE: u64 = 500_000;

/// Longer than anything that is measured, in microseconds.
const LONGEST: u64 = 3_600_000_000;

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1_000.0 }
}

/// The 99th percentile of some microseconds, as a histogram takes it; 0 of none.
fn p99_ms(micros: &mut [u64]) -> f64 {
    let at = (micros.len() * 99).div_ceil(100).saturating_sub(1);
    if micros.is_empty() { 0.0 } else { *micros.select_nth_unstable(at).1 as f64 / 1e3 }
}

/// A share, and 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Cell {
    /// What the run comes to.
    pub(crate) fn of(ran: &Ran, script: &Script, micros: u64) -> Result<Self> {
        let rungs = |log: &Log| -> Vec<Option<Rung>> {
            let rung = |outcome| if let Outcome::Saw(seen) = outcome { Some(seen.rung) } else { None };
            log.operations().map(|(op, _)| op.finished.and_then(|(_, outcome)| rung(outcome))).collect()
        };
        let mut cell = Self::counted(&ran.log, &rungs(&ran.log), script, micros, false)?;
        cell.add_counts(ran, (micros - script.warm) as f64 / 1e6);
        Ok(cell)
    }

    /// What the oracle would have come to in the same run.
    pub(crate) fn of_oracle(log: &Log, script: &Script, micros: u64) -> Result<Self> {
        let answers = oracle::answers(log, &script.setup);
        let rungs: Vec<_> = answers.iter().map(|answer| answer.map(|answer| answer.rung)).collect();
        let mut cell = Self::counted(log, &rungs, script, micros, true)?;
        let counted = log.operations().zip(&answers).filter(|((_, extra), _)| extra.due >= script.warm);
        let changed = counted.filter(|(_, answer)| answer.is_some_and(|answer| answer.changed)).count();
        let figures = &mut cell.figures;
        figures.strategy = Contestant::Oracle.name();
        figures.miss_retracted = share(changed as u64, figures.reads);
        figures.miss_capacity = (1.0 - figures.local - figures.miss_compulsory - figures.miss_retracted).max(0.0);
        Ok(cell)
    }

    fn counted(log: &Log, rungs: &[Option<Rung>], script: &Script, micros: u64, oracle: bool) -> Result<Self> {
        let mut count = Count::new(script, micros, oracle)?;
        let versions = log.versions();
        for ((op, extra), rung) in log.operations().zip(rungs) {
            let told = versions.get(&op.key).map_or(&[][..], Vec::as_slice);
            count.take(op, extra, *rung, told)?;
        }
        let tokened = count.tokened;
        let mut cell = count.into_cell();
        if !oracle {
            cell.judge(log, tokened);
        }
        Ok(cell)
    }

    /// Holds the log against the promises, by the checker of the tests.
    fn judge(&mut self, log: &Log, tokened: u64) {
        let verdict = check(&log.history, &Limits { kept: usize::MAX, ..Limits::default() });
        let figures = &mut self.figures;
        figures.own_write_violations = verdict.count(Kind::ReadYourWrites);
        figures.monotonic_violations = verdict.count(Kind::MonotonicReads);
        let per_million = |count| share(count, tokened) * 1e6;
        figures.own_write_per_million = per_million(figures.own_write_violations);
        figures.monotonic_per_million = per_million(figures.monotonic_violations);
        for violation in verdict.violations() {
            match violation.kind {
                Kind::ReadYourWrites => {
                    let at = violation.op.as_ref().map_or(0, |op| op.invoked.at / SLICE);
                    if let Some(slice) = self.slices.get_mut(at as usize) {
                        slice.own_write_violations += 1;
                    }
                    self.example.get_or_insert_with(|| violation.to_string());
                }
                Kind::MonotonicReads => {}
                _ if self.absurd.len() < 5 => self.absurd.push(violation.to_string()),
                _ => {}
            }
        }
    }

    fn add_counts(&mut self, ran: &Ran, seconds: f64) {
        let figures = &mut self.figures;
        let caches = |of: fn(&CacheStats) -> u64| risen(ran, |counts| counts.caches.iter().map(of).sum());
        let stores = |of: fn(&StoreCounts) -> u64| risen(ran, |counts| counts.stores.iter().map(of).sum());
        let share = |count| share(count, figures.reads);
        figures.waits = stores(|it| it.waits);
        figures.extended = share(caches(|it| it.hits_extended));
        let absent = share(caches(|it| it.misses_absent));
        figures.miss_compulsory = figures.miss_compulsory.min(absent);
        figures.miss_capacity = absent - figures.miss_compulsory;
        figures.miss_expired = share(caches(|it| it.misses_expired));
        figures.miss_retracted = share(caches(|it| it.misses_retracted));
        figures.miss_below_token = share(caches(|it| it.misses_below_floor));
        figures.miss_not_monotonic = share(caches(|it| it.misses_not_monotonic));
        figures.miss_deaf = share(caches(|it| it.misses_deaf));
        figures.miss_history = share(caches(|it| it.misses_other_history));
        let per_s = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        figures.primary_per_s = per_s(figures.primary * figures.reads as f64 + figures.writes as f64);
        figures.replica_per_s = per_s(figures.replica * figures.reads as f64);
        figures.loads_per_s = per_s(risen(ran, |counts| counts.loads) as f64);
        figures.redis_commands_per_s = per_s(risen(ran, |counts| counts.redis_commands) as f64);
        figures.redis_messages_per_s = per_s(stores(|it| it.retractions_heard) as f64);
    }
}

/// Counts the operations of one run.
struct Count<'a> {
    script: &'a Script,
    /// Nothing is stale, and times mean nothing.
    oracle: bool,
    figures: Figures,
    slices: Vec<Slice>,
    /// In microseconds, by slice. A histogram for each would take more room than the operations of a long trace.
    latencies: Vec<Vec<u64>>,
    by_rung: Vec<Histogram<u64>>,
    by_rung_count: [u64; 4],
    writing: Histogram<u64>,
    stale_us: Histogram<u64>,
    missed: Histogram<u64>,
    late: Histogram<u64>,
    fresh: u64,
    stale: u64,
    firsts: u64,
    tokened: u64,
    read_before: BTreeSet<(usize, KeyId)>,
}

impl<'a> Count<'a> {
    fn new(script: &'a Script, micros: u64, oracle: bool) -> Result<Self> {
        let slices = vec![Slice::default(); micros.div_ceil(SLICE).max(1) as usize];
        Ok(Self {
            script,
            oracle,
            figures: Figures { strategy: script.contestant.name(), ..Figures::default() },
            latencies: vec![Vec::new(); slices.len()],
            slices,
            by_rung: vec![histogram()?; RUNGS.len()],
            by_rung_count: [0; 4],
            writing: histogram()?,
            stale_us: histogram()?,
            missed: histogram()?,
            late: histogram()?,
            fresh: 0,
            stale: 0,
            firsts: 0,
            tokened: 0,
            read_before: BTreeSet::new(),
        })
    }

    fn take(&mut self, op: &Op, extra: &Extra, rung: Option<Rung>, told: &[Told]) -> Result {
        let Some((stamp, outcome)) = op.finished else { return Ok(()) };
        let counted = extra.due >= self.script.warm;
        let latency = stamp.at.saturating_sub(extra.due).clamp(1, LONGEST);
        self.late.record(op.invoked.at.saturating_sub(extra.due).min(LONGEST))?;
        match outcome {
            Outcome::Saw(seen) => {
                let first = self.read_before.insert((extra.instance, op.key));
                self.tokened += u64::from(extra.token);
                let Some(rung) = rung else { return Ok(()) };
                let staleness = match self.oracle {
                    true => Staleness::default(),
                    false => Staleness::of(told, seen.version, op.invoked.index, op.invoked.at),
                };
                self.slice(extra.due, rung, staleness, latency);
                if counted {
                    self.firsts += u64::from(first);
                    self.figures.labelled += u64::from(seen.labelled_stale);
                    self.read(rung, staleness, latency)?;
                }
            }
            Outcome::Committed { .. } => {
                if let Some(slice) = self.slices.get_mut((extra.due / SLICE) as usize) {
                    slice.writes += 1;
                }
                if counted {
                    self.figures.writes += 1;
                    self.writing.record(latency)?;
                }
            }
            Outcome::Failed | Outcome::RolledBack | Outcome::Unknown { .. } if counted => self.figures.failed += 1,
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, rung: Rung, staleness: Staleness, latency: u64) -> Result {
        let at = RUNGS.iter().position(|it| *it == rung).unwrap_or_default();
        if let (Some(count), Some(latencies)) = (self.by_rung_count.get_mut(at), self.by_rung.get_mut(at)) {
            *count += 1;
            latencies.record(latency)?;
        }
        let stale = staleness.versions > 0;
        self.figures.reads += 1;
        self.stale += u64::from(stale);
        self.fresh += u64::from(is_hit(rung) && !stale);
        self.stale_us.record(staleness.micros.min(LONGEST))?;
        Ok(self.missed.record(staleness.versions.min(LONGEST))?)
    }

    fn slice(&mut self, due: u64, rung: Rung, staleness: Staleness, latency: u64) {
        let at = (due / SLICE) as usize;
        if let (Some(slice), Some(latencies)) = (self.slices.get_mut(at), self.latencies.get_mut(at)) {
            slice.reads += 1;
            slice.hits += u64::from(is_hit(rung));
            slice.fresh_hits += u64::from(is_hit(rung) && staleness.versions == 0);
            slice.stale += u64::from(staleness.versions > 0);
            slice.primary += u64::from(rung == Rung::Primary);
            slice.replica += u64::from(rung == Rung::Replica);
            latencies.push(latency);
        }
    }

    fn into_cell(self) -> Cell {
        let Self { mut figures, mut slices, mut latencies, stale_us, missed, .. } = self;
        let reads = figures.reads;
        let [local, shared, replica, primary] = self.by_rung_count.map(|count| share(count, reads));
        (figures.local, figures.shared, figures.replica, figures.primary) = (local, shared, replica, primary);
        (figures.hit_rate, figures.fresh_hit_rate) = (local + shared, share(self.fresh, reads));
        figures.stale = share(self.stale, reads);
        [figures.stale_p50_ms, figures.stale_p99_ms] = [0.5, 0.99].map(|quantile| ms(&stale_us, quantile));
        figures.stale_max_ms = stale_us.max() as f64 / 1e3;
        [figures.versions_p50, figures.versions_p99] = [0.5, 0.99].map(|quantile| missed.value_at_quantile(quantile));
        figures.versions_max = missed.max();
        figures.miss_compulsory = share(self.firsts, reads);
        if !self.oracle {
            figures.set_latencies(&self.by_rung, &self.writing);
            figures.late_p50_ms = ms(&self.late, 0.5);
        }
        for (number, (slice, latencies)) in slices.iter_mut().zip(&mut latencies).enumerate() {
            slice.second = number as f64 * SLICE as f64 / 1e6;
            slice.latency_p99_ms = p99_ms(latencies);
        }
        Cell { figures, slices, staleness: cumulated(&stale_us), absurd: Vec::new(), example: None }
    }
}

fn is_hit(rung: Rung) -> bool {
    matches!(rung, Rung::Local | Rung::Shared)
}

/// By how much a count rose while it was measured.
fn risen(ran: &Ran, of: impl Fn(&Counts) -> u64) -> u64 {
    of(&ran.after).saturating_sub(of(&ran.before))
}

/// The share of reads at or below each of some values, in milliseconds.
fn cumulated(stale_us: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = (0..=50).map(|step| 10_f64.powf(f64::from(step) / 10.0));
    steps.map(|at| (at, stale_us.count_between(0, (at * 1e3) as u64) as f64 / stale_us.len().max(1) as f64)).collect()
}

impl Figures {
    fn set_latencies(&mut self, by_rung: &[Histogram<u64>], writing: &Histogram<u64>) {
        let of = |at: usize| by_rung.get(at).map_or([0.0; 3], |it| [0.5, 0.99, 0.999].map(|quantile| ms(it, quantile)));
        [self.local_p50_ms, self.local_p99_ms, self.local_p999_ms] = of(0);
        [self.shared_p50_ms, self.shared_p99_ms, self.shared_p999_ms] = of(1);
        [self.replica_p50_ms, self.replica_p99_ms, self.replica_p999_ms] = of(2);
        [self.primary_p50_ms, self.primary_p99_ms, self.primary_p999_ms] = of(3);
        [self.write_p50_ms, self.write_p99_ms] = [0.5, 0.99].map(|quantile| ms(writing, quantile));
    }
}
