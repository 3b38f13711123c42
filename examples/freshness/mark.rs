//! Colours that colour-blind readers tell apart (Okabe and Ito), and marks for print without colour.

use crate::plot::Area;
use crate::stage::Result;
use plotters::prelude::*;

pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const SKY: RGBColor = RGBColor(86, 180, 233);
pub(crate) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(crate) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(crate) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(crate) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(crate) const GREY: RGBColor = RGBColor(110, 110, 110);

/// How a series is drawn: its colour, and which of the marks, filled or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) colour: RGBColor,
    pub(crate) mark: Mark,
    pub(crate) filled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Circle,
    Triangle,
    Square,
    Diamond,
    Down,
    Cross,
    Plus,
    Star,
}

/// A strategy looks the same in every plot, and no two have the same mark, so that print without colour will do.
pub(crate) fn look(strategy: &str) -> Look {
    use Mark::{Circle, Cross, Diamond, Down, Plus, Square, Star, Triangle};
    let (colour, mark, filled) = match strategy {
        "highwater" => (BLUE, Circle, true),
        "oracle" => (BLACK, Circle, false),
        "monotonic" => (SKY, Triangle, true),
        "tags" => (GREEN, Diamond, true),
        "ttl-1s" => (ORANGE, Square, false),
        "ttl-10s" => (ORANGE, Down, true),
        "ttl-60s" => (ORANGE, Square, true),
        "delete" => (VERMILION, Diamond, false),
        "write-through" => (PURPLE, Down, false),
        "replica" => (GREEN, Plus, true),
        "sticky" => (GREEN, Plus, false),
        "window" => (PURPLE, Triangle, false),
        "keys" => (SKY, Star, false),
        "stored" => (GREY, Cross, true),
        "primary" => (GREY, Star, true),
        _ => (GREY, Cross, false),
    };
    Look { colour, mark, filled }
}

/// A mark at a place.
pub(crate) fn mark(area: &Area<'_>, (x, y): (i32, i32), Look { colour, mark, filled }: Look) -> Result {
    let corners: &[(i32, i32)] = match mark {
        Mark::Circle => {
            area.draw(&Circle::new((x, y), 4, if filled { colour.filled() } else { WHITE.filled() }))?;
            area.draw(&Circle::new((x, y), 4, colour.stroke_width(2)))?;
            return Ok(());
        }
        Mark::Cross | Mark::Plus | Mark::Star => {
            let ends: &[(i32, i32)] = match mark {
                Mark::Cross => &[(4, 4), (4, -4)],
                Mark::Plus => &[(5, 0), (0, 5)],
                _ => &[(4, 4), (4, -4), (6, 0)],
            };
            let width = if filled { 2 } else { 1 };
            for (across, up) in ends {
                let line = vec![(x - across, y - up), (x + across, y + up)];
                area.draw(&PathElement::new(line, colour.stroke_width(width)))?;
            }
            return Ok(());
        }
        Mark::Triangle => &[(0, -6), (5, 4), (-5, 4)],
        Mark::Down => &[(0, 6), (5, -4), (-5, -4)],
        Mark::Square => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        Mark::Diamond => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
    };
    let mut around: Vec<_> = corners.iter().map(|(across, down)| (x + across, y + down)).collect();
    area.draw(&Polygon::new(around.clone(), if filled { colour.filled() } else { WHITE.filled() }))?;
    around.extend(around.first().copied());
    area.draw(&PathElement::new(around, colour.stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::Contestant;
    use clap::ValueEnum;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_strategies_have_the_same_mark() {
        let all = Contestant::value_variants();
        let looks = all.iter().map(|contestant| look(&contestant.name()));
        assert_eq!(looks.map(|look| (look.mark, look.filled)).collect::<BTreeSet<_>>().len(), all.len());
    }
}
