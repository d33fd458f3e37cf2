//! Reading the pinned maps as the plan sees them, and the little that both directions need.

use std::time::Duration;

use steer_common::{
    abi::{
        Admin, GROUPS_MAX, Group, GroupId, Health, Hook, HookKey, HookKind, Placement, Settings,
        TUNNEL_ID_MAX, Tunnel, TunnelId, TunnelInfo,
    },
    buckets::Member,
};

use super::hooks;
pub(super) use crate::plan::{decode_name, encode_name};
use crate::{
    datapath::{DatapathError, maps::Maps},
    plan::{Existing, ExistingGroup, ExistingTunnel, Idle},
};

/// A tunnel as it stands in the maps.
pub(super) struct KnownTunnel {
    /// Its number.
    pub(super) id: TunnelId,
    /// Its device name.
    pub(super) name: String,
    /// Weight and group.
    pub(super) info: TunnelInfo,
    /// What the packet path sees.
    pub(super) state: Tunnel,
}

/// All tunnels that there are.
pub(super) fn tunnels(maps: &Maps) -> Result<Vec<KnownTunnel>, DatapathError> {
    let mut found = Vec::new();
    for id in 0..=TUNNEL_ID_MAX {
        let state = maps.tunnel(id)?;
        if state.admin != Admin::Absent {
            let info = maps.tunnel_info(id)?;
            found.push(KnownTunnel {
                id,
                name: decode_name(&info.name),
                info,
                state,
            });
        }
    }
    Ok(found)
}

/// All groups that there are.
pub(super) fn groups(maps: &Maps) -> Result<Vec<(GroupId, Group)>, DatapathError> {
    let mut found = Vec::new();
    for id in 0..GROUPS_MAX {
        let id = GroupId::try_from(id).unwrap_or(GroupId::MAX);
        let group = maps.group(id)?;
        if group.placement != Placement::Absent {
            found.push((id, group));
        }
    }
    Ok(found)
}

/// A home group and the groups that are derived from it.
pub(super) fn groups_of(
    maps: &Maps,
    home: GroupId,
) -> Result<Vec<(GroupId, Group)>, DatapathError> {
    let mut groups = groups(maps)?;
    groups.retain(|(_, group)| group.parent == u32::from(home));
    Ok(groups)
}

/// Names of the LAN devices that have a hook, and their groups.
pub(super) fn lan_devices(hooks: &[(HookKey, Hook)]) -> Vec<(String, u32)> {
    hooks
        .iter()
        .filter(|(key, _)| hooks::is_on_lan(key.kind))
        .map(|(_, hook)| (decode_name(&hook.name), hook.group))
        .collect()
}

/// What the plan is compared with.
pub(super) fn existing(maps: &Maps) -> Result<Existing, DatapathError> {
    let settings = maps.settings()?;
    let tunnels = tunnels(maps)?;
    let prefixes = maps.prefixes()?;
    let hooks = maps.hooks()?;
    let lan = lan_devices(&hooks);
    let (homes, derived): (Vec<_>, Vec<_>) = groups(maps)?
        .into_iter()
        .partition(|(id, group)| group.parent == u32::from(*id));
    let groups = homes
        .into_iter()
        .map(|(id, group)| ExistingGroup {
            name: decode_name(&group.name),
            id,
            prefixes: prefixes
                .iter()
                .filter(|(_, of)| *of == id)
                .map(|(prefix, _)| *prefix)
                .collect(),
            ifaces: lan
                .iter()
                .filter(|(_, group)| *group == u32::from(id))
                .map(|(name, _)| name.clone())
                .collect(),
            order: hooks
                .iter()
                .find(|(_, hook)| hook.group == u32::from(id))
                .map(|(_, hook)| hook.order),
            tunnels: tunnels
                .iter()
                .filter(|tunnel| tunnel.info.group == u32::from(id))
                .map(|tunnel| ExistingTunnel {
                    name: tunnel.name.clone(),
                    id: tunnel.id,
                    weight: tunnel.info.weight,
                    tier: tunnel.info.tier,
                    admin: tunnel.state.admin,
                    health: tunnel.state.health,
                    rp_filter_before: tunnel.info.rp_filter_before,
                })
                .collect(),
        })
        .collect();
    Ok(Existing {
        seed: Some(settings.seed),
        max_flows: Some(maps.flow_capacity()),
        idle: Some(idle_of(&settings)),
        hook: settings.hook,
        mss_clamp: settings.mss_clamp,
        mark_mask: settings.mark_mask,
        routing_slot: settings.routing_slot,
        groups,
        derived: derived
            .into_iter()
            .filter_map(|(id, group)| Some((id, GroupId::try_from(group.parent).ok()?)))
            .collect(),
        former: Vec::new(),
    })
}

/// The time-outs in the settings.
fn idle_of(settings: &Settings) -> Idle {
    Idle {
        tcp: Duration::from_nanos(settings.idle_tcp_ns),
        closing: Duration::from_nanos(settings.idle_closing_ns),
        udp: Duration::from_nanos(settings.idle_udp_ns),
        other: Duration::from_nanos(settings.idle_other_ns),
    }
}

/// Who takes part in a group's bucket table: the tunnels that can take new flows. When none can,
/// those that the operator wants, so that the first to come back is used at once.
pub(super) fn members(tunnels: &[KnownTunnel], group: GroupId) -> Vec<Member> {
    let of_group = || {
        tunnels
            .iter()
            .filter(|tunnel| tunnel.info.group == u32::from(group))
    };
    let member = |tunnel: &KnownTunnel| Member {
        id: tunnel.id,
        weight: tunnel.info.weight,
    };
    let has_weight = |tunnel: &&KnownTunnel| tunnel.info.weight > 0;
    let usable: Vec<_> = of_group()
        .filter(has_weight)
        .filter(|tunnel| tunnel.state.takes_new_flows())
        .map(member)
        .collect();
    if !usable.is_empty() {
        return usable;
    }
    of_group()
        .filter(|tunnel| tunnel.state.admin == Admin::Active)
        .map(member)
        .collect()
}

/// Makes a group's bucket table anew from what the maps say of its tunnels.
pub(super) fn rebuild(maps: &mut Maps, group: GroupId) -> Result<(), DatapathError> {
    let members = members(&tunnels(maps)?, group);
    maps.swap_buckets(group, &members)
}

/// The state of a tunnel whose device is as given.
pub(super) fn tunnel_state(ifindex: u32, up: bool, admin: Admin) -> Tunnel {
    let health = if ifindex != 0 && up {
        Health::Up
    } else {
        Health::Down
    };
    Tunnel {
        ifindex,
        admin,
        health,
        reserved: 0,
    }
}

/// The key of a hook.
pub(super) fn hook_key(kind: HookKind, ifindex: u32) -> HookKey {
    HookKey { ifindex, kind }
}
