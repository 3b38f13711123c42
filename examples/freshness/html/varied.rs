//! What was varied, in simulation.

use super::{compared, escaped, figure, frame, percent};
use crate::figures::{Cell, Figures};
use crate::mark::look;
use crate::plot::{Frame, Series, bars, lines};
use crate::report::Report;
use crate::stage::Result;
use std::fmt::Write as _;

/// One plot each.
pub(super) fn write(page: &mut String, report: &Report) -> Result {
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
            let (part, share) = part(sweep, it);
            for (name, dashed, y) in
                [(it.strategy.clone(), false, it.hit_rate), (format!("{}, {part}", it.strategy), true, share)]
            {
                // All hits of the oracle are fresh.
                if it.strategy == "oracle" && dashed && part == "fresh" {
                    continue;
                }
                match drawn.iter_mut().find(|series| series.name == name) {
                    Some(series) => series.points.push((x, percent(y))),
                    None => drawn.push(Series {
                        look: look(&it.strategy),
                        dashed: dashed || (it.strategy == "oracle" && part == "fresh"),
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
        let caption = match sweep {
            "capacity" => {
                "Hits (solid) and those of the in-process tier (dashed). The shared tier has room for what the other has not, \
                 so that only where hits come from depends on its size. Simulated."
            }
            _ => "Hits (solid) and hits that were not stale (dashed). Simulated.",
        };
        figure(page, &lines(&axes, &drawn)?, caption, &report.command_of(sweep))?;
    }
    causes(page, report)?;
    every_cell(page, report)
}

/// What a second line shows: hits that were fresh, and where room is varied those that room makes.
fn part(sweep: &str, it: &Figures) -> (&'static str, f64) {
    if sweep == "capacity" { ("in process", it.local) } else { ("fresh", it.fresh_hit_rate) }
}

fn causes(page: &mut String, report: &Report) -> Result {
    let cells: Vec<&Cell> = report.of_sweep("tokens").filter(|it| it.figures.strategy != "ttl-10s").collect();
    if cells.is_empty() {
        return Ok(());
    }
    let named = |strategy: &str| -> Vec<(String, Vec<f64>)> {
        let of = cells.iter().map(|cell| &cell.figures).filter(|it| it.strategy == strategy);
        of.map(|it| (format!("{:.0} %", it.x * 100.0), compared::causes(it))).collect()
    };
    page.push_str("<h2>Misses by cause against the share of reads with tokens</h2>");
    for strategy in ["highwater", "tags", "oracle"] {
        let svg =
            bars("reads with a token", "misses of the local tier, % of reads", &compared::CAUSES, &named(strategy))?;
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
