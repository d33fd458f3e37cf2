//! The time of day, for what is shown to people: nothing is decided by it, as it may jump.

use std::time::{Duration, SystemTime};

use crate::sys::now_ns;

/// The wall clock's time when [`now_ns`] was 0, as it is set now.
///
/// Two clocks cannot be read at once: of a few tries, the one with the shortest time in between counts, so
/// that a process that has to wait in the middle does not see another past.
pub fn zero() -> SystemTime {
    let tries = std::iter::repeat_with(|| {
        let before = now_ns();
        let wall = SystemTime::now();
        (now_ns() - before, wall, before)
    });
    let shortest = tries.take(3).min_by_key(|(took, ..)| *took);
    let zero = shortest.and_then(|(_, wall, at)| wall.checked_sub(Duration::from_nanos(at)));
    zero.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_tell_the_same_moment() {
        let before = SystemTime::now();
        let told = zero() + Duration::from_nanos(now_ns());
        let after = SystemTime::now();
        let slack = Duration::from_millis(100);
        assert!(before - slack < told && told < after + slack, "{told:?}");
    }
}
