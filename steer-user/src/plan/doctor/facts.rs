//! What the checks go by.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use steer_common::abi::{
    Admin, AttachKind, Health, HookKind, HookMode, PassReason, TunnelHealth, TunnelId,
};

use super::super::{Entry, Forwarding, Machine, Marks, Plan, PlanError, discover};
use crate::net::{Device, Devices, Family, IpsecPolicy, KernelRoute, TunnelRoute, WireGuard};
use crate::sys::Capabilities;

/// The machine as it is, and what is steered on it, or would be.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The machine itself.
    pub host: Host,
    /// What is pinned.
    pub pins: Pins,
    /// The configuration file.
    pub config: ConfigFacts,
    /// Devices, netfilter, policy rules.
    pub machine: Machine<'a>,
    /// What is steered; with nothing pinned, what a start would find by itself.
    pub steered: Steered,
    /// Every program that should be on a device.
    pub hooks: Vec<HookFacts>,
    /// XDP programs on LAN devices and tunnels.
    pub xdp: Vec<XdpFacts>,
    /// `IPsec` policies about packets that are forwarded.
    pub ipsec: Vec<IpsecPolicy>,
    /// Addresses that an operator named for the probes of the daemon that is there, by tunnel.
    pub probe_targets: Vec<(String, IpAddr)>,
    /// Devices with a qdisc where clsact would go, and its kind.
    pub other_qdiscs: Vec<(String, String)>,
    /// How the kernel forwards.
    pub forwarding: Forwarding,
    /// More sysctls.
    pub sysctls: Sysctls,
    /// How the tunnels' encrypted packets leave.
    pub underlay: Vec<Underlay>,
    /// Whether WireGuard devices of the kernel have threaded NAPI, of those that tell.
    pub threaded: Vec<(String, bool)>,
    /// LAN devices that merge packets in a way that cannot be undone.
    pub lro: Vec<String>,
    /// steer's own routes.
    pub tunnel_routes: Vec<TunnelRoute>,
    /// What was counted; `None` while nothing is steered.
    pub traffic: Option<Traffic>,
    /// Now, since the Unix epoch.
    pub now: Duration,
}

/// The machine itself.
#[derive(Clone, Debug)]
pub struct Host {
    /// The kernel's release.
    pub release: String,
    /// What this process may do.
    pub capabilities: Capabilities,
    /// Whether the kernel takes steer's programs; `None` when it was not tried.
    pub programs: Option<Result<Loaded, String>>,
    /// Where pins would go.
    pub pin_place: PinPlace,
    /// The processors.
    pub cpus: usize,
}

/// Programs that the kernel took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// They run as machine code.
    pub jitted: bool,
    /// Devices have TCX.
    pub tcx: bool,
}

/// Where pins would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinPlace {
    /// To a bpffs that is there.
    Bpffs,
    /// A start mounts one.
    Mountable,
    /// There can be none: why.
    Impossible(String),
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pins {
    /// Nothing.
    None,
    /// What a start left that did not finish.
    Unfinished,
    /// Something that this `steerctl` cannot use: why, and the likely cure.
    Unusable(String, Option<String>),
    /// A steer, and the process that looks after it.
    Steering {
        /// Its pid.
        daemon: Option<i32>,
    },
}

/// The configuration file: the one that was named, or the daemon's, or that in the usual place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFacts {
    /// There is none.
    Absent {
        /// Where it was looked for.
        path: String,
    },
    /// It cannot be read, is wrong, or asks for what this machine cannot do.
    Unusable {
        /// Which.
        path: String,
        /// Why.
        cause: String,
        /// The likely cure.
        hint: Option<String>,
    },
    /// It could be steered by.
    Usable {
        /// Which.
        path: String,
        /// How it differs from what is steered.
        differences: Vec<Entry>,
        /// The daemon that reads it.
        reader: Option<i32>,
    },
}

