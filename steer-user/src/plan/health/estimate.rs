//! What probes measured: round-trip time, how much it varies, and loss.

use std::time::Duration;

/// Probes over which loss is counted: 20 s of them by default.
const WINDOW: u32 = 100;
/// The least of them that say anything about loss.
const WINDOW_MIN: u32 = 32;
/// How long an answer may take at most, however slow the tunnel is.
const PATIENCE_MAX: Duration = Duration::from_secs(3);
/// How long the first answer may take (RFC 6298 section 2.1).
const PATIENCE_FIRST: Duration = Duration::from_secs(1);
/// What is slow by less than this is not worth a word.
const SLOW_MARGIN: Duration = Duration::from_millis(20);

/// How seldom so many probes in a row may be lost by chance: with five in a second, once in a day or two.
const LUCK: f64 = 2e-6;
/// By how much more misses a lossy tunnel is told from a dead one, at most.
const MISSES_FACTOR: u32 = 4;

/// Round-trip times in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Rtt {
    /// Smoothed (RFC 6298 section 2.3).
    smoothed: u64,
    /// Mean deviation, likewise.
    deviation: u64,
    /// What is usual: falls within seconds and rises within minutes.
    usual: u64,
}

impl Rtt {
    fn first(rtt_ns: u64) -> Self {
        Self {
            smoothed: rtt_ns,
            deviation: rtt_ns / 2,
            usual: rtt_ns,
        }
    }

    fn next(&mut self, rtt_ns: u64) {
        let off_ns = self.smoothed.abs_diff(rtt_ns);
        self.deviation = approach(self.deviation, off_ns, 4);
        self.smoothed = approach(self.smoothed, rtt_ns, 8);
        let pace = if rtt_ns < self.usual { 16 } else { 1_024 };
        self.usual = approach(self.usual, rtt_ns, pace);
    }
}

/// What is measured of a tunnel.
#[derive(Clone, Debug, Default)]
pub(super) struct Estimate {
    rtt: Option<Rtt>,
    /// The same of answers in time, since the last miss.
    in_time: Option<Rtt>,
    /// A bit for each of the latest probes, set where it was lost; the newest is bit 0.
    lost: u128,
    /// How many of the bits are used.
    judged: u32,
    /// Both, as they were when the tunnel went down.
    aside: (u128, u32),
    /// How many probes were judged since then.
    since: u32,
}

impl Estimate {
    /// A probe was answered in time.
    pub(super) fn answered(&mut self, rtt_ns: u64) {
        self.measured(rtt_ns);
        note(&mut self.in_time, rtt_ns);
        self.judged(false);
    }

    /// A probe counts as lost.
    pub(super) fn missed(&mut self) {
        self.in_time = None;
        self.judged(true);
    }

    /// An answer took so long, whether or not it was in time.
    pub(super) fn measured(&mut self, rtt_ns: u64) {
        note(&mut self.rtt, rtt_ns);
    }

    fn judged(&mut self, is_lost: bool) {
        self.lost = self.lost << 1 | u128::from(is_lost);
        self.judged = WINDOW.min(self.judged + 1);
        self.since = WINDOW.min(self.since + 1);
    }

    /// Loss counts from here on.
    pub(super) fn restart(&mut self) {
        (self.lost, self.judged, self.since) = (0, 0, 0);
        self.aside = (0, 0);
    }

    /// So many misses in a row made the tunnel down: what was known before them is put aside.
    pub(super) fn put_aside(&mut self, misses: u32) {
        let lost = self.lost.checked_shr(misses).unwrap_or(0);
        self.aside = (lost, self.judged.saturating_sub(misses));
        self.since = 0;
    }

    /// What was lost while the tunnel was down does not count, nor how long its packets waited somewhere.
    pub(super) fn take_back(&mut self) {
        (self.lost, self.judged) = self.aside;
        if let (Some(rtt), Some(in_time)) = (&mut self.rtt, self.in_time) {
            (rtt.smoothed, rtt.deviation) = (in_time.smoothed, in_time.deviation);
        }
    }

