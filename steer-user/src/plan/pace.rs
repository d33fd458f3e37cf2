//! How fast flows are moved, and how long a drain takes.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::ValueError;

/// Flows moved in a second without `--rate`.
const RATE_DEFAULT: u32 = 1_000;
/// The largest rate that may be asked for.
pub const RATE_MAX: u32 = 1_000_000;

/// Flows to be moved in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

impl Default for Rate {
    fn default() -> Self {
        Self(RATE_DEFAULT)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(given: &str) -> Result<Self, ValueError> {
        let number = given.strip_suffix("/s").unwrap_or(given);
        match number.parse::<u32>() {
            // `parse` would take a sign.
            Ok(rate @ 1..=RATE_MAX) if !number.starts_with('+') => Ok(Self(rate)),
            _ => Err(ValueError::Rate {
                given: given.into(),
            }),
        }
    }
}

impl Rate {
    /// Batches in a second, where the rate is not less.
    const BATCHES: u32 = 20;

    /// How many to move at once, and how long until the next ones.
    pub fn batch(self) -> (usize, Duration) {
        let flows = (self.0 / Self::BATCHES).max(1);
        let period = Duration::from_secs(1) * flows / self.0;
        (usize::try_from(flows).unwrap_or(usize::MAX), period)
    }
}

/// How fast the flows of a tunnel end.
#[derive(Clone, Debug, Default)]
pub struct DrainPace {
    /// When, and how many were left; the oldest first.
    counts: VecDeque<(Duration, u64)>,
}

impl DrainPace {
    /// How far back it looks.
    const WINDOW: Duration = Duration::from_secs(30);

    /// Notes how many are left. `now` is of any steady clock.
    pub fn note(&mut self, now: Duration, left: u64) {
        // The oldest one that is kept is at least that old, so that a slow drain has a rate, too.
        while self
            .counts
            .get(1)
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= Self::WINDOW)
        {
            self.counts.pop_front();
        }
        self.counts.push_back((now, left));
    }

    /// Flows that end in a second; `None` when none is known to.
    pub fn per_sec(&self) -> Option<f64> {
        let ((began, before), (now, left)) = (self.counts.front()?, self.counts.back()?);
        let ended = u32::try_from(before.checked_sub(*left)?).ok()?;
        let secs = now.saturating_sub(*began).as_secs_f64();
        (ended > 0 && secs > 0.0).then(|| f64::from(ended) / secs)
    }

    /// How long it takes at this pace until none is left.
    pub fn eta(&self) -> Option<Duration> {
        let (_, left) = self.counts.back()?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let secs = *left as f64 / self.per_sec()?;
        Duration::try_from_secs_f64(secs).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.to_string()).ok();
        assert_eq!(rate("500/s").as_deref(), Some("500/s"));
        assert_eq!(rate("500").as_deref(), Some("500/s"));
        for wrong in ["", "0", "0/s", "-1", "+5", "5/m", "many", "1000001", "1.5"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
        assert_eq!(Rate::default().to_string(), "1000/s");
    }

    #[test]
    fn batches() {
        let batch = |rate| {
            let (flows, period) = Rate(rate).batch();
            (flows, period.as_micros())
        };
        assert_eq!(batch(1), (1, 1_000_000));
        assert_eq!(batch(19), (1, 52_631));
        assert_eq!(batch(50), (2, 40_000));
        assert_eq!(batch(1_000), (50, 50_000));
        assert_eq!(batch(RATE_MAX), (50_000, 50_000));
    }

    #[test]
    fn a_drain() {
        let secs = Duration::from_secs;
        let mut pace = DrainPace::default();
        assert_eq!((pace.per_sec(), pace.eta()), (None, None));
        pace.note(secs(0), 100);
        assert_eq!(pace.per_sec(), None);
        pace.note(secs(5), 90);
        assert_eq!((pace.per_sec(), pace.eta()), (Some(2.0), Some(secs(45))));
        for at in 6..100 {
            pace.note(secs(at), 90);
        }
        assert_eq!((pace.per_sec(), pace.eta()), (None, None));
        // The far end has put some there.
        pace.note(secs(100), 95);
        assert_eq!(pace.per_sec(), None);
        pace.note(secs(101), 0);
        assert_eq!(pace.eta(), Some(secs(0)));
        // No more is kept than is looked at.
        assert!(pace.counts.len() < 40);
    }
}
