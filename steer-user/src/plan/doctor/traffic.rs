//! What was counted since the start.

use steer_common::abi::PassReason;

use super::{Check, Section, or_ok, warn};

/// How full a flow table may be, in percent.
const FULL_PERCENT: u64 = 90;

pub(super) const FLOW_TABLE: Check = Check {
    name: "flow_table",
    section: Section::Traffic,
    fails: None,
    warns: Some("It is 90 % full, or was full: packets were placed by the hash alone"),
    judge: |facts| {
        let Some(traffic) = &facts.traffic else {
            return Vec::new();
        };
        let (entries, capacity) = (traffic.entries, traffic.capacity);
        let larger = (capacity * 2).max(1);
        let fix = format!(
            "steerctl detach, then start with --max-flows {larger} (flows are placed anew), or with shorter --idle"
        );
        let mut problems = Vec::new();
        if entries * 100 >= capacity * FULL_PERCENT {
            let message = format!("{entries} of {capacity} entries are used");
            problems.push(warn("flow table", message).with_fix(fix.clone()));
        }
        if traffic.full_packets > 0 {
            let message = format!(
                "{} packets found it full, and went by the hash alone",
                traffic.full_packets
            );
            problems.push(warn("flow table", message).with_fix(fix));
        }
        or_ok(
            problems,
            "flow table",
            format!("{entries} of {capacity} entries are used"),
        )
    },
};

/// From how many packets on a reason is told of.
const PACKETS_MIN: u64 = 100;

/// Reasons that mean trouble when they are a part of the traffic: what they mean, and what helps.
const TROUBLE: [(PassReason, &str, &str); 8] = [
    (
        PassReason::Malformed,
        "headers contradict themselves",
        "capture on the LAN device, and look at who sends them: tcpdump -ni IF",
    ),
    (
        PassReason::BadChecksum,
        "IPv4 headers have wrong checksums",
        "look at the driver's offloads: ethtool -K IF rx off",
    ),
    (
        PassReason::NoTunnel,
        "no tunnel of the group could take them",
        "see the tunnels above, and steerctl events",
    ),
    (
        PassReason::UnknownVlan,
        "they are tagged for a VLAN that this gateway has no device for",
        "make a VLAN device for it, or steer on the VLAN devices that there are: --iface lan0.10",
    ),
    (
        PassReason::NoNeighbour,
        "the MAC address of their receiver is not known",
        "look at receivers that do not answer: ip neigh show nud failed",
    ),
    (
        PassReason::RewriteFailed,
        "they could not be rewritten for want of memory",
        "look at the machine's memory: free -m",
    ),
    (
        PassReason::TooManyHeaders,
        "they have more IPv6 extension headers than are followed",
        "capture on the LAN device, and look at who sends them: tcpdump -ni IF ip6",
    ),
    (
        PassReason::NotLan,
        "they came from a tunnel, and their way leads out by no LAN device",
        "name that device, too: steerctl attach with --iface",
    ),
];

pub(super) const PASSED: Check = Check {
    name: "passed",
    section: Section::Traffic,
    fails: None,
    warns: Some(
        "At least 100 packets, and 1 % of the steered ones, were left to the kernel for a reason that means trouble",
    ),
    judge: |facts| {
        let Some(traffic) = &facts.traffic else {
            return Vec::new();
        };
        let count = |reason: PassReason| {
            let found = traffic.passed.iter().find(|(of, _)| *of == reason);
            found.map_or(0, |(_, count)| *count)
        };
        let problems = TROUBLE.iter().filter_map(|(reason, what, help)| {
            let count = count(*reason);
            let is_many =
                count >= PACKETS_MIN && count.saturating_mul(100) >= traffic.steered_packets;
            let message = format!("{count} packets were left to the kernel: {what}");
            is_many.then(|| warn(reason.name(), message).with_fix(*help))
        });
        or_ok(
            problems.collect(),
            "passed",
            "no packets in quantity for a reason that means trouble",
        )
    },
};
