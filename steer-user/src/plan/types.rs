//! What goes into planning and what comes out.

use ipnet::IpNet;
use steer_common::abi::{Admin, GroupId, Health, HookKind, HookMode, HookOrder, TunnelId};

use super::health::{DeviceState, Probes};
use super::{Idle, IdleSpec, MarkMask, Marks, PlanError, SysctlChange, TunnelSpec};
use crate::net::{Devices, Netfilter, Rule};

/// What an operator asks `run` or `attach` for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Groups to make or change.
    pub groups: Vec<GroupRequest>,
    /// These are all the groups that there are to be, and what is not said of them is not taken from
    /// what there is.
    pub is_whole: bool,
    /// Seed of the flow hash.
    pub seed: Option<u64>,
    /// Size of the flow table.
    pub max_flows: Option<u32>,
    /// Idle time-outs.
    pub idle: Option<IdleSpec>,
    /// How to steer.
    pub hook: Option<HookChoice>,
    /// Steer past netfilter's rules all the same.
    pub bypass_netfilter: bool,
    /// Largest MSS of TCP connections.
    pub mss_clamp: Option<MssClamp>,
    /// Bits of the packet mark.
    pub mark_mask: Option<MarkMask>,
    /// Where the programs stand among others.
    pub order: Option<HookOrder>,
    /// Change the sysctls that are in the way.
    pub fix: bool,
}

/// What an operator asks of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRequest {
    /// Its name.
    pub name: String,
    /// Its LAN devices.
    pub ifaces: Vec<String>,
    /// Its tunnels; none to discover them.
    pub tunnels: Vec<TunnelRequest>,
    /// Its prefixes; none to discover them.
    pub prefixes: Vec<IpNet>,
    /// Its prefixes are those of the kernel's routes, whatever they will be.
    pub follows_routes: bool,
}

/// What an operator asks of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelRequest {
    /// Its device name.
    pub name: String,
    /// Its weight.
    pub weight: Option<u32>,
    /// Its number in the tables.
    pub id: Option<TunnelId>,
    /// Its tier.
    pub tier: Option<u32>,
    /// The MTU that its device must have.
    pub mtu_bytes: Option<u32>,
}

impl From<TunnelSpec> for TunnelRequest {
    fn from(spec: TunnelSpec) -> Self {
        Self {
            name: spec.name,
            weight: spec.weight,
            id: spec.id,
            ..Self::default()
        }
    }
}

impl Request {
    /// What is asked of the group of this name.
    pub(super) fn group(&self, name: &str) -> Option<&GroupRequest> {
        self.groups.iter().find(|group| group.name == name)
    }
}

/// How an operator asks to steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookChoice {
    /// As the gateway needs it.
    Auto,
    /// So and not otherwise.
    Mode(HookMode),
}

/// What an operator asks of the MSS of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssClamp {
    /// As the gateway needs it.
    Auto,
    /// Left alone.
    Off,
    /// No larger than this.
    At(u32),
}

/// What planning goes by: the machine as it is now.
#[derive(Debug)]
pub struct Machine<'a> {
    /// All devices.
    pub devices: &'a Devices,
    /// What netfilter does to forwarded packets, or why that is not known.
    pub netfilter: Result<Netfilter, String>,
    /// Names of the devices with a strict `rp_filter`.
    pub strict: Vec<String>,
    /// All policy rules.
    pub rules: Vec<Rule>,
    /// Its memory.
    pub memory_bytes: u64,
}

/// What the pinned maps hold already; empty when there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Seed of the flow hash.
    pub seed: Option<u64>,
    /// Size of the flow table.
    pub max_flows: Option<u32>,
    /// Idle time-outs.
    pub idle: Option<Idle>,
    /// How the gateway steers, for all groups.
    pub hook: HookMode,
    /// [`Settings::mss_clamp`](steer_common::abi::Settings::mss_clamp).
    pub mss_clamp: u32,
    /// [`Settings::mark_mask`](steer_common::abi::Settings::mark_mask).
    pub mark_mask: u32,
    /// [`Settings::routing_slot`](steer_common::abi::Settings::routing_slot).
    pub routing_slot: u32,
    /// All groups that an operator made.
    pub groups: Vec<ExistingGroup>,
    /// The groups that were made from routes, and the groups that they belong to.
    pub derived: Vec<(GroupId, GroupId)>,
    /// Tunnels that leave their groups: flows may still refer to their numbers.
    pub former: Vec<ExistingTunnel>,
}

/// A group in the pinned maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExistingGroup {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: GroupId,
    /// Its prefixes, also those that routes have put into groups derived from it.
    pub prefixes: Vec<IpNet>,
    /// They are those of routes.
    pub follows_routes: bool,
    /// Its LAN devices.
    pub ifaces: Vec<String>,
    /// Where its programs stand among others; `None` when it has none.
    pub order: Option<HookOrder>,
    /// Its tunnels.
    pub tunnels: Vec<ExistingTunnel>,
}

