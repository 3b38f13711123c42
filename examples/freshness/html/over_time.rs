//! What happened over time, through lag and without Redis.

use super::{escaped, figure, frame, percent, series};
use crate::count::SLICE;
use crate::figures::Slice;
use crate::lag::{FIRST, Lag, SPIKE};
use crate::plot::{Frame, Series, lines};
use crate::report::{Report, shaded};
use crate::stage::Result;
use crate::summary::Summary;
use crate::sweep::{OUTAGE, OUTAGE_SECONDS};
use std::fmt::Write as _;
use std::ops::Range;

pub(super) fn write(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    if report.lag == "spikes" {
        spike(page, report, all)?;
    } else {
        page.push_str("<h2>Over time</h2>");
    }
    plots(page, &report.shaded, all, &report.command)
}

/// The strategies through a lag spike and a Redis outage, on servers or simulated.
pub(super) fn write_outage(page: &mut String, report: &Report) -> Result {
    let all = report.summaries("outage")?;
    if all.is_empty() {
        return Ok(());
    }
    let (from, to) = (OUTAGE.0 / 1_000_000, OUTAGE.1 / 1_000_000);
    let (place, how) = match report.takes_place("outage") {
        true => ("On the servers.", ", empty"),
        false => ("Simulated.", " with what it held, as another process"),
    };
    write!(
        page,
        "<h2>Through a lag spike and a Redis outage</h2><p>{place} All replicas are two seconds behind for three seconds, twice, \
         and Redis is killed after {from} s and starts again after {to} s{how}.</p>"
    )?;
    let parts: [(&str, Range<f64>); 5] = [
        ("before", 7.0..12.0),
        ("away", 12.0..18.0),
        ("back, first 2 s", 18.0..20.0),
        ("next 3 s", 20.0..23.0),
        ("second spike", 23.5..26.0),
    ];
    page.push_str("<table><thead><tr><th>strategy<th>");
    let heads = parts.iter().map(|(name, range)| format!("{name}<br>{} to {} s", range.start, range.end));
    page.push_str(&heads.collect::<Vec<_>>().join("<th>"));
    page.push_str("</tr></thead><tbody>");
    for it in &all {
        write!(page, "<tr><td>{}", escaped(&it.median.strategy))?;
        for (_, range) in &parts {
            let slices: Vec<&Slice> = it.slices.iter().filter(|slice| range.contains(&slice.second)).collect();
            let of = Part { slices: &slices, runs: it.runs };
            write!(
                page,
                "<td>{:.1} / {:.1}<small>{:.0} /s, {} missed</small>",
                of.share(|it| it.hits),
                of.share(|it| it.fresh_hits),
                of.primary_per_s(),
                of.sum(|it| it.own_write_violations),
            )?;
        }
        page.push_str("</tr>");
    }
    page.push_str(
        "</tbody></table><p class=\"note\">Hits / fresh hits, % of reads; below, operations at the primary, and own writes missed in \
         all runs.</p>",
    );
    let shaded = shaded(Lag::Spikes, OUTAGE_SECONDS * 1_000_000, Some(OUTAGE));
    plots(page, &shaded, &all, &report.command_of("outage"))
}

/// Some slices of time.
struct Part<'a> {
    slices: &'a [&'a Slice],
    runs: usize,
}

impl Part<'_> {
    fn sum(&self, of: fn(&Slice) -> u64) -> u64 {
        self.slices.iter().map(|slice| of(slice)).sum()
    }

    /// Percent of the reads.
    fn share(&self, of: fn(&Slice) -> u64) -> f64 {
        percent(self.sum(of) as f64 / self.sum(|it| it.reads).max(1) as f64)
    }

    fn seconds(&self) -> f64 {
        (self.slices.len() * self.runs).max(1) as f64 * SLICE as f64 / 1e6
    }

    fn primary_per_s(&self) -> f64 {
        self.sum(|it| it.primary + it.writes) as f64 / self.seconds()
    }

    /// Of the slice where it is greatest.
    fn latency_p99_ms(&self) -> f64 {
        self.slices.iter().map(|it| it.latency_p99_ms).fold(0.0, f64::max)
    }
}

/// Whether a slice of time lies in a spike, where the spike is at work.
fn in_spike(slice: &Slice) -> bool {
    let at = (slice.second * 1e6) as u64;
    (FIRST + 500_000..FIRST + SPIKE).contains(&(at % 20_000_000))
}

