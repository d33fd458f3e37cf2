//! Planning and validation: what an operator asks for, checked against what
//! there is, before anything is touched. Pure: no clock, no kernel, no file.

mod change;
mod discover;
mod error;
mod flow;
mod follow;
mod ids;
mod lan;
mod limits;
mod marks;
mod mode;
mod prefixes;
mod replies;
mod routes;
mod surroundings;
mod types;
mod values;

use steer_common::abi::{
    GROUPS_MAX, GroupId, HookMode, HookOrder, PREFIXES_MAX, TUNNELS_PER_GROUP_MAX,
};

pub use change::{Change, TunnelChange, change_admin, change_weights, shares};
pub use error::PlanError;
pub use flow::{FlowEndpoint, FlowNumbers, protocol, protocol_name};
pub use follow::{FollowSpec, RouteLabel};
pub use limits::{FLOW_BYTES, Idle, default_max_flows};
pub use marks::{MarkMask, Marks, own_routing};
pub use mode::unequal_mtus;
pub use prefixes::{conflicts, left_to_kernel};
pub use replies::{Forwarding, RP_FILTER_LOOSE, SysctlChange, sample};
pub use routes::{
    DerivedGroup, FollowRoutes, Following, GroupCount, HopSet, Left, LeftReason, Pinned, Steps,
    Target, follow,
};
pub use surroundings::{Surroundings, surroundings};
pub use types::{
    Attachment, Existing, ExistingGroup, ExistingTunnel, HookChoice, Machine, MssClamp, Plan,
    PlannedHook, PlannedTunnel, Request, attachments,
};
pub use values::{IdleSpec, TunnelSpec, ValueError, WEIGHT_MAX, WeightSpec};
pub use values::{device_name, group_name, prefix, seed};

use crate::net::{Device, Devices};

/// The weight of a tunnel for which none was given.
pub const WEIGHT_DEFAULT: u32 = 1;

