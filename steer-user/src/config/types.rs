//! The configuration file's types. Doc comments are the descriptions of the JSON schema.

use clap::ValueEnum;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use steer_common::abi::{HookOrder, TUNNEL_ID_MAX, TunnelId};

use super::values::{self, Switch};
use crate::plan::health::{ProbeSpec, Probes};
use crate::plan::{self, FollowSpec, HookChoice, IdleSpec, MarkMask, MssClamp, WEIGHT_DEFAULT};

/// The name of a group for which none is given.
pub const GROUP_DEFAULT: &str = "default";

/// What steer steers, and how: /etc/steer/steer.toml.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(title = "steer.toml")]
pub struct Config {
    /// How to steer: auto, ingress, egress or mark. Not given: as it is; auto at the first start.
    #[serde(deserialize_with = "values::hook")]
    #[schemars(with = "values::HookWord")]
    pub hook: Option<HookChoice>,
    /// Steer past netfilter's rules that hook ingress or egress would refuse to bypass.
    pub bypass_netfilter: bool,
    /// Largest MSS of TCP connections: auto, off or a number, 536 to 65495. Not given: as it is; auto at the first start.
    #[serde(deserialize_with = "values::word")]
    #[schemars(with = "values::Word")]
    pub mss_clamp: Option<MssClamp>,
    /// Bits of the packet mark that are steer's, hexadecimal; 0xff000000 if not given.
    #[serde(deserialize_with = "values::mark_mask")]
    #[schemars(with = "String")]
    pub mark_mask: Option<MarkMask>,
    /// Where to stand among other programs of a device: first or last. Not given: as it is; last at the first start.
    #[serde(deserialize_with = "values::order")]
    #[schemars(with = "values::OrderWord")]
    pub order: Option<HookOrder>,
    /// Size of the flow table; 2 % of the memory if not given. It is fixed until detach.
    #[serde(deserialize_with = "values::max_flows")]
    #[schemars(range(min = 1, max = values::MAX_FLOWS_MAX))]
    pub max_flows: Option<u32>,
    /// Seed of the flow hash, decimal or 0x…; random and kept if not given.
    #[serde(deserialize_with = "values::seed")]
    #[schemars(with = "values::Word")]
    pub seed: Option<u64>,
    /// Make the reverse path filter of a tunnel loose where it would drop replies; detach restores it.
    pub fix: bool,
    /// Whether the weights stay as they are given, or follow what the tunnels can carry.
    pub weights: Weights,
    /// After how long without a packet a flow is forgotten.
    #[serde(deserialize_with = "values::idle")]
    #[schemars(with = "values::IdleTable")]
    pub idle: IdleSpec,
    /// Probing of all tunnels; false for none.
    pub probe: Switch<ProbeTable>,
    /// Groups of tunnels to the same networks.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

/// Where weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// As they are given.
    #[default]
    Fixed,
    /// From what the tunnels are measured to carry.
    Auto,
}

/// Tunnels to the same networks.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Group {
    /// Its name; "default" if not given.
    #[serde(deserialize_with = "values::group_name")]
    pub name: String,
    /// LAN devices whose incoming packets are steered, for all groups. With hook egress none is needed.
    #[serde(deserialize_with = "values::device_names")]
    pub iface: Vec<String>,
    /// Remote prefixes to steer. Not given, and no routes followed: what the allowed IPs of all its tunnels have in common.
    #[serde(deserialize_with = "values::prefixes")]
    #[schemars(with = "Vec<String>")]
    pub prefixes: Vec<IpNet>,
    /// Take prefixes, tunnels and weights from the kernel's routes: true, or which routes.
    pub follow_routes: Switch<FollowSpec>,
    /// How a new flow gets its tunnel.
    pub placement: Placement,
    /// Its tunnels. Not given, for the only group: all WireGuard devices.
    #[serde(rename = "tunnel")]
    pub tunnels: Vec<Tunnel>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: GROUP_DEFAULT.to_owned(),
            iface: Vec::new(),
            prefixes: Vec::new(),
            follow_routes: Switch::Off,
            placement: Placement::default(),
            tunnels: Vec::new(),
        }
    }
}

