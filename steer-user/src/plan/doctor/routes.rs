//! The kernel's routing: for what steer leaves to it, and for what comes back.

use ipnet::IpNet;
use steer_common::abi::HookMode;

use super::{Check, Facts, Judgement, Pins, Section, SteeredGroup, fail, or_ok, warn};
use crate::net::Family;
use crate::net::sysctl;
use crate::plan::replies::{astray, drops_replies, forwarding_sysctl, not_forwarded};
use crate::plan::{PlanError, conflicts, left_to_kernel};

/// Whether the kernel's forwarding is only for what steer leaves to it.
fn is_past_the_kernel(mode: HookMode) -> bool {
    matches!(mode, HookMode::Ingress | HookMode::Unset)
}

/// A failure, or a warning where steered packets do not need it.
fn weighed(facts: &Facts<'_>, subject: impl Into<String>, message: impl Into<String>) -> Judgement {
    if is_past_the_kernel(facts.steered.mode) {
        warn(subject, message)
    } else {
        fail(subject, message)
    }
}

pub(super) const FORWARDING: Check = Check {
    name: "forwarding",
    section: Section::Routes,
    fails: Some(
        "IPv4 or IPv6 forwarding is off, and the hook leaves forwarding to the kernel (`egress`, `mark`)",
    ),
    warns: Some(
        "It is off with hook `ingress`: nothing that is left to the kernel is forwarded, and too large packets are not answered",
    ),
    judge: |facts| {
        if facts.prefixes().next().is_none() {
            return Vec::new();
        }
        let off = facts
            .forwarding
            .off
            .iter()
            .filter(|family| facts.has_family(**family));
        let problems = off.map(|family| {
            weighed(
                facts,
                family.to_string(),
                not_forwarded(*family, facts.steered.mode),
            )
            .with_fix(format!("sysctl -w {}=1", forwarding_sysctl(*family)))
        });
        or_ok(problems.collect(), "forwarding", "on")
    },
};

pub(super) const DEVICE_FORWARDING: Check = Check {
    name: "device_forwarding",
    section: Section::Routes,
    fails: Some(
        "IPv4 forwarding is on, but off for what enters by a LAN device or tunnel, with hook `egress` or `mark`",
    ),
    warns: Some("The same with hook `ingress`"),
    judge: |facts| {
        let is_off = facts.forwarding.off.contains(&Family::V4);
        if is_off || !facts.has_family(Family::V4) {
            return Vec::new();
        }
        let problems = facts.sysctls.not_forwarding.iter().map(|device| {
            weighed(
                facts,
                device,
                "what enters by it is not forwarded, although the machine forwards",
            )
            .with_fix(format!(
                "sysctl -w {}=1",
                sysctl::device_forwarding_name(device)
            ))
        });
        or_ok(problems.collect(), "forwarding", "on for every device")
    },
};

pub(super) const ROUTES: Check = Check {
    name: "routes",
    section: Section::Routes,
    fails: Some(
        "With hook `egress`: the kernel's route to a prefix does not lead by a tunnel, so nothing of it is steered",
    ),
    warns: Some(
        "With another hook: what is left to the kernel, and the gateway's own packets, go elsewhere",
    ),
    judge: |facts| {
        if facts.prefixes().next().is_none() {
            return Vec::new();
        }
        let tunnels: Vec<u32> = facts
            .tunnel_devices()
            .map(|device| device.ifindex)
            .collect();
        let astray = astray(&facts.forwarding.routes, &tunnels, facts.machine.devices);
        let by = facts
            .tunnel_devices()
            .next()
            .map_or("wg0", |device| device.name.as_str());
        let problems = astray.iter().map(|astray| {
            let note = astray.note(facts.steered.mode);
            let commands = astray.prefixes.iter().map(|prefix| {
                let version = if prefix.addr().is_ipv6() { "-6 " } else { "" };
                format!("ip {version}route replace {prefix} dev {by}")
            });
            let fix = commands.collect::<Vec<_>>().join("; ");
            let subject = "routes";
            match facts.steered.mode {
                HookMode::Egress => fail(subject, note),
                _ => warn(subject, note),
            }
            .with_fix(fix)
        });
        or_ok(
            problems.collect(),
            "routes",
            "the kernel's routes to all prefixes lead by tunnels",
        )
    },
};

