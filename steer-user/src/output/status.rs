//! `steerctl status`.

use std::fmt::Write;

use serde::Serialize;

use super::routes::shortened;
use super::table::{self, Cell, Tone, bytes, number, paint, percent, seconds, text};
use super::{Colour, CountersReport, FlowTableReport, PassedReport, RoutesReport};

/// Everything that steer does on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusReport {
    /// Version of `steerctl`.
    pub version: String,
    /// Version of the pinned maps' layout; `null` when there are none.
    pub abi: Option<u32>,
    /// Where they are pinned.
    pub pin_dir: String,
    /// The kernel's release; `null` when it could not be read.
    pub kernel: Option<String>,
    /// All groups.
    pub groups: Vec<GroupReport>,
    /// Packets left to the kernel.
    pub passed: PassedReport,
    /// The flow table.
    pub flow_table: FlowTableReport,
    /// How the gateway steers: `ingress`, `egress` or `mark`.
    pub hook: String,
    /// `off`, `mtu` (what fits through the tunnel) or the number.
    pub mss_clamp: String,
    /// Bits of the packet mark that are steer's; `null` when no packet is marked.
    pub mark_mask: Option<u32>,
    /// What else happened to packets.
    pub counters: CountersReport,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u8,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// `hash`.
    pub placement: String,
    /// Seed of the flow hash.
    pub seed: u64,
    /// Bumped when membership or prefixes change.
    pub epoch: u32,
    /// Where its programs are attached.
    pub hooks: Vec<HookReport>,
    /// Its tunnels, in the order of their ids.
    pub tunnels: Vec<TunnelReport>,
    /// The routes that its prefixes come from; `null` when they were given.
    pub routes: Option<RoutesReport>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// Device name.
    pub iface: String,
    /// Device number.
    pub ifindex: u32,
    /// `ingress`, `mark`, `learn` or `egress`.
    pub hook: String,
    /// `tcx` or `clsact`.
    pub attach: String,
    /// The program there now; `null` when it is not there any more.
    pub program_id: Option<u32>,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TunnelReport {
    /// Device name.
    pub name: String,
    /// Its id.
    pub id: u8,
    /// Device number; `null` when the device is gone.
    pub ifindex: Option<u32>,
    /// Weight.
    pub weight: u32,
    /// Share of new flows that it gets now, 0 to 1; the mean over the prefixes, where routes lead to them by
    /// different tunnels.
    pub share: f64,
    /// `active`, `drain` or `disabled`.
    pub admin: String,
    /// `up`, `degraded`, `down` or `unknown`.
    pub health: String,
    /// Why the health is what it is.
    pub health_reason: Option<String>,
    /// The device's MTU in bytes.
    pub mtu: Option<u32>,
    /// Live flows on it.
    pub flows: u64,
    /// Packets steered into it.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Packets of steered prefixes that came out of it.
    pub rx_packets: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Flows placed on it or learned from it.
    pub new_flows: u64,
    /// Flows moved to it.
    pub moved_in: u64,
    /// Flows moved away from it.
    pub moved_out: u64,
    /// Round-trip time of the probes, smoothed; `null` when none was answered lately.
    pub rtt_ms: Option<f64>,
    /// How much it varies, smoothed.
    pub jitter_ms: Option<f64>,
    /// Lost share of the latest probes, 0 to 1.
    pub loss: Option<f64>,
    /// Time since the latest WireGuard handshake.
    pub handshake_age_secs: Option<u64>,
    /// Its tier: tunnels of a larger one take new flows only while none of a smaller one can.
    pub tier: u32,
    /// The smallest share of the new flows to any prefix.
    pub share_min: f64,
    /// The largest.
    pub share_max: f64,
}

impl StatusReport {
    /// For a person who was woken up: what is steered where, and what is wrong.
    pub fn render(&self, colour: Colour) -> String {
        let mut out = String::new();
        let kernel = self.kernel.as_deref().unwrap_or("?");
        let _ = writeln!(
            out,
            "steer {}, kernel {kernel}, pins in {}",
            self.version, self.pin_dir
        );
        if self.groups.is_empty() {
            let _ = writeln!(
                out,
                "\n{}",
                paint("nothing is steered", Tone::Warning, colour)
            );
            return out;
        }
        let mut how = format!("hook {}", self.hook);
        if self.mss_clamp != "off" {
            let _ = write!(how, ", MSS clamp {}", self.mss_clamp);
        }
        if let Some(mask) = self.mark_mask {
            let _ = write!(how, ", mark {mask:#010x}");
        }
        let _ = writeln!(out, "{how}");
        for group in &self.groups {
            out.push('\n');
            out.push_str(&group.render(&self.hook, colour));
        }
        out.push('\n');
        let passed: Vec<String> = self
            .passed
            .0
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let passed = if passed.is_empty() {
            "no packet".into()
        } else {
            passed.join(", ")
        };
        let _ = writeln!(out, "left to the kernel: {passed}");
        if let Some(counters) = self.counters.render() {
            let _ = writeln!(out, "packets: {counters}");
        }
        let _ = writeln!(out, "flow table: {}", self.flow_table.render(colour));
        out
    }
}