/// Plans: the checks come in the order in which an operator would want to hear of them.
pub fn plan(
    request: &Request,
    machine: &Machine<'_>,
    existing: &Existing,
) -> Result<Plan, PlanError> {
    let devices = machine.devices;
    let group = existing.find_group(&request.group);
    let others: Vec<&ExistingGroup> = existing
        .groups
        .iter()
        .filter(|other| other.name != request.group)
        .collect();
    let mut notes = Vec::new();
    // A bare `run` after the loader was killed goes on with what it finds.
    let adopted = group.filter(|_| {
        request.ifaces.is_empty() && request.tunnels.is_empty() && request.prefixes.is_empty()
    });

    let mut hooks = lan::plan(request, devices, existing, adopted.is_some(), &mut notes)?;
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

    let specs = match adopted {
        Some(group) => group
            .tunnels
            .iter()
            .map(|tunnel| TunnelSpec {
                name: tunnel.name.clone(),
                weight: None,
                id: None,
            })
            .collect(),
        None if request.tunnels.is_empty() => {
            discover::tunnels(devices, group, &hooks, &mut notes)?
        }
        None => request.tunnels.clone(),
    };
    check_names(&specs, &hooks, existing, &request.group)?;
    if specs.len() > TUNNELS_PER_GROUP_MAX {
        return Err(PlanError::TooManyTunnels { count: specs.len() });
    }
    let known = |name: &str| group?.tunnels.iter().find(|tunnel| tunnel.name == name);
    let found = specs
        .iter()
        .map(|spec| {
            // What is in the group already stays, even when it is down now: a restart must not fail
            // for the tunnel that the others stand in for.
            let lenient = known(&spec.name).is_some();
            tunnel_device(&spec.name, devices, lenient, &mut notes)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let ids = ids::assign(&specs, existing, &request.group, &mut notes)?;
    let mut tunnels: Vec<PlannedTunnel> = specs
        .iter()
        .zip(&found)
        .zip(ids)
        .map(|((spec, device), id)| PlannedTunnel {
            name: spec.name.clone(),
            id,
            ifindex: device.map_or(0, |device| device.ifindex),
            weight: spec
                .weight
                .or_else(|| known(&spec.name).map(|tunnel| tunnel.weight))
                .unwrap_or(WEIGHT_DEFAULT),
            mtu_bytes: device.map_or(0, |device| device.mtu_bytes),
            up: device.is_some_and(|device| device.up),
            is_known: known(&spec.name).is_some(),
            rp_filter_before: known(&spec.name).map_or(0, |tunnel| tunnel.rp_filter_before),
        })
        .collect();
    tunnels.sort_by_key(|tunnel| tunnel.id);
    if tunnels.iter().all(|tunnel| tunnel.weight == 0) {
        return Err(PlanError::AllWeightsZero {
            group: request.group.clone(),
        });
    }

    let found: Vec<&Device> = found.into_iter().flatten().collect();
    let is_kept = !request.follows_routes && adopted.is_some_and(|group| group.follows_routes);
    if is_kept {
        notes.push(
            "the prefixes are those of routes that were followed, and stay as they are; \
             --follow-routes goes on following them"
                .into(),
        );
    }
    let follows_routes = request.follows_routes || is_kept;
    let mut prefixes = match adopted {
        _ if follows_routes => Vec::new(),
        Some(group) => group.prefixes.clone(),
        None if request.prefixes.is_empty() => {
            discover::prefixes(devices, &found, &others, &mut notes)?
        }
        None => request.prefixes.clone(),
    };
    let placed = group.map_or(&[][..], |group| &group.prefixes);
    prefixes::check_all(&prefixes, placed, devices, &found, &others, &mut notes)?;
    prefixes.sort();
    let count = prefixes.len()
        + others
            .iter()
            .map(|other| other.prefixes.len())
            .sum::<usize>();
    if count > PREFIXES_MAX {
        return Err(PlanError::TooManyPrefixes { count });
    }

    let facts = mode::Facts {
        machine,
        existing,
        lan: lan::names(&hooks, devices),
        tunnels: &tunnels,
        prefixes: &prefixes,
        follows_routes,
        is_known: group.is_some(),
    };
    let mode::Choice { mode, mss_clamp } = mode::choose(request, &facts, &mut notes)?;
    let marks = marks::plan(request, machine, existing, mode, &tunnels)?;
    if let (Some(mask), None) = (request.mark_mask, marks) {
        notes.push(format!("--mark-mask {mask}: no packet is marked"));
    }
    if mode == HookMode::Egress {
        // The tunnels have it all.
        hooks.clear();
    }

    Ok(Plan {
        group: request.group.clone(),
        group_id: group_id(group, existing)?,
        mode,
        order: request
            .order
            .or(group.and_then(|group| group.order))
            .unwrap_or(HookOrder::Last),
        mss_clamp,
        marks,
        hooks,
        tunnels,
        prefixes,
        follows_routes,
        seed: plan_seed(request, existing, &mut notes),
        max_flows: plan_max_flows(request, existing, machine.memory_bytes)?,
        idle: existing
            .idle
            .unwrap_or_default()
            .with(request.idle.unwrap_or_default()),
        fix: request.fix,
        sysctls: Vec::new(),
        notes,
    })
}

/// A device has one role in one group.
fn check_names(
    specs: &[TunnelSpec],
    hooks: &[PlannedHook],
    existing: &Existing,
    group: &str,
) -> Result<(), PlanError> {
    for (index, TunnelSpec { name, .. }) in specs.iter().enumerate() {
        if specs[..index].iter().any(|earlier| earlier.name == *name) {
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
    name: &str,
    devices: &'a Devices,
    lenient: bool,
    notes: &mut Vec<String>,
) -> Result<Option<&'a Device>, PlanError> {
    let Some(device) = devices.by_name(name) else {
        if lenient {
            notes.push(format!("tunnel {name}: its device is gone"));
            return Ok(None);
        }
        return Err(types::unknown_device(name, true, devices));
    };
    if !device.layer3 {
        return Err(PlanError::NotLayer3 {
            name: name.to_owned(),
            kind: device.kind.clone(),
        });
    }
    if !device.up {
        if !lenient {
            return Err(PlanError::DeviceDown {
                name: name.to_owned(),
                tunnel: true,
            });
        }
        notes.push(format!("tunnel {name}: its device is down"));
    }
    Ok(Some(device))
}

fn group_id(group: Option<&ExistingGroup>, existing: &Existing) -> Result<GroupId, PlanError> {
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

fn plan_seed(request: &Request, existing: &Existing, notes: &mut Vec<String>) -> Option<u64> {
    if let (Some(wanted), Some(found)) = (request.seed, existing.seed)
        && wanted != found
    {
        notes.push(format!(
            "seed changes from {found:#x} to {wanted:#x}: new flows are placed by it, live flows stay"
        ));
    }
    request.seed.or(existing.seed)
}

fn plan_max_flows(
    request: &Request,
    existing: &Existing,
    memory_bytes: u64,
) -> Result<u32, PlanError> {
    match (request.max_flows, existing.max_flows) {
        (Some(wanted), Some(found)) if wanted != found => {
            Err(PlanError::MaxFlowsFixed { wanted, found })
        }
        (_, Some(found)) => Ok(found),
        (Some(wanted), None) => Ok(wanted),
        (None, None) => Ok(default_max_flows(memory_bytes)),
    }
}

#[cfg(test)]
mod tests;
