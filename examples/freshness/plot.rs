//! Plots as SVG.

use crate::mark::{BLUE, GREEN, GREY, Look, Mark, ORANGE, PURPLE, SKY, VERMILION, mark};
use crate::stage::Result;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// In the order in which stacked bars use them; neighbours differ in lightness too.
pub(crate) const STACK: [RGBColor; 8] = [BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE, GREY, RGBColor(200, 200, 200)];

const SIZE: (u32, u32) = (860, 380);
const LEGEND: u32 = 190;

/// How many marks a line has at most.
const MARKS_MAX: usize = 12;

const FONT: (&str, u32) = ("sans-serif", 14);

#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) look: Look,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The axes of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) x: String,
    pub(crate) y: String,
    /// Decades on the axis across; what is below the least is drawn there.
    pub(crate) decades: bool,
    /// Stretches of the axis across that are shaded, each with its name.
    pub(crate) shaded: Vec<(Range<f64>, String)>,
    /// The end of the axis upwards, where it is not the greatest value.
    pub(crate) top: Option<f64>,
}

/// Lines, with a legend beside them.
pub(crate) fn lines(frame: &Frame, series: &[Series]) -> Result<String> {
    draw(|root| {
        let across = |x: f64| if frame.decades { x.max(LEAST).log10() } else { x };
        let points = || series.iter().flat_map(|series| &series.points);
        let x = range(points().map(|point| across(point.0)), None);
        let y = range(points().map(|point| point.1).chain([0.0]), frame.top);
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        let width = x.end - x.start;
        let mut chart = chart(&left, x, y.clone())?;
        let mut named = f64::MIN;
        for ((from, to), name) in frame.shaded.iter().map(|(range, name)| ((range.start, range.end), name)) {
            let corner = [(across(from), y.start), (across(to), y.end)];
            chart.draw_series([Rectangle::new(corner, RGBColor(0, 0, 0).mix(0.08).filled())])?;
            let at = (across(from), y.end);
            // Where there are many, not each has room for its name.
            if across(from) > named + 0.12 * width {
                chart.draw_series([Text::new(name.clone(), at, FONT.into_font().color(&GREY))])?;
                named = across(from);
            }
        }
        let decimals = |value: &f64| plain(*value);
        let decade = |value: &f64| match value.fract().abs() < 1e-6 {
            true => plain(10_f64.powf(*value)),
            false => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&frame.x).y_desc(&frame.y).label_style(FONT).axis_desc_style(FONT).light_line_style(TRANSPARENT);
        mesh.y_label_formatter(&decimals);
        if frame.decades {
            mesh.x_label_formatter(&decade)
        } else {
            mesh.x_label_formatter(&decimals)
        };
        mesh.draw()?;
        for series in series {
            let points: Vec<_> = series.points.iter().map(|&(x, y)| (across(x), y)).collect();
            let style = series.look.colour.stroke_width(if series.name == "highwater" { 3 } else { 2 });
            match series.dashed {
                true => chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?,
                false => chart.draw_series(LineSeries::new(points.clone(), style))?,
            };
            // Not at every point of a long line.
            let every = points.len().div_ceil(MARKS_MAX).max(1);
            let marked = points.iter().skip(every / 2).step_by(every);
            marked.into_iter().try_for_each(|point| mark(&left, chart.backend_coord(point), series.look))?;
        }
        legend(&right, series)
    })
}

/// Named bars of stacked parts, each a share; `parts` names them from the axis on.
pub(crate) fn bars(x: &str, y: &str, parts: &[&str], named: &[(String, Vec<f64>)]) -> Result<String> {
    draw(|root| {
        let highest = named.iter().map(|(_, values)| values.iter().sum::<f64>());
        let y_range = range(highest.chain([0.0]), None);
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        let mut chart = chart(&left, -0.5..named.len() as f64 - 0.5, y_range)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_label_formatter(&|value| plain(*value))
            .x_desc(x)
            .y_desc(y)
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (at, (name, values)) in named.iter().enumerate() {
            names(&left, &chart.backend_coord(&(at as f64, 0.0)), name, at, named.len())?;
            let mut bottom = 0.0;
            for (value, colour) in values.iter().zip(STACK) {
                let corners = [(at as f64 - 0.35, bottom), (at as f64 + 0.35, bottom + value)];
                chart.draw_series([Rectangle::new(corners, colour.filled())])?;
                chart.draw_series([Rectangle::new(corners, WHITE.stroke_width(1))])?;
                bottom += value;
            }
        }
        // The uppermost part is named first, as it stands.
        for (row, (part, colour)) in parts.iter().zip(STACK).collect::<Vec<_>>().into_iter().rev().enumerate() {
            let y = 24 + 22 * row as i32;
            right.draw(&Rectangle::new([(12, y - 7), (28, y + 7)], colour.filled()))?;
            right.draw(&Text::new((*part).to_owned(), (36, y - 7), FONT))?;
        }
        Ok(())
    })
}

