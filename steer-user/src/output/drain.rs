//! How far a drain has come.

use std::time::Duration;

use super::table::seconds;
use crate::plan::DrainPace;

/// `tunnel wg0: 812 flows left, 14.0/s, about 58s; the rest is moved in 9m2s`.
pub fn drain_line(name: &str, left: u64, pace: &DrainPace, deadline: Option<Duration>) -> String {
    let noun = if left == 1 { "flow" } else { "flows" };
    let mut line = format!("tunnel {name}: {left} {noun} left");
    match (pace.per_sec(), pace.eta()) {
        (Some(per_sec), Some(eta)) => {
            let per_sec = if per_sec < 1.0 {
                format!("{:.1}/min", per_sec * 60.0)
            } else {
                format!("{per_sec:.1}/s")
            };
            line.push_str(&[", ", &per_sec, ", about ", &seconds(eta.as_secs().max(1))].concat());
        }
        _ => line += ", none has ended lately",
    }
    if let Some(deadline) = deadline {
        line.push_str("; the rest is moved in ");
        line.push_str(&seconds(deadline.as_secs()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let secs = Duration::from_secs;
        let mut pace = DrainPace::default();
        pace.note(secs(0), 900);
        assert_eq!(
            drain_line("wg0", 900, &pace, Some(secs(600))),
            "tunnel wg0: 900 flows left, none has ended lately; the rest is moved in 10m"
        );
        pace.note(secs(10), 760);
        assert_eq!(
            drain_line("wg0", 760, &pace, None),
            "tunnel wg0: 760 flows left, 14.0/s, about 54s"
        );
        let mut slow = DrainPace::default();
        slow.note(secs(0), 2);
        slow.note(secs(20), 1);
        assert_eq!(
            drain_line("wg0", 1, &slow, None),
            "tunnel wg0: 1 flow left, 3.0/min, about 20s"
        );
    }
}
