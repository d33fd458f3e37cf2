//! What is varied, and the default choice of it.

use std::fmt;

use steer_common::abi::{FLOWS_MAX, FLOWS_MIN};

use crate::bench::peers::{Peer, Remote};

/// One point of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Flows that the packets are drawn from.
    pub flows: u32,
    /// Tunnels.
    pub tunnels: u32,
    /// Remote prefixes, which the flows go to in turn.
    pub prefixes: u32,
    /// Which packets.
    pub traffic: Traffic,
}

/// Which packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From the LAN to the remote prefixes.
    Steered,
    /// From the LAN to other prefixes, which the kernel routes into the first tunnel.
    Passed,
    /// Out of the tunnels to the LAN, of flows that the far gateway placed.
    Learned,
}

/// Flows of a scenario in which every packet starts one.
pub(super) const ALL_NEW: u32 = u32::MAX;

impl Scenario {
    /// What all others differ from in one respect or two.
    pub const USUAL: Self = Self {
        ipv6: false,
        flows: 1_000,
        tunnels: 8,
        prefixes: 1,
        traffic: Traffic::Steered,
    };

    /// The scenarios and who takes part, in the order in which they are measured.
    pub fn matrix(full: bool) -> Vec<(Self, Vec<Peer>)> {
        let usual = Self::USUAL;
        let flows = |flows| Self { flows, ..usual };
        let tunnels = |tunnels| Self { tunnels, ..usual };
        let prefixes = |prefixes| Self { prefixes, ..usual };
        let traffic = |traffic| Self { traffic, ..usual };
        let ipv6 = |scenario| Self {
            ipv6: true,
            ..scenario
        };
        let all_learned = Self {
            flows: ALL_NEW,
            ..traffic(Traffic::Learned)
        };
        let mut all = vec![
            (usual, Peer::ALL.to_vec()),
            (ipv6(usual), Peer::ALL.to_vec()),
            (flows(1), Peer::FEW.to_vec()),
            (flows(100_000), Peer::ALL.to_vec()),
            (flows(ALL_NEW), Peer::ALL.to_vec()),
            (tunnels(2), Peer::FEW.to_vec()),
            (tunnels(64), Peer::FEW.to_vec()),
            (prefixes(10_000), Peer::FEW.to_vec()),
            (traffic(Traffic::Passed), Peer::ROUTED.to_vec()),
            (traffic(Traffic::Learned), Peer::ROUTED.to_vec()),
            (all_learned, Peer::ROUTED.to_vec()),
        ];
        if full {
            all.extend([
                (flows(1_000_000), Peer::ALL.to_vec()),
                (prefixes(100), Peer::FEW.to_vec()),
                (tunnels(16), Peer::FEW.to_vec()),
                (ipv6(flows(1)), Peer::FEW.to_vec()),
                (ipv6(flows(100_000)), Peer::ALL.to_vec()),
                (ipv6(flows(1_000_000)), Peer::ALL.to_vec()),
                (ipv6(tunnels(64)), Peer::FEW.to_vec()),
                (ipv6(prefixes(10_000)), Peer::FEW.to_vec()),
                (ipv6(traffic(Traffic::Passed)), Peer::ROUTED.to_vec()),
                (ipv6(traffic(Traffic::Learned)), Peer::ROUTED.to_vec()),
            ]);
        }
        all
    }

    /// Entries that a flow table should have.
    pub fn flow_table(&self) -> u32 {
        match self.flows {
            ALL_NEW => FLOWS_MAX,
            flows => (flows * 2).clamp(FLOWS_MIN, FLOWS_MAX),
        }
    }

    /// What is behind the tunnels.
    pub fn remote(&self) -> Remote {
        let prefix = |number: u32| {
            if self.ipv6 {
                format!("fd00:2:{number:x}::/48")
            } else {
                format!("10.{}.{}.0/24", 64 + number / 256, number % 256)
            }
        };
        let sent_to: Vec<_> = (0..self.prefixes).map(prefix).collect();
        let elsewhere = if self.ipv6 {
            "fd00:3::/48"
        } else {
            "10.3.0.0/24"
        };
        let (prefixes, others) = match self.traffic {
            Traffic::Steered | Traffic::Learned => (sent_to, Vec::new()),
            Traffic::Passed => (vec![elsewhere.to_owned()], sent_to),
        };
        Remote {
            ipv6: self.ipv6,
            tunnels: (0..self.tunnels).map(|k| format!("wg{k}")).collect(),
            prefixes,
            others,
            seed: 0x5eed,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let count = |n: u32, what: &str, many: &str| {
            let word = if n == 1 { what } else { many };
            format!("{n} {word}")
        };
        let flows = match self.flows {
            ALL_NEW => "new flows only".to_owned(),
            flows => count(flows, "flow", "flows"),
        };
        let tunnels = count(self.tunnels, "tunnel", "tunnels");
        let prefixes = count(self.prefixes, "prefix", "prefixes");
        let traffic = match self.traffic {
            Traffic::Steered => "",
            Traffic::Passed => ", passed",
            Traffic::Learned => ", learned",
        };
        write!(f, "{family}, {flows}, {tunnels}, {prefixes}{traffic}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(
            Scenario::USUAL.to_string(),
            "IPv4, 1000 flows, 8 tunnels, 1 prefix"
        );
        let new = Scenario {
            ipv6: true,
            flows: ALL_NEW,
            traffic: Traffic::Learned,
            ..Scenario::USUAL
        };
        assert_eq!(
            new.to_string(),
            "IPv6, new flows only, 8 tunnels, 1 prefix, learned"
        );
    }

    #[test]
    fn prefixes_are_those_that_the_source_sends_to() {
        let scenario = Scenario {
            prefixes: 300,
            ..Scenario::USUAL
        };
        let remote = scenario.remote().prefixes;
        assert_eq!(remote[0], "10.64.0.0/24");
        assert_eq!(remote[299], "10.65.43.0/24");
        let ipv6 = Scenario {
            ipv6: true,
            ..scenario
        };
        assert_eq!(ipv6.remote().prefixes[299], "fd00:2:12b::/48");
    }

    #[test]
    fn what_is_passed_goes_to_no_prefix_of_a_group() {
        let remote = Scenario {
            traffic: Traffic::Passed,
            ..Scenario::USUAL
        }
        .remote();
        assert_eq!(remote.others, Scenario::USUAL.remote().prefixes);
        assert_eq!(remote.prefixes, ["10.3.0.0/24"]);
    }

    #[test]
    fn the_baseline_is_the_first_of_every_scenario() {
        for (scenario, peers) in Scenario::matrix(true) {
            assert_eq!(peers.first(), Some(&Peer::Bare), "{scenario}");
        }
    }
}
