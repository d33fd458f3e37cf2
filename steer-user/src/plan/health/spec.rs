//! How tunnels are probed, as operators say it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::{ValueError, device_name};

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

/// A time between two probes.
pub fn interval(given: &str) -> Result<Duration, ValueError> {
    let interval = humantime::parse_duration(given).ok();
    interval
        .filter(|interval| ProbeSpec::INTERVALS.contains(interval))
        .ok_or_else(|| ValueError::ProbeInterval {
            given: given.into(),
        })
}

/// Whom to ask through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The tunnel.
    pub tunnel: String,
    /// Who answers.
    pub address: IpAddr,
}

impl FromStr for ProbeTarget {
    type Err = ValueError;

    /// Reads `NAME=ADDR`.
    fn from_str(given: &str) -> Result<Self, ValueError> {
        let invalid = || ValueError::ProbeTarget {
            given: given.into(),
        };
        let (tunnel, address) = given.split_once('=').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(invalid());
        }
        Ok(Self {
            tunnel: device_name(tunnel)?,
            address,
        })
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

    /// Whether any tunnel is probed.
    pub fn any(&self) -> bool {
        self.default.enabled || self.tunnels.values().any(|spec| spec.enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(interval("10s"), Ok(Duration::from_secs(10)));
        for given in ["19ms", "11s", "200", "", "soon"] {
            let error = interval(given).expect_err(given);
            assert_eq!(
                error.to_string(),
                format!("probe interval {given:?} is not a time between 20ms and 10s")
            );
        }
    }

    #[test]
    fn targets() {
        let target: ProbeTarget = "wg0=fd00::2".parse().expect("a target");
        assert_eq!(target.address.to_string(), "fd00::2");
        for given in ["wg0", "wg0=", "wg0=host", "wg0=0.0.0.0", "wg0=ff02::1"] {
            let error = given.parse::<ProbeTarget>().expect_err(given);
            assert_eq!(
                error.to_string(),
                format!("probe target {given:?} is not NAME=ADDR with the address of one host")
            );
            assert!(error.hint().is_some());
        }
        assert!("=10.9.0.2".parse::<ProbeTarget>().is_err());
    }
}
