//! How far the replicas are behind, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A lag profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Replicas lag by this on average: the nearest by half of it, the farthest by one and a half.
    Steady(Duration),
    /// 80 ms, and from 3 s on for 3 s in every 20 s two seconds, on all replicas.
    Spikes,
    /// Replay stands still for 2 s in every 20 s, from 3 s on, on all replicas.
    Pause,
}

/// What is done to one replica at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Delay(Duration),
    Pause(bool),
}

const PERIOD: u64 = 20_000_000;
pub(crate) const FIRST: u64 = 3_000_000;
pub(crate) const SPIKE: u64 = 3_000_000;
const PAUSE: u64 = 2_000_000;
const NORMAL: Duration = Duration::from_millis(80);
const PEAK: Duration = Duration::from_secs(2);

impl Lag {
    /// What is done within `micros` from the start: when, to which replica, and what.
    pub(crate) fn turns(self, replicas: usize, micros: u64) -> Vec<(u64, usize, Turn)> {
        let all = |at, turn| (0..replicas).map(move |replica| (at, replica, turn));
        let spread = |at, mean: Duration| {
            // From a half to one and a half.
            let share = move |replica| 0.5 + replica as f64 / (replicas.max(2) - 1) as f64;
            (0..replicas).map(move |replica| {
                let delay = if replicas == 1 { mean } else { mean.mul_f64(share(replica)) };
                (at, replica, Turn::Delay(delay))
            })
        };
        let rounds = (0..).map(|round| FIRST + round * PERIOD).take_while(|at| *at < micros);
        match self {
            Self::Steady(mean) => spread(0, mean).collect(),
            Self::Spikes => {
                let spike = |at| all(at, Turn::Delay(PEAK)).chain(spread(at + SPIKE, NORMAL));
                spread(0, NORMAL).chain(rounds.flat_map(spike)).collect()
            }
            Self::Pause => {
                let pause = |at| all(at, Turn::Pause(true)).chain(all(at + PAUSE, Turn::Pause(false)));
                spread(0, Duration::ZERO).chain(rounds.flat_map(pause)).collect()
            }
        }
    }

    /// How many replicas suit it where nothing else is said.
    pub(crate) fn replicas(self) -> usize {
        if self == Self::Spikes { 5 } else { 2 }
    }

    /// What is not as usual within `micros` from the start: from when to when, and what to call it.
    pub(crate) fn troubles(self, micros: u64) -> Vec<((u64, u64), &'static str)> {
        let rounds = (0..).map(|round| FIRST + round * PERIOD).take_while(|at| *at < micros);
        match self {
            Self::Steady(_) => Vec::new(),
            Self::Spikes => rounds.map(|at| ((at, (at + SPIKE).min(micros)), "2 s of lag")).collect(),
            Self::Pause => rounds.map(|at| ((at, (at + PAUSE).min(micros)), "replay stands still")).collect(),
        }
    }
}

impl FromStr for Lag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Steady(Duration::ZERO)),
            "spikes" => Ok(Self::Spikes),
            "pause" => Ok(Self::Pause),
            _ => match duration(text) {
                Ok(mean) if mean <= Duration::from_secs(60) => Ok(Self::Steady(mean)),
                Ok(_) => Err("the longest lag is 60s".to_owned()),
                Err(_) => Err("give none, spikes, pause, or a time such as 10ms or 1s".to_owned()),
            },
        }
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady(Duration::ZERO) => f.write_str("none"),
            Self::Steady(mean) => write!(f, "{}ms", mean.as_millis()),
            Self::Spikes => f.write_str("spikes"),
            Self::Pause => f.write_str("pause"),
        }
    }
}

/// A time such as `10ms` or `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 10ms or 1.5s");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_what_was_asked_for_and_spikes_end() {
        let turns = Lag::Steady(Duration::from_millis(80)).turns(5, 1);
        let sum: Duration =
            turns.iter().map(|(.., turn)| if let Turn::Delay(delay) = turn { *delay } else { PEAK }).sum();
        assert_eq!(sum / 5, Duration::from_millis(80));
        let turns = Lag::Spikes.turns(2, 30_000_000);
        let peaks: Vec<u64> = turns.iter().filter(|it| it.2 == Turn::Delay(PEAK)).map(|it| it.0).collect();
        assert_eq!(peaks, [3_000_000, 3_000_000, 23_000_000, 23_000_000]);
        assert_eq!(turns.last().map(|it| it.0), Some(26_000_000));
    }

    #[test]
    fn times_and_profiles_are_read() {
        assert_eq!("10ms".parse(), Ok(Lag::Steady(Duration::from_millis(10))));
        assert_eq!("1s".parse::<Lag>().unwrap().to_string(), "1000ms");
        for wrong in ["", "10", "-1s", "1h", "61s", "NaNs"] {
            assert!(wrong.parse::<Lag>().is_err(), "{wrong:?}");
        }
    }
}
