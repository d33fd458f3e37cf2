//! Derived groups and prefixes in the maps.

use steer_common::abi::{
    Group, GroupId, Membership, MembershipKey, NAME_BYTES, Placement, PrefixKind, PrefixSource,
    TunnelId, bitmap,
};

use crate::{
    commands::state::{self, KnownTunnel},
    datapath::{DatapathError, maps::Maps},
    plan::{DerivedGroup, Pinned, Steps, Target},
};

/// What the maps hold of groups and prefixes.
pub(in crate::commands) fn read_pinned(
    maps: &Maps,
    groups: &[(GroupId, Group)],
) -> Result<Pinned, DatapathError> {
    let memberships = maps.memberships()?;
    let mut pinned = Pinned::default();
    for (id, group) in groups {
        if group.parent == u32::from(*id) {
            pinned.homes.push(*id);
            continue;
        }
        let of_group = memberships
            .iter()
            .filter(|(key, _)| key.group == u32::from(*id));
        let mut hops: Vec<_> = of_group
            .filter_map(|(key, membership)| {
                Some((u8::try_from(key.tunnel).ok()?, membership.weight))
            })
            .collect();
        hops.sort_unstable();
        pinned.derived.push(DerivedGroup {
            id: *id,
            parent: state::home_of(groups, *id),
            hops,
        });
    }
    for (prefix, of) in maps.prefixes_and_holes()? {
        let group = GroupId::try_from(of.group).unwrap_or(GroupId::MAX);
        let target = match of.kind {
            PrefixKind::Steered => Target::Group(group),
            PrefixKind::Hole => Target::Hole(group),
        };
        pinned.prefixes.insert(prefix, target);
    }
    Ok(pinned)
}

/// Takes the steps. The flows are not checked again before the epoch changes, which is the caller's part.
pub(super) fn carry_out(
    maps: &mut Maps,
    steps: &Steps,
    groups: &[(GroupId, Group)],
    tunnels: &[KnownTunnel],
) -> Result<(), DatapathError> {
    for new in &steps.make {
        let home = groups.iter().find(|(id, _)| *id == new.parent);
        let name = home.map_or([0; NAME_BYTES], |(_, home)| home.name);
        make(maps, new, name, tunnels)?;
    }
    if steps.is_tight {
        remove(maps, steps)?;
    }
    for (prefix, target) in &steps.set {
        match target {
            Target::Group(id) => maps.set_prefix(*prefix, *id)?,
            Target::Hole(home) => maps.set_hole(*prefix, *home)?,
        }
    }
    if !steps.is_tight {
        remove(maps, steps)?;
    }
    if steps.is_change() {
        log::debug!(
            "routes: {} prefixes set, {} removed, {} groups made",
            steps.set.len(),
            steps.remove.len(),
            steps.make.len()
        );
    }
    Ok(())
}

fn remove(maps: &mut Maps, steps: &Steps) -> Result<(), DatapathError> {
    steps
        .remove
        .iter()
        .try_for_each(|prefix| maps.remove_prefix(*prefix))
}

/// Makes a derived group, whole before any prefix belongs to it. It has its home group's name.
fn make(
    maps: &mut Maps,
    new: &DerivedGroup,
    name: [u8; NAME_BYTES],
    tunnels: &[KnownTunnel],
) -> Result<(), DatapathError> {
    let membership = |(id, weight): &(TunnelId, u32)| {
        let key = MembershipKey {
            group: new.id.into(),
            tunnel: (*id).into(),
        };
        (key, Membership { weight: *weight })
    };
    let memberships: Vec<_> = new.hops.iter().map(membership).collect();
    // Whoever was killed while making or forgetting a group of this number left them.
    clear_memberships(maps, new.id)?;
    for (key, membership) in &memberships {
        maps.set_membership(*key, *membership)?;
    }
    let group = Group {
        name,
        placement: Placement::Hash,
        parent: new.parent.into(),
        members: bitmap(new.hops.iter().map(|(id, _)| *id)),
        prefixes_from: PrefixSource::Routes,
        reserved: 0,
    };
    let members = state::members(tunnels, new.id, &group, &memberships);
    maps.swap_buckets(new.id, &members)?;
    maps.set_group(new.id, &group)
}

/// Forgets a derived group that no prefix belongs to.
pub(in crate::commands) fn forget(maps: &mut Maps, id: GroupId) -> Result<(), DatapathError> {
    maps.set_group(
        id,
        &Group {
            name: [0; NAME_BYTES],
            placement: Placement::Absent,
            parent: 0,
            members: bitmap([]),
            prefixes_from: PrefixSource::Operator,
            reserved: 0,
        },
    )?;
    maps.remove_buckets(id)?;
    clear_memberships(maps, id)
}

fn clear_memberships(maps: &mut Maps, id: GroupId) -> Result<(), DatapathError> {
    for (key, _) in maps.memberships()? {
        if key.group == u32::from(id) {
            maps.remove_membership(key)?;
        }
    }
    Ok(())
}
