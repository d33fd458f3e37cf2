//! What `run` and `attach` are about to do, and what `detach` removes.

use std::fmt::Write;

use serde::Serialize;
use steer_common::abi::HookMode;

use super::table::{self, Cell, number, percent, seconds, text};
use super::{Colour, DifferenceReport, HookReport};
use crate::net::MarkRule;
use crate::plan::{Candidate, GroupPlan, Plan, mss_clamp_name, shares};

/// A plan. What is of one group stands for the first; `groups` has them all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// The group.
    pub group: String,
    /// LAN devices that get a program.
    pub hooks: Vec<PlannedHookReport>,
    /// Tunnels, in the order of their ids.
    pub tunnels: Vec<PlannedTunnelReport>,
    /// Prefixes.
    pub prefixes: Vec<String>,
    /// Seed of the flow hash; `null` when a random one is chosen.
    pub seed: Option<u64>,
    /// Size of the flow table.
    pub max_flows: u32,
    /// Idle time-outs.
    pub idle_secs: IdleReport,
    /// What was discovered or decided on the way.
    pub notes: Vec<String>,
    /// Whether the plan was only shown.
    pub dry_run: bool,
    /// How the gateway steers: `ingress`, `egress` or `mark`.
    pub hook: String,
    /// `off`, `mtu` (what fits through the tunnel) or the number.
    pub mss_clamp: String,
    /// Bits of the packet mark; `null` when no packet is marked.
    pub mark_mask: Option<u32>,
    /// Policy rules for the marks, as `ip rule` takes them.
    pub rules: Vec<PlannedRuleReport>,
    /// Sysctls that are changed.
    pub sysctls: Vec<SysctlReport>,
    /// All groups.
    pub groups: Vec<PlannedGroupReport>,
    /// How this differs from what is steered now; `null` when nothing is.
    pub difference: Option<DifferenceReport>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedGroupReport {
    /// Its name.
    pub name: String,
    /// LAN devices that get a program.
    pub hooks: Vec<PlannedHookReport>,
    /// Tunnels, in the order of their ids.
    pub tunnels: Vec<PlannedTunnelReport>,
    /// Prefixes.
    pub prefixes: Vec<String>,
    /// Whether its prefixes are those of the kernel's routes.
    pub follows_routes: bool,
}

/// A policy rule; there is a route for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedRuleReport {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The rule.
    pub rule: String,
}

/// A sysctl that is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SysctlReport {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub from: u32,
    /// Its value then.
    pub to: u32,
}

/// A LAN device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHookReport {
    /// Device name.
    pub iface: String,
    /// Device number.
    pub ifindex: u32,
    /// `ingress` or `mark`.
    pub hook: String,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedTunnelReport {
    /// Device name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// Device number; `null` when the device is gone.
    pub ifindex: Option<u32>,
    /// Weight.
    pub weight: u32,
    /// Tier.
    pub tier: u32,
    /// Share of new flows, 0 to 1.
    pub share: f64,
}

/// Idle time-outs in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "as in Idle")]
pub struct IdleReport {
    pub tcp: u64,
    pub closing: u64,
    pub udp: u64,
    pub other: u64,
}

impl PlannedGroupReport {
    fn new(group: &GroupPlan, mode: HookMode) -> Self {
        let tunnels = &group.tunnels;
        let shares = shares(tunnels.iter().map(|tunnel| Candidate {
            weight: tunnel.weight,
            tier: tunnel.tier,
            takes_new_flows: tunnel.up,
        }));
        Self {
            name: group.name.clone(),
            hooks: group
                .hooks
                .iter()
                .map(|hook| PlannedHookReport {
                    iface: hook.name.clone(),
                    ifindex: hook.ifindex,
                    hook: mode.name().into(),
                })
                .collect(),
            tunnels: tunnels
                .iter()
                .zip(shares)
                .map(|(tunnel, share)| PlannedTunnelReport {
                    name: tunnel.name.clone(),
                    id: tunnel.id,
                    ifindex: (tunnel.ifindex != 0).then_some(tunnel.ifindex),
                    weight: tunnel.weight,
                    tier: tunnel.tier,
                    share,
                })
                .collect(),
            prefixes: group.prefixes.iter().map(ToString::to_string).collect(),
            follows_routes: group.follows_routes,
        }
    }
}

