//! Idle time-outs and the size of the flow table.

use std::time::Duration;

use steer_common::abi::{FLOWS_MAX, FLOWS_MIN};

use super::IdleSpec;

/// Memory that one entry of the flow table takes: key 40, entry 64, the
/// kernel's `htab_elem` and allocation about 48, two pointers of bucket and
/// lock 16, rounded up to what `slab` and the pre-allocated array need.
pub const FLOW_BYTES: u64 = 176;

/// Entries of the flow table without `--max-flows`: what 2 % of the memory
/// holds, within the limits that conntrack, too, sets itself.
pub fn default_max_flows(memory_bytes: u64) -> u32 {
    let entries = memory_bytes / 50 / FLOW_BYTES;
    u32::try_from(entries)
        .unwrap_or(u32::MAX)
        .clamp(FLOWS_MIN, FLOWS_MAX)
}

/// After how long without a packet a flow is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// TCP; 2 h 4 min (RFC 5382 REQ-5).
    pub tcp: Duration,
    /// TCP after FIN or RST; 30 s.
    pub closing: Duration,
    /// UDP and UDP-Lite; 5 min (RFC 4787 REQ-5).
    pub udp: Duration,
    /// All others; 60 s (RFC 5508 REQ-2).
    pub other: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            tcp: Duration::from_mins(124),
            closing: Duration::from_secs(30),
            udp: Duration::from_mins(5),
            other: Duration::from_mins(1),
        }
    }
}

impl Idle {
    /// These, with what an operator wants put over them. Closing TCP is never
    /// kept longer than open TCP unless that is said.
    #[must_use]
    pub fn with(self, spec: IdleSpec) -> Self {
        let tcp = spec.tcp.or(spec.all).unwrap_or(self.tcp);
        Self {
            tcp,
            closing: spec.closing.unwrap_or(self.closing.min(tcp)),
            udp: spec.udp.or(spec.all).unwrap_or(self.udp),
            other: spec.other.or(spec.all).unwrap_or(self.other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(default_max_flows(256 << 20), 65_536);
        assert_eq!(default_max_flows(1 << 40), 1_048_576);
        let entries = default_max_flows(4 << 30);
        assert_eq!(entries, 488_064);
        assert!(u64::from(entries) * FLOW_BYTES <= (4 << 30) / 50);
    }

    #[test]
    fn overrides() {
        let idle = |text: &str| Idle::default().with(text.parse().expect("idle times"));
        let all = idle("30m");
        assert_eq!((all.tcp, all.udp, all.other), {
            let time = Duration::from_mins(30);
            (time, time, time)
        });
        assert_eq!(all.closing, Duration::from_secs(30));
        assert_eq!(idle("10s").closing, Duration::from_secs(10));
        let udp = idle("udp=1m");
        assert_eq!(
            udp,
            Idle {
                udp: Duration::from_mins(1),
                ..Idle::default()
            }
        );
        let mixed = idle("1h,other=5s");
        assert_eq!(
            (mixed.tcp, mixed.other),
            (Duration::from_hours(1), Duration::from_secs(5))
        );
    }
}
