//! The tunnels.

use std::collections::BTreeSet;

use ipnet::IpNet;
use steer_common::abi::{Admin, Health, HealthReason};

use super::{Check, Facts, Judgement, Section, SteeredGroup, SteeredTunnel, fail, ok, or_ok, warn};
use crate::plan::health::phrase;

pub(super) const DEVICES: Check = Check {
    name: "tunnel_devices",
    section: Section::Tunnels,
    fails: Some("A tunnel's device is gone, down, or has MAC headers now"),
    warns: None,
    judge: |facts| {
        if facts.steered.tunnels.is_empty() {
            return Vec::new();
        }
        let problems = facts.steered.tunnels.iter().filter_map(|tunnel| {
            let name = &tunnel.name;
            let Some(device) = facts.machine.devices.by_name(name) else {
                return Some(
                    fail(name, "its device is gone").with_fix(format!("wg-quick up {name}")),
                );
            };
            if !device.layer3 {
                return Some(
                    fail(
                        name,
                        "its device is not a layer-3 device: its packets have MAC headers",
                    )
                    .with_fix("make it a WireGuard or TUN device again"),
                );
            }
            let down =
                || fail(name, "its device is down").with_fix(format!("ip link set {name} up"));
            (!device.up).then(down)
        });
        let count = facts.steered.tunnels.len();
        or_ok(
            problems.collect(),
            "tunnels",
            format!("the devices of all {count} are up"),
        )
    },
};

/// Whether it can carry flows, as far as is known.
fn is_usable(facts: &Facts<'_>, tunnel: &SteeredTunnel) -> bool {
    let device = facts.machine.devices.by_name(&tunnel.name);
    tunnel.admin != Admin::Disabled
        && tunnel.health != Health::Down
        && device.is_some_and(|device| device.up)
}

/// Whether the operator lets new flows go by it.
fn takes_new_flows(tunnel: &SteeredTunnel) -> bool {
    tunnel.admin == Admin::Active && tunnel.weight > 0
}

pub(super) const GROUPS: Check = Check {
    name: "group_usable",
    section: Section::Tunnels,
    fails: Some("No tunnel of a group can carry flows"),
    warns: Some(
        "Only one tunnel of a group can carry flows: nothing is left when it fails; or none takes new ones, by drain or weight",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let problems = facts.steered.groups.iter().filter_map(|group| {
            let all: Vec<_> = facts.tunnels_of(group).collect();
            let usable: Vec<_> = all
                .iter()
                .filter(|tunnel| is_usable(facts, tunnel))
                .collect();
            let subject = format!("group {}", group.name);
            match usable.as_slice() {
                [] => Some(
                    fail(subject, "none of its tunnels can carry flows")
                        .with_fix("see the lines of its tunnels; steerctl status"),
                ),
                usable
                    if !group.prefixes.is_empty() && !usable.iter().any(|t| takes_new_flows(t)) =>
                {
                    let drained = usable.iter().find(|tunnel| tunnel.admin == Admin::Drain);
                    let fix = match drained {
                        Some(tunnel) => format!("steerctl undrain {}", tunnel.name),
                        None => format!("steerctl weights {}=1", usable[0].name),
                    };
                    let message =
                        "none of its tunnels takes new flows: they are left to the kernel";
                    Some(warn(subject, message).with_fix(fix))
                }
                [last] if all.len() > 1 => Some(
                    warn(subject, format!("only {} can carry flows", last.name))
                        .with_fix("see the lines of its other tunnels; steerctl status"),
                ),
                _ => None,
            }
        });
        or_ok(
            problems.collect(),
            "groups",
            "every group has tunnels that can carry flows",
        )
    },
};

pub(super) const TIERS: Check = Check {
    name: "tiers",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "New flows go by a backup, because no tunnel of a better tier can take them; or no backup could take them",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let tiered: Vec<_> = facts
            .home_groups()
            .filter(|group| tiers(facts, group, |_| true).len() > 1)
            .collect();
        if tiered.is_empty() {
            return Vec::new();
        }
        let problems = tiered.iter().filter_map(|group| judge_tiers(facts, group));
        or_ok(
            problems.collect(),
            "tiers",
            "the best one carries, and its backup could",
        )
    },
};

/// The tiers of such tunnels of a group.
fn tiers(
    facts: &Facts<'_>,
    group: &SteeredGroup,
    is_such: impl Fn(&SteeredTunnel) -> bool,
) -> BTreeSet<u32> {
    let tunnels = facts.tunnels_of(group);
    tunnels
        .filter(|tunnel| is_such(tunnel))
        .map(|tunnel| tunnel.tier)
        .collect()
}

fn judge_tiers(facts: &Facts<'_>, group: &SteeredGroup) -> Option<Judgement> {
    let all = tiers(facts, group, |_| true);
    let taking = tiers(facts, group, |tunnel| {
        is_usable(facts, tunnel) && takes_new_flows(tunnel)
    });
    // With none at all, another check tells of it.
    let (best, in_use) = (all.first()?, taking.first()?);
    let subject = format!("group {}", group.name);
    let message = if in_use > best {
        format!("no tunnel of tier {best} takes new flows: those of tier {in_use} do")
    } else if taking.len() == 1 {
        format!("no other tier than {in_use} could take new flows: it has no backup")
    } else {
        return None;
    };
    Some(warn(subject, message).with_fix("see the lines of its tunnels; steerctl status"))
}

