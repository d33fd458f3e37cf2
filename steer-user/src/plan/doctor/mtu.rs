//! Packet sizes.

use steer_common::abi::HookMode;

use super::{Check, Facts, Judgement, Section, Underlay, fail, or_ok, warn};
use crate::net::{Family, KernelRoute};
use crate::plan::unequal_mtus;

/// What WireGuard adds to a packet: its own header and tag (32 bytes), UDP, and IPv4 or IPv6.
const fn overhead_bytes(family: Family) -> u32 {
    match family {
        Family::V4 => 60,
        Family::V6 => 80,
    }
}

/// The least that IPv6 asks of a device (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1_280;

pub(super) const GROUP: Check = Check {
    name: "mtu_group",
    section: Section::Mtu,
    fails: Some(
        "The tunnels' MTUs differ, and nothing marks packets: what is too big may leave by another tunnel",
    ),
    warns: Some("Before a start: the tunnels' MTUs differ"),
    judge: |facts| {
        let mut problems = Vec::new();
        for group in facts.home_groups() {
            let devices: Vec<_> = facts
                .tunnels_of(group)
                .filter_map(|tunnel| facts.machine.devices.by_name(&tunnel.name))
                .map(|device| (device.name.as_str(), device.mtu_bytes))
                .collect();
            let Some(mtus) = unequal_mtus(devices.iter().copied()) else {
                continue;
            };
            let Some(least) = devices.iter().map(|(_, mtu_bytes)| *mtu_bytes).min() else {
                continue;
            };
            let larger = devices.iter().filter(|(_, mtu_bytes)| *mtu_bytes != least);
            let commands: Vec<_> = larger
                .map(|(name, _)| format!("ip link set {name} mtu {least}"))
                .collect();
            let subject = format!("group {}", group.name);
            let judgement = match facts.steered.mode {
                HookMode::Unset => warn(
                    subject,
                    format!("the tunnels' MTUs differ ({mtus}): packets will have to be marked"),
                ),
                _ if facts.steered.marks.is_some() => continue,
                _ => fail(
                    subject,
                    format!(
                        "the tunnels' MTUs differ ({mtus}): what is too big for its tunnel may leave by another"
                    ),
                ),
            };
            problems.push(judgement.with_fix(commands.join("; ")));
        }
        if facts.steered.groups.is_empty() {
            return Vec::new();
        }
        or_ok(
            problems,
            "MTU",
            "the tunnels' are alike, or packets are marked",
        )
    },
};

pub(super) const UNDERLAY: Check = Check {
    name: "mtu_underlay",
    section: Section::Mtu,
    fails: Some(
        "A tunnel's MTU with WireGuard's overhead (60 bytes over IPv4, 80 over IPv6) is larger than the MTU of the way to its endpoint",
    ),
    warns: Some("There is no route to a tunnel's endpoint"),
    judge: |facts| {
        let problems: Vec<_> = facts
            .underlay
            .iter()
            .filter_map(|under| judge_underlay(facts, under))
            .collect();
        if facts.underlay.is_empty() {
            return Vec::new();
        }
        or_ok(problems, "MTU", "encrypted packets fit on their way")
    },
};

fn judge_underlay(facts: &Facts<'_>, under: &Underlay) -> Option<Judgement> {
    let name = &under.tunnel;
    let endpoint = under.endpoint.ip().to_canonical();
    let KernelRoute::Devices(numbers) = &under.route else {
        // An endpoint in another namespace of this machine is no way at all.
        return (under.route == KernelRoute::None).then(|| {
            warn(name, format!("no route to its endpoint {endpoint}"))
                .with_fix(format!("ip route get {endpoint}"))
        });
    };
    let devices = numbers
        .iter()
        .filter_map(|number| facts.machine.devices.by_index(*number));
    let narrowest = devices.min_by_key(|device| device.mtu_bytes)?;
    let tunnel = facts.machine.devices.by_name(name)?;
    let overhead = overhead_bytes(Family::from(endpoint));
    let room = narrowest.mtu_bytes.saturating_sub(overhead);
    if tunnel.mtu_bytes <= room {
        return None;
    }
    let message = format!(
        "MTU {} and {overhead} bytes of overhead are more than the {} of {}: encrypted packets are fragmented or lost",
        tunnel.mtu_bytes, narrowest.mtu_bytes, narrowest.name
    );
    Some(fail(name, message).with_fix(format!("ip link set {name} mtu {room}")))
}

pub(super) const IPV6: Check = Check {
    name: "ipv6",
    section: Section::Mtu,
    fails: Some(
        "IPv6 is steered, and a tunnel cannot carry it: its MTU is below 1280, or IPv6 is switched off on it",
    ),
    warns: None,
    judge: |facts| {
        if !facts.has_family(Family::V6) {
            return Vec::new();
        }
        let problems = facts.tunnel_devices().filter_map(|device| {
            let name = &device.name;
            if device.mtu_bytes < IPV6_MTU_MIN {
                let message = format!("MTU {}: IPv6 needs {IPV6_MTU_MIN}", device.mtu_bytes);
                let fix = format!("ip link set {name} mtu {IPV6_MTU_MIN}");
                return Some(fail(name, message).with_fix(fix));
            }
            facts.sysctls.ipv6_off.contains(name).then(|| {
                fail(
                    name,
                    "IPv6 is switched off on it: the kernel sends none there",
                )
                .with_fix(format!(
                    "sysctl -w {}=0",
                    crate::net::sysctl::ipv6_disabled_name(name)
                ))
            })
        });
        or_ok(problems.collect(), "IPv6", "every tunnel can carry it")
    },
};