impl PlanReport {
    /// Of a plan.
    pub fn new(plan: &Plan, difference: Option<DifferenceReport>, dry_run: bool) -> Self {
        let groups = plan.groups.iter();
        let groups: Vec<_> = groups
            .map(|group| PlannedGroupReport::new(group, plan.mode))
            .collect();
        let first = groups.first().cloned();
        Self {
            group: first
                .as_ref()
                .map_or_else(String::new, |of| of.name.clone()),
            hook: plan.mode.name().into(),
            mss_clamp: mss_clamp_name(plan.mss_clamp),
            mark_mask: plan.marks.map(|marks| marks.mask.bits()),
            rules: rules(plan),
            sysctls: plan
                .sysctls
                .iter()
                .map(|change| SysctlReport {
                    name: change.name.clone(),
                    from: change.from,
                    to: change.to,
                })
                .collect(),
            hooks: first.as_ref().map_or_else(Vec::new, |of| of.hooks.clone()),
            tunnels: first
                .as_ref()
                .map_or_else(Vec::new, |of| of.tunnels.clone()),
            prefixes: first.map_or_else(Vec::new, |of| of.prefixes),
            seed: plan.seed,
            max_flows: plan.max_flows,
            idle_secs: IdleReport {
                tcp: plan.idle.tcp.as_secs(),
                closing: plan.idle.closing.as_secs(),
                udp: plan.idle.udp.as_secs(),
                other: plan.idle.other.as_secs(),
            },
            notes: plan.notes.clone(),
            dry_run,
            groups,
            difference,
        }
    }

    /// For people.
    pub fn render(&self, colour: Colour) -> String {
        let mut out = String::new();
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        for group in &self.groups {
            self.render_group(group, colour, &mut out);
        }
        for PlannedRuleReport { family, rule } in &self.rules {
            let _ = writeln!(out, "  {family} rule: {rule}");
        }
        for SysctlReport { name, from, to } in &self.sysctls {
            let _ = writeln!(out, "  sysctl {name}: {from} becomes {to}");
        }
        let seed = self
            .seed
            .map_or_else(|| "random".into(), |seed| format!("{seed:#x}"));
        let _ = writeln!(
            out,
            "seed {seed}, room for {} flows; idle time-outs: tcp {}, closing {}, udp {}, other {}",
            self.max_flows,
            seconds(self.idle_secs.tcp),
            seconds(self.idle_secs.closing),
            seconds(self.idle_secs.udp),
            seconds(self.idle_secs.other),
        );
        if let Some(difference) = &self.difference {
            out.push_str(&difference.render());
        }
        if self.dry_run {
            out.push_str("dry run: nothing was changed\n");
        }
        out
    }

    fn render_group(&self, group: &PlannedGroupReport, colour: Colour, out: &mut String) {
        let ifaces: Vec<&str> = group.hooks.iter().map(|hook| hook.iface.as_str()).collect();
        let from = match ifaces.as_slice() {
            [] => String::new(),
            ifaces => format!(" from {}", ifaces.join(", ")),
        };
        let prefixes = if group.follows_routes {
            "the kernel's routes".to_owned()
        } else {
            group.prefixes.join(", ")
        };
        let _ = writeln!(
            out,
            "group {}: {prefixes}{from} (hook {}, MSS clamp {})",
            group.name, self.hook, self.mss_clamp,
        );
        let has_tiers = group.tunnels.iter().any(|tunnel| tunnel.tier != 0);
        let mut columns = vec!["TUNNEL", "ID", "WEIGHT", "SHARE"];
        if has_tiers {
            columns.push("TIER");
        }
        let rows = group.tunnels.iter().map(|tunnel| {
            let mut row = vec![
                text(&tunnel.name),
                number(&tunnel.id),
                number(&tunnel.weight),
                number(&percent(tunnel.share)),
            ];
            if has_tiers {
                row.push(number(&tunnel.tier));
            }
            row
        });
        let rows: Vec<Vec<Cell>> = rows.collect();
        out.push_str(&table::render(&columns, &rows, "  ", colour));
    }
}

/// The rules for a plan's tunnels.
fn rules(plan: &Plan) -> Vec<PlannedRuleReport> {
    let Some(marks) = plan.marks else {
        return Vec::new();
    };
    let rules = marks.rules(plan.tunnels().map(|tunnel| tunnel.id));
    let report = |rule: &MarkRule| PlannedRuleReport {
        family: rule.family.to_string(),
        rule: rule.to_string(),
    };
    rules.iter().map(report).collect()
}

/// What `detach` removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DetachReport {
    /// Where the maps were pinned.
    pub pin_dir: String,
    /// Hooks.
    pub hooks: Vec<HookReport>,
    /// Live flows forgotten with the flow table.
    pub flows: u64,
    /// Whether there are pins that nothing more is known of.
    #[serde(skip)]
    pub is_remains: bool,
    /// Whether it was only shown.
    pub dry_run: bool,
    /// Policy rules, and as many routes.
    pub rules: usize,
    /// Sysctls that get their old value back.
    pub sysctls: Vec<String>,
}

