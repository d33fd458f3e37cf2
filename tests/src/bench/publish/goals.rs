//! What forwarding was meant to cost, and what it costs.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::bench::{Group, Report, Scenario, peers::Peer, scenario::ALL_NEW};

/// A goal of the cost of forwarding.
struct Goal {
    says: &'static str,
    /// What was found, as far as it was measured.
    found: fn(&Report) -> Option<f64>,
    limit: Limit,
}

enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

const GOALS: [Goal; 8] = [
    Goal {
        says: "`ingress`, 1,000 flows: × bare redirect",
        found: |report| in_usual(report, Peer::SteerIngress, Peer::Bare),
        limit: Limit::AtMost(1.25),
    },
    Goal {
        says: "`ingress`, 100,000 flows: × bare redirect",
        found: |report| {
            let many = Scenario {
                flows: 100_000,
                ..Scenario::USUAL
            };
            times(group(report, many)?, Peer::SteerIngress, Peer::Bare)
        },
        limit: Limit::AtMost(1.5),
    },
    Goal {
        says: "`egress`, 1,000 flows: × kernel multipath, policy 3",
        found: |report| in_usual(report, Peer::SteerEgress, Peer::Multipath3),
        limit: Limit::AtMost(1.1),
    },
    Goal {
        says: "`egress`, 1,000 flows, IPv6: × kernel multipath, policy 3",
        found: |report| {
            let ipv6 = Scenario {
                ipv6: true,
                ..Scenario::USUAL
            };
            times(group(report, ipv6)?, Peer::SteerEgress, Peer::Multipath3)
        },
        limit: Limit::AtMost(1.1),
    },
    Goal {
        says: "`mark`, 1,000 flows: × nft ct mark, jhash",
        found: |report| in_usual(report, Peer::SteerMark, Peer::NftHash),
        limit: Limit::AtMost(0.6),
    },
    Goal {
        says: "`ingress`, 64 tunnels: × 2 tunnels",
        found: |report| {
            let tunnels = |tunnels| Scenario {
                tunnels,
                ..Scenario::USUAL
            };
            growth(report, tunnels(2), tunnels(64))
        },
        limit: Limit::AtMost(1.05),
    },
    Goal {
        says: "`ingress`, 10,000 prefixes: × 1 prefix",
        found: |report| {
            let prefixes = Scenario {
                prefixes: 10_000,
                ..Scenario::USUAL
            };
            growth(report, Scenario::USUAL, prefixes)
        },
        limit: Limit::AtMost(1.05),
    },
    Goal {
        says: "`ingress`, packets that each start a flow, forwarded by one core: million a second",
        found: |report| {
            let new = Scenario {
                flows: ALL_NEW,
                ..Scenario::USUAL
            };
            let group = group(report, new)?;
            let name = Peer::SteerIngress.to_string();
            let figure = group.figures.iter().find(|figure| figure.name == name)?;
            Some(1e3 / figure.value.median)
        },
        limit: Limit::AtLeast(1.0),
    },
];

fn group(report: &Report, scenario: Scenario) -> Option<&Group> {
    let name = scenario.to_string();
    report.groups.iter().find(|group| group.name == name)
}

fn times(group: &Group, system: Peer, than: Peer) -> Option<f64> {
    group.ratio(&system.to_string(), &than.to_string())
}

fn in_usual(report: &Report, system: Peer, than: Peer) -> Option<f64> {
    times(group(report, Scenario::USUAL)?, system, than)
}

/// How much more steer costs in one scenario than in another, each by the bare redirect.
fn growth(report: &Report, from: Scenario, to: Scenario) -> Option<f64> {
    let cost = |scenario| times(group(report, scenario)?, Peer::SteerIngress, Peer::Bare);
    Some(cost(to)? / cost(from)?)
}

/// The table of goals.
pub(super) fn table(report: &Report) -> Result<String> {
    let mut text = "| goal | | measured | |\n|---|---:|---:|---|\n".to_owned();
    for Goal { says, found, limit } in &GOALS {
        let found = found(report).with_context(|| format!("{says}: not measured"))?;
        let (sign, bound, is_met) = match limit {
            Limit::AtMost(most) => ("≤", most, found <= *most),
            Limit::AtLeast(least) => ("≥", least, found >= *least),
        };
        let word = if is_met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {says} | {sign} {bound:.2} | {found:.2} | {word} |");
    }
    Ok(text)
}
