//! The report as one page that needs nothing else.

use crate::contestant::Contestant;
use crate::figures::{Cell, Slice};
use crate::lag::{FIRST, Lag, SPIKE};
use crate::plot::{Frame, Series, bars, lines, look, plain, scatter};
use crate::report::{Report, shaded};
use crate::stage::Result;
use crate::sweep::OUTAGE;
use clap::ValueEnum;
use std::fmt::Write as _;
use std::ops::Range;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#111;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}figure{margin:1rem 0 2rem;break-inside:avoid}\
svg{width:100%;height:auto}figcaption{font-size:.9rem}code{font-size:.8rem;background:#f2f2f2;padding:.1rem .3rem;\
overflow-wrap:anywhere}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;\
display:block;overflow-x:auto}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}.note{color:#444;font-size:.9rem}\
@media print{body{max-width:none;margin:0;font-size:11pt}code{background:none}table{font-size:8pt}}";

/// The whole page.
pub(crate) fn page(report: &Report) -> Result<String> {
    let mut page = String::new();
    let title = format!("Hit rate against freshness: {}, lag {}", report.workload, report.lag);
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body><h1>{0}</h1>\
         <p class=\"note\">highwater {1} over {2}; seed {3}.{4}<br><code>{5}</code></p>",
        escaped(&title),
        report.highwater,
        escaped(&report.versions),
        report.seed,
        if report.complete { "" } else { " <strong>Interrupted: this is what was measured until then.</strong>" },
        escaped(&report.command),
    )?;
    let compared: Vec<&Cell> = report.of_sweep("").collect();
    if !compared.is_empty() {
        side_by_side(&mut page, report, &compared)?;
    }
    sweeps(&mut page, report)?;
    page.push_str("</body></html>\n");
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One plot with what it shows and how to get it.
fn figure(page: &mut String, svg: &str, caption: &str, command: &str) -> Result {
    write!(page, "<figure>{svg}<figcaption>{caption}<br><code>{}</code></figcaption></figure>", escaped(command))?;
    Ok(())
}

fn percent(share: f64) -> f64 {
    share * 100.0
}

fn side_by_side(page: &mut String, report: &Report, cells: &[&Cell]) -> Result {
    page.push_str("<h2>The strategies</h2>");
    table(page, cells)?;
    frontier(page, report, cells)?;
    let named: Vec<_> = cells
        .iter()
        .map(|cell| &cell.figures)
        .map(|it| (it.strategy.clone(), [it.local, it.shared, it.replica, it.primary].map(percent).to_vec()))
        .collect();
    let svg = bars("", "% of reads", &["local", "shared", "replica", "primary"], &named)?;
    figure(page, &svg, "Where reads were answered.", &report.command)?;
    let series: Vec<Series> = cells
        .iter()
        .filter(|cell| cell.figures.strategy != "oracle")
        .map(|cell| series(cell, cell.staleness.iter().map(|(ms, share)| (*ms, percent(*share))).collect()))
        .collect();
    let axes = frame("at most so stale (ms)", "% of reads", true);
    figure(page, &lines(&axes, &series)?, "Staleness of what was shown, by the log of versions.", &report.command)?;
    if report.lag == "spikes" {
        spike(page, cells)?;
    }
    latencies(page, cells)?;
    over_time(page, "Over time", &report.shaded, cells, &report.command)
}

fn frame(x: &str, y: &str, decades: bool) -> Frame {
    Frame { x: x.to_owned(), y: y.to_owned(), decades, shaded: Vec::new(), top: None }
}

fn series(cell: &Cell, points: Vec<(f64, f64)>) -> Series {
    let name = cell.figures.strategy.clone();
    Series { look: look(&name), dashed: name == "oracle", name, points }
}

fn table(page: &mut String, cells: &[&Cell]) -> Result {
    page.push_str(
        "<table><thead><tr><th>strategy<th>hits %<th>fresh hits %<th>stale reads %<th>stale p99 ms<th>max ms\
         <th>own writes missed /M<th>reads that went back /M<th>primary reads %<th>primary /s<th>loads /s\
         <th>waits<th>Redis /s</tr></thead><tbody>",
    );
    for it in cells.iter().map(|cell| &cell.figures) {
        write!(
            page,
            "<tr><td>{}<td>{:.1}<td>{:.1}<td>{:.2}<td>{:.0}<td>{:.0}<td>{:.0}<td>{:.0}<td>{:.1}<td>{:.0}<td>{:.0}\
             <td>{}<td>{:.0}</tr>",
            escaped(&it.strategy),
            percent(it.hit_rate),
            percent(it.fresh_hit_rate),
            percent(it.stale),
            it.stale_p99_ms,
            it.stale_max_ms,
            it.own_write_per_million,
            it.monotonic_per_million,
            percent(it.primary),
            it.primary_per_s,
            it.loads_per_s,
            it.waits,
            it.redis_commands_per_s,
        )?;
    }
    page.push_str("</tbody></table>");
    Ok(())
}

/// Latency from when an operation was due, by the rung that answered: median, 99th and 99.9th percentile.
fn latencies(page: &mut String, cells: &[&Cell]) -> Result {
    page.push_str(
        "<h2>Latency</h2><p class=\"note\">In milliseconds from when an operation was due, so that waiting in a queue counts: \
         p50 / p99 / p99.9.</p><table><thead><tr><th>strategy<th>local<th>shared<th>replica<th>primary<th>writes (p50 / p99)\
         <th>began late by (p50)</tr></thead><tbody>",
    );
    for it in cells.iter().map(|cell| &cell.figures).filter(|it| it.strategy != "oracle") {
        write!(page, "<tr><td>{}", escaped(&it.strategy))?;
        for (share, times) in [
            (it.local, [it.local_p50_ms, it.local_p99_ms, it.local_p999_ms]),
            (it.shared, [it.shared_p50_ms, it.shared_p99_ms, it.shared_p999_ms]),
            (it.replica, [it.replica_p50_ms, it.replica_p99_ms, it.replica_p999_ms]),
            (it.primary, [it.primary_p50_ms, it.primary_p99_ms, it.primary_p999_ms]),
        ] {
            match share > 0.0 {
                true => write!(page, "<td>{}", times.map(plain).join(" / "))?,
                false => write!(page, "<td>–")?,
            }
        }
        let (writes, late) = ([it.write_p50_ms, it.write_p99_ms].map(plain).join(" / "), plain(it.late_p50_ms));
        write!(page, "<td>{writes}<td>{late}</tr>")?;
    }
    page.push_str("</tbody></table>");
    Ok(())
}

fn frontier(page: &mut String, report: &Report, cells: &[&Cell]) -> Result {
    let points: Vec<_> = cells
        .iter()
        .map(|cell| &cell.figures)
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

/// Whether a slice of time lies in a spike, where the spike is at work.
fn in_spike(slice: &Slice) -> bool {
    let at = (slice.second * 1e6) as u64;
    (FIRST + 500_000..FIRST + SPIKE).contains(&(at % 20_000_000))
}

fn spike(page: &mut String, cells: &[&Cell]) -> Result {
    page.push_str(
        "<h2>What happens to your five replicas during a 2-second lag spike?</h2><p>All five fall two seconds behind for \
         three seconds. None of them has what was written in the last two seconds, and each strategy does what it does:</p>\
         <table><thead><tr><th>strategy<th>hits else %<th>during %<th>replica reads else %<th>during %\
         <th>primary reads else %<th>during %<th>own writes missed else<th>during<th>read p99 else ms<th>during\
         </tr></thead><tbody>",
    );
    for cell in cells.iter().filter(|cell| cell.figures.strategy != "oracle") {
        // The caches are filled by then.
        let other: Vec<&Slice> = cell.slices.iter().filter(|it| !in_spike(it) && it.second >= 1.5).collect();
        let during: Vec<&Slice> = cell.slices.iter().filter(|it| in_spike(it)).collect();
        let sum = |slices: &[&Slice], of: fn(&Slice) -> u64| slices.iter().map(|it| of(it)).sum::<u64>();
        let share = |slices: &[&Slice], of| percent(sum(slices, of) as f64 / sum(slices, |it| it.reads).max(1) as f64);
        let worst = |slices: &[&Slice]| slices.iter().map(|it| it.latency_p99_ms).fold(0.0, f64::max);
        write!(page, "<tr><td>{}", escaped(&cell.figures.strategy))?;
        for of in [|it: &Slice| it.hits, |it: &Slice| it.replica, |it: &Slice| it.primary] {
            write!(page, "<td>{:.1}<td>{:.1}", share(&other, of), share(&during, of))?;
        }
        let missed = |slices: &[&Slice]| sum(slices, |it| it.own_write_violations);
        write!(page, "<td>{}<td>{}", missed(&other), missed(&during))?;
        write!(page, "<td>{:.0}<td>{:.0}</tr>", worst(&other), worst(&during))?;
    }
    page.push_str("</tbody></table>");
    Ok(())
}

/// What is shown over time, and how it is had from a slice of it.
type Measure = (&'static str, Box<dyn Fn(&Slice) -> f64>);

/// Through whatever happened to lag and Redis.
fn over_time(
    page: &mut String,
    title: &str,
    shaded: &[(Range<f64>, String)],
    cells: &[&Cell],
    command: &str,
) -> Result {
    write!(page, "<h2>{title}</h2>")?;
    let shown = ["highwater", "delete", "ttl-10s", "replica", "window", "routed", "stored"];
    let cells: Vec<&&Cell> = cells.iter().filter(|cell| shown.contains(&cell.figures.strategy.as_str())).collect();
    let rate = |of: fn(&Slice) -> u64| move |slice: &Slice| percent(of(slice) as f64 / slice.reads.max(1) as f64);
    let plots: [Measure; 4] = [
        ("hits, % of reads", Box::new(rate(|it| it.hits))),
        ("stale, % of reads", Box::new(rate(|it| it.stale))),
        ("at the primary, % of reads", Box::new(rate(|it| it.primary))),
        ("own writes missed, in half a second", Box::new(|it| it.own_write_violations as f64)),
    ];
    for (what, of) in plots {
        let points = |cell: &Cell| cell.slices.iter().map(|slice| (slice.second, of(slice))).collect();
        let series: Vec<Series> = cells.iter().map(|cell| series(cell, points(cell))).collect();
        let axes = Frame { shaded: shaded.to_vec(), ..frame("seconds", what, false) };
        figure(page, &lines(&axes, &series)?, &format!("Over time: {what}."), command)?;
    }
    Ok(())
}

/// What was varied, one plot each.
fn sweeps(page: &mut String, report: &Report) -> Result {
    let plots = [
        ("bound", "at most so old (ms)", true),
        ("lag", "lag (ms)", true),
        ("capacity", "entries in each instance", true),
        ("writes", "share of writes", true),
    ];
    for (sweep, x, decades) in plots {
        let cells: Vec<&Cell> = report.of_sweep(sweep).collect();
        if cells.is_empty() {
            continue;
        }
        let mut drawn: Vec<Series> = Vec::new();
        for cell in &cells {
            let it = &cell.figures;
            // No lag at all stands at the left end.
            let x = if sweep == "lag" { it.x.max(1.0) } else { it.x };
            for (name, dashed, y) in [
                (it.strategy.clone(), false, it.hit_rate),
                (format!("{}, fresh", it.strategy), true, it.fresh_hit_rate),
            ] {
                if it.strategy == "oracle" && dashed {
                    continue;
                }
                match drawn.iter_mut().find(|series| series.name == name) {
                    Some(series) => series.points.push((x, percent(y))),
                    None => drawn.push(Series {
                        look: look(&it.strategy),
                        dashed: dashed || it.strategy == "oracle",
                        name,
                        points: vec![(x, percent(y))],
                    }),
                }
            }
        }
        write!(
            page,
            "<h2>Hit rate against {}</h2>",
            match sweep {
                "bound" => "the staleness bound",
                "capacity" => "cache size",
                "writes" => "the share of writes",
                _ => "lag",
            }
        )?;
        let axes = Frame { top: Some(100.0), ..frame(x, "hits, % of reads", decades) };
        let caption = "Hits (solid) and hits that were not stale (dashed). Simulated.";
        figure(page, &lines(&axes, &drawn)?, caption, &report.command_of(sweep))?;
    }
    causes(page, report)?;
    let cells: Vec<&Cell> = report.of_sweep("outage").collect();
    if !cells.is_empty() {
        let shaded = shaded(Lag::Spikes, 24, Some(OUTAGE));
        let title = "Through a lag spike and a Redis outage";
        over_time(page, title, &shaded, &cells, &report.command_of("outage"))?;
    }
    every_cell(page, report)
}

fn causes(page: &mut String, report: &Report) -> Result {
    let cells: Vec<&Cell> = report.of_sweep("tokens").filter(|it| it.figures.strategy != "ttl-10s").collect();
    if cells.is_empty() {
        return Ok(());
    }
    let parts =
        ["first read", "evicted", "retracted", "below the token", "not monotonic", "expired", "deaf", "history"];
    let named = |strategy: &str| -> Vec<(String, Vec<f64>)> {
        let of = cells.iter().map(|cell| &cell.figures).filter(|it| it.strategy == strategy);
        of.map(|it| {
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
            (format!("{:.0} %", it.x * 100.0), causes.map(percent).to_vec())
        })
        .collect()
    };
    page.push_str("<h2>Misses by cause against the share of reads with tokens</h2>");
    for strategy in ["highwater", "tags", "oracle"] {
        let svg = bars("reads with a token", "misses of the local tier, % of reads", &parts, &named(strategy))?;
        let caption = format!("{strategy}: what the in-process tier did not answer, and why. Simulated.");
        figure(page, &svg, &caption, &report.command_of("tokens"))?;
    }
    Ok(())
}

fn every_cell(page: &mut String, report: &Report) -> Result {
    let cells: Vec<&Cell> = report.of_sweep("workloads").collect();
    if cells.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h2>Every workload with every lag</h2><table><thead><tr><th>workload<th>lag<th>reads<th>own writes missed\
         <th>hits %<th>fresh hits %<th>replica %<th>primary %<th>oracle's hits %<th>hits by tags alone %\
         <th>own writes missed</tr></thead><tbody>",
    );
    let of = |strategy: &'static str| cells.iter().map(|cell| &cell.figures).filter(move |it| it.strategy == strategy);
    for ((it, tags), oracle) in of("highwater").zip(of("tags")).zip(of("oracle")) {
        write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}<td>{:.1}<td>{}</tr>",
            escaped(&it.workload),
            it.lag,
            it.reads,
            it.own_write_violations,
            percent(it.hit_rate),
            percent(it.fresh_hit_rate),
            percent(it.replica),
            percent(it.primary),
            percent(oracle.hit_rate),
            percent(tags.hit_rate),
            tags.own_write_violations,
        )?;
    }
    write!(
        page,
        "</tbody></table><p class=\"note\">highwater, beside the oracle and itself by tags alone. <code>{}</code></p>",
        escaped(&report.command_of("workloads"))
    )?;
    Ok(())
}

/// A plot by itself, for a README.
pub(crate) fn frontier_alone(report: &Report) -> Result<String> {
    let mut page = String::new();
    frontier(&mut page, report, &report.of_sweep("").collect::<Vec<_>>())?;
    let svg = page.split_once("<svg").and_then(|(_, rest)| rest.split_once("</svg>"));
    let svg = svg.map_or_else(String::new, |(svg, _)| format!("<svg{svg}</svg>\n"));
    Ok(svg.replacen("<svg", "<svg width=\"860\" height=\"380\"", 1))
}
