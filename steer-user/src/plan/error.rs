//! Why a plan is refused.

use std::net::IpAddr;

use ipnet::IpNet;
use steer_common::abi::{GROUPS_MAX, HookMode, PREFIXES_MAX, TUNNELS_PER_GROUP_MAX, TunnelId};

use super::MarkMask;
use super::served::first_of;

/// Why a plan is refused. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message is the documentation")]
pub enum PlanError {
    #[error("no LAN device given")]
    NoIface,
    #[error("{} {name}: no such device", role(*tunnel))]
    UnknownDevice {
        name: String,
        tunnel: bool,
        existing: Vec<String>,
    },
    #[error("{} {name}: the device is down", role(*tunnel))]
    DeviceDown { name: String, tunnel: bool },
    #[error("device {name}: given twice")]
    DuplicateIface { name: String },
    #[error("device {name}: is the loopback device")]
    IfaceLoopback { name: String },
    #[error("device {name}: is a port of {}", port_of(kind, master.as_deref()))]
    IfaceIsPort {
        name: String,
        kind: String,
        master: Option<String>,
    },
    #[error(
        "device {name}: is a VLAN on {below}, a LAN device{}, so its packets would be seen twice",
        of_group(group.as_deref())
    )]
    IfaceOnIface {
        name: String,
        below: String,
        group: Option<String>,
    },
    #[error("tunnel {name}: given twice")]
    DuplicateTunnel { name: String },
    #[error("device {name}: is a tunnel{}, so it cannot be a LAN device", of_group(group.as_deref()))]
    IfaceIsTunnel { name: String, group: Option<String> },
    #[error("tunnel {name}: is a LAN device of group {group}")]
    TunnelIsIface { name: String, group: String },
    #[error("tunnel {name}: belongs to group {group}")]
    TunnelOfOtherGroup { name: String, group: String },
    #[error(
        "tunnel {name}: not a layer-3 device{}: its packets have MAC headers",
        kind.as_deref().map(|kind| format!(" but {kind}")).unwrap_or_default()
    )]
    NotLayer3 { name: String, kind: Option<String> },
    #[error("tunnel {name}: its MTU is {found_bytes}, not {wanted_bytes}")]
    OtherMtu {
        name: String,
        found_bytes: u32,
        wanted_bytes: u32,
    },
    #[error("{count} tunnels: a group has at most {TUNNELS_PER_GROUP_MAX}")]
    TooManyTunnels { count: usize },
    #[error("tunnel {name}: id {id} is taken by tunnel {holder}")]
    IdTaken {
        name: String,
        id: TunnelId,
        holder: String,
    },
    #[error("no tunnel id is free: there are 255 tunnels")]
    NoFreeId,
    #[error("there are {GROUPS_MAX} groups, and no more are possible")]
    TooManyGroups,
    #[error("group {group}: all weights are 0, so no tunnel could get new flows")]
    AllWeightsZero { group: String },
    #[error("no WireGuard device found")]
    NothingDiscovered { down: Vec<String> },
    #[error("tunnel {name}: its AllowedIPs are not known")]
    AllowedIpsUnknown { name: String },
    #[error(
        "the tunnels have no AllowedIPs in common that could be steered{}",
        why_not(reasons)
    )]
    NoCommonPrefix { reasons: Vec<String> },
    #[error("group {name}: no such group")]
    NoSuchGroup { name: String, existing: Vec<String> },
    #[error("tunnel {name}: no such tunnel")]
    NoSuchTunnel { name: String, existing: Vec<String> },
    #[error("tunnel {name}: is in group {group}, not in {wanted}")]
    TunnelNotInGroup {
        name: String,
        group: String,
        wanted: String,
    },
    #[error("tunnel {name}: is the last of group {group} that takes new flows")]
    LastTunnel {
        name: String,
        group: String,
        others: Vec<String>,
    },
    #[error(
        "tunnel {name}: is the last that takes new flows to {}",
        first_of(prefixes)
    )]
    LastTunnelOfRoutes { name: String, prefixes: Vec<IpNet> },
    #[error("tunnel {name}: is disabled, not in drain")]
    IsDisabled { name: String },
    #[error("there are {} groups", existing.len())]
    GroupNeeded { existing: Vec<String> },
    #[error("prefix {prefix}: the default route cannot be steered")]
    DefaultRoute { prefix: IpNet },
    #[error("prefix {prefix}: {scope} addresses are never steered")]
    Scope { prefix: IpNet, scope: &'static str },
    #[error("prefix {prefix}: holds the IPv4-mapped addresses ::ffff:0:0/96")]
    Mapped { prefix: IpNet },
    #[error("prefix {prefix}: given twice")]
    DuplicatePrefix { prefix: IpNet },
    #[error("prefix {prefix}: overlaps prefix {other}{}", of_group(group.as_deref()))]
    OverlappingPrefix {
        prefix: IpNet,
        other: IpNet,
        group: Option<String>,
    },
    #[error("prefix {prefix}: contains {address}, this gateway's own address on {device}")]
    OwnAddress {
        prefix: IpNet,
        address: IpAddr,
        device: String,
    },
    #[error("prefix {prefix}: contains {address}, the endpoint of tunnel {tunnel}")]
    Endpoint {
        prefix: IpNet,
        address: IpAddr,
        tunnel: String,
    },
    #[error("{count} prefixes: all groups together have at most {PREFIXES_MAX}")]
    TooManyPrefixes { count: usize },
    #[error("hook {}: steered packets would bypass {place}, which {does}", mode.name())]
    Bypasses {
        mode: HookMode,
        place: String,
        does: &'static str,
    },
    #[error("hook egress: the tunnels' MTUs differ ({mtus})")]
    UnequalMtus { mtus: String },
    #[error("netfilter's rules cannot be read: {cause}")]
    NetfilterUnknown { cause: String },
    #[error("hook {}: group {group} steers with hook {}", mode.name(), before.name())]
    OtherMode {
        mode: HookMode,
        before: HookMode,
        group: String,
    },
    #[error("mark {mask}: {user} uses these bits")]
    MarkUsed {
        mask: MarkMask,
        user: String,
        is_steer: bool,
    },
    #[error("mark {mask}: no room for tunnel {tunnel}, whose id is {id}")]
    MarkMaskTooSmall {
        mask: MarkMask,
        tunnel: String,
        id: TunnelId,
    },
    #[error("no preference and tables for policy rules are free")]
    NoRoutingSlot,
    #[error(
        "tunnel {tunnel}: {sysctl} is strict, and the kernel's route to {prefix} is not by this \
         tunnel: replies that come by it would be dropped"
    )]
    StrictReversePath {
        tunnel: String,
        prefix: IpNet,
        sysctl: String,
    },
    #[error(
        "tunnel {tunnel}: {sysctl} is strict: replies that come by it would be dropped whenever the \
         routes that are followed do not lead through it"
    )]
    StrictWithRoutes { tunnel: String, sysctl: String },
    #[error("route table {name}: no such table")]
    NoSuchRouteTable { name: String, existing: Vec<String> },
    #[error("route protocol {name}: no such protocol")]
    NoSuchRouteProtocol { name: String, existing: Vec<String> },
    #[error("--max-flows {wanted}: the flow table is there already, with {found} entries")]
    MaxFlowsFixed { wanted: u32, found: u32 },
}