/// A tunnel in the pinned maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingTunnel {
    /// Its device name.
    pub name: String,
    /// Its number.
    pub id: TunnelId,
    /// Its weight.
    pub weight: u32,
    /// [`TunnelInfo::tier`](steer_common::abi::TunnelInfo::tier).
    pub tier: u32,
    /// What the operator wants of it.
    pub admin: Admin,
    /// What is known of it.
    pub health: Health,
    /// [`TunnelInfo::rp_filter_before`](steer_common::abi::TunnelInfo::rp_filter_before).
    pub rp_filter_before: u32,
}

impl Default for Existing {
    fn default() -> Self {
        Self {
            seed: None,
            max_flows: None,
            idle: None,
            hook: HookMode::Unset,
            mss_clamp: 0,
            mark_mask: 0,
            routing_slot: 0,
            groups: Vec::new(),
            derived: Vec::new(),
            former: Vec::new(),
        }
    }
}

impl Existing {
    /// The group of this name.
    pub fn group(&self, name: &str) -> Result<&ExistingGroup, PlanError> {
        self.find_group(name).ok_or_else(|| PlanError::NoSuchGroup {
            name: name.to_owned(),
            existing: self.groups.iter().map(|group| group.name.clone()).collect(),
        })
    }

    /// The tunnel of this name, and its group.
    pub fn tunnel(&self, name: &str) -> Result<(&ExistingGroup, &ExistingTunnel), PlanError> {
        self.tunnels()
            .find(|(_, tunnel)| tunnel.name == name)
            .ok_or_else(|| PlanError::NoSuchTunnel {
                name: name.to_owned(),
                existing: self
                    .tunnels()
                    .map(|(_, tunnel)| tunnel.name.clone())
                    .collect(),
            })
    }

    pub(super) fn find_group(&self, name: &str) -> Option<&ExistingGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    pub(super) fn tunnels(&self) -> impl Iterator<Item = (&ExistingGroup, &ExistingTunnel)> {
        self.groups
            .iter()
            .flat_map(|group| group.tunnels.iter().map(move |tunnel| (group, tunnel)))
    }
}

/// What is to be done, whatever of it is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Groups that are made or changed.
    pub groups: Vec<GroupPlan>,
    /// Groups that are removed, also those that were made from routes.
    pub leaving: Vec<GroupId>,
    /// No other groups are to be there.
    pub is_whole: bool,
    /// How the gateway steers.
    pub mode: HookMode,
    /// [`Settings::mss_clamp`](steer_common::abi::Settings::mss_clamp).
    pub mss_clamp: u32,
    /// The marks of packets, and the rules and tables for them; `None` when none is marked.
    pub marks: Option<Marks>,
    /// Seed: as asked for, or as found; `None` to choose one.
    pub seed: Option<u64>,
    /// Size of the flow table: as found, as asked for, or by memory.
    pub max_flows: u32,
    /// Idle time-outs: as asked for, as found, or the defaults.
    pub idle: Idle,
    /// Whether sysctls that are in the way are to be changed.
    pub fix: bool,
    /// Those that are; known after [`Plan::check_forwarding`].
    pub sysctls: Vec<SysctlChange>,
    /// What was discovered or decided on the way, for the operator.
    pub notes: Vec<String>,
}

/// The whole of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Its number: its own, or the smallest that is free.
    pub id: GroupId,
    /// It is there already.
    pub is_known: bool,
    /// Where its programs stand among others.
    pub order: HookOrder,
    /// LAN devices that get a program, in the order given.
    pub hooks: Vec<PlannedHook>,
    /// Tunnels, in the order of their ids. Tunnels of the group that are not here are to be removed.
    pub tunnels: Vec<PlannedTunnel>,
    /// Prefixes, sorted. Prefixes of the group that are not here are to be removed.
    pub prefixes: Vec<IpNet>,
    /// Its prefixes are those of the kernel's routes.
    pub follows_routes: bool,
}

/// A LAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHook {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ifindex: u32,
    /// Its packets have no MAC header.
    pub layer3: bool,
}

/// A program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// Where on the device.
    pub kind: HookKind,
    /// The device's name.
    pub name: &'a str,
    /// Its number.
    pub ifindex: u32,
    /// Its packets have no MAC header.
    pub layer3: bool,
}

/// A name that no device has.
pub(super) fn unknown_device(name: &str, tunnel: bool, devices: &Devices) -> PlanError {
    let existing = devices
        .iter()
        .filter(|device| !device.loopback && (!tunnel || device.layer3))
        .map(|device| device.name.clone())
        .collect();
    PlanError::UnknownDevice {
        name: name.to_owned(),
        tunnel,
        existing,
    }
}