/// `since 2h` in words, if it is known.
fn since(secs: Option<u64>) -> String {
    let Some(secs) = secs else {
        return String::new();
    };
    let text = humantime::format_duration(std::time::Duration::from_secs(secs)).to_string();
    // The two largest units say enough.
    let units: Vec<&str> = text.split(' ').take(2).collect();
    format!(" for {}", units.join(" "))
}

/// What a tunnel is taken out of use for can be forgotten in this time.
const LONG_SECS: u64 = 24 * 60 * 60;

pub(super) const ADMIN: Check = Check {
    name: "tunnel_admin",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "A tunnel has been disabled or draining for longer than a day; before, an ok line tells it",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let told = facts.steered.tunnels.iter().filter_map(|tunnel| {
            let (what, verb) = match tunnel.admin {
                Admin::Disabled => ("disabled", "enable"),
                Admin::Drain => ("draining", "undrain"),
                Admin::Active | Admin::Absent => return None,
            };
            let name = &tunnel.name;
            let message = format!("{what} by the operator{}", since(tunnel.admin_secs));
            let is_long = tunnel.admin_secs.is_some_and(|secs| secs >= LONG_SECS);
            Some(if is_long {
                warn(name, message).with_fix(format!("steerctl {verb} {name}"))
            } else {
                ok(name, message)
            })
        });
        or_ok(told.collect(), "tunnels", "all are to be used")
    },
};

pub(super) const HEALTH: Check = Check {
    name: "tunnel_health",
    section: Section::Tunnels,
    fails: Some("A tunnel in use is down although its device is up: its far end does not answer"),
    warns: Some("A tunnel in use is degraded"),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let problems = facts
            .steered
            .tunnels
            .iter()
            .filter_map(|tunnel| judge_health(facts, tunnel));
        or_ok(problems.collect(), "tunnels", "none is known to fail")
    },
};

fn judge_health(facts: &Facts<'_>, tunnel: &SteeredTunnel) -> Option<Judgement> {
    let name = &tunnel.name;
    let device = facts.machine.devices.by_name(name)?;
    // Another check tells of that.
    if !device.up || tunnel.admin == Admin::Disabled {
        return None;
    }
    let reason =
        phrase(tunnel.health, &tunnel.told).unwrap_or_else(|| "nobody has said why".to_owned());
    let message = format!(
        "{}{}: {reason}",
        tunnel.health.name(),
        since(tunnel.health_secs)
    );
    match tunnel.health {
        Health::Down => Some(fail(name, message).with_fix(format!(
            "wg show {name}: endpoint, keys and handshake; then the path to the far gateway and that one itself"
        ))),
        Health::Degraded => Some(warn(name, message).with_fix(format!(
            "the path to the far gateway loses or delays packets: ping through {name}, and steerctl events"
        ))),
        Health::Up | Health::Unknown => None,
    }
}

/// A far end that is there answers within this time.
const FIRST_ANSWER_SECS: u64 = 5;

pub(super) const PROBE_TARGETS: Check = Check {
    name: "probe_target",
    section: Section::Tunnels,
    fails: None,
    warns: Some(
        "The address that was named for a tunnel's probes has never answered, or cannot be asked: its silent death would not be noticed by probes",
    ),
    judge: |facts| {
        if !facts.is_steering() || facts.probe_targets.is_empty() {
            return Vec::new();
        }
        let problems = facts.probe_targets.iter().filter_map(|(name, target)| {
            let mut tunnels = facts.steered.tunnels.iter();
            let tunnel = tunnels.find(|tunnel| tunnel.name == *name)?;
            let device = facts.machine.devices.by_name(name)?;
            let is_source = |net: &IpNet| net.addr().is_ipv4() == target.is_ipv4();
            if !device.addresses.iter().any(is_source) {
                let message = format!(
                    "its probe target {target} is never asked: the tunnel has no address of that family to ask from"
                );
                let fix = format!("ip address add ADDR dev {name}: the tunnel's own address");
                return Some(warn(name, message).with_fix(fix));
            }
            let never = tunnel.health == Health::Unknown
                && tunnel.told.reason == HealthReason::NoAnswerYet
                && tunnel.health_secs >= Some(FIRST_ANSWER_SECS);
            if !never {
                return None;
            }
            let message = format!(
                "its probe target {target} has never answered{}: whether anything comes through is not known, and flows are placed on it all the same",
                since(tunnel.health_secs)
            );
            Some(warn(name, message).with_fix(format!(
                "ping -I {name} {target}; then name one that answers: probe.target in the file, or --probe-target {name}=ADDR"
            )))
        });
        or_ok(
            problems.collect(),
            "probe targets",
            "those that were named have answered",
        )
    },
};
