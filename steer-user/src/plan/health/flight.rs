//! The probes that are under way.

use std::collections::VecDeque;

/// How long a probe is remembered: an answer that comes later says nothing.
pub(super) const MEMORY_NS: u64 = 10_000_000_000;
/// How many are remembered.
const MEMORY: usize = 512;

/// What became of a probe so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Flying,
    Missed,
    /// Nobody was there to judge it.
    Void,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    sequence: u64,
    sent_ns: u64,
    fate: Fate,
}

/// What an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It came in time.
    InTime { rtt_ns: u64 },
    /// Its probe counted as missed already.
    Late { rtt_ns: u64 },
    /// It was not looked for when it came, so its time is not known.
    Untimed,
}

/// How many probes were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) all: u32,
    /// Those of them that were sent after all that were answered: only these say anything about now.
    pub(super) fresh: u32,
}

/// Probes under way, and those that were lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight {
    /// In the order in which they were sent.
    probes: VecDeque<Probe>,
    /// Number of the latest.
    latest: u64,
    /// Number of the latest that was answered.
    answered: u64,
}

impl Flight {
    /// A probe leaves; gives its number.
    pub(super) fn send(&mut self, now_ns: u64) -> u64 {
        let is_old = |probe: &Probe| now_ns.saturating_sub(probe.sent_ns) > MEMORY_NS;
        while self.probes.len() >= MEMORY || self.probes.front().is_some_and(is_old) {
            self.probes.pop_front();
        }
        self.latest += 1;
        self.probes.push_back(Probe {
            sequence: self.latest,
            sent_ns: now_ns,
            fate: Fate::Flying,
        });
        self.latest
    }

    /// An answer came; `None` if it is to no probe that is remembered, or not the first to it.
    pub(super) fn answer(&mut self, sequence: u64, now_ns: u64) -> Option<Answer> {
        let at = self
            .probes
            .binary_search_by_key(&sequence, |probe| probe.sequence)
            .ok()?;
        let probe = self.probes.remove(at)?;
        let rtt_ns = now_ns.saturating_sub(probe.sent_ns);
        if rtt_ns > MEMORY_NS {
            return None;
        }
        self.answered = self.answered.max(sequence);
        Some(match probe.fate {
            Fate::Flying => Answer::InTime { rtt_ns },
            Fate::Missed => Answer::Late { rtt_ns },
            Fate::Void => Answer::Untimed,
        })
    }

    /// Gives up those that fly for longer than `patience_ns`.
    pub(super) fn expire(&mut self, now_ns: u64, patience_ns: u64) -> Missed {
        let mut missed = Missed::default();
        for probe in &mut self.probes {
            let age_ns = now_ns.saturating_sub(probe.sent_ns);
            if probe.fate == Fate::Flying && age_ns >= patience_ns {
                probe.fate = Fate::Missed;
                missed.all += 1;
                missed.fresh += u32::from(probe.sequence > self.answered);
            }
        }
        missed
    }

    /// When the first of those that fly is given up.
    pub(super) fn deadline_ns(&self, patience_ns: u64) -> Option<u64> {
        let flying = |probe: &&Probe| probe.fate == Fate::Flying;
        let oldest = self.probes.iter().find(flying)?;
        Some(oldest.sent_ns.saturating_add(patience_ns))
    }

    /// Forgets to judge those that fly.
    pub(super) fn void(&mut self) {
        for probe in &mut self.probes {
            if probe.fate == Fate::Flying {
                probe.fate = Fate::Void;
            }
        }
    }

    /// Forgets all of them, but gives no number twice.
    pub(super) fn clear(&mut self) {
        self.probes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn answers_in_any_order() {
        let mut flight = Flight::default();
        let [a, b, c] = [0, 200, 400].map(|ms| flight.send(ms * MS));
        assert_eq!(flight.deadline_ns(300 * MS), Some(300 * MS));
        assert_eq!(
            flight.expire(350 * MS, 300 * MS),
            Missed { all: 1, fresh: 1 }
        );
        let in_time = |ms: u64| Some(Answer::InTime { rtt_ns: ms * MS });
        assert_eq!(flight.answer(c, 410 * MS), in_time(10));
        assert_eq!(flight.answer(b, 420 * MS), in_time(220));
        assert_eq!(flight.answer(b, 430 * MS), None, "twice");
        let late = Answer::Late { rtt_ns: 500 * MS };
        assert_eq!(flight.answer(a, 500 * MS), Some(late));
        assert_eq!(flight.answer(99, 500 * MS), None, "never sent");
        assert_eq!(flight.deadline_ns(300 * MS), None);
    }

    #[test]
    fn an_older_one_says_nothing_about_now() {
        let mut flight = Flight::default();
        let [_lost, b, _c] = [0, 200, 400].map(|ms| flight.send(ms * MS));
        flight.answer(b, 800 * MS);
        assert_eq!(
            flight.expire(2_000 * MS, 900 * MS),
            Missed { all: 2, fresh: 1 }
        );
    }

    #[test]
    fn nobody_was_there() {
        let mut flight = Flight::default();
        let a = flight.send(0);
        flight.void();
        assert_eq!(flight.expire(9_000 * MS, 300 * MS), Missed::default());
        assert_eq!(flight.answer(a, 9_000 * MS), Some(Answer::Untimed));
    }

    #[test]
    fn memory_has_an_end() {
        let mut flight = Flight::default();
        let [first, second] = [flight.send(0), flight.send(1)];
        assert_eq!(
            flight.answer(second, MEMORY_NS + 2),
            None,
            "though no other left meanwhile"
        );
        flight.send(MEMORY_NS + 2);
        assert_eq!(flight.answer(first, MEMORY_NS + 2), None);
        for _ in 0..10 * MEMORY {
            flight.send(MEMORY_NS + 3);
        }
        assert_eq!(flight.probes.len(), MEMORY);
    }
}
