//! `steerctl weights`, `drain`, `undrain`, `disable` and `enable`.

use std::fmt::Write;

use serde::Serialize;

use super::Colour;
use super::table::{self, Cell, Tone, number, paint, percent, text};
use crate::plan::Change;

/// Weights of a group, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightsReport {
    /// The group.
    pub group: String,
    /// All its tunnels.
    pub tunnels: Vec<WeightRow>,
    /// Live flows that were moved, or would be: none without `rebalance`.
    pub live_flows_moved: u64,
    /// Whether the change was only shown.
    pub dry_run: bool,
    /// Whether live flows were to be moved.
    pub rebalance: bool,
    /// All live flows of the group; `null` when they were not counted.
    pub live_flows: Option<u64>,
    /// Live flows that are still to be moved; `null` where none was to be.
    pub live_flows_left: Option<u64>,
    /// The file that the weights were, or would be, written into.
    pub saved: Option<String>,
    /// What the operator should know.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A tunnel's weight, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightRow {
    /// Tunnel.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// Weight before.
    pub weight_old: u32,
    /// Weight after.
    pub weight: u32,
    /// Share of new flows before, 0 to 1.
    pub share_old: f64,
    /// Share of new flows after.
    pub share: f64,
    /// Live flows before; `null` when they were not counted.
    pub flows_old: Option<u64>,
    /// Live flows after.
    pub flows: Option<u64>,
    /// Share of live flows before.
    pub flow_share_old: Option<f64>,
    /// Share of live flows after.
    pub flow_share: Option<f64>,
}

/// What a change of weights does to live flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveFlows {
    /// By tunnel, in the order of the change; empty when they were not counted.
    pub tunnels: Vec<FlowsOfTunnel>,
    /// How many are moved.
    pub moved: u64,
    /// How many are still to be moved, where any was to be.
    pub left: Option<u64>,
    /// How many had ended, or gone elsewhere, before they were moved.
    pub gone: u64,
}

/// Live flows on a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowsOfTunnel {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

impl WeightsReport {
    /// Of a change that was made, or would be.
    pub fn new(change: &Change, flows: &LiveFlows, dry_run: bool) -> Self {
        let total = |count: fn(&FlowsOfTunnel) -> u64| flows.tunnels.iter().map(count).sum::<u64>();
        let (before, after) = (total(|flows| flows.before), total(|flows| flows.after));
        let tunnels = change
            .tunnels
            .iter()
            .enumerate()
            .map(|(index, tunnel)| {
                let counted = flows.tunnels.get(index);
                WeightRow {
                    name: tunnel.name.clone(),
                    id: tunnel.id,
                    weight_old: tunnel.weight_old,
                    weight: tunnel.weight,
                    share_old: tunnel.share_old,
                    share: tunnel.share,
                    flows_old: counted.map(|flows| flows.before),
                    flows: counted.map(|flows| flows.after),
                    flow_share_old: counted.and_then(|flows| part(flows.before, before)),
                    flow_share: counted.and_then(|flows| part(flows.after, after)),
                }
            })
            .collect();
        Self {
            group: change.group.clone(),
            tunnels,
            live_flows_moved: flows.moved,
            dry_run,
            rebalance: flows.left.is_some(),
            live_flows: (!flows.tunnels.is_empty()).then_some(after),
            live_flows_left: flows.left,
            saved: None,
            notes: change
                .notes
                .iter()
                .cloned()
                .chain(gone(flows.gone))
                .collect(),
        }
    }

    /// As a table.
    pub fn render(&self, colour: Colour) -> String {
        let mut header = vec!["TUNNEL", "ID", "WEIGHT", "SHARE"];
        if self.live_flows.is_some() {
            header.extend(["FLOWS", "OF FLOWS"]);
        }
        let rows: Vec<Vec<Cell>> = self.tunnels.iter().map(WeightRow::cells).collect();
        let mut out = format!("group {}\n", self.group);
        out.push_str(&table::render(&header, &rows, "  ", colour));
        let is_change = self.tunnels.iter().any(|row| row.weight != row.weight_old);
        if is_change || self.rebalance {
            let _ = writeln!(out, "live flows moved: {}", self.live_flows_moved);
        }
        if let Some(left @ 1..) = self.live_flows_left.filter(|_| !self.dry_run) {
            let _ = writeln!(out, "live flows left to move: {left}");
        }
        if let Some(path) = &self.saved {
            let verb = if self.dry_run {
                "would be saved"
            } else {
                "saved"
            };
            let _ = writeln!(out, "{verb} in {path}");
        }
        finish(out, &self.notes, self.dry_run, colour)
    }
}

