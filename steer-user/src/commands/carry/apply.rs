//! Bringing the maps to what a plan says.

use steer_common::abi::{
    ABI_VERSION, Admin, Group, GroupId, Health, Placement, PrefixSource, Settings, Tunnel,
    TunnelId, TunnelInfo, TunnelRef, bitmap,
};

use crate::{
    commands::{
        Failure,
        daemon::health,
        owned::{hooks::is_on_lan, surroundings, sysctls},
        routes,
        state::{self, KnownTunnel, encode_name},
    },
    datapath::{DatapathError, maps::Maps},
    net::Devices,
    plan::{GroupPlan, Plan},
    sys::nanos,
};

/// A tunnel that is not there.
pub(in crate::commands) const ABSENT: Tunnel = Tunnel {
    ifindex: 0,
    admin: Admin::Absent,
    health: Health::Unknown,
    reserved: 0,
};

/// What goes into the maps beside a plan.
#[derive(Clone, Copy)]
pub(in crate::commands) struct Values {
    /// Seed of the flow hash.
    pub(in crate::commands) seed: u64,
    /// The network namespace.
    pub(in crate::commands) netns: u64,
    /// Whether there is, or will be, a daemon that watches the tunnels' health.
    pub(in crate::commands) is_watched: bool,
    /// The number of a daemon that looks after this from now on.
    pub(in crate::commands) daemon: Option<u64>,
}

/// Writes a plan into the maps. What makes packets move comes last; what is to leave takes no new
/// flows before, and goes when no prefix leads to it any more.
pub(in crate::commands) fn write(
    maps: &mut Maps,
    plan: &Plan,
    values: Values,
    devices: &Devices,
) -> Result<(), Failure> {
    let before = maps.settings()?;
    let known = state::tunnels(maps)?;
    let gone: Vec<_> = known
        .iter()
        .filter(|tunnel| plan.concerns(tunnel.info.group))
        .filter(|tunnel| plan.tunnels().all(|planned| planned.id != tunnel.id))
        .collect();

    let mut settings = settings_of(plan, values);
    settings.abi_version = before.abi_version;
    settings.epoch = before.epoch;
    settings.routing_slot = before.routing_slot;
    settings.daemon = values.daemon.unwrap_or(before.daemon);
    maps.set_settings(&settings)?;

    let mut infos: Vec<_> = plan.groups.iter().flat_map(infos_of).collect();
    infos.extend(gone.iter().map(|tunnel| tunnel.leaving()));
    maps.set_tunnel_infos(&infos)?;
    for group in &plan.groups {
        write_tunnels(maps, group, &known, values.is_watched)?;
    }
    surroundings::write(maps, devices, &lan_devices(maps, plan)?)?;
    for group in &plan.groups {
        state::rebuild(maps, group.id)?;
        maps.set_group(
            group.id,
            &Group {
                name: encode_name(&group.name),
                placement: Placement::Hash,
                parent: group.id.into(),
                members: bitmap(group.tunnels.iter().map(|tunnel| tunnel.id)),
                prefixes_from: if group.follows_routes {
                    PrefixSource::Routes
                } else {
                    PrefixSource::Operator
                },
                reserved: 0,
            },
        )?;
    }
    write_prefixes(maps, plan)?;
    for tunnel in &gone {
        let goes_on = plan.tunnels().any(|planned| planned.name == tunnel.name);
        if goes_on {
            sysctls::forget(maps, tunnel.id)?;
        } else {
            sysctls::restore(maps, tunnel.id)?;
        }
        maps.set_tunnel(tunnel.id, &ABSENT)?;
    }
    // Every flow is checked again once, whatever a start that was killed had changed already.
    settings.epoch = settings.epoch.wrapping_add(1);
    settings.abi_version = ABI_VERSION;
    maps.set_settings(&settings)?;
    if !plan.leaving.is_empty() {
        maps.settle();
    }
    for id in &plan.leaving {
        routes::forget(maps, *id)?;
    }
    Ok(())
}

