//! Reading the pinned maps as the plan sees them, and the little that both directions need.

use std::time::Duration;

use steer_common::{
    abi::{
        Admin, GROUPS_MAX, Group, GroupId, Health, Hook, HookKey, HookKind, NAME_BYTES, Placement,
        PrefixSource, Settings, TUNNEL_ID_MAX, Tunnel, TunnelId, TunnelInfo,
    },
    buckets::Member,
};

use super::hooks;
use crate::{
    datapath::{DatapathError, maps::Maps},
    plan::{Existing, ExistingGroup, ExistingTunnel, Idle},
};

/// A tunnel as it stands in the maps.
#[derive(Clone)]
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

/// All groups that there are, home and derived ones.
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

/// All home groups that there are.
pub(super) fn home_groups(maps: &Maps) -> Result<Vec<(GroupId, Group)>, DatapathError> {
    let mut found = groups(maps)?;
    found.retain(|(id, group)| group.parent == u32::from(*id));
    Ok(found)
}

/// The home group of each group, by its number.
pub(super) fn home_of(groups: &[(GroupId, Group)], id: GroupId) -> GroupId {
    let group = groups.iter().find(|(of, _)| *of == id);
    let parent = group.and_then(|(_, group)| GroupId::try_from(group.parent).ok());
    parent.unwrap_or(id)
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
    let all = groups(maps)?;
    let groups = home_groups(maps)?
        .into_iter()
        .map(|(id, group)| ExistingGroup {
            name: decode_name(&group.name),
            id,
            follows_routes: group.prefixes_from == PrefixSource::Routes,
            prefixes: prefixes
                .iter()
                .filter(|(_, of)| home_of(&all, *of) == id)
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
        derived: all
            .iter()
            .map(|(id, _)| (*id, home_of(&all, *id)))
            .filter(|(id, home)| id != home)
            .collect(),
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

/// Makes the bucket tables of a home group and of all that are derived from it anew, from what the maps
/// say of its tunnels.
pub(super) fn rebuild(maps: &mut Maps, home: GroupId) -> Result<(), DatapathError> {
    let tunnels = tunnels(maps)?;
    maps.swap_buckets(home, &members(&tunnels, home))?;
    let memberships = maps.memberships()?;
    for (id, group) in groups(maps)? {
        if id != home && group.parent == u32::from(home) {
            let of_group = memberships
                .iter()
                .filter(|(key, _)| key.group == u32::from(id));
            let weights: Vec<_> = of_group
                .map(|(key, membership)| (key.tunnel, membership.weight))
                .collect();
            maps.swap_buckets(id, &derived_members(&tunnels, home, &weights))?;
        }
    }
    Ok(())
}

/// Who takes part in the bucket table of a derived group: as in its home group, but of these tunnels
/// only, and with these weights on top of their own.
pub(super) fn derived_members(
    tunnels: &[KnownTunnel],
    home: GroupId,
    weights: &[(u32, u32)],
) -> Vec<Member> {
    let of_group: Vec<KnownTunnel> = tunnels
        .iter()
        .filter_map(|tunnel| {
            let is_it = |(id, _): &&(u32, u32)| *id == u32::from(tunnel.id);
            let (_, weight) = weights.iter().find(is_it)?;
            let mut tunnel = tunnel.clone();
            tunnel.info.weight = tunnel.info.weight.saturating_mul(*weight);
            Some(tunnel)
        })
        .collect();
    members(&of_group, home)
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

/// A name as the maps keep it; names are checked for length when they are given.
pub(super) fn encode_name(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(NAME_BYTES - 1)) {
        *to = from;
    }
    bytes
}

/// A name that the maps keep.
pub(super) fn decode_name(bytes: &[u8; NAME_BYTES]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_BYTES);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The key of a hook.
pub(super) fn hook_key(kind: HookKind, ifindex: u32) -> HookKey {
    HookKey { ifindex, kind }
}
