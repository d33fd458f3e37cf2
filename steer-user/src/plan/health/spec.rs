//! How tunnels are probed, as operators say it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How one tunnel is probed, and what of that makes it down, up or degraded.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSpec {
    /// Without probing only the device's state counts, and nothing is sent.
    pub enabled: bool,
    /// Whom to ask; `None` for the far end's address in the tunnel, where that can be known.
    pub target: Option<IpAddr>,
    /// Time between two probes, within [`ProbeSpec::INTERVALS`].
    pub interval: Duration,
    /// Probes in a row that must be missed until the tunnel is down, from 1.
    pub misses: u32,
    /// Answers in a row that must come until it is up again, from 1.
    pub up_after: u32,
    /// Share of lost probes that makes it degraded, above 0.
    pub degraded_loss: f64,
    /// Round-trip time that makes it degraded, as a multiple of what is usual, above 1.
    pub degraded_rtt: f64,
}

impl ProbeSpec {
    /// Possible times between two probes.
    pub const INTERVALS: RangeInclusive<Duration> =
        Duration::from_millis(20)..=Duration::from_secs(10);

    /// What is not probed.
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

impl Default for ProbeSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            target: None,
            interval: Duration::from_millis(200),
            misses: 3,
            up_after: 3,
            degraded_loss: 0.05,
            degraded_rtt: 3.0,
        }
    }
}

/// How all tunnels are probed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    /// Those of which nothing else is said.
    pub default: ProbeSpec,
    /// The others, by device name.
    pub tunnels: BTreeMap<String, ProbeSpec>,
}

impl Probes {
    /// How a tunnel is probed.
    pub fn of(&self, tunnel: &str) -> &ProbeSpec {
        self.tunnels.get(tunnel).unwrap_or(&self.default)
    }
}
