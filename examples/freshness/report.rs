//! What was measured: told as it comes in, and kept in files as it comes in.

use crate::args::Args;
use crate::contestant::Contestant;
use crate::figures::{Cell, Figures};
use crate::html;
use crate::lag::Lag;
use crate::stage::Result;
use crate::summary::Summary;
use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All runs so far.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// How to get it again.
    pub(crate) command: String,
    pub(crate) highwater: &'static str,
    /// The servers, or that there were none.
    pub(crate) versions: String,
    pub(crate) seed: u64,
    pub(crate) runs: usize,
    pub(crate) simulated: bool,
    pub(crate) workload: String,
    pub(crate) lag: String,
    pub(crate) complete: bool,
    pub(crate) cells: Vec<Cell>,
    /// What happened meanwhile, in seconds, and what it was.
    #[serde(skip)]
    pub(crate) shaded: Vec<(Range<f64>, String)>,
    #[serde(skip)]
    is_trace: bool,
    /// What was asked for but for sweeps and strategies.
    #[serde(skip)]
    rest: String,
    #[serde(skip)]
    pub(crate) out: PathBuf,
}

/// What is kept for programs.
#[derive(Serialize)]
struct Saved<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    summaries: &'a [Summary],
}

/// Above this, in the middle, operations wait for the machine and not for servers.
const LATE_MS: f64 = 50.0;

/// How this program is run.
pub(crate) const COMMAND: &str = "cargo run --release --example freshness";

const HEAD: &str = "strategy         hit fresh | stale reads    p99     max | own writes  went back | replica primary | Redis\n\
                    \u{20}                %     % |           %     ms      ms |  missed /M         /M |       %       % |    /s";

const RANGE_HEAD: &str = "strategy          hits %               fresh hits %         stale reads %        primary reads %      own \
                          writes missed /M";

impl Report {
    /// An empty report of what `command` asks for, over so many microseconds. Makes the folder and a file in it, so that they are
    /// known to work before anything starts.
    pub(crate) fn new(args: &Args, micros: u64, command: String) -> Result<Self> {
        let told = |error| format!("--out {}: {error}", args.out.display());
        fs::create_dir_all(&args.out).and_then(|()| tempfile::tempfile_in(&args.out)).map_err(told)?;
        Ok(Self {
            highwater: env!("CARGO_PKG_VERSION"),
            versions: "simulated in memory, in virtual time".to_owned(),
            seed: args.seed,
            runs: args.runs,
            simulated: args.simulate,
            workload: args.workload_name(),
            lag: args.lag.to_string(),
            complete: false,
            cells: Vec::new(),
            shaded: shaded(args.lag, micros, args.redis_outage),
            is_trace: args.trace.is_some(),
            rest: rest(&command),
            command,
            out: args.out.clone(),
        })
    }

    /// Tells that one of the runs begins, counted from 0.
    pub(crate) fn begin(&self, what: &str, run: usize, bar: &ProgressBar) {
        let which = if self.runs > 1 { format!(", run {} of {}", run + 1, self.runs) } else { String::new() };
        say(bar, &format!("{what}{which}\n{HEAD}"));
    }

    /// Keeps a run, and tells it where there is a bar.
    pub(crate) fn add(&mut self, cell: Cell, bar: Option<&ProgressBar>) -> Result {
        if let Some(bar) = bar {
            say(bar, &line(&cell));
        }
        self.cells.push(cell);
        self.save_data()
    }

    /// What the comparison came to, before anything is varied: the whole table again where there were several runs, and what
    /// most want to know.
    pub(crate) fn tell_summary(&self, bar: &ProgressBar) -> Result {
        let all = self.summaries("")?;
        if self.runs > 1 {
            say(bar, &format!("Medians of {} runs, and from where to where they go\n{RANGE_HEAD}", self.runs));
            all.iter().for_each(|it| say(bar, &range_line(it)));
        }
        let of = |name: Contestant| all.iter().map(|it| &it.median).find(|it| it.strategy == name.name());
        if let Some(ours) = of(Contestant::Highwater) {
            let best = of(Contestant::Oracle)
                .map_or_else(String::new, |it| format!(" of at best {:.1} %", it.hit_rate * 100.0));
            say(
                bar,
                &format!(
                    "\nhighwater: {:.1} % hits{best}, {:.1} % fresh; {:.0} own writes missed in a million reads; {:.1} % of the reads \
                     at the primary",
                    ours.hit_rate * 100.0,
                    ours.fresh_hit_rate * 100.0,
                    ours.own_write_per_million,
                    ours.primary * 100.0
                ),
            );
        }
        Ok(())
    }

    /// All runs of each strategy as one.
    pub(crate) fn summaries(&self, sweep: &str) -> Result<Vec<Summary>> {
        Summary::of_each(self.of_sweep(sweep))
    }

    pub(crate) fn not_available(&self, contestant: Contestant, bar: &ProgressBar) {
        say(bar, &format!("{:<13} not available in this version", contestant.name()));
    }

    /// Writes what there is, for programs.
    fn save_data(&self) -> Result {
        let summaries = if self.runs > 1 { self.summaries("")? } else { Vec::new() };
        let saved = Saved { report: self, summaries: &summaries };
        fs::write(self.file("report.json"), serde_json::to_vec_pretty(&saved)?)?;
        let mut csv = csv::Writer::from_path(self.file("figures.csv"))?;
        let ranges = summaries.iter().flat_map(|it| [&it.median, &it.least, &it.greatest]);
        for figures in ranges.chain(self.cells.iter().map(|cell| &cell.figures)) {
            csv.serialize(figures)?;
        }
        Ok(csv.flush()?)
    }

