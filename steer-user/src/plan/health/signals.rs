//! What WireGuard itself tells of a tunnel's life: its counters, and its handshakes.
//!
//! Whoever gets data and has none to send answers with an empty packet within 10 s, and a device
//! that sent data and heard nothing for 15 s asks for a new handshake (WireGuard whitepaper, section
//! 6.5). So a tunnel into which packets go and out of which none come for longer is dead.

use std::time::Duration;

use super::nanos;

/// How long the far end may be silent: time for two of its empty packets, one of which is lost.
const SILENCE: Duration = Duration::from_secs(25);
/// The same for a tunnel without keys, through which nothing can go: time for two handshakes.
const SILENCE_WITHOUT_KEYS: Duration = Duration::from_secs(6);
/// How long keys are good (`REJECT_AFTER_TIME`).
const KEYS: Duration = Duration::from_mins(3);
/// Samples that are further apart say nothing about the time between them.
const GAP: Duration = Duration::from_secs(5);

/// What WireGuard tells of the far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes that came from it, with handshakes and empty packets.
    pub rx_bytes: u64,
    /// Bytes that went to it.
    pub tx_bytes: u64,
    /// Time of the latest handshake since the Unix epoch; `None` when there was none.
    pub latest_handshake: Option<Duration>,
}

/// What follows from the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    last: Option<(u64, Sample)>,
    /// When a handshake was seen, maybe an old one.
    keys_ns: Option<u64>,
    /// When a handshake was seen that was not there before.
    shook_ns: Option<u64>,
    /// When bytes went out for the first time after the last ones came in.
    unanswered_ns: Option<u64>,
    /// When bytes came in last.
    heard_ns: Option<u64>,
}

impl Signals {
    /// A new sample. Its handshake is compared, never subtracted: it is of a clock that can be set.
    pub(super) fn sample(&mut self, now_ns: u64, sample: Sample) {
        let before = self.last.replace((now_ns, sample));
        let Some((before_ns, before)) = before else {
            self.keys_ns = sample.latest_handshake.map(|_| now_ns);
            return;
        };
        if sample.latest_handshake.is_some() && sample.latest_handshake != before.latest_handshake {
            self.keys_ns = Some(now_ns);
            self.shook_ns = Some(now_ns);
        }
        if sample.rx_bytes > before.rx_bytes {
            self.heard_ns = Some(now_ns);
        }
        let is_gap = now_ns.saturating_sub(before_ns) > nanos(GAP);
        // Counters that went back are those of another device.
        let has_sent = sample.tx_bytes > before.tx_bytes;
        if sample.rx_bytes != before.rx_bytes || sample.tx_bytes < before.tx_bytes || is_gap {
            self.unanswered_ns = None;
        } else if has_sent && self.unanswered_ns.is_none() {
            self.unanswered_ns = Some(now_ns);
        }
    }

    /// Whether packets go in and none come out, for too long.
    pub(super) fn is_silent(&self) -> bool {
        let (Some((now_ns, _)), Some(since_ns)) = (self.last, self.unanswered_ns) else {
            return false;
        };
        let has_keys = self
            .keys_ns
            .is_some_and(|keys_ns| now_ns.saturating_sub(keys_ns) < nanos(KEYS));
        let limit = if has_keys {
            SILENCE
        } else {
            SILENCE_WITHOUT_KEYS
        };
        now_ns.saturating_sub(since_ns) >= nanos(limit)
    }

    /// Whether anything came in after that.
    pub(super) fn was_heard_after(&self, moment_ns: u64) -> bool {
        self.heard_ns.is_some_and(|heard_ns| heard_ns > moment_ns)
    }

    /// Whether there was a handshake after that: packets went both ways.
    pub(super) fn shook_hands_after(&self, moment_ns: u64) -> bool {
        self.shook_ns.is_some_and(|shook_ns| shook_ns > moment_ns)
    }

    /// The silence begins anew.
    pub(super) fn forgive(&mut self) {
        self.unanswered_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: u64 = 1_000_000_000;
    const HANDSHAKE: Option<Duration> = Some(Duration::from_secs(1_700_000_000));

    fn sample(rx_bytes: u64, tx_bytes: u64, latest_handshake: Option<Duration>) -> Sample {
        Sample {
            rx_bytes,
            tx_bytes,
            latest_handshake,
        }
    }

    /// Whether the far end is silent after each of these seconds.
    fn silent(samples: impl IntoIterator<Item = (u64, Sample)>) -> Vec<u64> {
        let mut signals = Signals::default();
        let mut silent = Vec::new();
        for (second, sample) in samples {
            signals.sample(second * SEC, sample);
            if signals.is_silent() {
                silent.push(second);
            }
        }
        silent
    }

    #[test]
    fn sending_into_nothing() {
        let dead = |keys| (0..40).map(move |n| (n, sample(500, 100 * n, keys)));
        assert_eq!(silent(dead(HANDSHAKE)).first(), Some(&26));
        assert_eq!(silent(dead(None)).first(), Some(&7));
        // The far end's empty packets every 10 s, and new keys every 120 s.
        let keys = |n| Some(Duration::from_secs(1_700_000_000 + n / 120));
        let alive = (0..400).map(|n| (n, sample(n / 10, 100 * n, keys(n))));
        assert!(silent(alive).is_empty());
        let idle = (0..400).map(|n| (n, sample(7, 100, HANDSHAKE)));
        assert!(silent(idle).is_empty(), "who does not send expects nothing");
    }

    #[test]
    fn old_keys() {
        // Nothing was sent for longer than keys are good; then something is.
        let samples = (0..200).map(|n: u64| (n, sample(7, 100 * n.saturating_sub(190), HANDSHAKE)));
        assert_eq!(silent(samples).first(), Some(&197));
    }

    #[test]
    fn new_handshakes() {
        let mut signals = Signals::default();
        signals.sample(SEC, sample(0, 0, HANDSHAKE));
        assert!(!signals.shook_hands_after(0), "nobody knows how old it is");
        // A clock that was set back makes it no older.
        signals.sample(2 * SEC, sample(0, 0, Some(Duration::from_secs(5))));
        assert!(signals.shook_hands_after(SEC) && !signals.shook_hands_after(2 * SEC));
        signals.sample(3 * SEC, sample(0, 0, Some(Duration::from_secs(5))));
        assert!(!signals.shook_hands_after(2 * SEC));
    }

    #[test]
    fn nobody_looked() {
        let samples = [0, 1, 60, 61].map(|n| (n, sample(7, 100 * n, HANDSHAKE)));
        assert!(silent(samples).is_empty());
        let backwards = (0..40).map(|n| (n, sample(7, 10_000 - 100 * n, HANDSHAKE)));
        assert!(silent(backwards).is_empty());
    }
}
