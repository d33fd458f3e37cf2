//! Bringing the maps to what a plan says.

use ipnet::IpNet;
use steer_common::abi::{
    ABI_VERSION, Admin, Group, GroupId, Health, Placement, PrefixKind, PrefixSource, Settings,
    Tunnel, TunnelInfo, TunnelRef, bitmap,
};

use super::{
    Failure, routes,
    state::{self, encode_name, tunnel_state},
    surroundings, sysctls,
};
use crate::{datapath::maps::Maps, net::Devices, plan::Plan};

/// Writes a plan into the maps. What makes packets move comes last.
pub(super) fn write(
    maps: &mut Maps,
    plan: &Plan,
    seed: u64,
    netns: u64,
    devices: &Devices,
) -> Result<(), Failure> {
    let before = maps.settings()?;
    let known = state::tunnels(maps)?;
    let group = u32::from(plan.group_id);
    let prefixes = PrefixChange::new(maps, plan)?;
    let gone: Vec<_> = known
        .iter()
        .filter(|tunnel| tunnel.info.group == group)
        .filter(|tunnel| plan.tunnels.iter().all(|planned| planned.id != tunnel.id))
        .collect();
    let changes_members = !gone.is_empty()
        || plan
            .tunnels
            .iter()
            .any(|planned| known.iter().all(|tunnel| tunnel.id != planned.id))
        || prefixes.is_change();

    let mut settings = settings_of(plan, seed, netns);
    settings.abi_version = before.abi_version;
    settings.epoch = before.epoch;
    settings.routing_slot = before.routing_slot;
    maps.set_settings(&settings)?;

    for tunnel in &plan.tunnels {
        let name = encode_name(&tunnel.name);
        let same = known
            .iter()
            .find(|known| known.id == tunnel.id && known.info.name == name);
        let admin = same.map_or(Admin::Active, |known| known.state.admin);
        maps.set_tunnel_info(
            tunnel.id,
            &TunnelInfo {
                name,
                weight: tunnel.weight,
                group,
                rp_filter_before: tunnel.rp_filter_before,
                tier: 0,
            },
        )?;
        maps.set_tunnel(tunnel.id, &tunnel_state(tunnel.ifindex, tunnel.up, admin))?;
        if tunnel.ifindex != 0 {
            let tunnel_ref = TunnelRef {
                tunnel: tunnel.id.into(),
                group,
            };
            maps.set_tunnel_device(tunnel.ifindex, tunnel_ref)?;
        }
    }
    for tunnel in &gone {
        let is_renumbered = plan.tunnels.iter().any(|t| t.name == tunnel.name);
        if is_renumbered {
            sysctls::forget(maps, tunnel.id)?;
        } else {
            sysctls::restore(maps, tunnel.id)?;
        }
        maps.set_tunnel(tunnel.id, &ABSENT)?;
    }
    let lan: Vec<u32> = plan.hooks.iter().map(|hook| hook.ifindex).collect();
    let changes_addresses = surroundings::write(maps, devices, &lan)?;
    state::rebuild(maps, plan.group_id)?;
    maps.set_group(
        plan.group_id,
        &Group {
            name: encode_name(&plan.group),
            placement: Placement::Hash,
            parent: group,
            members: bitmap(plan.tunnels.iter().map(|tunnel| tunnel.id)),
            prefixes_from: if plan.follows_routes {
                PrefixSource::Routes
            } else {
                PrefixSource::Operator
            },
            reserved: 0,
        },
    )?;
    for prefix in &prefixes.set {
        maps.set_prefix(*prefix, plan.group_id)?;
    }
    for prefix in &prefixes.remove {
        maps.remove_prefix(*prefix)?;
    }
    if changes_members || changes_addresses {
        settings.epoch = settings.epoch.wrapping_add(1);
    }
    settings.abi_version = ABI_VERSION;
    maps.set_settings(&settings)?;
    for id in prefixes.derived {
        routes::forget(maps, id)?;
    }
    Ok(())
}

/// What becomes of a group's prefixes. Those that routes bring are left alone here.
#[derive(Default)]
struct PrefixChange {
    set: Vec<IpNet>,
    remove: Vec<IpNet>,
    /// Groups that routes made, and that no prefix belongs to then.
    derived: Vec<GroupId>,
}

impl PrefixChange {
    fn new(maps: &Maps, plan: &Plan) -> Result<Self, Failure> {
        if plan.follows_routes {
            return Ok(Self::default());
        }
        let groups = state::groups(maps)?;
        let derived: Vec<GroupId> = groups
            .iter()
            .filter(|(id, group)| *id != plan.group_id && group.parent == u32::from(plan.group_id))
            .map(|(id, _)| *id)
            .collect();
        let (mut placed, mut remove) = (Vec::new(), Vec::new());
        for (prefix, of) in maps.prefixes_and_holes()? {
            let is_home = of.group == u32::from(plan.group_id);
            if is_home && of.kind == PrefixKind::Steered {
                placed.push(prefix);
            }
            let is_of_group = is_home || derived.iter().any(|id| of.group == u32::from(*id));
            if is_of_group && !plan.prefixes.contains(&prefix) {
                remove.push(prefix);
            }
        }
        let wanted = plan.prefixes.iter().copied();
        Ok(Self {
            set: wanted.filter(|prefix| !placed.contains(prefix)).collect(),
            remove,
            derived,
        })
    }

    fn is_change(&self) -> bool {
        !self.set.is_empty() || !self.remove.is_empty()
    }
}

/// A tunnel that is not there.
const ABSENT: Tunnel = Tunnel {
    ifindex: 0,
    admin: Admin::Absent,
    health: Health::Unknown,
    reserved: 0,
};

fn settings_of(plan: &Plan, seed: u64, netns: u64) -> Settings {
    let idle = &plan.idle;
    let nanos =
        |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        abi_version: 0,
        epoch: 0,
        seed,
        idle_tcp_ns: nanos(idle.tcp),
        idle_closing_ns: nanos(idle.closing),
        idle_udp_ns: nanos(idle.udp),
        idle_other_ns: nanos(idle.other),
        netns,
        hook: plan.mode,
        mss_clamp: plan.mss_clamp,
        mark_mask: plan.marks.map_or(0, |marks| marks.mask.bits()),
        routing_slot: 0,
    }
}
