//! The report as one page that needs nothing else.

mod compared;
mod latency;
mod over_time;
mod varied;

pub(crate) use compared::frontier_alone;

use crate::figures::Figures;
use crate::mark::look;
use crate::plot::{Frame, Series};
use crate::report::Report;
use crate::stage::Result;
use crate::summary::Summary;
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#111;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}figure{margin:1rem 0 2rem;break-inside:avoid}\
.plot{overflow-x:auto}svg{width:100%;min-width:38rem;height:auto;display:block}figcaption{font-size:.9rem}code{font-size:.8rem;\
background:#f2f2f2;padding:.1rem .3rem;overflow-wrap:anywhere}table{border-collapse:collapse;font-size:.85rem;\
font-variant-numeric:tabular-nums;display:block;overflow-x:auto}td,th{padding:.2rem .5rem;text-align:right;\
border-bottom:1px solid #ddd;vertical-align:top}th{vertical-align:bottom}td:first-child,th:first-child{text-align:left;white-space:nowrap}\
td small{display:block;color:#555;white-space:nowrap;font-size:.75rem}small.many{white-space:normal}.note{color:#444;font-size:.9rem}\
@media print{@page{size:A4;margin:12mm}body{max-width:none;margin:0;padding:0;font-size:10pt}code{background:none}\
h2{break-after:avoid}svg{min-width:0}.plot,table{overflow:visible}table{display:table;width:100%;font-size:6.5pt}\
td,th{padding:.1rem .2rem}td small{font-size:5.5pt}tr{break-inside:avoid}}";

/// The whole page.
pub(crate) fn page(report: &Report) -> Result<String> {
    let mut page = String::new();
    let title = format!("Hit rate against freshness: {}, lag {}", report.workload, report.lag);
    let runs = match report.runs {
        1 => format!("seed {}", report.seed),
        runs => {
            format!("{runs} runs, from seed {} on: medians, and below them from where to where they go", report.seed)
        }
    };
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body><h1>{0}</h1>\
         <p class=\"note\">highwater {1} over {2}; {runs}.{3}<br><code>{4}</code></p>",
        escaped(&title),
        report.highwater,
        escaped(&report.versions),
        if report.complete { "" } else { " <strong>Interrupted: this is what was measured until then.</strong>" },
        escaped(&report.command),
    )?;
    let compared = report.summaries("")?;
    if !compared.is_empty() {
        compared::write(&mut page, report, &compared)?;
        over_time::write(&mut page, report, &compared)?;
        latency::write(&mut page, report, &compared)?;
    }
    over_time::write_outage(&mut page, report)?;
    varied::write(&mut page, report)?;
    page.push_str("</body></html>\n");
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One plot with what it shows and how to get it.
fn figure(page: &mut String, svg: &str, caption: &str, command: &str) -> Result {
    let command = escaped(command);
    write!(
        page,
        "<figure><div class=\"plot\">{svg}</div><figcaption>{caption}<br><code>{command}</code></figcaption></figure>"
    )?;
    Ok(())
}

fn percent(share: f64) -> f64 {
    share * 100.0
}

fn frame(x: &str, y: &str, decades: bool) -> Frame {
    Frame { x: x.to_owned(), y: y.to_owned(), decades, shaded: Vec::new(), top: None }
}

fn series(of: &Summary, points: Vec<(f64, f64)>) -> Series {
    let name = of.median.strategy.clone();
    Series { look: look(&name), dashed: name == "oracle", name, points }
}

/// A figure in a table, and its range where there were several runs.
fn ranged(of: &Summary, decimals: usize, figure: impl Fn(&Figures) -> f64) -> String {
    let [median, low, high] = [&of.median, &of.least, &of.greatest].map(figure);
    let small = match low < high {
        true => format!("<small>{low:.decimals$}–{high:.decimals$}</small>"),
        false => String::new(),
    };
    format!("<td>{median:.decimals$}{small}")
}