/// What is said of a group's tunnels.
fn infos_of(group: &GroupPlan) -> impl Iterator<Item = (TunnelId, TunnelInfo)> {
    group.tunnels.iter().map(|tunnel| {
        let info = TunnelInfo {
            name: encode_name(&tunnel.name),
            weight: tunnel.weight,
            group: group.id.into(),
            rp_filter_before: tunnel.rp_filter_before,
            tier: tunnel.tier,
        };
        (tunnel.id, info)
    })
}

/// Says of a group's tunnels what the packet path goes by.
fn write_tunnels(
    maps: &mut Maps,
    group: &GroupPlan,
    known: &[KnownTunnel],
    is_watched: bool,
) -> Result<(), DatapathError> {
    for tunnel in &group.tunnels {
        let name = encode_name(&tunnel.name);
        let same = known
            .iter()
            .find(|known| known.id == tunnel.id && known.info.name == name);
        let admin = same.map_or(Admin::Active, |known| known.state.admin);
        let (health, told) =
            health::at_start(maps, tunnel.device_state(), same.filter(|_| is_watched))?;
        let state = Tunnel {
            ifindex: tunnel.ifindex,
            admin,
            health,
            reserved: 0,
        };
        // Whoever watches its health may write at the same time.
        if same.is_none_or(|known| known.state != state) {
            maps.set_tunnel_health(tunnel.id, &told)?;
            maps.set_tunnel(tunnel.id, &state)?;
        }
        if tunnel.ifindex != 0 {
            let tunnel_ref = TunnelRef {
                tunnel: tunnel.id.into(),
                group: group.id.into(),
            };
            maps.set_tunnel_device(tunnel.ifindex, tunnel_ref)?;
        }
    }
    Ok(())
}

/// The LAN devices of a plan, and those of groups that it does not concern.
fn lan_devices(maps: &Maps, plan: &Plan) -> Result<Vec<u32>, DatapathError> {
    let planned = plan.lan_devices().into_iter();
    let mut found: Vec<u32> = planned.map(|(hook, _)| hook.ifindex).collect();
    for (key, hook) in maps.hooks()? {
        if is_on_lan(key.kind) && !plan.concerns(hook.group) && !found.contains(&key.ifindex) {
            found.push(key.ifindex);
        }
    }
    Ok(found)
}

/// Those that routes bring are left alone here.
fn write_prefixes(maps: &mut Maps, plan: &Plan) -> Result<(), DatapathError> {
    let before = maps.prefixes_and_holes()?;
    let set_here = |group: &&GroupPlan| !group.follows_routes;
    for group in plan.groups.iter().filter(set_here) {
        for prefix in &group.prefixes {
            maps.set_prefix(*prefix, group.id)?;
        }
    }
    // Sorted, because there may be thousands.
    let mut planned: Vec<_> = plan.prefixes().collect();
    planned.sort();
    for (prefix, of) in before {
        let is_of = |id: GroupId| of.group == u32::from(id);
        let leaves = plan.leaving.iter().any(|id| is_of(*id));
        let is_set_here = plan
            .groups
            .iter()
            .filter(set_here)
            .any(|group| is_of(group.id));
        if (leaves || is_set_here) && planned.binary_search(&prefix).is_err() {
            maps.remove_prefix(prefix)?;
        }
    }
    Ok(())
}

fn settings_of(plan: &Plan, values: Values) -> Settings {
    let idle = &plan.idle;
    Settings {
        abi_version: 0,
        epoch: 0,
        seed: values.seed,
        idle_tcp_ns: nanos(idle.tcp),
        idle_closing_ns: nanos(idle.closing),
        idle_udp_ns: nanos(idle.udp),
        idle_other_ns: nanos(idle.other),
        netns: values.netns,
        hook: plan.mode,
        mss_clamp: plan.mss_clamp,
        mark_mask: plan.marks.map_or(0, |marks| marks.mask.bits()),
        routing_slot: 0,
        daemon: 0,
    }
}
