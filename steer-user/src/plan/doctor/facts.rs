//! What the checks go by.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use steer_common::abi::{
    Admin, AttachKind, Health, HealthReason, HookKind, HookMode, PassReason, TunnelId,
};

use super::super::{Forwarding, Machine, Marks, PlanError, discover};
use crate::net::{Device, Devices, Family, KernelRoute, TunnelRoute, WireGuard};
use crate::sys::Capabilities;

/// The machine as it is, and what is steered on it, or would be.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The machine itself.
    pub host: Host,
    /// What is pinned.
    pub pins: Pins,
    /// Devices, netfilter, policy rules.
    pub machine: Machine<'a>,
    /// What is steered; with nothing pinned, what a start would find by itself.
    pub steered: Steered,
    /// Every program that should be on a device.
    pub hooks: Vec<HookFacts>,
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
    /// Its name.
    pub name: String,
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
    /// What the operator wants of it.
    pub admin: Admin,
    /// Since when, if that is known.
    pub admin_secs: Option<u64>,
    /// What is known of it.
    pub health: Health,
    /// Why.
    pub reason: HealthReason,
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

/// Whether a program is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It is.
    Attached(AttachKind),
    /// It is not, or not any more.
    Missing,
    /// There is another one in its place.
    Replaced {
        /// The kernel's number of that.
        by: u32,
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
        .map(|(id, device)| SteeredTunnel {
            name: device.name.clone(),
            id,
            admin: Admin::Active,
            admin_secs: None,
            health: Health::Unknown,
            reason: HealthReason::Unknown,
            health_secs: None,
        })
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
        prefixes,
        tunnels: steered.tunnels.iter().map(|tunnel| tunnel.id).collect(),
    }];
    steered
}

impl Facts<'_> {
    /// Whether packets are steered.
    pub(super) fn is_steering(&self) -> bool {
        matches!(self.pins, Pins::Steering { .. })
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