    /// Writes everything.
    pub(crate) fn save(&self) -> Result {
        self.save_data()?;
        fs::write(self.file("frontier.svg"), html::frontier_alone(self)?)?;
        Ok(fs::write(self.file("report.html"), html::page(self)?)?)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.out).join(name)
    }

    /// The runs that were compared with each other, and those of one sweep.
    pub(crate) fn of_sweep<'a>(&'a self, sweep: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.figures.sweep == sweep)
    }

    /// How to get one sweep again.
    pub(crate) fn command_of(&self, sweep: &str) -> String {
        let how = match (self.takes_place(sweep), self.runs) {
            (false, _) => "--simulate ".to_owned(),
            (true, 1) => String::new(),
            (true, runs) => format!("--runs {runs} "),
        };
        let command = format!("{COMMAND} -- {how}--strategies highwater --sweep {sweep} {}", self.rest);
        command.trim_end().to_owned()
    }

    /// Whether what was varied was varied on servers.
    pub(crate) fn takes_place(&self, sweep: &str) -> bool {
        sweep == "outage" && !self.simulated
    }

    /// What makes the figures worth less than they look.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for it in self.summaries("").into_iter().flatten().map(|it| it.greatest) {
            if it.late_p50_ms > LATE_MS {
                notes.push(format!(
                    "{}: half of the operations began more than {:.0} ms late. This machine cannot keep up: times mean little, \
                     and staleness is measured in them; try a lower --rate",
                    it.strategy, it.late_p50_ms
                ));
            }
            let must = Contestant::from_str(&it.strategy, false).is_ok_and(Contestant::must_miss);
            if must && self.lag == "spikes" && it.own_write_violations == 0 && it.writes > 0 {
                let advice = if self.is_trace { "a longer trace" } else { "--own-reads 0.5 or more --seconds" };
                notes.push(format!(
                    "{}: no read missed an own write, and some should have. So short a run shows nothing; try {advice}",
                    it.strategy
                ));
            }
        }
        notes
    }

    /// What must not be: broken promises of those who promise, and answers that no strategy explains.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for cell in &self.cells {
            let figures = &cell.figures;
            let place = format!("{} with {} and lag {}", figures.strategy, figures.workload, figures.lag);
            let Ok(contestant) = Contestant::from_str(&figures.strategy, false) else { continue };
            if contestant.promises_own_writes() && figures.own_write_violations > 0 {
                let example = cell.example.as_deref().unwrap_or_default();
                problems.push(format!("{place}: {} reads missed own writes. {example}", figures.own_write_violations));
            }
            if contestant.promises_monotonic() && figures.monotonic_violations > 0 {
                problems.push(format!("{place}: {} reads went back", figures.monotonic_violations));
            }
            problems.extend(cell.absurd.iter().map(|absurd| format!("{place}: {absurd}")));
        }
        problems
    }
}

/// What happens while a run goes on.
pub(crate) fn shaded(lag: Lag, micros: u64, outage: Option<(u64, u64)>) -> Vec<(Range<f64>, String)> {
    let seconds = |(from, to): (u64, u64)| from as f64 / 1e6..to as f64 / 1e6;
    let outage = outage.map(|outage| (seconds(outage), "Redis is away".to_owned()));
    lag.troubles(micros).into_iter().map(|(span, what)| (seconds(span), what.to_owned())).chain(outage).collect()
}

/// What a command for one sweep brings along, each with a value.
const BROUGHT: [&str; 5] = ["--sweep", "--strategies", "--out", "--redis-outage", "--runs"];

/// The arguments without those that a command for one sweep brings along.
fn rest(command: &str) -> String {
    let arguments = command.split_once(" -- ").map_or("", |(_, arguments)| arguments);
    let mut words = arguments.split(' ');
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--simulate" | "" => {}
            _ => match word.split_once('=') {
                Some((name, _)) if BROUGHT.contains(&name) => {}
                _ if BROUGHT.contains(&word) => drop(words.next()),
                _ => rest.push(word),
            },
        }
    }
    rest.join(" ")
}

/// One row of the table.
fn line(cell: &Cell) -> String {
    let it = &cell.figures;
    format!(
        "{:<14} {:>5.1} {:>5.1} | {:>10.2} {:>6.0} {:>7.0} | {:>10.0} {:>10.0} | {:>7.1} {:>7.1} | {:>5.0}",
        it.strategy,
        it.hit_rate * 100.0,
        it.fresh_hit_rate * 100.0,
        it.stale * 100.0,
        it.stale_p99_ms,
        it.stale_max_ms,
        it.own_write_per_million,
        it.monotonic_per_million,
        it.replica * 100.0,
        it.primary * 100.0,
        it.redis_commands_per_s,
    )
}

/// One row of the table of all runs.
fn range_line(of: &Summary) -> String {
    let range = |figure: fn(&Figures) -> f64| {
        let [low, median, high] = [&of.least, &of.median, &of.greatest].map(figure);
        format!("{median:>6.1} {:<14}", if low < high { format!("{low:.1}–{high:.1}") } else { String::new() })
    };
    let percents: [fn(&Figures) -> f64; 4] =
        [|it| it.hit_rate * 100.0, |it| it.fresh_hit_rate * 100.0, |it| it.stale * 100.0, |it| it.primary * 100.0];
    let shown = format!(
        "{:<14} {} {}",
        of.median.strategy,
        percents.map(range).join(" "),
        range(|it| it.own_write_per_million)
    );
    shown.trim_end().to_owned()
}

fn say(bar: &ProgressBar, text: &str) {
    bar.suspend(|| println!("{text}"));
}
