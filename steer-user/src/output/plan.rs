//! What `run` and `attach` are about to do, and what `detach` removes.

use std::fmt::Write;

use serde::Serialize;

use super::table::{self, Cell, number, percent, seconds, text};
use super::{Colour, HookReport};
use crate::plan::{Plan, shares};

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// The group.
    pub group: String,
    /// LAN devices.
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
}

/// A LAN device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHookReport {
    /// Device name.
    pub iface: String,
    /// Device number.
    pub ifindex: u32,
    /// `ingress`.
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

impl PlanReport {
    /// Of a plan.
    pub fn new(plan: &Plan, dry_run: bool) -> Self {
        let shares = shares(plan.tunnels.iter().map(|tunnel| (tunnel.weight, tunnel.up)));
        Self {
            group: plan.group.clone(),
            hooks: plan
                .hooks
                .iter()
                .map(|hook| PlannedHookReport {
                    iface: hook.name.clone(),
                    ifindex: hook.ifindex,
                    hook: "ingress".into(),
                })
                .collect(),
            tunnels: plan
                .tunnels
                .iter()
                .zip(shares)
                .map(|(tunnel, share)| PlannedTunnelReport {
                    name: tunnel.name.clone(),
                    id: tunnel.id,
                    ifindex: (tunnel.ifindex != 0).then_some(tunnel.ifindex),
                    weight: tunnel.weight,
                    share,
                })
                .collect(),
            prefixes: plan.prefixes.iter().map(ToString::to_string).collect(),
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
        }
    }

    /// For people.
    pub fn render(&self, colour: Colour) -> String {
        let mut out = String::new();
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        let ifaces: Vec<&str> = self.hooks.iter().map(|hook| hook.iface.as_str()).collect();
        let _ = writeln!(
            out,
            "group {}: {} from {}",
            self.group,
            self.prefixes.join(", "),
            ifaces.join(", ")
        );
        let rows: Vec<Vec<Cell>> = self
            .tunnels
            .iter()
            .map(|tunnel| {
                vec![
                    text(&tunnel.name),
                    number(&tunnel.id),
                    number(&tunnel.weight),
                    number(&percent(tunnel.share)),
                ]
            })
            .collect();
        out.push_str(&table::render(
            &["TUNNEL", "ID", "WEIGHT", "SHARE"],
            &rows,
            "  ",
            colour,
        ));
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
        if self.dry_run {
            out.push_str("dry run: nothing was changed\n");
        }
        out
    }
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
    /// Whether it was only shown.
    pub dry_run: bool,
}

impl DetachReport {
    /// For people.
    pub fn render(&self) -> String {
        if self.hooks.is_empty() && self.flows == 0 {
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
        format!(
            "{verb} {hooks}; {} flows; pins in {}\n{end}",
            self.flows, self.pin_dir
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use crate::plan::{Idle, PlannedHook, PlannedTunnel};

    #[test]
    fn a_plan() {
        let tunnel = |id: u8, weight| PlannedTunnel {
            name: format!("wg{id}"),
            id,
            ifindex: u32::from(id) * 3,
            weight,
            mtu_bytes: 1_420,
            up: true,
        };
        let plan = Plan {
            group: "default".into(),
            group_id: 0,
            hooks: vec![PlannedHook {
                name: "lan0".into(),
                ifindex: 2,
            }],
            tunnels: vec![tunnel(0, 1), tunnel(1, 3)],
            prefixes: vec!["10.2.0.0/16".parse().expect("network")],
            seed: None,
            max_flows: 65_536,
            idle: Idle::default(),
            notes: vec!["found 2 WireGuard devices: wg0, wg1".into()],
        };
        let report = PlanReport::new(&plan, true);
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        found 2 WireGuard devices: wg0, wg1
        group default: 10.2.0.0/16 from lan0
          TUNNEL  ID  WEIGHT   SHARE
          wg0      0       1  25.0 %
          wg1      1       3  75.0 %
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
            flows: 3,
            dry_run: false,
        };
        assert_eq!(
            report.render(),
            "removed lan0 ingress (clsact); 3 flows; pins in /sys/fs/bpf/steer\n"
        );
        report.hooks.clear();
        report.flows = 0;
        assert_eq!(report.render(), "nothing is steered by /sys/fs/bpf/steer\n");
    }
}
