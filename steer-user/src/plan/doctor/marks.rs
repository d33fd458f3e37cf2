//! Packet marks: who else uses them, and whether what acts on steer's is there.

use std::collections::BTreeMap;

use steer_common::abi::HookMode;

use super::{Check, Facts, Section, fail, or_ok, warn};
use crate::net::{Family, Rule, RuleAction, mark_users, sysctl};
use crate::plan::{MarkMask, Marks, own_routing};

pub(super) const USERS: Check = Check {
    name: "mark_users",
    section: Section::Marks,
    fails: Some("Packets are marked, and a policy rule or a WireGuard FwMark uses the same bits"),
    warns: Some("Before a start: the same for the bits that steer takes without `--mark-mask`"),
    judge: |facts| {
        let marks = facts.steered.marks;
        if facts.is_steering() && marks.is_none() {
            return Vec::new();
        }
        let mask = marks.map_or(MarkMask::DEFAULT, |marks| marks.mask);
        let own = own_routing(marks.map_or(0, |marks| marks.slot));
        let users = mark_users(
            mask.bits(),
            &own,
            &facts.machine.rules,
            facts.machine.devices,
        );
        let problems = users.iter().map(|user| {
            let other = mask.other();
            if marks.is_some() {
                fail(
                    "marks",
                    format!("{user} uses bits of {mask}, which are steer's"),
                )
                .with_fix(format!("steerctl attach --mark-mask {other}"))
            } else {
                warn("marks", format!("{user} uses bits of {mask}"))
                    .with_fix(format!("should hook mark be needed: --mark-mask {other}"))
            }
        });
        or_ok(
            problems.collect(),
            "marks",
            format!("nobody else uses {mask}"),
        )
    },
};

/// The marks that are steer's now, and how the rest applies.
fn marks(facts: &Facts<'_>) -> Option<Marks> {
    facts.steered.marks.filter(|_| facts.is_steering())
}

/// The rules that should be there.
fn wanted(facts: &Facts<'_>, marks: Marks) -> Vec<Rule> {
    let ids = facts.steered.tunnels.iter().map(|tunnel| tunnel.id);
    marks.rules(ids).iter().map(Rule::from).collect()
}

/// Families that the machine has rules of; a kernel without IPv6 has none of that.
fn is_there(facts: &Facts<'_>, family: Family) -> bool {
    facts.machine.rules.iter().any(|rule| rule.family == family)
}

pub(super) const RULES: Check = Check {
    name: "mark_rules",
    section: Section::Marks,
    fails: Some("A policy rule of steer is missing: marked packets go by the kernel's own route"),
    warns: None,
    judge: |facts| {
        let Some(marks) = marks(facts) else {
            return Vec::new();
        };
        let wanted = wanted(facts, marks);
        let missing = wanted
            .iter()
            .filter(|rule| is_there(facts, rule.family) && !facts.machine.rules.contains(rule));
        let problems = missing.map(|rule| {
            fail("rules", format!("{} rule '{rule}' is missing", rule.family))
                .with_fix("steerctl attach")
        });
        or_ok(
            problems.collect(),
            "rules",
            format!("all {} are there", wanted.len()),
        )
    },
};

pub(super) const ROUTES: Check = Check {
    name: "mark_routes",
    section: Section::Marks,
    fails: Some("A routing table of steer has no route to its tunnel"),
    warns: None,
    judge: |facts| {
        let Some(marks) = marks(facts) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        for tunnel in &facts.steered.tunnels {
            let device = facts.machine.devices.by_name(&tunnel.name);
            let Some(device) = device.filter(|device| device.up) else {
                continue;
            };
            let table = marks.table(tunnel.id);
            for family in Family::ALL {
                // What cannot be there is told by another check.
                let is_wanted = facts.has_family(family)
                    && (family == Family::V4 || !facts.sysctls.ipv6_off.contains(&tunnel.name));
                let has_route = facts.tunnel_routes.iter().any(|route| {
                    route.family == family
                        && route.table == table
                        && route.ifindex == Some(device.ifindex)
                });
                if is_wanted && !has_route && device.mtu_bytes >= 1_280 {
                    problems.push(
                        fail(
                            &tunnel.name,
                            format!("{family} table {table} has no route to it"),
                        )
                        .with_fix("steerctl attach"),
                    );
                }
            }
        }
        or_ok(problems, "tables", "every tunnel's leads to it")
    },
};

pub(super) const SHADOWED: Check = Check {
    name: "mark_shadowed",
    section: Section::Marks,
    fails: None,
    warns: Some("A policy rule comes before steer's and is about marked packets, too"),
    judge: |facts| {
        let Some(marks) = marks(facts) else {
            return Vec::new();
        };
        let own = own_routing(marks.slot);
        let first = *own.prefs.start();
        // The same one for both families is told once.
        let mut before: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rule in &facts.machine.rules {
            /// The kernel's own first rule finds this machine's addresses.
            const LOCAL: RuleAction = RuleAction::Lookup(255);
            let is_about_marked =
                rule.inverted || rule.mask & marks.mask.bits() == 0 && rule.mark == 0;
            let acts = !matches!(rule.action, RuleAction::Nop | RuleAction::Goto(_))
                && rule.action != LOCAL;
            if rule.pref < first && is_about_marked && acts && facts.has_family(rule.family) {
                before
                    .entry(rule.to_string())
                    .or_default()
                    .push(rule.family.to_string());
            }
        }
        let problems = before.iter().map(|(rule, families)| {
            let families = families.join(" and ");
            let message = format!("{families} rule '{rule}' comes before steer's: what it finds a way for does not take its tunnel");
            warn("rules", message).with_fix(format!("give it a preference behind {first}"))
        });
        or_ok(problems.collect(), "rules", "none comes before steer's")
    },
};

pub(super) const SRC_VALID_MARK: Check = Check {
    name: "src_valid_mark",
    section: Section::Marks,
    fails: Some(
        "With hook `mark`: a LAN device has a strict `rp_filter` that looks at marks, so marked packets are dropped",
    ),
    warns: None,
    judge: |facts| {
        if facts.steered.mode != HookMode::Mark {
            return Vec::new();
        }
        let problems = facts.sysctls.src_valid_mark.iter().filter_map(|device| {
            if !facts.machine.strict.contains(device) {
                return None;
            }
            let names = [
                sysctl::src_valid_mark_name("all"),
                sysctl::src_valid_mark_name(device),
            ];
            let message = format!(
                "a strict rp_filter that looks at marks ({}=1) drops marked packets",
                names[1]
            );
            Some(fail(device, message).with_fix(format!("sysctl -w {}=0 {}=0", names[0], names[1])))
        });
        or_ok(
            problems.collect(),
            "src_valid_mark",
            "drops no marked packet",
        )
    },
};

pub(super) const REFLECT: Check = Check {
    name: "fwmark_reflect",
    section: Section::Marks,
    fails: Some(
        "Packets are marked, and the kernel's answers to them take the mark, and so the tunnel instead of the way back",
    ),
    warns: None,
    judge: |facts| {
        if marks(facts).is_none() {
            return Vec::new();
        }
        let problems = facts.sysctls.fwmark_reflect.iter().map(|family| {
            let sysctl = match family {
                Family::V4 => "net.ipv4.fwmark_reflect",
                Family::V6 => "net.ipv6.fwmark_reflect",
            };
            let message = format!("{family} answers of the kernel take a packet's mark, and so its tunnel ({sysctl}=1)");
            fail(family.to_string(), message).with_fix(format!("sysctl -w {sysctl}=0"))
        });
        or_ok(problems.collect(), "fwmark_reflect", "off")
    },
};
