//! Netfilter: what steered packets miss.

use ipnet::IpNet;
use steer_common::abi::{HookMode, HookOrder};

use super::{Check, Facts, Section, SteeredGroup, fail, ok, or_ok, warn};
use crate::plan::{Existing, GroupPlan, PlanError, PlannedTunnel, mode};

pub(super) const READABLE: Check = Check {
    name: "netfilter",
    section: Section::Netfilter,
    fails: None,
    warns: Some("Its rules cannot be read, so it is not known what steered packets miss"),
    judge: |facts| {
        vec![match &facts.machine.netfilter {
            Ok(netfilter) if netfilter.findings.is_empty() => {
                ok("netfilter", "nothing looks at forwarded packets")
            }
            Ok(netfilter) => {
                let count = netfilter.findings.len();
                ok(
                    "netfilter",
                    format!("{count} chains or parts of chains look at forwarded packets"),
                )
            }
            Err(cause) => warn("netfilter", format!("its rules cannot be read: {cause}"))
                .with_fix("run it as root; --hook egress needs no answer"),
        }]
    },
};

pub(super) const BYPASSED: Check = Check {
    name: "bypassed",
    section: Section::Netfilter,
    fails: Some(
        "Steered packets bypass a rule, a policy or NAT that looks at forwarded packets: added since the start, or `--bypass-netfilter`",
    ),
    warns: Some(
        "With hook `egress`: flows whose source is translated on the tunnels stay on the tunnel of the kernel's route",
    ),
    judge: |facts| {
        if !facts.is_steering() {
            return Vec::new();
        }
        let mode = facts.steered.mode;
        let Ok(netfilter) = &facts.machine.netfilter else {
            return Vec::new();
        };
        let (objection, notes) = judged(facts, mode, netfilter);
        match objection {
            // Another check tells of MTUs.
            Some(error @ PlanError::Bypasses { .. }) => {
                let fix = facts.fix_of_bypass("auto");
                vec![fail("netfilter", error.to_string()).with_fix(fix)]
            }
            _ if notes.is_empty() => vec![ok("netfilter", "steered packets miss nothing of it")],
            _ => {
                // Hook egress has no LAN device, and needs none.
                let fix = match facts.steered.lan.as_slice() {
                    [] => "steerctl attach --hook mark, with --iface, --tunnel and --prefix",
                    _ => "steerctl attach --hook mark",
                };
                let notes = notes.into_iter();
                notes
                    .map(|note| warn("netfilter", note).with_fix(fix))
                    .collect()
            }
        }
    },
};

pub(super) const IPSEC: Check = Check {
    name: "ipsec",
    section: Section::Netfilter,
    fails: Some(
        "With hook `ingress`: an IPsec policy is about packets that are steered, which bypass it: they leave unprotected by it, or unblocked",
    ),
    warns: None,
    judge: |facts| {
        // The other modes steer what the kernel forwards, policies and all.
        if !facts.is_steering() || facts.steered.mode != HookMode::Ingress {
            return Vec::new();
        }
        let concerned = facts.ipsec.iter().filter_map(|policy| {
            let meets = |net: IpNet| {
                let mut prefixes = facts.prefixes();
                prefixes.find(|prefix| prefix.contains(&net) || net.contains(prefix))
            };
            // What comes back is forwarded, too.
            let prefix = meets(policy.destination).or_else(|| meets(policy.source))?;
            let message = format!(
                "IPsec policy {policy} is about packets of prefix {prefix}, which hook ingress steers past it"
            );
            Some(fail("IPsec", message).with_fix(facts.fix_of_bypass("egress")))
        });
        or_ok(
            concerned.collect(),
            "IPsec",
            "no policy is about packets that are steered",
        )
    },
};

impl Facts<'_> {
    /// What makes steered packets pass what they bypass.
    fn fix_of_bypass(&self, hook: &str) -> String {
        if self.home_groups().count() > 1 {
            format!("steerctl detach, then start again with --hook {hook}")
        } else {
            format!("steerctl attach --hook {hook}")
        }
    }
}

/// What a start would object to this mode, and what it would note.
fn judged(
    facts: &Facts<'_>,
    mode: HookMode,
    netfilter: &crate::net::Netfilter,
) -> (Option<PlanError>, Vec<String>) {
    let devices = facts.machine.devices;
    let lan = facts
        .steered
        .lan
        .iter()
        .filter_map(|name| devices.by_name(name));
    let lan =
        lan.flat_map(|device| std::iter::once(device).chain(devices.vlans_on(device.ifindex)));
    let groups = facts.steered.groups.iter();
    let groups: Vec<_> = groups.map(|group| as_planned(group, facts)).collect();
    let existing = Existing::default();
    let way = mode::Facts {
        machine: &facts.machine,
        existing: &existing,
        lan: lan.map(|device| device.name.as_str()).collect(),
        groups: &groups,
    };
    let mut notes = Vec::new();
    let objection = way.objection(mode, &way.ruleset(netfilter), false, &mut notes);
    // Another check tells of a strict rp_filter.
    notes.retain(|note| !note.contains("which is strict"));
    (objection, notes)
}

/// A group as a start would plan it again.
fn as_planned(group: &SteeredGroup, facts: &Facts<'_>) -> GroupPlan {
    let tunnels = facts.tunnels_of(group);
    let devices = tunnels.filter_map(|tunnel| facts.machine.devices.by_name(&tunnel.name));
    GroupPlan {
        name: group.name.clone(),
        id: 0,
        is_known: true,
        order: HookOrder::Last,
        hooks: Vec::new(),
        tunnels: devices
            .map(|device| PlannedTunnel {
                name: device.name.clone(),
                id: 0,
                ifindex: device.ifindex,
                weight: 0,
                tier: 0,
                mtu_bytes: device.mtu_bytes,
                up: device.up,
                is_known: true,
                rp_filter_before: 0,
            })
            .collect(),
        prefixes: group.prefixes.clone(),
        follows_routes: false,
    }
}
