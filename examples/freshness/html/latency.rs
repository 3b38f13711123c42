//! How long operations took.

use super::{escaped, figure};
use crate::figures::Figures;
use crate::plot::{plain, spans};
use crate::report::Report;
use crate::stage::Result;
use crate::summary::Summary;
use std::fmt::Write as _;

const RUNGS: [&str; 4] = ["local", "shared", "replica", "primary"];

/// By the rung that answered, where any read was answered there: median, 99th and 99.9th percentile.
fn by_rung(it: &Figures) -> [Option<[f64; 3]>; 4] {
    let of = |share: f64, times| (share > 0.0).then_some(times);
    [
        of(it.local, [it.local_p50_ms, it.local_p99_ms, it.local_p999_ms]),
        of(it.shared, [it.shared_p50_ms, it.shared_p99_ms, it.shared_p999_ms]),
        of(it.replica, [it.replica_p50_ms, it.replica_p99_ms, it.replica_p999_ms]),
        of(it.primary, [it.primary_p50_ms, it.primary_p99_ms, it.primary_p999_ms]),
    ]
}

pub(super) fn write(page: &mut String, report: &Report, all: &[Summary]) -> Result {
    page.push_str("<h2>Latency</h2>");
    let timed: Vec<&Summary> = all.iter().filter(|it| it.median.strategy != "oracle").collect();
    let named: Vec<_> = timed.iter().map(|it| (it.median.strategy.clone(), by_rung(&it.median).to_vec())).collect();
    let svg = spans("ms", &RUNGS, &["p50", "p99", "p99.9"], &named)?;
    let caption =
        "Time from when a read was due to its answer, by the rung that gave it, so that waiting in a queue counts.";
    figure(page, &svg, caption, &report.command)?;
    page.push_str(
        "<p class=\"note\">The same in milliseconds: p50 / p99 / p99.9.</p><table><thead><tr><th>strategy<th>local<th>shared\
         <th>replica<th>primary<th>writes (p50 / p99)<th>began late by (p50)</tr></thead><tbody>",
    );
    for it in timed {
        write!(page, "<tr><td>{}", escaped(&it.median.strategy))?;
        let rungs = [&it.median, &it.least, &it.greatest].map(by_rung);
        for rung in 0..RUNGS.len() {
            let times = rungs.each_ref().map(|times| times.get(rung).copied().flatten());
            match times.iter().any(Option::is_some) {
                true => write!(page, "<td>{}", cell(times.map(Option::unwrap_or_default), it.runs))?,
                false => page.push_str("<td>–"),
            }
        }
        let writes = |of: &Figures| [of.write_p50_ms, of.write_p99_ms];
        write!(page, "<td>{}", cell([&it.median, &it.least, &it.greatest].map(writes), it.runs))?;
        write!(page, "<td>{}</tr>", plain(it.median.late_p50_ms))?;
    }
    page.push_str("</tbody></table>");
    Ok(())
}

/// Some percentiles, of the median first, and below them the range of each.
fn cell<const N: usize>([median, low, high]: [[f64; N]; 3], runs: usize) -> String {
    let short = |ms: f64| plain((ms * 100.0).round() / 100.0);
    let mut cell = median.map(short).join(" / ");
    if runs > 1 {
        let ranges = low.iter().zip(&high).map(|(low, high)| format!("{}–\u{2060}{}", short(*low), short(*high)));
        cell += &format!("<small class=\"many\">{}</small>", ranges.collect::<Vec<_>>().join(" / "));
    }
    cell
}