impl DetachReport {
    /// For people.
    pub fn render(&self) -> String {
        let is_nothing = self.hooks.is_empty() && self.rules == 0 && self.sysctls.is_empty();
        if is_nothing && self.flows == 0 && self.is_remains {
            let verb = if self.dry_run {
                "would remove"
            } else {
                "removed"
            };
            return format!("{verb} what was left in {}\n", self.pin_dir);
        }
        if is_nothing && self.flows == 0 {
            return format!("nothing is steered by {}\n", self.pin_dir);
        }
        let hooks: Vec<String> = self
            .hooks
            .iter()
            .map(|hook| format!("{} {} ({})", hook.iface, hook.hook, hook.attach))
            .collect();
        let (verb, end) = if self.dry_run {
            ("would remove", "dry run: nothing was changed\n")
        } else {
            ("removed", "")
        };
        let hooks = if hooks.is_empty() {
            "no hook".into()
        } else {
            hooks.join(", ")
        };
        let mut more = String::new();
        if self.rules > 0 {
            let _ = write!(more, "{} policy rules with their routes; ", self.rules);
        }
        if !self.sysctls.is_empty() {
            let _ = write!(more, "changes of {}; ", self.sysctls.join(", "));
        }
        format!(
            "{verb} {hooks}; {more}{} flows; pins in {}\n{end}",
            self.flows, self.pin_dir
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use steer_common::abi::HookOrder;

    use crate::plan::{Idle, MarkMask, Marks, PlannedHook, PlannedTunnel, SysctlChange};

    #[test]
    fn a_plan() {
        let tunnel = |id: u8, weight| PlannedTunnel {
            name: format!("wg{id}"),
            id,
            ifindex: u32::from(id) * 3,
            weight,
            tier: 0,
            mtu_bytes: 1_420,
            up: true,
            is_known: false,
            rp_filter_before: 0,
        };
        let group = GroupPlan {
            name: "default".into(),
            id: 0,
            is_known: false,
            order: HookOrder::Last,
            hooks: vec![PlannedHook {
                name: "lan0".into(),
                ifindex: 2,
                layer3: false,
            }],
            tunnels: vec![tunnel(0, 1), tunnel(1, 3)],
            prefixes: vec!["10.2.0.0/16".parse().expect("network")],
            follows_routes: false,
        };
        let plan = Plan {
            groups: vec![group],
            leaving: Vec::new(),
            is_whole: false,
            mode: HookMode::Mark,
            mss_clamp: 0,
            marks: Some(Marks {
                mask: MarkMask::DEFAULT,
                slot: 1,
            }),
            seed: None,
            max_flows: 65_536,
            idle: Idle::default(),
            fix: true,
            sysctls: vec![SysctlChange {
                tunnel: "wg1".into(),
                name: "net.ipv4.conf.wg1.rp_filter".into(),
                from: 1,
                to: 2,
            }],
            notes: vec!["found 2 WireGuard devices: wg0, wg1".into()],
        };
        let report = PlanReport::new(&plan, None, true);
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        found 2 WireGuard devices: wg0, wg1
        group default: 10.2.0.0/16 from lan0 (hook mark, MSS clamp off)
          TUNNEL  ID  WEIGHT   SHARE
          wg0      0       1  25.0 %
          wg1      1       3  75.0 %
          IPv4 rule: pref 5210 fwmark 0x1000000/0xff000000 lookup 572300
          IPv6 rule: pref 5210 fwmark 0x1000000/0xff000000 lookup 572300
          IPv4 rule: pref 5210 fwmark 0x2000000/0xff000000 lookup 572301
          IPv6 rule: pref 5210 fwmark 0x2000000/0xff000000 lookup 572301
          sysctl net.ipv4.conf.wg1.rp_filter: 1 becomes 2
        seed random, room for 65536 flows; idle time-outs: tcp 2h4m, closing 30s, udp 5m, other 1m
        dry run: nothing was changed
        ");
        insta::assert_snapshot!(json(&report).expect("JSON"));
    }

    #[test]
    fn removal() {
        let mut report = DetachReport {
            pin_dir: "/sys/fs/bpf/steer".into(),
            hooks: vec![HookReport {
                iface: "lan0".into(),
                ifindex: 2,
                hook: "ingress".into(),
                attach: "clsact".into(),
                program_id: Some(1),
            }],
            rules: 0,
            sysctls: Vec::new(),
            flows: 3,
            is_remains: false,
            dry_run: false,
        };
        assert_eq!(
            report.render(),
            "removed lan0 ingress (clsact); 3 flows; pins in /sys/fs/bpf/steer\n"
        );
        report.rules = 4;
        report.sysctls = vec!["net.ipv4.conf.wg1.rp_filter".into()];
        assert_eq!(
            report.render(),
            "removed lan0 ingress (clsact); 4 policy rules with their routes; \
             changes of net.ipv4.conf.wg1.rp_filter; 3 flows; pins in /sys/fs/bpf/steer\n"
        );
        report.rules = 0;
        report.sysctls.clear();
        report.hooks.clear();
        report.flows = 0;
        assert_eq!(report.render(), "nothing is steered by /sys/fs/bpf/steer\n");
    }
}
