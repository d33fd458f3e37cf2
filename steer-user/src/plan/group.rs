//! One group: its LAN devices, tunnels and prefixes.

use steer_common::abi::{GROUPS_MAX, GroupId, HookOrder, PREFIXES_MAX, TUNNELS_PER_GROUP_MAX};

use super::{
    Existing, ExistingGroup, ExistingTunnel, GroupPlan, GroupRequest, Machine, PlanError,
    PlannedHook, PlannedTunnel, Request, TunnelRequest, WEIGHT_DEFAULT, discover, ids, lan,
    prefixes, types,
};
use crate::net::{Device, Devices};

/// Plans a group beside those that there are, or will be.
pub(super) fn plan(
    asked: &GroupRequest,
    request: &Request,
    machine: &Machine<'_>,
    existing: &Existing,
    notes: &mut Vec<String>,
) -> Result<GroupPlan, PlanError> {
    let devices = machine.devices;
    let group = existing.find_group(&asked.name);
    let others: Vec<&ExistingGroup> = existing
        .groups
        .iter()
        .filter(|other| other.name != asked.name)
        .collect();
    // A bare `run` after the loader was killed goes on with what it finds.
    let adopted = group.filter(|_| {
        !request.is_whole
            && asked.ifaces.is_empty()
            && asked.tunnels.is_empty()
            && asked.prefixes.is_empty()
    });

    let hooks = lan::plan(asked, request, devices, existing, adopted.is_some(), notes)?;
    for other in &others {
        for tunnel in &other.tunnels {
            if hooks.iter().any(|hook| hook.name == tunnel.name) {
                return Err(PlanError::IfaceIsTunnel {
                    name: tunnel.name.clone(),
                    group: Some(other.name.clone()),
                });
            }
        }
    }

    let wanted = match adopted {
        Some(group) => group.tunnels.iter().map(again).collect(),
        None if asked.tunnels.is_empty() => discover::tunnels(devices, group, &hooks, notes)?,
        None => asked.tunnels.clone(),
    };
    check_names(&wanted, &hooks, existing, &asked.name)?;
    if wanted.len() > TUNNELS_PER_GROUP_MAX {
        return Err(PlanError::TooManyTunnels {
            count: wanted.len(),
        });
    }
    let known = |name: &str| group?.tunnels.iter().find(|tunnel| tunnel.name == name);
    let found = wanted
        .iter()
        .map(|tunnel| {
            // What is in the group already stays, even when it is down now: a restart must not fail
            // for the tunnel that the others stand in for.
            let lenient = known(&tunnel.name).is_some();
            tunnel_device(tunnel, devices, lenient, notes)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let ids = ids::assign(&wanted, existing, &asked.name, notes)?;
    let mut tunnels: Vec<PlannedTunnel> = wanted
        .iter()
        .zip(&found)
        .zip(ids)
        .map(|((wanted, device), id)| {
            let known = known(&wanted.name);
            let former = existing.former.iter().find(|t| t.name == wanted.name);
            PlannedTunnel {
                name: wanted.name.clone(),
                id,
                ifindex: device.map_or(0, |device| device.ifindex),
                weight: wanted
                    .weight
                    .or_else(|| known.map(|tunnel| tunnel.weight))
                    .unwrap_or(WEIGHT_DEFAULT),
                tier: wanted
                    .tier
                    .or_else(|| known.map(|tunnel| tunnel.tier))
                    .unwrap_or_default(),
                mtu_bytes: device.map_or(0, |device| device.mtu_bytes),
                up: device.is_some_and(|device| device.up),
                is_known: known.is_some(),
                rp_filter_before: known.or(former).map_or(0, |tunnel| tunnel.rp_filter_before),
            }
        })
        .collect();
    tunnels.sort_by_key(|tunnel| tunnel.id);
    if tunnels.iter().all(|tunnel| tunnel.weight == 0) {
        return Err(PlanError::AllWeightsZero {
            group: asked.name.clone(),
        });
    }

    let found: Vec<&Device> = found.into_iter().flatten().collect();
    let is_kept = !asked.follows_routes && adopted.is_some_and(|group| group.follows_routes);
    if is_kept {
        notes.push(
            "the prefixes are those of routes that were followed, and stay as they are; \
             --follow-routes goes on following them"
                .into(),
        );
    }
    let follows_routes = asked.follows_routes || is_kept;
    let mut prefixes = match adopted {
        _ if follows_routes => Vec::new(),
        Some(group) => group.prefixes.clone(),
        None if asked.prefixes.is_empty() => discover::prefixes(devices, &found, &others, notes)?,
        None => asked.prefixes.clone(),
    };
    let placed = group.map_or(&[][..], |group| &group.prefixes);
    prefixes::check_all(&prefixes, placed, devices, &found, &others, notes)?;
    prefixes.sort();
    let of_others = others.iter().map(|other| other.prefixes.len());
    let count = prefixes.len() + of_others.sum::<usize>();
    if count > PREFIXES_MAX {
        return Err(PlanError::TooManyPrefixes { count });
    }

    Ok(GroupPlan {
        name: asked.name.clone(),
        id: number(group, existing)?,
        is_known: group.is_some(),
        order: request
            .order
            .or(group.and_then(|group| group.order))
            .unwrap_or(HookOrder::Last),
        hooks,
        tunnels,
        prefixes,
        follows_routes,
    })
}

/// A tunnel that goes on as it is.
fn again(tunnel: &ExistingTunnel) -> TunnelRequest {
    TunnelRequest {
        name: tunnel.name.clone(),
        ..TunnelRequest::default()
    }
}

/// A device has one role in one group.
fn check_names(
    wanted: &[TunnelRequest],
    hooks: &[PlannedHook],
    existing: &Existing,
    group: &str,
) -> Result<(), PlanError> {
    for (index, TunnelRequest { name, .. }) in wanted.iter().enumerate() {
        if wanted[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(PlanError::DuplicateTunnel { name: name.clone() });
        }
        if hooks.iter().any(|hook| hook.name == *name) {
            return Err(PlanError::IfaceIsTunnel {
                name: name.clone(),
                group: None,
            });
        }
        for other in existing.groups.iter().filter(|other| other.name != group) {
            let (name, group) = (name.clone(), other.name.clone());
            if other.tunnels.iter().any(|tunnel| tunnel.name == name) {
                return Err(PlanError::TunnelOfOtherGroup { name, group });
            }
            if other.ifaces.contains(&name) {
                return Err(PlanError::TunnelIsIface { name, group });
            }
        }
    }
    Ok(())
}

/// The device of a tunnel; `None` for one that may be missing and is.
fn tunnel_device<'a>(
    wanted: &TunnelRequest,
    devices: &'a Devices,
    lenient: bool,
    notes: &mut Vec<String>,
) -> Result<Option<&'a Device>, PlanError> {
    let name = &wanted.name;
    let Some(device) = devices.by_name(name) else {
        if lenient {
            notes.push(format!("tunnel {name}: its device is gone"));
            return Ok(None);
        }
        return Err(types::unknown_device(name, true, devices));
    };
    if !device.layer3 {
        return Err(PlanError::NotLayer3 {
            name: name.clone(),
            kind: device.kind.clone(),
        });
    }
    if let Some(wanted_bytes) = wanted.mtu_bytes.filter(|mtu| *mtu != device.mtu_bytes) {
        return Err(PlanError::OtherMtu {
            name: name.clone(),
            found_bytes: device.mtu_bytes,
            wanted_bytes,
        });
    }
    if !device.up {
        if !lenient {
            return Err(PlanError::DeviceDown {
                name: name.clone(),
                tunnel: true,
            });
        }
        notes.push(format!("tunnel {name}: its device is down"));
    }
    Ok(Some(device))
}

/// The number of a group: its own, or the smallest that is free.
fn number(group: Option<&ExistingGroup>, existing: &Existing) -> Result<GroupId, PlanError> {
    if let Some(group) = group {
        return Ok(group.id);
    }
    let is_free = |id: &GroupId| {
        existing.groups.iter().all(|other| other.id != *id)
            && existing.derived.iter().all(|(derived, _)| derived != id)
    };
    (0..GroupId::try_from(GROUPS_MAX).unwrap_or(GroupId::MAX))
        .find(is_free)
        .ok_or(PlanError::TooManyGroups)
}
