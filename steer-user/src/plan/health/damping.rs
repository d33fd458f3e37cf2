//! A tunnel that goes down again and again waits longer and longer until it is used again.

use std::time::Duration;

use super::nanos;

/// After so long half of it is forgotten.
const HALF_LIFE: Duration = Duration::from_mins(2);
/// So many times in a short time are free.
const FREE: f64 = 2.0;
/// The longest that a tunnel has to wait.
const HOLD_MAX: Duration = Duration::from_mins(1);

/// How often a tunnel went down, lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Damping {
    /// One for each time, fading.
    penalty: f64,
    at_ns: u64,
    until_ns: u64,
}

impl Damping {
    /// It went down.
    pub(super) fn down(&mut self, now_ns: u64) {
        let age = Duration::from_nanos(now_ns.saturating_sub(self.at_ns));
        let halves = age.as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.penalty = self.penalty * (-halves).exp2() + 1.0;
        self.at_ns = now_ns;
        // The third time costs almost 2 s, the next 4 s, then 8.
        let hold = if self.penalty > FREE {
            Duration::from_secs_f64((self.penalty - FREE).exp2().min(HOLD_MAX.as_secs_f64()))
        } else {
            Duration::ZERO
        };
        self.until_ns = now_ns.saturating_add(nanos(hold));
    }

    /// Whether it has waited for long enough.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: u64 = 1_000_000_000;

    #[test]
    fn longer_each_time_and_bounded() {
        let mut damping = Damping::default();
        let mut holds = Vec::new();
        for n in 0..12 {
            // Once a second.
            let now_ns = n * SEC;
            damping.down(now_ns);
            holds.push(Duration::from_nanos(damping.until_ns - now_ns).as_secs_f64());
        }
        assert_eq!(holds[..2], [0.0, 0.0]);
        assert!((1.8..=2.0).contains(&holds[2]), "{holds:?}");
        assert!((3.6..=4.0).contains(&holds[3]), "{holds:?}");
        assert_eq!(holds[11].to_bits(), 60.0_f64.to_bits());
        assert!(holds.is_sorted());
    }

    #[test]
    fn forgotten_after_some_minutes() {
        let mut damping = Damping::default();
        for n in 0..5 {
            damping.down(n * SEC);
        }
        assert!(!damping.is_over(5 * SEC));
        let later = 10 * 60 * SEC;
        damping.down(later);
        assert!(damping.is_over(later), "{damping:?}");
    }
}
