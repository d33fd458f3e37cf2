//! Health in words.

use steer_common::abi::{Health, HealthReason, TunnelHealth};

/// Why a tunnel's health is what it is, as a phrase about the tunnel.
pub fn phrase(health: Health, told: &TunnelHealth) -> Option<String> {
    let text = match (told.reason, health) {
        // What is not of health, too.
        (
            HealthReason::Unknown
            | HealthReason::RoomLeft
            | HealthReason::Goodput
            | HealthReason::Rescaled
            | HealthReason::Calm,
            _,
        ) => return None,
        (HealthReason::DeviceUp, _) => "its device is up".into(),
        (HealthReason::DeviceDown, _) => "its device is down".into(),
        (HealthReason::DeviceGone, _) => "its device is gone".into(),
        (HealthReason::Answering, _) => "its far end answers".into(),
        (HealthReason::NotAnswering, _) => "its far end does not answer any more".into(),
        (HealthReason::NoReplies, _) => "packets go in and none come out".into(),
        (HealthReason::Lossy, _) => {
            format!("{} % of the probes are lost", tenths(told.loss_ppm, 10_000))
        }
        (HealthReason::Slow, _) => {
            let rtt_ms = tenths(told.rtt_us, 1_000);
            format!("answers take {rtt_ms} ms, far longer than usual")
        }
        (HealthReason::Flapping, _) => {
            "its far end answers, but went away too often: it has to wait".into()
        }
        (HealthReason::NoAnswerYet, Health::Down) => {
            "its device is back, and its far end does not answer yet".into()
        }
        (HealthReason::NoAnswerYet, _) => {
            "its far end answers no probes; it is used all the same".into()
        }
    };
    Some(text)
}

/// For how long what was measured is about now: several of the longest pauses between two probes.
const FRESH_NS: u64 = 30_000_000_000;

/// Whether a tunnel was probed lately.
pub fn is_fresh(told: &TunnelHealth, now_ns: u64) -> bool {
    now_ns.saturating_sub(told.probed_ns) < FRESH_NS
}

/// The phrase, and how old it is when it comes from probes that nobody sends any more.
pub fn phrase_at(health: Health, told: &TunnelHealth, now_ns: u64) -> Option<String> {
    let text = phrase(health, told)?;
    let is_by_probes = matches!(
        told.reason,
        HealthReason::Answering
            | HealthReason::NotAnswering
            | HealthReason::Lossy
            | HealthReason::Slow
            | HealthReason::Flapping
    );
    if !is_by_probes || is_fresh(told, now_ns) {
        return Some(text);
    }
    let secs = now_ns.saturating_sub(told.probed_ns) / 1_000_000_000;
    Some(format!(
        "{text}: so it was {secs} s ago, when it was probed last"
    ))
}

/// `value / unit` with one digit behind the point.
fn tenths(value: u32, unit: u32) -> String {
    let tenths = (u64::from(value) * 10 + u64::from(unit) / 2) / u64::from(unit);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases() {
        let told = |reason| TunnelHealth {
            since_ns: 1,
            probed_ns: 1_000_000_000,
            rtt_us: 95_260,
            jitter_us: 1,
            loss_ppm: 70_000,
            reason,
            answered_by: [0; 16],
        };
        let phrase = |health, reason| phrase(health, &told(reason)).unwrap_or_default();
        assert_eq!(
            phrase(Health::Degraded, HealthReason::Lossy),
            "7.0 % of the probes are lost"
        );
        assert_eq!(
            phrase(Health::Degraded, HealthReason::Slow),
            "answers take 95.3 ms, far longer than usual"
        );
        assert_ne!(
            phrase(Health::Down, HealthReason::NoAnswerYet),
            phrase(Health::Unknown, HealthReason::NoAnswerYet)
        );
        assert_eq!(phrase(Health::Up, HealthReason::Unknown), "");
        let at = |reason, secs: u64| {
            phrase_at(Health::Up, &told(reason), secs * 1_000_000_000).unwrap_or_default()
        };
        assert_eq!(at(HealthReason::Answering, 29), "its far end answers");
        assert_eq!(
            at(HealthReason::Answering, 95),
            "its far end answers: so it was 94 s ago, when it was probed last"
        );
        assert_eq!(at(HealthReason::DeviceUp, 95), "its device is up");
    }
}
