//! Paired measurement: two ways of doing one thing take turns in many short rounds, and what counts is the ratio within
//! each pair. On a busy machine absolute numbers move by half; both halves of a pair move together.

use rustix::time::{ClockId, clock_gettime};
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    quick: bool,
}

impl Effort {
    /// All of it with `cargo bench`; little with `-- --quick`, with `HIGHWATER_BENCH_QUICK` set, or where cargo runs the
    /// benchmarks as tests.
    pub(crate) fn asked_for() -> Self {
        let asked = |flag: &str| std::env::args().any(|arg| arg == flag);
        Self { quick: asked("--quick") || !asked("--bench") || std::env::var_os("HIGHWATER_BENCH_QUICK").is_some() }
    }

    /// `full`, or `quick` where little is to be measured.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// How many pairs of rounds are run.
    pub(crate) fn rounds(self) -> usize {
        self.of(41, 7)
    }
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) count: f64,
    /// From the first to the last.
    pub(crate) wall: Duration,
    /// For how long processors ran our side of it. Unlike the wall's time, it hardly depends on what else runs there.
    pub(crate) cpu: Duration,
}

impl Sample {
    fn each(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.count
    }

    /// Microseconds of processor time for each.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.each(self.cpu) * 1e6
    }

    /// Microseconds from the first to the last, for each.
    pub(crate) fn us(&self) -> f64 {
        self.each(self.wall) * 1e6
    }

    /// Thousands a second.
    pub(crate) fn rate(&self) -> f64 {
        1e-3 / self.each(self.wall)
    }
}

/// Two rounds that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    bare: Sample,
    ours: Sample,
}

/// The processor time of this thread, or of the whole process.
pub(crate) fn cpu(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap_or_default()
}

/// Runs pairs of rounds, the order within a pair changing from one to the next. The first pair only warms up.
pub(crate) async fn pairs(
    rounds: usize,
    mut bare: impl AsyncFnMut() -> Sample,
    mut ours: impl AsyncFnMut() -> Sample,
) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(rounds + 1);
    for round in 0..=rounds {
        if round % 2 == 0 {
            let bare = bare().await;
            pairs.push(Pair { bare, ours: ours().await });
        } else {
            let ours = ours().await;
            pairs.push(Pair { bare: bare().await, ours });
        }
    }
    pairs.split_off(1)
}

/// Prints the head of a table of [`row`]s.
pub(crate) fn head(title: &str) {
    println!("\n{title}\n");
    println!("| what | bare | ours | ratio | min..max | goal | |");
    println!("|---|---|---|---|---|---|---|");
}

/// Prints one line: the medians, and the median of the ratios with the least and the greatest. `goal` is where that
/// median should lie; `..` where nothing was promised.
pub(crate) fn row(what: &str, goal: impl RangeBounds<f64>, pairs: &[Pair], of: impl Fn(&Sample) -> f64) {
    let sorted = |of: &dyn Fn(&Pair) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let middle = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let ratios = sorted(&|pair| of(&pair.ours) / of(&pair.bare));
    let (bare, ours, ratio) =
        (middle(&sorted(&|pair| of(&pair.bare))), middle(&sorted(&|pair| of(&pair.ours))), middle(&ratios));
    let (least, most) = (ratios.first().unwrap_or(&f64::NAN), ratios.last().unwrap_or(&f64::NAN));
    let (goal, verdict) = match (goal.start_bound(), goal.end_bound(), goal.contains(&ratio)) {
        (Bound::Unbounded, Bound::Unbounded, _) => ("-".to_owned(), ""),
        (Bound::Included(least), _, met) => (format!(">= {least:.2}"), told(met)),
        (_, Bound::Included(most), met) => (format!("<= {most:.2}"), told(met)),
        _ => unreachable!("a goal names one end, and means it too"),
    };
    println!("| {what} | {bare:.3} | {ours:.3} | {ratio:.3} | {least:.2}..{most:.2} | {goal} | {verdict} |");
}

fn told(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}
