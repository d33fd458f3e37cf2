//! The report that a run ends with.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use steer_tests::lab::{Protocol, tunnel_name};

use crate::text::{BOLD, DIM, ratio, thousands};

/// Numbers of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `2 tunnels of 25 Mbit/s (wireguard-go)`
    pub(crate) lab: String,
    /// Number of bulk flows.
    pub(crate) bulk_flows: usize,
    /// Goodput over one tunnel, without steer.
    pub(crate) one_tunnel_mbit: f64,
    /// Goodput over all tunnels.
    pub(crate) all_tunnels_mbit: f64,
    /// Bulk flows and bytes per tunnel.
    pub(crate) spread: Vec<Spread>,
    /// The change of weights.
    pub(crate) weights: Option<Change>,
    /// The tunnel that was disabled.
    pub(crate) removed: Option<Change>,
    /// The same tunnel, enabled again.
    pub(crate) returned: Option<Change>,
    /// The tunnel that was cut in silence.
    pub(crate) cut: Option<Cut>,
    /// Share of flows whose replies came by their own tunnel.
    pub(crate) replies: Option<f64>,
    /// Messages of the live flows: sent, lost.
    pub(crate) messages: Option<(u64, u64)>,
    /// Connections of the live flows that failed.
    pub(crate) broken: usize,
}

/// What one tunnel carried.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) flows: usize,
    pub(crate) bytes: u64,
}

/// What a change did to live and to new flows.
#[derive(Debug)]
pub(crate) struct Change {
    /// `weights 1:1 → 3:1`
    pub(crate) what: String,
    /// Live flows on the tunnel that was changed, and how many of them moved.
    pub(crate) own: Option<(usize, usize)>,
    /// Other live flows, and how many of them moved.
    pub(crate) others: (usize, usize),
    /// New flows, the share of each tunnel, and the weights they should follow.
    pub(crate) new_flows: Option<(usize, BTreeMap<usize, f64>, Vec<u32>)>,
}

/// What flows felt of a tunnel that was cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// `Tunnel wg1 cut in silence`
    pub(crate) what: String,
    /// Live flows that were on it.
    pub(crate) own: usize,
    /// When the last of each protocol was answered by another tunnel.
    pub(crate) answered: BTreeMap<Protocol, Duration>,
    /// Other live flows, and how many of them moved.
    pub(crate) others: (usize, usize),
}

#[expect(clippy::cast_precision_loss, reason = "shown shares")]
fn percent(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        part as f64 * 100.0 / all as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{BOLD}Report{BOLD:#}: {}", self.lab)?;
        let flows: u64 = self.spread.iter().map(|spread| spread.flows as u64).sum();
        let bytes: u64 = self.spread.iter().map(|spread| spread.bytes).sum();
        writeln!(
            f,
            "\n{BOLD}{} TCP flows{BOLD:#}\n  {DIM}{:<8} {:>6} {:>16} {:>16}{DIM:#}",
            self.bulk_flows, "tunnel", "flows", "share of flows", "share of bytes"
        )?;
        for (k, spread) in self.spread.iter().enumerate() {
            writeln!(
                f,
                "  {:<8} {:>6} {:>14.1} % {:>14.1} %",
                tunnel_name(k),
                spread.flows,
                percent(spread.flows as u64, flows),
                percent(spread.bytes, bytes),
            )?;
        }
        writeln!(
            f,
            "  goodput {BOLD}{:.1} Mbit/s{BOLD:#}, one tunnel alone {:.1} Mbit/s: {BOLD}{:.2} ×{BOLD:#}",
            self.all_tunnels_mbit,
            self.one_tunnel_mbit,
            self.all_tunnels_mbit / self.one_tunnel_mbit,
        )?;
        for change in [&self.weights, &self.removed, &self.returned]
            .into_iter()
            .flatten()
        {
            write!(f, "\n{change}")?;
        }
        if let Some(cut) = &self.cut {
            write!(f, "\n{cut}")?;
        }
        if let Some(replies) = self.replies {
            writeln!(
                f,
                "\n{BOLD}Replies by the tunnel of their flow{BOLD:#}: {replies:.1} %"
            )?;
        }
        if let Some((sent, lost)) = self.messages {
            writeln!(
                f,
                "{BOLD}Messages of the live flows{BOLD:#}: {} sent, {} lost, {} connections broken",
                thousands(sent),
                thousands(lost),
                self.broken
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{BOLD}{}{BOLD:#}", self.what)?;
        let time = |(protocol, time): (&Protocol, &Duration)| {
            let name = match protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
            };
            format!("{name} {BOLD}{:.2} s{BOLD:#}", time.as_secs_f64())
        };
        let times: Vec<_> = self.answered.iter().rev().map(time).collect();
        writeln!(
            f,
            "  its live flows:    all {} answered by another tunnel after {}",
            self.own,
            times.join(", ")
        )?;
        let (all, moved) = self.others;
        writeln!(f, "  other live flows:  {moved} of {all} moved")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{BOLD}{}{BOLD:#}", self.what)?;
        if let Some((all, moved)) = self.own {
            writeln!(f, "  its live flows:    {moved} of {all} moved")?;
            writeln!(
                f,
                "  other live flows:  {} of {} moved",
                self.others.1, self.others.0
            )?;
        } else {
            writeln!(
                f,
                "  live flows:        {} of {} moved",
                self.others.1, self.others.0
            )?;
        }
        let Some((count, shares, weights)) = &self.new_flows else {
            return Ok(());
        };
        let shown: Vec<_> = (0..weights.len())
            .map(|k| {
                let share = shares.get(&k).copied().unwrap_or(0.0) * 100.0;
                format!("{} {share:.1} %", tunnel_name(k))
            })
            .collect();
        writeln!(
            f,
            "  {:<18} {} (weights {})",
            format!("{} new flows:", thousands(*count as u64)),
            shown.join(", "),
            ratio(weights)
        )
    }
}