    /// Whether a whole window's probes since the tunnel went down never missed so many in a row.
    pub(super) fn is_steady(&self, misses: u32) -> bool {
        self.judged.min(self.since) >= WINDOW && longest_run(self.lost & used(WINDOW)) < misses
    }

    /// How long a probe may fly until it counts as missed.
    pub(super) fn patience(&self, interval: Duration) -> Duration {
        // Less than the interval, so that the last of several misses is known before the next is due.
        let floor = interval * 3 / 4;
        let wanted = match self.rtt {
            None => PATIENCE_FIRST,
            Some(rtt) => {
                let margin = (4 * rtt.deviation).max(rtt.smoothed / 2);
                Duration::from_nanos(rtt.smoothed + margin)
            }
        };
        wanted.min(PATIENCE_MAX).max(floor)
    }

    /// Smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_nanos(rtt.smoothed))
    }

    /// How much it varies.
    pub(super) fn jitter(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_nanos(rtt.deviation))
    }

    /// Share of the latest probes that were lost, 0 to 1.
    pub(super) fn loss(&self) -> Option<f64> {
        let lost = (self.lost & used(self.judged)).count_ones();
        (self.judged > 0).then(|| f64::from(lost) / f64::from(self.judged))
    }

    /// How many misses in a row are death and not bad luck, if `least` are where nothing is lost: more on a
    /// tunnel that loses some all the time.
    pub(super) fn misses(&self, least: u32) -> u32 {
        let loss = self.loss().filter(|_| self.judged >= WINDOW_MIN);
        let Some(loss) = loss.filter(|loss| *loss > 0.0) else {
            return least;
        };
        let is_luck = |misses: &u32| loss.powf(f64::from(*misses)) > LUCK;
        let bound = misses_max(least);
        (least..bound)
            .find(|misses| !is_luck(misses))
            .unwrap_or(bound)
    }

    /// Whether too many are lost: `threshold`, or half of that for a tunnel of which it was said already.
    pub(super) fn is_lossy(&self, threshold: f64, already: bool) -> bool {
        let threshold = if already { threshold / 2.0 } else { threshold };
        let is_enough = already || self.judged >= WINDOW_MIN;
        is_enough && self.loss().is_some_and(|loss| loss >= threshold)
    }

    /// Whether answers take `factor` times as long as usual, or half as much more for a tunnel of
    /// which it was said already.
    pub(super) fn is_slow(&self, factor: f64, already: bool) -> bool {
        let Some(rtt) = self.rtt else { return false };
        let (factor, margin) = if already {
            (f64::midpoint(factor, 1.0), SLOW_MARGIN / 2)
        } else {
            (factor, SLOW_MARGIN)
        };
        let usual = Duration::from_nanos(rtt.usual);
        let limit = usual.as_secs_f64() * factor + margin.as_secs_f64();
        Duration::from_nanos(rtt.smoothed).as_secs_f64() > limit
    }
}

fn note(rtt: &mut Option<Rtt>, rtt_ns: u64) {
    match rtt {
        Some(rtt) => rtt.next(rtt_ns),
        None => *rtt = Some(Rtt::first(rtt_ns)),
    }
}

/// How many misses in a row are death on any tunnel, if `least` are where nothing is lost.
pub(super) fn misses_max(least: u32) -> u32 {
    least.saturating_mul(MISSES_FACTOR)
}

/// A bit for each of so many probes.
fn used(probes: u32) -> u128 {
    (1 << probes) - 1
}

/// The most bits in a row that are set.
fn longest_run(mut bits: u128) -> u32 {
    let mut run = 0;
    while bits != 0 {
        bits &= bits << 1;
        run += 1;
    }
    run
}

