//! Several runs of the same as one: what lies in the middle, and how far apart they are.

use crate::figures::{Cell, Figures, Slice};
use crate::stage::Result;
use serde::Serialize;
use serde_json::{Map, Value};

/// All runs of one strategy.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// Figure by figure the median; of an even number of runs the lower of the two in the middle.
    pub(crate) median: Figures,
    pub(crate) least: Figures,
    pub(crate) greatest: Figures,
    pub(crate) runs: usize,
    /// Counted over all runs; latency is that of the median run.
    pub(crate) slices: Vec<Slice>,
    /// On average.
    pub(crate) staleness: Vec<(f64, f64)>,
}

impl Summary {
    /// Of each strategy, in the order in which they come.
    pub(crate) fn of_each<'a>(cells: impl Iterator<Item = &'a Cell>) -> Result<Vec<Self>> {
        let mut strategies: Vec<Vec<&Cell>> = Vec::new();
        for cell in cells {
            let same = |group: &&mut Vec<&Cell>| {
                group.first().is_some_and(|first| first.figures.strategy == cell.figures.strategy)
            };
            match strategies.iter_mut().find(same) {
                Some(group) => group.push(cell),
                None => strategies.push(vec![cell]),
            }
        }
        strategies.iter().map(|cells| Self::of(cells)).collect()
    }

    fn of(cells: &[&Cell]) -> Result<Self> {
        Ok(Self {
            median: picked(cells, "median", |runs| (runs - 1) / 2)?,
            least: picked(cells, "least", |_| 0)?,
            greatest: picked(cells, "greatest", |runs| runs - 1)?,
            runs: cells.len(),
            slices: pooled(cells),
            staleness: averaged(cells),
        })
    }
}

/// By figure the one at the place that `pick` names among so many.
fn picked(cells: &[&Cell], run: &str, pick: impl Fn(usize) -> usize) -> Result<Figures> {
    let runs = cells.iter().map(|cell| serde_json::to_value(&cell.figures)).collect::<Result<Vec<_>, _>>()?;
    let mut figures = Map::new();
    for (name, first) in runs.first().and_then(Value::as_object).into_iter().flatten() {
        let mut values: Vec<&Value> = runs.iter().filter_map(|run| run.get(name)).collect();
        if first.is_number() {
            let size = |value: &Value| value.as_f64().unwrap_or_default();
            values.sort_by(|a, b| size(a).total_cmp(&size(b)));
        }
        let value = values.get(pick(values.len())).copied().unwrap_or(first);
        figures.insert(name.clone(), value.clone());
    }
    figures.insert("run".to_owned(), run.into());
    Ok(serde_json::from_value(Value::Object(figures))?)
}

fn pooled(cells: &[&Cell]) -> Vec<Slice> {
    let length = cells.iter().map(|cell| cell.slices.len()).max().unwrap_or_default();
    let of_all = |at: usize| {
        let all: Vec<&Slice> = cells.iter().filter_map(|cell| cell.slices.get(at)).collect();
        let sum = |of: fn(&Slice) -> u64| all.iter().map(|slice| of(slice)).sum();
        let mut latencies: Vec<f64> = all.iter().map(|slice| slice.latency_p99_ms).collect();
        latencies.sort_by(f64::total_cmp);
        Slice {
            second: all.first().map_or(0.0, |slice| slice.second),
            reads: sum(|it| it.reads),
            writes: sum(|it| it.writes),
            hits: sum(|it| it.hits),
            fresh_hits: sum(|it| it.fresh_hits),
            stale: sum(|it| it.stale),
            primary: sum(|it| it.primary),
            replica: sum(|it| it.replica),
            own_write_violations: sum(|it| it.own_write_violations),
            latency_p99_ms: latencies.get(latencies.len().saturating_sub(1) / 2).copied().unwrap_or_default(),
        }
    };
    (0..length).map(of_all).collect()
}

fn averaged(cells: &[&Cell]) -> Vec<(f64, f64)> {
    let of_all = |(at, (x, _)): (usize, &(f64, f64))| {
        let sum: f64 = cells.iter().filter_map(|cell| cell.staleness.get(at)).map(|(_, share)| share).sum();
        (*x, sum / cells.len() as f64)
    };
    cells.first().into_iter().flat_map(|cell| cell.staleness.iter().enumerate()).map(of_all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(strategy: &str, hit_rate: f64, reads: u64) -> Cell {
        let figures = Figures { strategy: strategy.to_owned(), hit_rate, reads, ..Figures::default() };
        let slices = vec![Slice { second: 0.5, reads, hits: reads / 2, latency_p99_ms: hit_rate, ..Slice::default() }];
        Cell { figures, slices, staleness: vec![(1.0, hit_rate)], ..Cell::default() }
    }

    #[test]
    fn figure_by_figure_there_is_a_middle_and_two_ends() {
        let cells = [cell("a", 0.5, 30), cell("b", 1.0, 1), cell("a", 0.25, 10), cell("a", 0.75, 20)];
        let all = Summary::of_each(cells.iter()).unwrap();
        assert_eq!(
            all.iter().map(|it| (it.median.strategy.as_str(), it.runs)).collect::<Vec<_>>(),
            [("a", 3), ("b", 1)]
        );
        let of = |figures: &Figures| (figures.hit_rate, figures.reads);
        let a = &all[0];
        assert_eq!([of(&a.least), of(&a.median), of(&a.greatest)], [(0.25, 10), (0.5, 20), (0.75, 30)]);
        assert_eq!((a.slices[0].reads, a.slices[0].hits, a.slices[0].latency_p99_ms), (60, 30, 0.5));
        assert_eq!(a.staleness, [(1.0, 0.5)]);
        let two = Summary::of_each(cells[2..].iter()).unwrap();
        assert_eq!(of(&two[0].median), (0.25, 10), "of two the lower");
        assert!(Summary::of_each([].iter()).unwrap().is_empty());
    }
}
