//! What is steered where: as it should be, and as the pinned maps say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use bytemuck::Zeroable as _;
use steer_common::abi::{
    Admin, BucketTable, GROUPS_MAX, GroupId, Placement, TUNNEL_ID_MAX, TunnelId,
};
use steer_common::buckets::{self, Member};
use steer_user::datapath::maps::Maps;

/// A tunnel of the group that has the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) weight: u32,
    pub(crate) admin: Admin,
}

/// The group `default`, and whether there is the group `east`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// By the number behind `wg`, which is the id.
    pub(crate) tunnels: BTreeMap<TunnelId, Tunnel>,
    pub(crate) prefixes: BTreeSet<String>,
    pub(crate) east: bool,
}

impl State {
    /// As the maps say.
    pub(crate) fn of(maps: &Maps) -> Result<Self> {
        let id = group(maps, "default")?.context("no group default")?;
        let mut tunnels = BTreeMap::new();
        for tunnel in 0..=TUNNEL_ID_MAX {
            let (info, state) = (maps.tunnel_info(tunnel)?, maps.tunnel(tunnel)?);
            if state.admin != Admin::Absent && info.group == u32::from(id) {
                let (weight, admin) = (info.weight, state.admin);
                tunnels.insert(tunnel, Tunnel { weight, admin });
            }
        }
        let prefixes = maps.prefixes()?.into_iter();
        let prefixes = prefixes.filter(|(_, of)| *of == id);
        Ok(Self {
            tunnels,
            prefixes: prefixes.map(|(prefix, _)| prefix.to_string()).collect(),
            east: group(maps, "east")?.is_some(),
        })
    }

    /// The configuration file that says so.
    pub(crate) fn text(&self) -> String {
        let mut text = "seed = 7\nprobe = false\n[[group]]\niface = [\"lan0\"]\n".to_owned();
        let prefixes: Vec<_> = self.prefixes.iter().collect();
        let _ = writeln!(text, "prefixes = {prefixes:?}");
        for (id, tunnel) in &self.tunnels {
            let _ = write!(
                text,
                "[[group.tunnel]]\nname = \"wg{id}\"\nweight = {}\n",
                tunnel.weight
            );
        }
        if self.east {
            text += "[[group]]\nname = \"east\"\nprefixes = [\"10.3.0.0/16\"]\n\
                     [[group.tunnel]]\nname = \"wg4\"\n[[group.tunnel]]\nname = \"wg5\"\n";
        }
        text
    }

    /// What this is once a file is carried out: admin states are not of the file.
    pub(crate) fn by(&self, file: &Self) -> Self {
        let mut after = file.clone();
        for (id, tunnel) in &mut after.tunnels {
            tunnel.admin = self
                .tunnels
                .get(id)
                .map_or(Admin::Active, |known| known.admin);
        }
        after
    }

    /// The bucket table that it makes.
    pub(crate) fn table(&self) -> Vec<TunnelId> {
        let active = self
            .tunnels
            .iter()
            .filter(|(_, tunnel)| tunnel.admin == Admin::Active);
        let members: Vec<_> = active
            .map(|(id, tunnel)| Member {
                id: *id,
                weight: tunnel.weight,
            })
            .collect();
        let mut table = Box::new(BucketTable::zeroed());
        buckets::fill(&mut table.buckets, &members);
        table.buckets.to_vec()
    }

    /// Whether flows that are on a tunnel may stay there.
    pub(crate) fn keeps(&self, id: TunnelId) -> bool {
        self.tunnels
            .get(&id)
            .is_some_and(|tunnel| tunnel.admin != Admin::Disabled)
    }

    /// Whether it is what a process leaves that was killed on the way from one state to another by a file: prefixes
    /// and tunnels may have come or not, but weights are all old or all new.
    pub(crate) fn is_between(&self, before: &Self, after: &Self) -> bool {
        let weight = |state: &Self, id| state.tunnels.get(id).map(|tunnel| tunnel.weight);
        let has = |old: &Self, leaving: Option<u32>| {
            self.tunnels.iter().all(
                |(id, tunnel)| match (weight(before, id), weight(after, id)) {
                    (Some(_), Some(_)) => Some(tunnel.weight) == weight(old, id),
                    (Some(was), None) => tunnel.weight == leaving.unwrap_or(was),
                    (None, Some(new)) => tunnel.weight == new,
                    (None, None) => false,
                },
            )
        };
        let stay =
            |id: &TunnelId| before.tunnels.contains_key(id) && after.tunnels.contains_key(id);
        let admin = |id: &TunnelId| {
            before
                .tunnels
                .get(id)
                .map_or(Admin::Active, |tunnel| tunnel.admin)
        };
        let (old, new) = (&before.prefixes, &after.prefixes);
        (has(before, None) || has(after, Some(0)))
            && before
                .tunnels
                .keys()
                .filter(|id| stay(id))
                .all(|id| self.tunnels.contains_key(id))
            && self
                .tunnels
                .iter()
                .all(|(id, tunnel)| tunnel.admin == admin(id))
            && self.prefixes.is_subset(&(old | new))
            && self.prefixes.is_superset(&(old & new))
            && (self.east == before.east || self.east == after.east)
    }
}

/// The number of a group.
pub(crate) fn group(maps: &Maps, name: &str) -> Result<Option<GroupId>> {
    for id in 0..GROUPS_MAX {
        let id = GroupId::try_from(id)?;
        let group = maps.group(id)?;
        let is_it = group
            .name
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .eq(name.bytes());
        if is_it && group.placement != Placement::Absent {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
