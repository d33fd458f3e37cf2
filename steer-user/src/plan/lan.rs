//! LAN devices: which of them can have a program.

use steer_common::abi::HookMode;

use super::{
    Existing, ExistingGroup, GroupRequest, HookChoice, PlanError, PlannedHook, Request,
    types::unknown_device,
};
use crate::net::{Device, Devices, MasterKind};

/// The LAN devices of a request, or those that the group has.
pub(super) fn plan(
    asked: &GroupRequest,
    request: &Request,
    devices: &Devices,
    existing: &Existing,
    adopted: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<PlannedHook>, PlanError> {
    let group = existing.find_group(&asked.name);
    let names = match group {
        _ if !asked.ifaces.is_empty() => asked.ifaces.iter().collect(),
        // They steer for all groups, whichever names them.
        _ if request.is_whole => request.groups.iter().flat_map(|of| &of.ifaces).collect(),
        Some(group) => inherited(group, existing),
        None => Vec::new(),
    };
    let mut hooks: Vec<PlannedHook> = Vec::new();
    for name in names {
        if hooks.iter().any(|hook| hook.name == *name) {
            return Err(PlanError::DuplicateIface { name: name.clone() });
        }
        let device = match devices.by_name(name) {
            None if adopted => {
                notes.push(format!("device {name} is gone; nothing is attached to it"));
                continue;
            }
            device => device.ok_or_else(|| unknown_device(name, false, devices))?,
        };
        check(device, devices)?;
        let is_known = group.is_some_and(|group| inherited(group, existing).contains(&name));
        if !device.up && !is_known {
            return Err(PlanError::DeviceDown {
                name: name.clone(),
                tunnel: false,
            });
        }
        hooks.push(PlannedHook {
            name: name.clone(),
            ifindex: device.ifindex,
            layer3: device.layer3,
        });
    }
    let needs_none = match request.hook {
        Some(HookChoice::Mode(mode)) => mode == HookMode::Egress,
        None => existing.hook == HookMode::Egress,
        Some(HookChoice::Auto) => false,
    };
    if hooks.is_empty() && !needs_none {
        return Err(PlanError::NoIface);
    }
    let others = existing
        .groups
        .iter()
        .filter(|other| other.name != asked.name);
    check_vlans(&hooks, devices, others)?;
    Ok(hooks)
}

/// The LAN devices that a group has, or shares with others: they steer for all groups, but are
/// noted for the one that named them first.
fn inherited<'a>(group: &'a ExistingGroup, existing: &'a Existing) -> Vec<&'a String> {
    if group.ifaces.is_empty() {
        existing.groups.iter().flat_map(|of| &of.ifaces).collect()
    } else {
        group.ifaces.iter().collect()
    }
}

/// The names of these devices and of the VLAN devices on them.
pub(super) fn names<'a, 'h>(
    hooks: impl Iterator<Item = &'h PlannedHook>,
    devices: &'a Devices,
) -> Vec<&'a str> {
    let of_hook = |hook: &PlannedHook| {
        let above = devices.vlans_on(hook.ifindex);
        devices.by_index(hook.ifindex).into_iter().chain(above)
    };
    let found = hooks.flat_map(of_hook);
    found.map(|device| device.name.as_str()).collect()
}

/// Checks one device by itself.
pub(super) fn check(device: &Device, devices: &Devices) -> Result<(), PlanError> {
    let name = || device.name.clone();
    if device.loopback {
        return Err(PlanError::IfaceLoopback { name: name() });
    }
    let Some(master) = &device.master else {
        return Ok(());
    };
    // Packets of a port have the addresses of its master, which the kernel gives them to.
    let kind = match &master.kind {
        MasterKind::Vrf => return Ok(()),
        MasterKind::Bridge => "bridge",
        MasterKind::Bond => "bond",
        MasterKind::Team => "team",
        MasterKind::Other(kind) => kind.as_str(),
    };
    Err(PlanError::IfaceIsPort {
        name: name(),
        kind: kind.to_owned(),
        master: devices
            .by_index(master.ifindex)
            .map(|device| device.name.clone()),
    })
}

/// Refuses a VLAN device on a LAN device: its packets would be seen twice.
fn check_vlans<'a>(
    hooks: &[PlannedHook],
    devices: &Devices,
    others: impl Iterator<Item = &'a ExistingGroup>,
) -> Result<(), PlanError> {
    let of_others: Vec<(&str, &str)> = others
        .flat_map(|other| {
            let names = other.ifaces.iter();
            names.map(|name| (name.as_str(), other.name.as_str()))
        })
        .collect();
    let names = hooks.iter().map(|hook| (hook.name.as_str(), None));
    let all: Vec<(&str, Option<&str>)> = names
        .chain(of_others.into_iter().map(|(name, of)| (name, Some(of))))
        .collect();
    for (below, group_below) in &all {
        let Some(device) = devices.by_name(below) else {
            continue;
        };
        for vlan in devices.vlans_on(device.ifindex) {
            let above = all.iter().find(|(name, group)| {
                // What other groups have among themselves was checked when they were made.
                *name == vlan.name && (group.is_none() || group_below.is_none())
            });
            if let Some((name, group)) = above {
                return Err(PlanError::IfaceOnIface {
                    name: (*name).to_owned(),
                    below: (*below).to_owned(),
                    group: group_below.or(*group).map(ToOwned::to_owned),
                });
            }
        }
    }
    Ok(())
}
