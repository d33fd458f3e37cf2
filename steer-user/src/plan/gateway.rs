//! All groups together: one after the other, each beside those before it.

use steer_common::abi::{Admin, GroupId, Health, HookMode};

use super::{
    Existing, ExistingGroup, ExistingTunnel, GroupPlan, Machine, Plan, PlanError, Request,
    default_max_flows, group, lan, marks, mode,
};

/// Plans: the checks come in the order in which an operator would want to hear of them.
pub fn plan(
    request: &Request,
    machine: &Machine<'_>,
    existing: &Existing,
) -> Result<Plan, PlanError> {
    let mut notes = Vec::new();
    let mut beside = released(existing, request);
    let mut groups = Vec::new();
    for asked in &request.groups {
        let planned = group::plan(asked, request, machine, &beside, &mut notes)?;
        place(&mut beside, &planned);
        groups.push(planned);
    }

    let hooks = groups.iter().flat_map(|group| &group.hooks);
    let facts = mode::Facts {
        machine,
        existing: &beside,
        lan: lan::names(hooks, machine.devices),
        groups: &groups,
    };
    let mode::Choice { mode, mss_clamp } = mode::choose(request, &facts, &mut notes)?;
    let marks = marks::plan(request, machine, &beside, mode, &groups)?;
    if let (Some(mask), None) = (request.mark_mask, marks) {
        notes.push(format!("--mark-mask {mask}: no packet is marked"));
    }
    if mode == HookMode::Egress {
        // The tunnels have it all.
        for group in &mut groups {
            group.hooks.clear();
        }
    }
    let idle = match existing.idle {
        Some(idle) if !request.is_whole => idle,
        _ => super::Idle::default(),
    };
    Ok(Plan {
        leaving: leaving(existing, request, &groups),
        groups,
        is_whole: request.is_whole,
        mode,
        mss_clamp,
        marks,
        seed: plan_seed(request, existing, &mut notes),
        max_flows: plan_max_flows(request, existing, machine.memory_bytes)?,
        idle: idle.with(request.idle.unwrap_or_default()),
        fix: request.fix,
        sysctls: Vec::new(),
        notes,
    })
}

/// What there is without what is to leave it, so that other groups can have that.
fn released(existing: &Existing, request: &Request) -> Existing {
    let mut left = existing.clone();
    if !request.is_whole {
        return left;
    }
    let mut former = Vec::new();
    left.groups.retain_mut(|group| {
        let Some(asked) = request.group(&group.name) else {
            former.append(&mut group.tunnels);
            return false;
        };
        group.ifaces.retain(|name| asked.ifaces.contains(name));
        if asked.follows_routes {
            group.prefixes.clear();
        } else if !asked.prefixes.is_empty() {
            let is_asked = |prefix: &_| asked.prefixes.contains(prefix);
            group.prefixes.retain(is_asked);
        }
        if !asked.tunnels.is_empty() {
            let is_asked =
                |tunnel: &ExistingTunnel| asked.tunnels.iter().any(|t| t.name == tunnel.name);
            let tunnels = std::mem::take(&mut group.tunnels);
            let (stay, leave): (Vec<_>, Vec<_>) = tunnels.into_iter().partition(is_asked);
            group.tunnels = stay;
            former.extend(leave);
        }
        true
    });
    left.former = former;
    left
}

/// The groups that are removed: those that are not asked for, and what was made from routes that are
/// not followed any more.
fn leaving(existing: &Existing, request: &Request, planned: &[GroupPlan]) -> Vec<GroupId> {
    let plan_of = |id: &GroupId| planned.iter().find(|group| group.id == *id);
    let groups = existing.groups.iter().map(|group| group.id);
    let leaves = |id: &GroupId| request.is_whole && plan_of(id).is_none();
    let is_out_of_use = |home: &GroupId| match plan_of(home) {
        Some(group) => !(group.is_known && group.follows_routes),
        None => request.is_whole,
    };
    let derived = existing.derived.iter();
    let derived = derived.filter(|(_, home)| is_out_of_use(home));
    groups
        .filter(leaves)
        .chain(derived.map(|(id, _)| *id))
        .collect()
}

/// What the groups after this one find.
fn place(existing: &mut Existing, planned: &GroupPlan) {
    let group = ExistingGroup {
        name: planned.name.clone(),
        id: planned.id,
        prefixes: planned.prefixes.clone(),
        follows_routes: planned.follows_routes,
        ifaces: planned.hooks.iter().map(|hook| hook.name.clone()).collect(),
        order: Some(planned.order),
        tunnels: planned
            .tunnels
            .iter()
            .map(|tunnel| ExistingTunnel {
                name: tunnel.name.clone(),
                id: tunnel.id,
                weight: tunnel.weight,
                tier: tunnel.tier,
                admin: Admin::Active,
                health: Health::Unknown,
                rp_filter_before: tunnel.rp_filter_before,
            })
            .collect(),
    };
    existing.groups.retain(|known| known.name != group.name);
    existing.groups.push(group);
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