/// What is steered, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// How; `Unset` before a start.
    pub mode: HookMode,
    /// The marks, rules and tables that are steer's.
    pub marks: Option<Marks>,
    /// LAN devices.
    pub lan: Vec<String>,
    /// Groups.
    pub groups: Vec<SteeredGroup>,
    /// Tunnels of all groups.
    pub tunnels: Vec<SteeredTunnel>,
    /// Why a start would not find out by itself what to steer.
    pub undiscovered: Option<PlanError>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeredGroup {
    /// Its name; of a derived one, that of its home group and its tunnels.
    pub name: String,
    /// The name of its home group: its own, unless it was derived from that by routes.
    pub home: String,
    /// Its prefixes are those of the kernel's routes.
    pub follows_routes: bool,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// Its tunnels.
    pub tunnels: Vec<TunnelId>,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeredTunnel {
    /// Its device's name.
    pub name: String,
    /// Its number.
    pub id: TunnelId,
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub tier: u32,
    /// What the operator wants of it.
    pub admin: Admin,
    /// Since when, if that is known.
    pub admin_secs: Option<u64>,
    /// What is known of it.
    pub health: Health,
    /// What was measured of it.
    pub told: TunnelHealth,
    /// Since when, if that is known.
    pub health_secs: Option<u64>,
}

impl Default for Steered {
    fn default() -> Self {
        Self {
            mode: HookMode::Unset,
            marks: None,
            lan: Vec::new(),
            groups: Vec::new(),
            tunnels: Vec::new(),
            undiscovered: None,
        }
    }
}

/// A program that should be on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFacts {
    /// Which.
    pub kind: HookKind,
    /// The device's name.
    pub device: String,
    /// Whether it is there.
    pub state: HookState,
    /// Programs of others that see packets before it does, in words.
    pub before: Vec<String>,
    /// The program of another steer at this place, if there is one; 0 when its number is not known.
    pub other_steer: Option<u32>,
}

/// An XDP program of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpFacts {
    /// The device's name.
    pub device: String,
    /// The program in words.
    pub program: String,
    /// Where it runs, as `ip link set … off` wants it.
    pub place: &'static str,
}

/// Whether a program is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It is.
    Attached(AttachKind),
    /// It is not, or not any more.
    Missing,
    /// There is another one in its place.
    Replaced {
        /// The kernel's number of that, if it has one.
        by: Option<u32>,
    },
}

/// More sysctls than planning goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// Families whose answers from the kernel have the mark of what they answer.
    pub fwmark_reflect: Vec<Family>,
    /// LAN devices on which the reverse path filter looks at marks.
    pub src_valid_mark: Vec<String>,
    /// LAN devices and tunnels that do not forward IPv4, although the machine does.
    pub not_forwarding: Vec<String>,
    /// Tunnels on which IPv6 is off.
    pub ipv6_off: Vec<String>,
}

/// How a tunnel's encrypted packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The tunnel.
    pub tunnel: String,
    /// Where they go.
    pub endpoint: SocketAddr,
    /// The kernel's route there.
    pub route: KernelRoute,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Entries of the flow table.
    pub entries: u64,
    /// Entries that it has room for.
    pub capacity: u64,
    /// Packets placed by the hash alone because it was full.
    pub full_packets: u64,
    /// Packets that were steered, both ways.
    pub steered_packets: u64,
    /// Packets left to the kernel.
    pub passed: Vec<(PassReason, u64)>,
}