impl Plan {
    /// Whether what this group has and the plan does not is to be removed.
    pub fn concerns(&self, group: u32) -> bool {
        self.is_whole
            || self
                .groups
                .iter()
                .any(|planned| u32::from(planned.id) == group)
    }

    /// Where its programs stand among others of a device.
    pub fn order(&self) -> HookOrder {
        let first = self.groups.first();
        first.map_or(HookOrder::Last, |group| group.order)
    }

    /// All tunnels of the groups that are made or changed.
    pub fn tunnels(&self) -> impl Iterator<Item = &PlannedTunnel> {
        self.groups.iter().flat_map(|group| &group.tunnels)
    }

    /// All prefixes of the groups that are made or changed.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let prefixes = self.groups.iter().flat_map(|group| &group.prefixes);
        prefixes.copied()
    }

    /// The LAN devices of these groups, each once, with the first group that names it.
    pub fn lan_devices(&self) -> Vec<(&PlannedHook, &GroupPlan)> {
        let mut found: Vec<(&PlannedHook, &GroupPlan)> = Vec::new();
        for group in &self.groups {
            for hook in &group.hooks {
                if found.iter().all(|(known, _)| known.ifindex != hook.ifindex) {
                    found.push((hook, group));
                }
            }
        }
        found
    }

    /// Every program that is to be attached, and for which group: first those of the tunnels.
    pub fn attachments(&self) -> Vec<(Attachment<'_>, &GroupPlan)> {
        let of_tunnels = self.groups.iter().flat_map(|group| {
            let tunnels = group.tunnels.iter();
            let tunnels: Vec<_> = tunnels.map(|t| (t.name.as_str(), t.ifindex)).collect();
            let found = attachments(self.mode, &tunnels, std::iter::empty());
            found.into_iter().map(move |attachment| (attachment, group))
        });
        let on_lan = self.lan_devices().into_iter().flat_map(|(hook, group)| {
            let device = (hook.name.as_str(), hook.ifindex, hook.layer3);
            let found = attachments(self.mode, &[], std::iter::once(device));
            found.into_iter().map(move |attachment| (attachment, group))
        });
        of_tunnels.chain(on_lan).collect()
    }

    /// Refuses probes for a tunnel that is in no group.
    pub fn check_probes(&self, probes: &Probes, existing: &Existing) -> Result<(), PlanError> {
        let own = self.tunnels().map(|tunnel| &tunnel.name);
        let others = existing
            .tunnels()
            .filter(|(group, _)| !self.concerns(group.id.into()));
        let known: Vec<_> = own.chain(others.map(|(_, tunnel)| &tunnel.name)).collect();
        let unknown = probes.tunnels.keys().find(|name| !known.contains(name));
        unknown.map_or(Ok(()), |name| {
            Err(PlanError::NoSuchTunnel {
                name: name.clone(),
                existing: known.into_iter().cloned().collect(),
            })
        })
    }
}

/// Every program of a mode, for tunnels and LAN devices that exist.
pub fn attachments<'a>(
    mode: HookMode,
    tunnels: &[(&'a str, u32)],
    lan: impl Iterator<Item = (&'a str, u32, bool)>,
) -> Vec<Attachment<'a>> {
    let on_tunnels = |kind| {
        let there = tunnels.iter().filter(|(_, ifindex)| *ifindex != 0);
        there.map(move |&(name, ifindex)| Attachment {
            kind,
            name,
            ifindex,
            layer3: true,
        })
    };
    let mut found: Vec<_> = on_tunnels(HookKind::Learn).collect();
    // Of their own kinds, so that a change of mode takes the old one away only behind the new.
    found.extend(on_tunnels(match mode {
        HookMode::Mark => HookKind::Own,
        _ => HookKind::Egress,
    }));
    let kind = match mode {
        HookMode::Ingress => HookKind::Ingress,
        HookMode::Mark => HookKind::Mark,
        HookMode::Egress | HookMode::Unset => return found,
    };
    found.extend(lan.map(|(name, ifindex, layer3)| Attachment {
        kind,
        name,
        ifindex,
        layer3,
    }));
    found
}

/// A tunnel of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTunnel {
    /// Its device name.
    pub name: String,
    /// Its number in the tables.
    pub id: TunnelId,
    /// Its device; 0 for one that was adopted and is gone now.
    pub ifindex: u32,
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub tier: u32,
    /// Its device's MTU; 0 when that is gone.
    pub mtu_bytes: u32,
    /// Its device is up.
    pub up: bool,
    /// It was in the group before.
    pub is_known: bool,
    /// What its `rp_filter` was before steer changed it, or is to be changed; plus 1, and 0 where
    /// steer does not.
    pub rp_filter_before: u32,
}

impl PlannedTunnel {
    /// What its device is now.
    pub fn device_state(&self) -> DeviceState {
        match (self.ifindex, self.up) {
            (0, _) => DeviceState::Gone,
            (_, false) => DeviceState::Down,
            (_, true) => DeviceState::Up,
        }
    }
}
