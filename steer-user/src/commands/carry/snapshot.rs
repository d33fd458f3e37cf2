//! What the maps say of groups, tunnels and prefixes, to go back to it.

use ipnet::IpNet;
use steer_common::abi::{
    Group, GroupId, Membership, MembershipKey, Placement, Prefix, Tunnel, TunnelId, TunnelInfo,
    TunnelRef,
};

use crate::{
    commands::{
        carry::apply::ABSENT,
        state::{self, KnownTunnel},
    },
    datapath::{DatapathError, maps::Maps},
};

/// Groups, tunnels and prefixes as they were.
pub(in crate::commands) struct Snapshot {
    tunnels: Vec<(TunnelId, Tunnel, TunnelInfo)>,
    devices: Vec<(u32, TunnelRef)>,
    groups: Vec<(GroupId, Group)>,
    memberships: Vec<(MembershipKey, Membership)>,
    prefixes: Vec<(IpNet, Prefix)>,
}

impl Snapshot {
    /// As they are now.
    pub(in crate::commands) fn take(maps: &Maps) -> Result<Self, DatapathError> {
        let tunnels = state::tunnels(maps)?;
        let tunnels = tunnels.into_iter().map(|t| (t.id, t.state, t.info));
        Ok(Self {
            tunnels: tunnels.collect(),
            devices: maps.tunnel_devices()?,
            groups: state::groups(maps)?,
            memberships: maps.memberships()?,
            prefixes: maps.prefixes_and_holes()?,
        })
    }

    /// Goes back to it. What is new goes last, so that no packet finds nothing.
    pub(in crate::commands) fn restore(&self, maps: &mut Maps) -> Result<(), DatapathError> {
        let mut new_tunnels = state::tunnels(maps)?;
        new_tunnels.retain(|tunnel| self.tunnels.iter().all(|(id, ..)| *id != tunnel.id));
        let mut infos: Vec<_> = self
            .tunnels
            .iter()
            .map(|(id, _, info)| (*id, *info))
            .collect();
        infos.extend(new_tunnels.iter().map(KnownTunnel::leaving));
        maps.set_tunnel_infos(&infos)?;
        for (id, tunnel, _) in &self.tunnels {
            maps.set_tunnel(*id, tunnel)?;
        }
        for (ifindex, tunnel) in &self.devices {
            maps.set_tunnel_device(*ifindex, *tunnel)?;
        }
        for (key, membership) in &self.memberships {
            maps.set_membership(*key, *membership)?;
        }
        for (id, group) in &self.groups {
            maps.set_group(*id, group)?;
        }
        for (id, group) in &self.groups {
            if group.parent == u32::from(*id) {
                state::rebuild(maps, *id)?;
            }
        }
        for (prefix, group) in &self.prefixes {
            maps.put_prefix(*prefix, *group)?;
        }
        let mut known: Vec<IpNet> = self.prefixes.iter().map(|(prefix, _)| *prefix).collect();
        known.sort();
        for (prefix, _) in maps.prefixes_and_holes()? {
            if known.binary_search(&prefix).is_err() {
                maps.remove_prefix(prefix)?;
            }
        }
        for (ifindex, _) in maps.tunnel_devices()? {
            if self.devices.iter().all(|(known, _)| *known != ifindex) {
                maps.remove_tunnel_device(ifindex)?;
            }
        }
        for tunnel in new_tunnels {
            maps.set_tunnel(tunnel.id, &ABSENT)?;
        }
        for (id, group) in state::groups(maps)? {
            if self.groups.iter().all(|(known, _)| *known != id) {
                let absent = Group {
                    placement: Placement::Absent,
                    ..group
                };
                maps.set_group(id, &absent)?;
            }
        }
        state::next_epoch(maps)
    }
}