impl WeightRow {
    fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![
            text(&self.name),
            number(&self.id),
            number(&arrow(&self.weight_old, &self.weight)),
            number(&arrow(&percent(self.share_old), &percent(self.share))),
        ];
        if let (Some(before), Some(after)) = (self.flows_old, self.flows) {
            let share = |share: Option<f64>| share.map_or_else(|| "-".into(), percent);
            let (share_old, share) = (share(self.flow_share_old), share(self.flow_share));
            cells.push(number(&arrow(&before, &after)));
            cells.push(number(&arrow(&share_old, &share)));
        }
        cells
    }
}

fn gone(flows: u64) -> Option<String> {
    let note = || format!("{flows} live flows ended, or went elsewhere, before they were moved");
    (flows > 0).then(note)
}

/// A share, 0 to 1; `None` of nothing.
fn part(flows: u64, of: u64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "flow tables are far smaller than 2^53"
    )]
    let (flows, of) = (flows as f64, of as f64);
    (of > 0.0).then(|| flows / of)
}

/// Admin states of a group, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdminReport {
    /// The group.
    pub group: String,
    /// All its tunnels.
    pub tunnels: Vec<AdminRow>,
    /// Live flows that go to another tunnel at their next packet, or were moved after a drain's time-out;
    /// `null` where none leaves.
    pub live_flows_moved: Option<u64>,
    /// Whether the change was only shown.
    pub dry_run: bool,
    /// Live flows that are left on a tunnel in drain; `null` for the other verbs.
    pub live_flows_left: Option<u64>,
    /// Live flows of a disabled tunnel that are left to the kernel, because no other tunnel can take them;
    /// `null` for the other verbs.
    pub live_flows_to_kernel: Option<u64>,
    /// What the operator should know.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A tunnel's admin state, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdminRow {
    /// Tunnel.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// Admin state before.
    pub admin_old: String,
    /// Admin state after.
    pub admin: String,
    /// Share of new flows before, 0 to 1.
    pub share_old: f64,
    /// Share of new flows after.
    pub share: f64,
}

impl AdminReport {
    /// Of a change that was made, or would be.
    pub fn new(change: &Change, dry_run: bool) -> Self {
        let tunnels = change
            .tunnels
            .iter()
            .map(|tunnel| AdminRow {
                name: tunnel.name.clone(),
                id: tunnel.id,
                admin_old: tunnel.admin_old.name().into(),
                admin: tunnel.admin.name().into(),
                share_old: tunnel.share_old,
                share: tunnel.share,
            })
            .collect();
        Self {
            group: change.group.clone(),
            tunnels,
            live_flows_moved: None,
            dry_run,
            live_flows_left: None,
            live_flows_to_kernel: None,
            notes: change.notes.clone(),
        }
    }

    /// As a table.
    pub fn render(&self, colour: Colour) -> String {
        let rows: Vec<Vec<Cell>> = self
            .tunnels
            .iter()
            .map(|row| {
                vec![
                    text(&row.name),
                    number(&row.id),
                    text(arrow(&row.admin_old, &row.admin)),
                    number(&arrow(&percent(row.share_old), &percent(row.share))),
                ]
            })
            .collect();
        let mut out = format!("group {}\n", self.group);
        out.push_str(&table::render(
            &["TUNNEL", "ID", "ADMIN", "SHARE"],
            &rows,
            "  ",
            colour,
        ));
        let _ = match (self.live_flows_moved, self.live_flows_left) {
            (None, None) => Ok(()),
            (Some(moved), None) => {
                writeln!(out, "live flows that move at their next packet: {moved}")
            }
            (None, Some(left)) => writeln!(out, "live flows left: {left}"),
            (Some(moved), Some(left)) => {
                writeln!(out, "live flows moved: {moved}\nlive flows left: {left}")
            }
        };
        if let Some(flows @ 1..) = self.live_flows_to_kernel {
            let line = format!(
                "live flows left to the kernel, because no other tunnel can take them: {flows}"
            );
            let _ = writeln!(out, "{}", paint(&line, Tone::Warning, colour));
        }
        finish(out, &self.notes, self.dry_run, colour)
    }
}