/// `value`, an `n`th of the way to `to`.
fn approach(value: u64, to: u64, n: u64) -> u64 {
    if to >= value {
        value + (to - value) / n
    } else {
        value - (value - to).div_ceil(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nanos;
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    fn ms(ms: u64) -> u64 {
        nanos(Duration::from_millis(ms))
    }

    #[test]
    fn round_trip_times() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.patience(INTERVAL), Duration::from_secs(1));
        for _ in 0..100 {
            estimate.measured(ms(40));
        }
        assert_eq!(estimate.rtt(), Some(Duration::from_millis(40)));
        assert!(estimate.jitter() < Some(Duration::from_micros(1)));
        // A near far end does not have to hurry more than the probes.
        assert_eq!(estimate.patience(INTERVAL), Duration::from_millis(150));
        estimate.measured(ms(600));
        // The deviation is now a quarter of 560 ms.
        let patience = estimate.patience(INTERVAL);
        assert_eq!(patience.as_millis(), 40 + 70 + 4 * 140);
        for _ in 0..100 {
            estimate.measured(ms(60_000));
        }
        assert_eq!(estimate.patience(INTERVAL), Duration::from_secs(3));
    }

    #[test]
    fn loss_over_the_window() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.loss(), None);
        estimate.judged(true);
        assert_eq!(estimate.loss(), Some(1.0));
        assert!(!estimate.is_lossy(0.05, false), "of one probe");
        for _ in 0..39 {
            estimate.judged(false);
        }
        assert_eq!(estimate.loss(), Some(0.025));
        assert!(!estimate.is_lossy(0.05, false));
        assert!(estimate.is_lossy(0.05, true), "not less than half");
        estimate.judged(true);
        estimate.judged(true);
        assert!(estimate.is_lossy(0.05, false));
        for _ in 0..100 {
            estimate.judged(false);
        }
        assert_eq!(estimate.loss(), Some(0.0), "they left the window");
    }

    #[test]
    fn bad_luck() {
        let misses = |lost_of_100: u32, least| {
            let mut estimate = Estimate::default();
            for n in 0..100 {
                estimate.judged(n < lost_of_100);
            }
            estimate.misses(least)
        };
        let with_3 = [0, 1, 2, 5, 10, 20, 50, 100].map(|lost| misses(lost, 3));
        assert_eq!(with_3, [3, 3, 4, 5, 6, 9, 12, 12]);
        assert_eq!(misses(5, 8), 8);
    }

    #[test]
    fn what_was_lost_while_down() {
        let mut estimate = Estimate::default();
        for n in 0..40 {
            estimate.judged(n % 10 == 0);
        }
        for _ in 0..5 {
            estimate.judged(true);
        }
        estimate.put_aside(5);
        for _ in 0..500 {
            estimate.judged(true);
        }
        assert_eq!(estimate.loss(), Some(1.0));
        estimate.take_back();
        assert_eq!(estimate.loss(), Some(0.1));
        estimate.put_aside(200);
        estimate.take_back();
        assert_eq!(estimate.loss(), None);
    }

    #[test]
    fn steady_is_a_whole_window() {
        let steady = |in_a_row: u32, probes: u32| {
            let mut estimate = Estimate::default();
            estimate.put_aside(0);
            for n in 0..probes {
                estimate.judged(n % (in_a_row + 1) != 0);
            }
            estimate.is_steady(12)
        };
        assert_eq!([99, 100].map(|probes| steady(4, probes)), [false, true]);
        assert_eq!(
            [11, 12, 200].map(|lost| steady(lost, 300)),
            [true, false, false]
        );
    }

    #[test]
    fn slow_is_slower_than_usual() {
        let mut estimate = Estimate::default();
        for _ in 0..20 {
            estimate.measured(ms(10));
        }
        for _ in 0..50 {
            estimate.measured(ms(45));
        }
        assert!(!estimate.is_slow(3.0, false), "less than 3 × 10 + 20 ms");
        for _ in 0..50 {
            estimate.measured(ms(90));
        }
        assert!(estimate.is_slow(3.0, false));
        for _ in 0..50 {
            estimate.measured(ms(45));
        }
        assert!(!estimate.is_slow(3.0, false) && estimate.is_slow(3.0, true));
        for _ in 0..50 {
            estimate.measured(ms(12));
        }
        assert!(!estimate.is_slow(3.0, true));
        // What lasts becomes usual.
        for _ in 0..3_000 {
            estimate.measured(ms(90));
        }
        assert!(!estimate.is_slow(3.0, true));
    }
}