/// Named points; upwards in decades, with a place of its own for none at all.
pub(crate) fn scatter(x: &str, y: &str, points: &[(String, Look, (f64, f64))]) -> Result<String> {
    draw(|root| {
        const NONE: f64 = -0.5;
        let upwards = |y: f64| if y > 0.0 { y.max(1.0).log10() } else { NONE };
        let top = points.iter().map(|(.., (_, y))| upwards(*y)).fold(1.0, f64::max);
        // By the root, so that those who ask little of the primary are told apart.
        let mut chart = chart(root, -0.3..13.0, NONE - 0.8..top.ceil() + 0.3)?;
        let decade = |value: &f64| match value {
            value if (value - NONE).abs() < 1e-6 => "none".to_owned(),
            value if value.fract().abs() < 1e-6 && *value >= 0.0 => plain(10_f64.powf(*value)),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .y_labels(16)
            .y_label_formatter(&decade)
            .x_labels(12)
            .x_label_formatter(&|value| if *value > 10.1 { String::new() } else { plain(value * value) })
            .x_desc(x)
            .y_desc(y)
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        let places: Vec<_> = points.iter().map(|(.., (x, y))| chart.backend_coord(&(x.sqrt(), upwards(*y)))).collect();
        points.iter().zip(&places).try_for_each(|((_, look, _), place)| mark(root, *place, *look))?;
        // Names that would lie on each other or on a mark are moved, as little as will do.
        let mut taken: Vec<Label> = Vec::new();
        for ((name, look, _), &(x, y)) in points.iter().zip(&places) {
            let label = |y| Label { x: x + 10, y, width: 7 * name.chars().count() as i32 };
            let is_free = |label: &Label| {
                !taken.iter().any(|other| label.meets(other)) && !places.iter().any(|place| label.covers(*place))
            };
            let tried = (0..40).flat_map(|step| [y - 7 - 5 * step, y - 7 + 5 * step]).map(label);
            // Below the axis are its numbers.
            let chosen = tried
                .into_iter()
                .filter(|label| label.y < SIZE.1 as i32 - 75)
                .find(is_free)
                .unwrap_or_else(|| label(y - 7));
            root.draw(&Text::new(name.clone(), (chosen.x, chosen.y), FONT.into_font().color(&look.colour)))?;
            taken.push(chosen);
        }
        Ok(())
    })
}

/// Where a name stands: its upper left corner, and about how wide it is.
struct Label {
    x: i32,
    y: i32,
    width: i32,
}

impl Label {
    const HEIGHT: i32 = 15;

    fn meets(&self, other: &Self) -> bool {
        self.x < other.x + other.width && other.x < self.x + self.width && (self.y - other.y).abs() < Self::HEIGHT
    }

    fn covers(&self, (x, y): (i32, i32)) -> bool {
        (self.x - 6..self.x + self.width + 6).contains(&x) && (self.y - 5..self.y + Self::HEIGHT + 5).contains(&y)
    }
}

/// For each name and kind a line upwards in decades, from its first value to its last, with a mark at the first and ticks at the
/// others, which `ticks` names.
pub(crate) fn spans(
    y: &str,
    kinds: &[&str],
    ticks: &[&str],
    named: &[(String, Vec<Option<[f64; 3]>>)],
) -> Result<String> {
    draw(|root| {
        let up = |value: f64| value.max(LEAST).log10();
        let values = || named.iter().flat_map(|(_, spans)| spans.iter().flatten().flatten());
        let low = values().copied().map(up).fold(0.0, f64::min).floor();
        let high = values().copied().map(up).fold(low + 1.0, f64::max) + 0.1;
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        let mut chart = chart(&left, -0.5..named.len() as f64 - 0.5, low..high)?;
        let decade = |value: &f64| match value.fract().abs() < 1e-6 {
            true => plain(10_f64.powf(*value)),
            false => String::new(),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_label_formatter(&decade)
            .y_desc(y)
            .label_style(FONT)
            .axis_desc_style(FONT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        let marks = [Mark::Circle, Mark::Triangle, Mark::Diamond, Mark::Square];
        let looks = marks.into_iter().zip(STACK).map(|(mark, colour)| Look { colour, mark, filled: true });
        let looks: Vec<Look> = looks.take(kinds.len()).collect();
        for (at, (name, spans)) in named.iter().enumerate() {
            names(&left, &chart.backend_coord(&(at as f64, low)), name, at, named.len())?;
            for (kind, (span, look)) in spans.iter().zip(&looks).enumerate() {
                let Some(span) = span else { continue };
                let x = at as f64 + 0.2 * (kind as f64 - (kinds.len() as f64 - 1.0) / 2.0);
                let [first, middle, last] = span.map(|value| chart.backend_coord(&(x, up(value))));
                span_at(&left, first, &[middle, last], *look)?;
            }
        }
        for (row, (kind, look)) in kinds.iter().zip(&looks).enumerate() {
            let y = 24 + 22 * row as i32;
            mark(&right, (21, y), *look)?;
            right.draw(&Text::new((*kind).to_owned(), (40, y - 7), FONT))?;
        }
        let foot = 24 + 22 * kinds.len() as i32 + 60;
        let black = Look { colour: BLACK, mark: Mark::Circle, filled: true };
        let places: Vec<_> = (0..ticks.len() as i32).map(|step| (21, foot - 22 * step)).collect();
        if let Some((first, rest)) = places.split_first() {
            span_at(&right, *first, rest, black)?;
        }
        for (tick, (_, y)) in ticks.iter().zip(places) {
            right.draw(&Text::new((*tick).to_owned(), (40, y - 7), FONT))?;
        }
        Ok(())
    })
}

/// A line from a mark through ticks.
fn span_at(area: &Area<'_>, first: (i32, i32), ticks: &[(i32, i32)], look: Look) -> Result {
    let style = look.colour.stroke_width(2);
    let end = ticks.last().copied().unwrap_or(first);
    area.draw(&PathElement::new(vec![first, end], look.colour.stroke_width(1)))?;
    for (x, y) in ticks {
        area.draw(&PathElement::new(vec![(x - 4, *y), (x + 4, *y)], style))?;
    }
    mark(area, first, look)
}

/// The name of what stands there on the axis; those of many in two rows.
fn names(area: &Area<'_>, (x, y): &(i32, i32), name: &str, at: usize, count: usize) -> Result {
    let centred = ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
    let row = if count > 8 { at as i32 % 2 } else { 0 };
    area.draw(&Text::new(name.to_owned(), (*x, y + 6 + 16 * row), centred))?;
    Ok(())
}

/// What logarithms begin at.
const LEAST: f64 = 1e-3;

fn draw(draw: impl FnOnce(&Area<'_>) -> Result) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        root.present()?;
    }
    // So that the page can scale it.
    Ok(svg.replacen("<svg width=\"860\" height=\"380\"", "<svg role=\"img\"", 1))
}

fn chart<'a, 'b>(area: &'a Area<'b>, x: Range<f64>, y: Range<f64>) -> Result<Chart<'a, 'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).margin_right(24).x_label_area_size(48).y_label_area_size(64);
    Ok(builder.build_cartesian_2d(x, y)?)
}

/// From the least to the greatest, never empty.
fn range(values: impl Iterator<Item = f64>, top: Option<f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    // A little room above.
    let high = top.unwrap_or(if low >= 0.0 { high * 1.02 } else { high });
    if high - low < 1e-9 { low..low + 1.0 } else { low..high }
}

fn legend(area: &Area<'_>, series: &[Series]) -> Result {
    for (row, series) in series.iter().enumerate() {
        let y = 24 + 22 * row as i32;
        let style = series.look.colour.stroke_width(2);
        let ends = if series.dashed { vec![(8, 14), (18, 24), (28, 34)] } else { vec![(8, 34)] };
        for (from, to) in ends {
            area.draw(&PathElement::new(vec![(from, y), (to, y)], style))?;
        }
        mark(area, (21, y), series.look)?;
        area.draw(&Text::new(series.name.clone(), (40, y - 7), FONT))?;
    }
    Ok(())
}

/// A number without needless digits.
pub(crate) fn plain(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", plain(value / 1e6)),
        size if size >= 1e4 => format!("{}k", plain(value / 1e3)),
        size if size >= 100.0 || value.fract().abs() < 1e-9 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => {
            let digits = format!("{value:.3}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::look;

    #[test]
    fn plots_of_nothing_and_of_one_point_are_drawn() {
        let frame = Frame { x: "x".to_owned(), y: "y".to_owned(), decades: true, shaded: Vec::new(), top: None };
        let one = Series { name: "one".to_owned(), look: look("oracle"), dashed: true, points: vec![(0.0, 0.0)] };
        for series in [&[][..], &[one]] {
            assert!(lines(&frame, series).unwrap().ends_with("</svg>\n"));
        }
        assert!(bars("x", "y", &[], &[]).unwrap().contains("<svg role"));
        assert!(scatter("x", "y", &[]).unwrap().contains("<svg role"));
        let span = vec![("a".to_owned(), vec![None, Some([0.0, 1.0, 1e6])])];
        assert!(spans("y", &["one", "two"], &["first", "middle", "last"], &span).unwrap().contains("<svg role"));
    }

    #[test]
    fn numbers_are_plain() {
        let cases = [(0.0, "0"), (0.05, "0.05"), (1.5, "1.5"), (250.0, "250"), (60_000.0, "60k"), (2.5e6, "2.5M")];
        for (value, expected) in cases {
            assert_eq!(plain(value), expected);
        }
    }
}
