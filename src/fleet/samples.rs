//! Where the primary was, and when.

use crate::Lsn;

/// Everything acknowledged before `begun_ms` lies at or below `insert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) begun_ms: u64,
    pub(super) insert: Lsn,
}

/// Samples, oldest first. The older, the fewer: so they go back for a day, however often a primary is asked for which reads wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Vec<Sample>);

/// How many are kept.
const SAMPLES_MAX: usize = 256;

/// Where there are too many, two stay only if they are farther apart than their age through this.
const PARTS: u64 = 16;

impl Samples {
    /// These and a newer one.
    pub(super) fn with(&self, newest: Sample) -> Self {
        let mut samples = self.0.clone();
        if samples.len() >= SAMPLES_MAX {
            let mut last_ms = None;
            samples.retain(|sample| {
                let apart_ms = newest.begun_ms.saturating_sub(sample.begun_ms) / PARTS;
                let stays = last_ms.is_none_or(|last_ms| sample.begun_ms.saturating_sub(last_ms) > apart_ms);
                last_ms = if stays { Some(sample.begun_ms) } else { last_ms };
                stays
            });
        }
        if samples.len() >= SAMPLES_MAX {
            samples.remove(0);
        }
        samples.push(newest);
        Self(samples)
    }

    /// The first that was begun at this time or later.
    pub(super) fn since(&self, ms: u64) -> Option<Sample> {
        self.0.iter().find(|sample| sample.begun_ms >= ms).copied()
    }

    /// The first that lies beyond this position.
    pub(super) fn beyond(&self, position: Lsn) -> Option<Sample> {
        self.0.iter().find(|sample| sample.insert > position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1_000;

    /// Asked every 250 ms for a day, and every 2 ms at the end of it.
    #[test]
    fn they_go_back_for_a_day_and_are_the_denser_the_younger() {
        let rest = (0..DAY_MS).step_by(250);
        let times = rest.chain((DAY_MS..DAY_MS + 60_000).step_by(2));
        let mut samples = Samples::default();
        for begun_ms in times {
            samples = samples.with(Sample { begun_ms, insert: Lsn::new(begun_ms) });
            assert!(samples.0.len() <= SAMPLES_MAX);
        }
        let now_ms = DAY_MS + 60_000;
        for age_ms in [10, 100, 1_000, 10_000, 100_000, 3_600_000, 12 * 3_600_000] {
            let found = samples.since(now_ms - age_ms).unwrap();
            let younger_ms = found.begun_ms - (now_ms - age_ms);
            assert!(younger_ms <= 2 + age_ms / 8, "of {age_ms} ms ago there is one {younger_ms} ms later");
            assert_eq!(samples.beyond(Lsn::new(now_ms - age_ms - 1)), Some(found));
        }
        assert_eq!(samples.since(now_ms), None);
    }
}