impl GroupReport {
    fn render(&self, mode: &str, colour: Colour) -> String {
        let mut out = String::new();
        let takes_new = self
            .tunnels
            .iter()
            .filter(|tunnel| tunnel.share > 0.0)
            .count();
        let _ = writeln!(
            out,
            "group {}: {} over {takes_new} of {} tunnels ({}, seed {:#x}, epoch {})",
            self.name,
            match &self.routes {
                _ if self.prefixes.is_empty() => "no prefix".into(),
                Some(_) => shortened(&self.prefixes),
                None => self.prefixes.join(", "),
            },
            self.tunnels.len(),
            self.placement,
            self.seed,
            self.epoch,
        );
        let hooks: &[(&str, &str)] = match mode {
            "mark" => &[
                ("mark", "marks what enters"),
                ("own", "sends own addresses home from"),
                ("learn", "learns from"),
            ],
            "egress" => &[
                ("egress", "steers what leaves by"),
                ("learn", "learns from"),
            ],
            _ => &[
                ("ingress", "steers what enters"),
                ("egress", "steers what leaves by"),
                ("learn", "returns what comes from"),
            ],
        };
        for (hook, what) in hooks {
            let _ = writeln!(out, "  {what}: {}", self.render_hooks(hook, colour));
        }
        if let Some(routes) = &self.routes {
            let takes = |name: &str| {
                let mut tunnels = self.tunnels.iter();
                tunnels.any(|tunnel| tunnel.name == name && tunnel.takes_new_flows())
            };
            out.push_str(&routes.render(takes, colour));
        }
        if takes_new == 0 {
            let warning = "no tunnel takes new flows: they are left to the kernel";
            let _ = writeln!(out, "  {}", paint(warning, Tone::Bad, colour));
        }
        out.push('\n');
        let has_tiers = self.tunnels.iter().any(|tunnel| tunnel.tier > 0);
        let columns = || {
            TunnelReport::COLUMNS
                .iter()
                .filter(|column| has_tiers || **column != "TIER")
        };
        let header: Vec<&str> = columns().copied().collect();
        let row = |tunnel: &TunnelReport| columns().map(|column| tunnel.cell(column)).collect();
        let rows: Vec<Vec<Cell>> = self.tunnels.iter().map(row).collect();
        out.push_str(&table::render(&header, &rows, "  ", colour));
        out
    }

    fn render_hooks(&self, hook: &str, colour: Colour) -> String {
        let hooks: Vec<String> = self
            .hooks
            .iter()
            .filter(|candidate| candidate.hook == hook)
            .map(|hook| match hook.program_id {
                Some(_) => format!("{} ({})", hook.iface, hook.attach),
                None => paint(
                    &format!("{} ({}, GONE)", hook.iface, hook.attach),
                    Tone::Bad,
                    colour,
                ),
            })
            .collect();
        if hooks.is_empty() {
            paint("nothing", Tone::Bad, colour)
        } else {
            hooks.join(", ")
        }
    }
}

impl TunnelReport {
    const COLUMNS: [&str; 17] = [
        "TUNNEL",
        "ID",
        "TIER",
        "WEIGHT",
        "SHARE",
        "ADMIN",
        "HEALTH",
        "RTT",
        "LOSS",
        "FLOWS",
        "TX",
        "RX",
        "NEW",
        "IN",
        "OUT",
        "HANDSHAKE",
        "REASON",
    ];

    /// The share, or from which to which it is, by prefix.
    fn shares(&self) -> String {
        let (least, most) = (percent(self.share_min), percent(self.share_max));
        if least == most {
            return most;
        }
        format!("{} to {most}", least.trim_end_matches(" %"))
    }

    /// Whether new flows of a route that leads over it may go by it.
    fn takes_new_flows(&self) -> bool {
        self.admin == "active" && self.health != "down" && self.weight > 0
    }

    /// What is in one of [`TunnelReport::COLUMNS`].
    fn cell(&self, column: &str) -> Cell {
        let or_dash = |text: Option<String>| number(&text.unwrap_or_else(|| "-".into()));
        match column {
            "TUNNEL" => text(&self.name),
            "ID" => number(&self.id),
            "TIER" => number(&self.tier),
            "WEIGHT" => number(&self.weight),
            "SHARE" => number(&self.shares()),
            "ADMIN" if self.admin == "active" => text(&self.admin),
            "ADMIN" => text(&self.admin).toned(Tone::Warning),
            "HEALTH" => text(&self.health).toned(match self.health.as_str() {
                "down" => Tone::Bad,
                "degraded" => Tone::Warning,
                _ => Tone::Plain,
            }),
            "RTT" => or_dash(self.rtt_ms.map(|rtt_ms| format!("{rtt_ms:.1} ms"))),
            "LOSS" => or_dash(self.loss.map(percent)),
            "FLOWS" => number(&self.flows),
            "TX" => number(&bytes(self.tx_bytes)),
            "RX" => number(&bytes(self.rx_bytes)),
            "NEW" => number(&self.new_flows),
            "IN" => number(&self.moved_in),
            "OUT" => number(&self.moved_out),
            "HANDSHAKE" => or_dash(self.handshake_age_secs.map(seconds)),
            _ => text(self.health_reason.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests;