/// What a start without arguments would steer.
pub fn found_without_pins(devices: &Devices) -> Steered {
    let mut notes = Vec::new();
    let mut steered = Steered::default();
    let specs = match discover::tunnels(devices, None, &[], &mut notes) {
        Ok(specs) => specs,
        Err(error) => {
            steered.undiscovered = Some(error);
            return steered;
        }
    };
    let found: Vec<_> = specs
        .iter()
        .filter_map(|spec| devices.by_name(&spec.name))
        .collect();
    steered.tunnels = (0..)
        .zip(&found)
        .map(|(id, device)| SteeredTunnel::new(&device.name, id))
        .collect();
    let prefixes = match discover::prefixes(devices, &found, &[], &mut notes) {
        Ok(prefixes) => prefixes,
        Err(error) => {
            steered.undiscovered = Some(error);
            Vec::new()
        }
    };
    steered.groups = vec![SteeredGroup {
        name: "default".into(),
        home: "default".into(),
        follows_routes: false,
        prefixes,
        tunnels: steered.tunnels.iter().map(|tunnel| tunnel.id).collect(),
    }];
    steered
}

/// What a start would steer by a plan.
pub fn found_in_plan(plan: &Plan) -> Steered {
    let groups = plan.groups.iter();
    let tunnels = plan.tunnels().map(|tunnel| SteeredTunnel {
        weight: tunnel.weight,
        tier: tunnel.tier,
        ..SteeredTunnel::new(&tunnel.name, tunnel.id)
    });
    let mut lan: Vec<String> = groups
        .clone()
        .flat_map(|group| group.hooks.iter().map(|hook| hook.name.clone()))
        .collect();
    lan.sort();
    lan.dedup();
    Steered {
        lan,
        groups: groups
            .map(|group| SteeredGroup {
                name: group.name.clone(),
                home: group.name.clone(),
                follows_routes: group.follows_routes,
                prefixes: group.prefixes.clone(),
                tunnels: group.tunnels.iter().map(|tunnel| tunnel.id).collect(),
            })
            .collect(),
        tunnels: tunnels.collect(),
        ..Steered::default()
    }
}

impl SteeredTunnel {
    /// A tunnel of which nothing is known yet.
    fn new(name: &str, id: TunnelId) -> Self {
        Self {
            name: name.into(),
            id,
            weight: 1,
            tier: 0,
            admin: Admin::Active,
            admin_secs: None,
            health: Health::Unknown,
            told: TunnelHealth::default(),
            health_secs: None,
        }
    }
}

impl SteeredGroup {
    /// Whether an operator made it, not routes.
    pub(super) fn is_home(&self) -> bool {
        self.name == self.home
    }
}

impl Facts<'_> {
    /// Whether packets are steered.
    pub(super) fn is_steering(&self) -> bool {
        matches!(self.pins, Pins::Steering { .. })
    }

    /// The groups that an operator made.
    pub(super) fn home_groups(&self) -> impl Iterator<Item = &SteeredGroup> + '_ {
        let groups = self.steered.groups.iter();
        groups.filter(|group| group.is_home())
    }

    /// All prefixes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.steered
            .groups
            .iter()
            .flat_map(|group| group.prefixes.iter().copied())
    }

    /// Whether anything of this family is steered.
    pub(super) fn has_family(&self, family: Family) -> bool {
        self.prefixes()
            .any(|prefix| Family::from(prefix.addr()) == family)
    }

    /// A group's tunnels.
    pub(super) fn tunnels_of(
        &self,
        group: &SteeredGroup,
    ) -> impl Iterator<Item = &SteeredTunnel> + '_ {
        let ids = group.tunnels.clone();
        let tunnels = self.steered.tunnels.iter();
        tunnels.filter(move |tunnel| ids.contains(&tunnel.id))
    }

    /// The devices of all tunnels that exist.
    pub(super) fn tunnel_devices(&self) -> impl Iterator<Item = &Device> + '_ {
        let tunnels = self.steered.tunnels.iter();
        tunnels.filter_map(|tunnel| self.machine.devices.by_name(&tunnel.name))
    }

    /// Those that tell that they are WireGuard.
    pub(super) fn wireguards(&self) -> impl Iterator<Item = (&Device, &WireGuard)> + '_ {
        self.tunnel_devices()
            .filter_map(|device| Some((device, device.wireguard.as_ref()?)))
    }
}