pub(super) const FOLLOWED: Check = Check {
    name: "followed_routes",
    section: Section::Routes,
    fails: None,
    warns: Some(
        "A group follows routes, and none leads over its tunnels, or no `steerctl run` is there to follow them",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let following: Vec<_> = facts
            .home_groups()
            .filter(|group| group.follows_routes)
            .collect();
        if following.is_empty() {
            return Vec::new();
        }
        let prefixes = |home: &SteeredGroup| -> usize {
            let groups = facts.steered.groups.iter();
            let of_home = groups.filter(|group| group.home == home.name);
            of_home.map(|group| group.prefixes.len()).sum()
        };
        let has_daemon = matches!(facts.pins, Pins::Steering { daemon: Some(_) });
        let problems = following.iter().filter_map(|group| {
            let subject = format!("group {}", group.name);
            let count = prefixes(group);
            if !has_daemon {
                let message = format!(
                    "no steerctl run follows the routes: its {count} prefixes stay as they are"
                );
                return Some(warn(subject, message).with_fix(facts.fix_of_no_daemon()));
            }
            let none = || {
                warn(subject, "no route leads over its tunnels, so nothing is steered")
                    .with_fix("look at the routing daemon, and ip route: steerctl status says which routes it follows")
            };
            (count == 0).then(none)
        });
        let count: usize = following.iter().map(|group| prefixes(group)).sum();
        or_ok(
            problems.collect(),
            "followed routes",
            format!("{count} prefixes are those of routes"),
        )
    },
};

pub(super) const PREFIXES: Check = Check {
    name: "prefixes",
    section: Section::Routes,
    fails: None,
    warns: Some(
        "A prefix holds an address of this gateway, or an endpoint of a tunnel: packets to it are left to the kernel",
    ),
    judge: |facts| {
        // Before a start, one that holds such an address is not found in the first place.
        if !facts.is_steering() {
            return Vec::new();
        }
        let devices = facts.machine.devices;
        let tunnels: Vec<_> = facts.tunnel_devices().collect();
        let prefixes = facts.prefixes();
        let problems = conflicts(prefixes, devices, &tunnels)
            .into_iter()
            .map(|conflict| {
                let told = warn("prefixes", left_to_kernel(&conflict));
                Judgement {
                    fix: conflict.hint(),
                    ..told
                }
            });
        or_ok(
            problems.collect(),
            "prefixes",
            "none holds an address of this gateway or an endpoint",
        )
    },
};

pub(super) const RP_FILTER: Check = Check {
    name: "rp_filter",
    section: Section::Routes,
    fails: Some(
        "A tunnel's `rp_filter` is strict, and the kernel's route to a prefix is not by it: replies that come by it are dropped",
    ),
    warns: Some("With hook `ingress`: a LAN device's is strict, and steered packets bypass it"),
    judge: |facts| {
        let mut problems = Vec::new();
        for (name, filter) in &facts.forwarding.rp_filters {
            let device = facts.machine.devices.by_name(name);
            let Some(device) =
                device.filter(|_| facts.steered.tunnels.iter().any(|t| t.name == *name))
            else {
                continue;
            };
            let routes = &facts.forwarding.routes;
            if let Some(prefix) = drops_replies(device.ifindex, *filter, routes) {
                problems.push(strict_tunnel(name, prefix));
            }
        }
        let lan = facts.steered.lan.iter();
        let is_strict = |name: &&String| facts.machine.strict.contains(*name);
        for name in lan
            .filter(is_strict)
            .filter(|_| facts.steered.mode == HookMode::Ingress)
        {
            let sysctl = sysctl::rp_filter_name(name);
            problems.push(
                warn(
                    name,
                    format!("steered packets bypass {sysctl}, which is strict"),
                )
                .with_fix("steerctl attach --hook auto"),
            );
        }
        if !facts.has_family(Family::V4) || facts.steered.tunnels.is_empty() {
            return Vec::new();
        }
        or_ok(problems, "rp_filter", "lets replies in by every tunnel")
    },
};

/// In the words of a start that is refused for it.
fn strict_tunnel(name: &str, prefix: IpNet) -> Judgement {
    let sysctl = sysctl::rp_filter_name(name);
    let error = PlanError::StrictReversePath {
        tunnel: name.to_owned(),
        prefix,
        sysctl: sysctl.clone(),
    };
    fail(name, error.to_string()).with_fix(format!("sysctl -w {sysctl}=2"))
}
