//! What `steerctl status` and `steerctl flows` say, as far as the lab reads it.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The part of `steerctl status --json` that the lab reads.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The groups; the lab makes one.
    pub groups: Vec<GroupStatus>,
    /// Packets left to the kernel, by reason.
    #[serde(default)]
    pub passed: std::collections::BTreeMap<String, u64>,
}

impl Status {
    /// The tunnels of the first group.
    pub fn tunnels(&self) -> &[TunnelStatus] {
        self.groups.first().map_or(&[], |group| &group.tunnels)
    }

    /// The programs that run, by device and hook.
    pub fn programs(&self) -> std::collections::BTreeMap<(String, String), Option<u32>> {
        let hooks = self.groups.iter().flat_map(|group| &group.hooks);
        hooks
            .map(|hook| ((hook.iface.clone(), hook.hook.clone()), hook.program_id))
            .collect()
    }

    /// The tunnel `name`.
    pub fn tunnel(&self, name: &str) -> Result<&TunnelStatus> {
        self.tunnels()
            .iter()
            .find(|tunnel| tunnel.name == name)
            .with_context(|| format!("status: no tunnel {name}"))
    }
}

/// One group of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct GroupStatus {
    /// Name of the group.
    pub name: String,
    /// Where its programs are attached.
    #[serde(default)]
    pub hooks: Vec<HookStatus>,
    /// Its tunnels.
    pub tunnels: Vec<TunnelStatus>,
    /// Bumped when membership or prefixes change.
    #[serde(default)]
    pub epoch: u32,
    /// Its prefixes.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// The routes that they come from.
    #[serde(default)]
    pub routes: Option<RoutesStatus>,
}

/// The routes that a group follows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoutesStatus {
    /// How many prefixes are steered.
    pub prefixes: usize,
    /// How many inside those are left to the kernel.
    pub holes: usize,
    /// The choices of tunnels, those of the most prefixes first.
    pub sets: Vec<RouteSet>,
}

/// A choice of tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RouteSet {
    /// The tunnels.
    pub tunnels: Vec<RouteHop>,
    /// How many prefixes have it.
    pub prefixes: usize,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RouteHop {
    /// Name of the tunnel.
    pub name: String,
    /// Its weight.
    pub weight: u32,
}

impl RoutesStatus {
    /// The choices of tunnels in words: `2: wg0=3 wg1=1`.
    pub fn sets(&self) -> Vec<String> {
        let text = |set: &RouteSet| {
            let hops = set.tunnels.iter();
            let hops: Vec<_> = hops
                .map(|hop| format!("{}={}", hop.name, hop.weight))
                .collect();
            format!("{}: {}", set.prefixes, hops.join(" "))
        };
        self.sets.iter().map(text).collect()
    }
}

/// One hook of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct HookStatus {
    /// Device name.
    pub iface: String,
    /// `ingress`, `learn`, …
    pub hook: String,
    /// `tcx` or `clsact`.
    pub attach: String,
    /// The kernel's id of the program that runs there.
    pub program_id: Option<u32>,
}

/// One tunnel of `status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct TunnelStatus {
    /// Device name.
    pub name: String,
    /// Configured weight.
    pub weight: u32,
    /// Share of new flows, 0 to 1.
    pub share: f64,
    /// `active`, `drain` or `disabled`.
    pub admin: String,
    /// `up`, `degraded`, `down` or `unknown`.
    #[serde(default)]
    pub health: Option<String>,
    /// Why the health is what it is.
    #[serde(default)]
    pub health_reason: Option<String>,
    /// Round-trip time of the probes.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Lost share of the probes, 0 to 1.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Flows moved to it.
    #[serde(default)]
    pub moved_in: u64,
    /// Live flows.
    pub flows: Option<u64>,
    /// Bytes steered into the tunnel.
    pub tx_bytes: Option<u64>,
    /// Bytes that came through the tunnel.
    pub rx_bytes: Option<u64>,
    /// Flows placed here since the start.
    pub new_flows: Option<u64>,
}

/// One entry of `flows --json`, as far as the lab reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp`, …
    pub protocol: String,
    /// Address behind this gateway.
    pub src_addr: std::net::IpAddr,
    /// Its port.
    #[serde(default)]
    pub src_port: Option<u16>,
    /// The far address.
    pub dst_addr: std::net::IpAddr,
    /// Its port.
    #[serde(default)]
    pub dst_port: Option<u16>,
    /// Device name of the flow's tunnel.
    pub tunnel: Option<String>,
    /// Why it is there.
    pub origin: String,
}
