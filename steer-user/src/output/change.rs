//! `steerctl weights`, `disable` and `enable`.

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
    /// Live flows that the change moves: none, ever.
    pub live_flows_moved: u64,
    /// Whether the change was only shown.
    pub dry_run: bool,
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
}

impl WeightsReport {
    /// Of a change that was made, or would be.
    pub fn new(change: &Change, dry_run: bool) -> Self {
        let tunnels = change
            .tunnels
            .iter()
            .map(|tunnel| WeightRow {
                name: tunnel.name.clone(),
                id: tunnel.id,
                weight_old: tunnel.weight_old,
                weight: tunnel.weight,
                share_old: tunnel.share_old,
                share: tunnel.share,
            })
            .collect();
        Self {
            group: change.group.clone(),
            tunnels,
            live_flows_moved: 0,
            dry_run,
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
                    number(&arrow(&row.weight_old, &row.weight)),
                    number(&arrow(&percent(row.share_old), &percent(row.share))),
                ]
            })
            .collect();
        let mut out = format!("group {}\n", self.group);
        out.push_str(&table::render(
            &["TUNNEL", "ID", "WEIGHT", "SHARE"],
            &rows,
            "  ",
            colour,
        ));
        if self.tunnels.iter().any(|row| row.weight != row.weight_old) {
            let _ = writeln!(out, "live flows moved: {}", self.live_flows_moved);
        }
        finish(out, &self.notes, self.dry_run, colour)
    }
}

/// Admin states of a group, before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdminReport {
    /// The group.
    pub group: String,
    /// All its tunnels.
    pub tunnels: Vec<AdminRow>,
    /// Live flows that leave their tunnel at their next packet; `null` when they were not counted.
    pub live_flows_moved: Option<u64>,
    /// Whether the change was only shown.
    pub dry_run: bool,
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
    pub fn new(change: &Change, live_flows_moved: Option<u64>, dry_run: bool) -> Self {
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
            live_flows_moved,
            dry_run,
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
        if let Some(moved) = self.live_flows_moved {
            let _ = writeln!(out, "live flows that move at their next packet: {moved}");
        }
        finish(out, &self.notes, self.dry_run, colour)
    }
}

/// The name of an admin state in JSON and tables.
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
        let report = WeightsReport::new(&sample(), true);
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

    #[test]
    fn admin_states() {
        let report = AdminReport::new(&sample(), Some(12), false);
        insta::assert_snapshot!(report.render(Colour::Off), @r"
        group default
          TUNNEL  ID  ADMIN                        SHARE
          wg0      0  active             50.0 % → 75.0 %
          wg1      1  active → disabled  50.0 % → 25.0 %
        live flows that move at their next packet: 12
        a note
        ");
        insta::assert_snapshot!(json(&report).expect("JSON"));
    }
}