fn port_of(kind: &str, master: Option<&str>) -> String {
    match (kind, master) {
        ("", Some(master)) => master.to_owned(),
        (kind, Some(master)) => format!("{kind} {master}"),
        ("", None) => "another device".to_owned(),
        (kind, None) => format!("a {kind}"),
    }
}

fn role(tunnel: bool) -> &'static str {
    if tunnel { "tunnel" } else { "device" }
}

fn of_group(group: Option<&str>) -> String {
    group
        .map(|group| format!(" of group {group}"))
        .unwrap_or_default()
}

fn why_not(reasons: &[String]) -> String {
    if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join("; "))
    }
}

/// `existing: a, b`, or that there are none.
fn list(names: &[String], what: &str) -> String {
    if names.is_empty() {
        format!("there are no {what}")
    } else {
        format!("existing: {}", names.join(", "))
    }
}

impl PlanError {
    /// The likely cure.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoIface => {
                "name the devices that local packets come in on: --iface lan0; or --hook egress".into()
            }
            Self::IfaceIsPort { master, .. } => match master {
                Some(master) => format!("--iface {master}"),
                None => "name the device that it is a port of".into(),
            },
            Self::IfaceOnIface { name, .. } => format!("leave out --iface {name}"),
            Self::Bypasses { mode: HookMode::Ingress, .. } => {
                "--hook auto passes packets through it; --bypass-netfilter goes past it all the same"
                    .into()
            }
            Self::Bypasses { .. } => {
                "--hook mark passes packets through it; --bypass-netfilter goes past it all the same"
                    .into()
            }
            Self::UnequalMtus { .. } => "--hook mark, or give the tunnels one MTU".into(),
            Self::NetfilterUnknown { .. } => {
                "--hook egress needs no answer, nor does --hook ingress --bypass-netfilter".into()
            }
            Self::OtherMode { before, .. } => format!(
                "all groups have one hook: --hook {}, or steerctl detach first",
                before.name()
            ),
            Self::MarkUsed { mask, is_steer, .. } => {
                let whose = if *is_steer {
                    "another steer's, or left by one whose pins are gone (ip rule del …); "
                } else {
                    ""
                };
                format!("{whose}give steer bits of its own: --mark-mask {}", mask.other())
            }
            Self::MarkMaskTooSmall { tunnel, .. } => {
                format!("more bits, or a smaller id: --tunnel {tunnel}@0")
            }
            Self::NoRoutingSlot => "see ip rule, preferences from 5210".into(),
            Self::NoSuchRouteTable { existing, .. }
            | Self::NoSuchRouteProtocol { existing, .. } => {
                format!("give its number, or one of: {}", existing.join(", "))
            }
            Self::StrictReversePath { sysctl, .. } | Self::StrictWithRoutes { sysctl, .. } => {
                format!("sysctl -w {sysctl}=2, or --fix")
            }
            Self::UnknownDevice { existing, .. } => list(existing, "such devices"),
            Self::DeviceDown { name, .. } => format!("ip link set {name} up"),
            Self::NotLayer3 { .. } => {
                "a tunnel is a WireGuard or TUN device, or another one without MAC headers".into()
            }
            Self::OtherMtu {
                name,
                found_bytes,
                wanted_bytes,
            } => format!("ip link set {name} mtu {wanted_bytes}, or mtu = {found_bytes} in the file"),
            Self::IdTaken { .. } => "give another id, or none".into(),
            Self::AllWeightsZero { .. } => {
                "give one tunnel a weight above 0; to stop steering, use steerctl detach".into()
            }
            Self::NothingDiscovered { down } if !down.is_empty() => {
                format!(
                    "down: {}; or name the tunnels: --tunnel wg0",
                    down.join(", ")
                )
            }
            Self::NothingDiscovered { .. } => {
                "name the tunnels and what to steer: --tunnel wg0 --prefix 10.2.0.0/16".into()
            }
            Self::AllowedIpsUnknown { .. }
            | Self::NoCommonPrefix { .. }
            | Self::DefaultRoute { .. } => "name the remote networks: --prefix 10.2.0.0/16".into(),
            Self::NoSuchGroup { existing, .. } => list(existing, "groups"),
            Self::NoSuchTunnel { existing, .. } => list(existing, "tunnels"),
            Self::LastTunnel { name, others, .. } => {
                let others = match others.as_slice() {
                    [] => "it has no other tunnel".into(),
                    others => others.join(", "),
                };
                format!("{others}; drain {name} --force leaves new flows to the kernel")
            }
            Self::LastTunnelOfRoutes { name, .. } => {
                format!("drain {name} --force leaves those to the kernel")
            }
            Self::IsDisabled { name } => format!("steerctl enable {name}"),
            Self::GroupNeeded { existing } if existing.is_empty() => {
                "start with steerctl run --iface lan0".into()
            }
            Self::GroupNeeded { existing } => {
                format!("name one with --group: {}", existing.join(", "))
            }
            Self::Mapped { .. } => "write IPv4 prefixes as IPv4".into(),
            Self::OverlappingPrefix { group: None, .. } => "the larger one is enough".into(),
            Self::OwnAddress { .. } => {
                "steer only what is behind the tunnels; split the prefix around the address".into()
            }
            Self::Endpoint { .. } => {
                "the tunnel's own packets would enter the tunnel; split the prefix around it".into()
            }
            Self::MaxFlowsFixed { .. } => {
                "leave out --max-flows, or steerctl detach first (flows are then placed anew)"
                    .into()
            }
            _ => return None,
        })
    }
}
