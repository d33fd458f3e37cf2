//! Reading the pinned maps as the plan sees them, and the little that both directions need.

use std::time::Duration;

use steer_common::{
    abi::{
        Admin, GROUPS_MAX, Group, GroupId, Hook, HookKey, HookKind, Membership, MembershipKey,
        Placement, PrefixSource, Settings, TUNNEL_ID_MAX, Tunnel, TunnelId, TunnelInfo,
    },
    buckets::Member,
};

use super::owned::hooks;
pub(super) use crate::plan::{decode_name, encode_name};
use crate::{
    datapath::{DatapathError, maps::Maps},
    net::Devices,
    plan::{self, Existing, ExistingGroup, ExistingTunnel, Idle, TunnelCandidate},
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

impl KnownTunnel {
    /// What is said of a tunnel that is to leave: it takes no new flows. Its admin state stays what the operator
    /// wanted, for the case that this is never finished and the tunnel stays after all.
    pub(super) fn leaving(&self) -> (TunnelId, TunnelInfo) {
        let weight = 0;
        (
            self.id,
            TunnelInfo {
                weight,
                ..self.info
            },
        )
    }
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

/// A home group and the groups that are derived from it.
pub(super) fn groups_of(
    maps: &Maps,
    home: GroupId,
) -> Result<Vec<(GroupId, Group)>, DatapathError> {
    let mut groups = groups(maps)?;
    groups.retain(|(_, group)| group.parent == u32::from(home));
    Ok(groups)
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

/// The numbers of those that are there.
pub(super) fn lan_ifindexes(hooks: &[(HookKey, Hook)], devices: &Devices) -> Vec<u32> {
    lan_devices(hooks)
        .iter()
        .filter_map(|(name, _)| Some(devices.by_name(name)?.ifindex))
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
        derived: all
            .iter()
            .map(|(id, _)| (*id, home_of(&all, *id)))
            .filter(|(id, home)| id != home)
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

/// The tunnels of a home group as candidates for new flows.
pub(super) fn candidates(tunnels: &[KnownTunnel], home: GroupId) -> Vec<TunnelCandidate> {
    let of_group = tunnels
        .iter()
        .filter(|tunnel| tunnel.info.group == u32::from(home));
    let candidate = |tunnel: &KnownTunnel| TunnelCandidate {
        id: tunnel.id,
        weight: tunnel.info.weight,
        tier: tunnel.info.tier,
        state: tunnel.state,
    };
    of_group.map(candidate).collect()
}

/// The same for a group that is derived from it: the members that the routes gave it, with their weights.
fn derived(
    candidates: &[TunnelCandidate],
    id: GroupId,
    group: &Group,
    memberships: &[(MembershipKey, Membership)],
) -> Vec<TunnelCandidate> {
    let weight = |tunnel: TunnelId| {
        let key = MembershipKey {
            group: id.into(),
            tunnel: tunnel.into(),
        };
        let found = memberships.iter().find(|(of, _)| *of == key);
        found.map_or(1, |(_, membership)| membership.weight)
    };
    let members = candidates
        .iter()
        .filter(|tunnel| group.has_member(tunnel.id));
    members
        .map(|tunnel| TunnelCandidate {
            weight: tunnel.weight.saturating_mul(weight(tunnel.id)),
            ..*tunnel
        })
        .collect()
}

/// Who takes part in the bucket table of a home group or of one that is derived from it.
pub(super) fn members(
    tunnels: &[KnownTunnel],
    id: GroupId,
    group: &Group,
    memberships: &[(MembershipKey, Membership)],
) -> Vec<Member> {
    let home = GroupId::try_from(group.parent).unwrap_or(id);
    let candidates = candidates(tunnels, home);
    if home == id {
        plan::members(&candidates)
    } else {
        plan::members(&derived(&candidates, id, group, memberships))
    }
}

/// Makes the bucket tables of a home group, and of the groups derived from it, anew from what the maps say
/// of its tunnels.
pub(super) fn rebuild(maps: &mut Maps, home: GroupId) -> Result<(), DatapathError> {
    let tunnels = tunnels(maps)?;
    maps.swap_buckets(home, &plan::members(&candidates(&tunnels, home)))?;
    let memberships = maps.memberships()?;
    for (id, group) in groups_of(maps, home)? {
        if id != home {
            let members = members(&tunnels, id, &group, &memberships);
            maps.swap_buckets(id, &members)?;
        }
    }
    Ok(())
}

/// Has every flow checked again at its next packet.
pub(super) fn next_epoch(maps: &mut Maps) -> Result<(), DatapathError> {
    let mut settings = maps.settings()?;
    settings.epoch = settings.epoch.wrapping_add(1);
    maps.set_settings(&settings)
}

/// The key of a hook.
pub(super) fn hook_key(kind: HookKind, ifindex: u32) -> HookKey {
    HookKey { ifindex, kind }
}