/// How a new flow gets its tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// By weighted consistent hash.
    #[default]
    Hash,
}

/// A tunnel of a group.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tunnel {
    /// Its device.
    #[serde(deserialize_with = "values::device_name")]
    pub name: String,
    /// Its weight, 0 to 65535.
    #[serde(default = "weight_default", deserialize_with = "values::weight")]
    #[schemars(range(max = plan::WEIGHT_MAX))]
    pub weight: u32,
    /// It gets new flows only while no tunnel of a smaller tier is usable.
    #[serde(default, deserialize_with = "values::tier")]
    #[schemars(range(max = values::TIER_MAX))]
    pub tier: u32,
    /// What it is called in the hash table; the number that its name ends in, if not given.
    #[serde(default, deserialize_with = "values::id")]
    #[schemars(range(max = TUNNEL_ID_MAX))]
    pub id: Option<TunnelId>,
    /// The MTU that its device must have.
    #[serde(default, deserialize_with = "values::mtu")]
    #[schemars(range(min = values::MTU_MIN, max = values::MTU_MAX))]
    pub mtu: Option<u32>,
    /// Probing of this tunnel, over what is said for all; false for none.
    #[serde(default)]
    pub probe: Option<Switch<ProbeTable>>,
}

fn weight_default() -> u32 {
    WEIGHT_DEFAULT
}

/// What is said about probing; the rest is as said for all tunnels, or by default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProbeTable {
    /// Whom to send echo requests to, through the tunnel; the far end's tunnel address if not given.
    #[serde(deserialize_with = "values::address")]
    #[schemars(with = "String")]
    pub target: Option<IpAddr>,
    /// Time between two probes.
    #[serde(deserialize_with = "values::interval")]
    #[schemars(with = "String")]
    pub interval: Option<Duration>,
    /// After how many missing answers a tunnel is down.
    #[serde(deserialize_with = "values::count")]
    #[schemars(range(min = 1, max = values::COUNT_MAX))]
    pub misses: Option<u32>,
    /// After how many answers it is up again.
    #[serde(deserialize_with = "values::count")]
    #[schemars(range(min = 1, max = values::COUNT_MAX))]
    pub up_after: Option<u32>,
    /// The share of lost probes from which it is degraded, 0 to 1.
    #[serde(deserialize_with = "values::share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub degraded_loss: Option<f64>,
    /// The round trip time from which it is degraded, as a multiple of what is usual.
    #[serde(deserialize_with = "values::multiple")]
    #[schemars(range(min = 1.0, max = values::MULTIPLE_MAX))]
    pub degraded_rtt: Option<f64>,
}

impl ProbeTable {
    /// What is said here, over this.
    fn over(&self, spec: &ProbeSpec) -> ProbeSpec {
        ProbeSpec {
            enabled: true,
            target: self.target.or(spec.target),
            interval: self.interval.unwrap_or(spec.interval),
            misses: self.misses.unwrap_or(spec.misses),
            up_after: self.up_after.unwrap_or(spec.up_after),
            degraded_loss: self.degraded_loss.unwrap_or(spec.degraded_loss),
            degraded_rtt: self.degraded_rtt.unwrap_or(spec.degraded_rtt),
        }
    }
}

impl Config {
    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The tunnel of this name, which is in one group only.
    pub fn tunnel(&self, name: &str) -> Option<&Tunnel> {
        let mut tunnels = self.groups.iter().flat_map(|group| &group.tunnels);
        tunnels.find(|tunnel| tunnel.name == name)
    }

    /// How the tunnels are probed.
    pub fn probes(&self) -> Probes {
        let switched = |switch: &Switch<ProbeTable>, spec: &ProbeSpec| match switch {
            Switch::Off => ProbeSpec {
                enabled: false,
                ..spec.clone()
            },
            Switch::On(table) => table.over(spec),
        };
        let default = switched(&self.probe, &ProbeSpec::default());
        let tunnels = self.groups.iter().flat_map(|group| &group.tunnels);
        let own = tunnels.filter_map(|tunnel| {
            let spec = switched(tunnel.probe.as_ref()?, &default);
            Some((tunnel.name.clone(), spec))
        });
        Probes {
            tunnels: own.collect(),
            default,
        }
    }
}
