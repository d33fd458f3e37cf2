//! When which tunnel is probed: each in its own rhythm, and never many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use steer_common::abi::TunnelId;

use super::nanos;

#[derive(Clone, Copy, Debug)]
struct Turn {
    interval_ns: u64,
    due_ns: u64,
}

/// The rhythm of all tunnels.
///
/// Probes leave one at a time, at most twice as fast as all rhythms together need; a turn that
/// nobody took is not made up for.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    turns: BTreeMap<TunnelId, Turn>,
    /// When the last probe of any tunnel left.
    last_ns: Option<u64>,
}

impl Pace {
    /// A tunnel is probed so often from now on, or not at all.
    pub fn set(&mut self, tunnel: TunnelId, interval: Option<Duration>, now_ns: u64) {
        let Some(interval_ns) = interval.map(nanos) else {
            self.turns.remove(&tunnel);
            return;
        };
        let turn = self.turns.entry(tunnel).or_insert(Turn {
            interval_ns,
            due_ns: now_ns,
        });
        turn.interval_ns = interval_ns;
        turn.due_ns = turn.due_ns.min(now_ns.saturating_add(interval_ns));
    }

    /// Forgets all tunnels but these.
    pub fn keep(&mut self, mut is_kept: impl FnMut(TunnelId) -> bool) {
        self.turns.retain(|tunnel, _| is_kept(*tunnel));
    }

    /// The tunnel whose turn it is, if it is anybody's.
    pub fn next(&mut self, now_ns: u64) -> Option<TunnelId> {
        if now_ns < self.free_ns() {
            return None;
        }
        let (tunnel, turn) = self.turns.iter_mut().min_by_key(|(_, turn)| turn.due_ns)?;
        if now_ns < turn.due_ns {
            return None;
        }
        // In step, as long as nobody was too late.
        let in_step_ns = turn.due_ns.saturating_add(turn.interval_ns);
        turn.due_ns = in_step_ns.max(now_ns.saturating_add(turn.interval_ns / 2));
        self.last_ns = Some(now_ns);
        Some(*tunnel)
    }

    /// When the next turn is.
    pub fn wake_ns(&self) -> Option<u64> {
        let due_ns = self.turns.values().map(|turn| turn.due_ns).min()?;
        Some(due_ns.max(self.free_ns()))
    }

    /// When the next probe may leave: half as long after the last as all rhythms together allow.
    fn free_ns(&self) -> u64 {
        let intervals = self.turns.values().map(|turn| turn.interval_ns);
        let gap_ns = intervals.min().unwrap_or(0) / (2 * self.turns.len().max(1) as u64);
        self.last_ns
            .map_or(0, |last_ns| last_ns.saturating_add(gap_ns))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn pace(tunnels: u8, interval_ms: u64) -> Pace {
        let mut pace = Pace::default();
        for tunnel in 0..tunnels {
            pace.set(tunnel, Some(Duration::from_millis(interval_ms)), 0);
        }
        pace
    }

    /// All turns until `end_ns`, of somebody who wakes up when told.
    fn turns(pace: &mut Pace, mut now_ns: u64, end_ns: u64) -> Vec<(u64, TunnelId)> {
        let mut turns = Vec::new();
        while now_ns < end_ns {
            turns.extend(pace.next(now_ns).map(|tunnel| (now_ns, tunnel)));
            now_ns = now_ns.max(pace.wake_ns().expect("a turn"));
        }
        turns
    }

    #[test]
    fn every_tunnel_in_its_rhythm() {
        let mut pace = pace(64, 200);
        let turns = turns(&mut pace, 0, 2_000 * MS);
        for tunnel in 0..64 {
            let times: Vec<_> = turns.iter().filter(|turn| turn.1 == tunnel).collect();
            assert_eq!(times.len(), 10, "{tunnel}");
            // The first ones are spread out, and stay so.
            for pair in times.windows(2).skip(1) {
                assert!((pair[1].0 - pair[0].0).abs_diff(200 * MS) < 2 * MS);
            }
        }
    }

    #[test]
    fn no_burst_after_a_stall() {
        let mut pace = pace(64, 200);
        turns(&mut pace, 0, 1_000 * MS);
        let after = turns(&mut pace, 60_000 * MS, 60_200 * MS);
        assert!(after.len() <= 128, "{} in one interval", after.len());
        let in_a_moment = after.iter().filter(|turn| turn.0 < 60_010 * MS);
        assert!(in_a_moment.count() <= 8);
    }

    #[test]
    fn rhythms_change() {
        let mut pace = pace(1, 5_000);
        assert_eq!(pace.next(0), Some(0));
        pace.set(0, Some(Duration::from_millis(200)), 10 * MS);
        assert_eq!(pace.wake_ns(), Some(210 * MS), "sooner at once");
        pace.set(0, Some(Duration::from_secs(5)), 20 * MS);
        assert_eq!(pace.wake_ns(), Some(2_500 * MS), "and later");
        pace.set(0, None, 20 * MS);
        assert_eq!((pace.wake_ns(), pace.next(900 * MS)), (None, None));
    }

    proptest! {
        /// Whenever somebody looks, and however late.
        #[test]
        fn bounded(tunnels in 1..65_u8, late in prop::collection::vec(0..2_000_u64, 1..300)) {
            let mut pace = pace(tunnels, 200);
            let (mut now_ns, mut taken) = (0, Vec::new());
            for late_ms in late {
                now_ns = now_ns.max(pace.wake_ns().expect("a turn")) + late_ms * MS / 4;
                let turn = pace.next(now_ns);
                prop_assert!(turn.is_some(), "it was somebody's turn");
                taken.extend(turn.map(|tunnel| (now_ns, tunnel)));
            }
            for (at, (start_ns, of)) in taken.iter().enumerate() {
                let until = |end_ns| taken[at..].iter().take_while(move |turn| turn.0 < end_ns);
                // All of them, in one interval: no more than twice what is needed.
                let all = until(start_ns + 200 * MS).count();
                prop_assert!(all <= 2 * usize::from(tunnels) + 1);
                let own = until(start_ns + 99 * MS).filter(|turn| turn.1 == *of).count();
                prop_assert_eq!(own, 1, "twice in half an interval");
            }
        }
    }
}