/// `old → new`, or just the one when they are the same.
fn arrow<T: ToString + PartialEq>(old: &T, new: &T) -> String {
    if old == new {
        new.to_string()
    } else {
        format!("{} → {}", old.to_string(), new.to_string())
    }
}

fn finish(mut out: String, notes: &[String], dry_run: bool, colour: Colour) -> String {
    for note in notes {
        let _ = writeln!(out, "{}", paint(note, Tone::Warning, colour));
    }
    if dry_run {
        out.push_str("dry run: nothing was changed\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use steer_common::abi::Admin;

    use super::*;
    use crate::plan::TunnelChange;

    fn sample() -> Change {
        let tunnel = |id: u8, weight, admin, share| TunnelChange {
            name: format!("wg{id}"),
            id,
            weight_old: 1,
            weight,
            admin_old: Admin::Active,
            admin,
            share_old: 0.5,
            share,
        };
        Change {
            group: "default".into(),
            group_id: 0,
            tunnels: vec![
                tunnel(0, 3, Admin::Active, 0.75),
                tunnel(1, 1, Admin::Disabled, 0.25),
            ],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn weights() {
        let report = WeightsReport::new(&sample(), &LiveFlows::default(), true);
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        group default
          TUNNEL  ID  WEIGHT            SHARE
          wg0      0   1 → 3  50.0 % → 75.0 %
          wg1      1       1  50.0 % → 25.0 %
        live flows moved: 0
        a note
        dry run: nothing was changed
        ");
        insta::assert_snapshot!(json(&report).expect("JSON"));
    }

    fn rebalanced(left: u64) -> LiveFlows {
        let tunnels = [(10, 30), (30, 10)];
        let tunnels = tunnels.map(|(before, after)| FlowsOfTunnel { before, after });
        LiveFlows {
            tunnels: tunnels.to_vec(),
            moved: 20,
            left: Some(left),
            gone: 2,
        }
    }

    #[test]
    fn a_rebalance() {
        let mut report = WeightsReport::new(&sample(), &rebalanced(0), false);
        report.saved = Some("/etc/steer/steer.toml".into());
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        group default
          TUNNEL  ID  WEIGHT            SHARE    FLOWS         OF FLOWS
          wg0      0   1 → 3  50.0 % → 75.0 %  10 → 30  25.0 % → 75.0 %
          wg1      1       1  50.0 % → 25.0 %  30 → 10  75.0 % → 25.0 %
        live flows moved: 20
        saved in /etc/steer/steer.toml
        a note
        2 live flows ended, or went elsewhere, before they were moved
        ");
        insta::assert_snapshot!(json(&report).expect("JSON"));
        let stopped = WeightsReport::new(&sample(), &rebalanced(7), false).render(Colour::Off);
        assert!(
            stopped.contains("\nlive flows left to move: 7\n"),
            "{stopped}"
        );
        // A gateway without flows has no shares of them.
        let none = LiveFlows {
            tunnels: vec![
                FlowsOfTunnel {
                    before: 0,
                    after: 0
                };
                2
            ],
            ..LiveFlows::default()
        };
        let report = WeightsReport::new(&sample(), &none, true);
        assert_eq!(
            (report.live_flows, report.tunnels[0].flow_share),
            (Some(0), None)
        );
        assert!(report.render(Colour::Off).contains("      0         -\n"));
    }

    #[test]
    fn admin_states() {
        let mut report = AdminReport::new(&sample(), false);
        report.live_flows_moved = Some(12);
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        group default
          TUNNEL  ID  ADMIN                        SHARE
          wg0      0  active             50.0 % → 75.0 %
          wg1      1  active → disabled  50.0 % → 25.0 %
        live flows that move at their next packet: 12
        a note
        ");
        insta::assert_snapshot!(json(&report).expect("JSON"));
        let last = |report: &AdminReport| {
            let text = report.render(Colour::Off);
            let lines: Vec<_> = text.lines().skip(4).map(str::to_owned).collect();
            lines
        };
        report.live_flows_left = Some(3);
        assert_eq!(
            last(&report),
            ["live flows moved: 12", "live flows left: 3", "a note"]
        );
        report.live_flows_moved = None;
        assert_eq!(last(&report), ["live flows left: 3", "a note"]);
        (report.live_flows_moved, report.live_flows_left) = (Some(0), None);
        report.live_flows_to_kernel = Some(60);
        assert_eq!(
            last(&report),
            [
                "live flows that move at their next packet: 0",
                "live flows left to the kernel, because no other tunnel can take them: 60",
                "a note"
            ]
        );
    }
}