fn spike(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    page.push_str(
        "<h2>What happens to your five replicas during a 2-second lag spike?</h2><p>All replicas fall two seconds behind for \
         three seconds. None of them has what was written in the last two seconds, and each strategy does what it does:</p>\
         <table><thead><tr><th rowspan=2>strategy",
    );
    let measures = [
        "hits, %",
        "at replicas, %",
        "at the primary, %",
        "operations there, /s",
        "own writes missed",
        "worst p99, ms",
    ];
    for measure in measures {
        write!(page, "<th colspan=2>{measure}")?;
    }
    write!(page, "</tr><tr>{}</tr></thead><tbody>", "<th>else<th>during".repeat(measures.len()))?;
    for it in all.iter().filter(|it| it.median.strategy != "oracle") {
        let [other, during] = around(it);
        let (other, during) = (Part { slices: &other, runs: it.runs }, Part { slices: &during, runs: it.runs });
        write!(page, "<tr><td>{}", escaped(&it.median.strategy))?;
        for of in [|it: &Slice| it.hits, |it: &Slice| it.replica, |it: &Slice| it.primary] {
            write!(page, "<td>{:.1}<td>{:.1}", other.share(of), during.share(of))?;
        }
        write!(page, "<td>{:.0}<td>{:.0}", other.primary_per_s(), during.primary_per_s())?;
        let missed = |part: &Part<'_>| part.sum(|it| it.own_write_violations);
        write!(page, "<td>{}<td>{}", missed(&other), missed(&during))?;
        write!(page, "<td>{:.0}<td>{:.0}</tr>", other.latency_p99_ms(), during.latency_p99_ms())?;
    }
    let all_runs = if report.runs > 1 { " Own writes missed are those of all runs together." } else { "" };
    write!(
        page,
        "</tbody></table><p class=\"note\">“During” is in the spike, “else” from 1.5 s on, when caches are filled. The worst p99 is that of any half second.{all_runs}</p>{}",
        answer(all)
    )?;
    Ok(())
}

/// The slices outside of spikes, once caches are filled, and those inside.
fn around(it: &Summary) -> [Vec<&Slice>; 2] {
    let other = it.slices.iter().filter(|slice| !in_spike(slice) && slice.second >= 1.5).collect();
    [other, it.slices.iter().filter(|slice| in_spike(slice)).collect()]
}

/// The question's answer in a sentence or two.
fn answer(all: &[Summary]) -> String {
    let mut answer = String::new();
    let find = |name: &str| all.iter().find(|it| it.median.strategy == name);
    if let Some(it) = find("highwater") {
        let [other, during] = around(it);
        let (other, during) = (Part { slices: &other, runs: it.runs }, Part { slices: &during, runs: it.runs });
        let missed = match during.sum(|it| it.own_write_violations) {
            0 => "nobody misses an own write".to_owned(),
            missed => format!("{missed} reads miss own writes"),
        };
        answer += &format!(
            "<p>With highwater the replicas go on serving whom they can prove to be new enough for: {:.0} % of the reads in the \
             spike, and {:.0} % otherwise. Hits go from {:.0} to {:.0} %, reads at the primary from {:.1} to {:.1} %, \
             and {missed}.",
            during.share(|it| it.replica),
            other.share(|it| it.replica),
            other.share(|it| it.hits),
            during.share(|it| it.hits),
            other.share(|it| it.primary),
            during.share(|it| it.primary),
        );
        if let Some(any) = find("replica") {
            let [_, during] = around(any);
            let during = Part { slices: &during, runs: any.runs };
            answer += &format!(
                " Who asks any replica asks the primary nothing, is stale in {:.0} % of the reads, and misses {} own writes \
                 meanwhile.",
                during.share(|it| it.stale),
                during.sum(|it| it.own_write_violations),
            );
        }
        answer += "</p>";
    }
    answer
}

/// What is shown over time, and how it is had from a part of it.
type Measure = (&'static str, fn(&Part<'_>) -> f64);

/// How many points a line has at most.
const POINTS_MAX: usize = 400;

/// Through whatever happened to lag and Redis.
fn plots(page: &mut String, shaded: &[(Range<f64>, String)], all: &[Summary], command: &str) -> Result {
    let shown = ["highwater", "tags", "delete", "ttl-10s", "replica", "window", "stored"];
    let all: Vec<&Summary> = all.iter().filter(|it| shown.contains(&it.median.strategy.as_str())).collect();
    let measures: [Measure; 5] = [
        ("hits, % of reads", |it| it.share(|it| it.hits)),
        ("fresh hits, % of reads", |it| it.share(|it| it.fresh_hits)),
        ("stale, % of reads", |it| it.share(|it| it.stale)),
        ("own writes missed, in a second", |it| it.sum(|it| it.own_write_violations) as f64 / it.seconds()),
        ("operations at the primary, in a second", |it| it.primary_per_s()),
    ];
    for (what, of) in measures {
        let points = |it: &Summary| {
            let slices: Vec<&Slice> = it.slices.iter().collect();
            let parts = slices.chunks(slices.len().div_ceil(POINTS_MAX).max(1));
            let point = |slices: &[&Slice]| Some((slices.first()?.second, of(&Part { slices, runs: it.runs })));
            parts.filter_map(point).collect()
        };
        let series: Vec<Series> = all.iter().map(|it| series(it, points(it))).collect();
        let axes = Frame { shaded: shaded.to_vec(), ..frame("seconds", what, false) };
        figure(page, &lines(&axes, &series)?, &format!("Over time: {what}."), command)?;
    }
    Ok(())
}
