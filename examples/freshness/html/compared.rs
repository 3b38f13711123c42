//! The strategies side by side.

use super::{escaped, figure, frame, percent, ranged, series};
use crate::contestant::Contestant;
use crate::figures::Figures;
use crate::mark::look;
use crate::plot::{Series, bars, lines, scatter};
use crate::report::Report;
use crate::stage::Result;
use crate::summary::Summary;
use clap::ValueEnum;
use std::fmt::Write as _;

pub(super) fn write(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    page.push_str("<h2>The strategies</h2>");
    table(page, all)?;
    frontier(page, report, all)?;
    let named: Vec<_> = all
        .iter()
        .map(|it| &it.median)
        .map(|it| (it.strategy.clone(), [it.local, it.shared, it.replica, it.primary].map(percent).to_vec()))
        .collect();
    let svg = bars("", "% of reads", &["local", "shared", "replica", "primary"], &named)?;
    figure(page, &svg, "Where reads were answered.", &report.command)?;
    load(page, all)?;
    missed(page, report, all)?;
    let series: Vec<Series> = all
        .iter()
        .filter(|it| it.median.strategy != "oracle")
        .map(|it| series(it, it.staleness.iter().map(|(ms, share)| (*ms, percent(*share))).collect()))
        .collect();
    let axes = frame("at most so stale (ms)", "% of reads", true);
    figure(page, &lines(&axes, &series)?, "Staleness of what was shown, by the log of versions.", &report.command)?;
    stale(page, all)
}

type Column = (&'static str, usize, fn(&Figures) -> f64);

/// One row for each strategy.
fn rows(page: &mut String, all: &[Summary], columns: &[Column]) -> Result {
    page.push_str("<table><thead><tr><th>strategy");
    for (name, ..) in columns {
        write!(page, "<th>{name}")?;
    }
    page.push_str("</tr></thead><tbody>");
    for it in all {
        write!(page, "<tr><td>{}", escaped(&it.median.strategy))?;
        for (_, decimals, figure) in columns {
            page.push_str(&ranged(it, *decimals, figure));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table>");
    Ok(())
}

fn table(page: &mut String, all: &[Summary]) -> Result {
    let columns: [Column; 7] = [
        ("hits %", 1, |it| percent(it.hit_rate)),
        ("fresh hits %", 1, |it| percent(it.fresh_hit_rate)),
        ("stale reads %", 2, |it| percent(it.stale)),
        ("own writes missed /M", 0, |it| it.own_write_per_million),
        ("reads that went back /M", 0, |it| it.monotonic_per_million),
        ("replica reads %", 1, |it| percent(it.replica)),
        ("primary reads %", 1, |it| percent(it.primary)),
    ];
    rows(page, all, &columns)
}

/// What the servers were asked. The oracle is computed and asks nobody.
fn load(page: &mut String, all: &[Summary]) -> Result {
    let columns: [Column; 6] = [
        ("primary, reads and writes /s", 0, |it| it.primary_per_s),
        ("all replicas, reads /s", 0, |it| it.replica_per_s),
        ("loads /s", 0, |it| it.loads_per_s),
        ("waits for a replica", 0, |it| it.waits as f64),
        ("Redis commands /s", 0, |it| it.redis_commands_per_s),
        ("retractions heard /s", 0, |it| it.redis_messages_per_s),
    ];
    page.push_str("<p class=\"note\">What the servers were asked:</p>");
    let asking: Vec<Summary> = all.iter().filter(|it| it.median.strategy != "oracle").cloned().collect();
    rows(page, &asking, &columns)
}

/// How stale in time and in versions, over all reads.
fn stale(page: &mut String, all: &[Summary]) -> Result {
    let columns: [Column; 6] = [
        ("p50 ms", 0, |it| it.stale_p50_ms),
        ("p99 ms", 0, |it| it.stale_p99_ms),
        ("max ms", 0, |it| it.stale_max_ms),
        ("versions missed, p50", 0, |it| it.versions_p50 as f64),
        ("p99", 0, |it| it.versions_p99 as f64),
        ("max", 0, |it| it.versions_max as f64),
    ];
    page.push_str("<p class=\"note\">How stale the reads were, in time and in versions:</p>");
    rows(page, all, &columns)
}

/// The causes of misses, in the order in which they are stacked.
pub(super) const CAUSES: [&str; 8] =
    ["first read", "evicted", "retracted", "below the token", "not monotonic", "expired", "deaf", "history"];

pub(super) fn causes(it: &Figures) -> Vec<f64> {
    let causes = [
        it.miss_compulsory,
        it.miss_capacity,
        it.miss_retracted,
        it.miss_below_token,
        it.miss_not_monotonic,
        it.miss_expired,
        it.miss_deaf,
        it.miss_history,
    ];
    causes.map(percent).to_vec()
}

fn missed(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    let is_cache = |it: &&Figures| Contestant::from_str(&it.strategy, false).is_ok_and(Contestant::caches);
    let named: Vec<_> =
        all.iter().map(|it| &it.median).filter(is_cache).map(|it| (it.strategy.clone(), causes(it))).collect();
    if named.is_empty() {
        return Ok(());
    }
    let svg = bars("", "misses of the local tier, % of reads", &CAUSES, &named)?;
    figure(page, &svg, "What the in-process tier did not answer, and why.", &report.command)
}

fn frontier(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    let points: Vec<_> = all
        .iter()
        .map(|it| &it.median)
        .filter(|it| it.strategy != "oracle")
        .map(|it| {
            let cached = Contestant::from_str(&it.strategy, false).is_ok_and(Contestant::caches);
            let name = match cached {
                true => format!("{}, {:.0} % hits", it.strategy, percent(it.hit_rate)),
                false => it.strategy.clone(),
            };
            (name, look(&it.strategy), (percent(it.primary), it.own_write_per_million))
        })
        .collect();
    let svg = scatter("% of reads at the primary (by its root)", "own writes missed, per million reads", &points)?;
    let caption = "What each strategy pays and what it breaks. The best place is at the lower left, with many hits.";
    figure(page, &svg, caption, &report.command)
}

/// A plot by itself, for a README.
pub(crate) fn frontier_alone(report: &Report) -> Result<String> {
    let mut page = String::new();
    frontier(&mut page, report, &report.summaries("")?)?;
    let svg = page.split_once("<svg").and_then(|(_, rest)| rest.split_once("</svg>"));
    let svg = svg.map_or_else(String::new, |(svg, _)| format!("<svg{svg}</svg>\n"));
    Ok(svg.replacen("<svg", "<svg width=\"860\" height=\"380\"", 1))
}
