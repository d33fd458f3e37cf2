//! What `status` tells of routes.

use std::{cmp::Reverse, collections::BTreeMap};

use steer_common::abi::{Group, GroupId, PrefixSource};

use crate::{
    commands::state::decode_name,
    datapath::{DatapathError, maps::Maps},
    output::{RouteHopReport, RouteSetReport, RoutesReport},
    plan::{Pinned, Target},
};

/// What of a home group follows routes; `None` when nothing does.
pub(in crate::commands) fn report(
    maps: &Maps,
    home: GroupId,
    group: &Group,
    pinned: &Pinned,
) -> Result<Option<RoutesReport>, DatapathError> {
    if group.prefixes_from != PrefixSource::Routes {
        return Ok(None);
    }
    let mut holes = 0;
    let mut counts: BTreeMap<GroupId, usize> = BTreeMap::new();
    for target in pinned.prefixes.values() {
        match target {
            _ if pinned.home_of(*target) != home => {}
            Target::Hole(_) => holes += 1,
            Target::Group(id) => *counts.entry(*id).or_default() += 1,
        }
    }
    let mut sets = Vec::new();
    for (id, prefixes) in counts {
        let derived = pinned.derived.iter().find(|derived| derived.id == id);
        let hops = match derived {
            Some(derived) => derived.hops.clone(),
            None => group.members().map(|tunnel| (tunnel, 1)).collect(),
        };
        let mut tunnels = Vec::new();
        for (tunnel, weight) in hops {
            let name = decode_name(&maps.tunnel_info(tunnel)?.name);
            tunnels.push(RouteHopReport { name, weight });
        }
        sets.push(RouteSetReport {
            group: id,
            tunnels,
            prefixes,
        });
    }
    sets.sort_by_key(|set| Reverse(set.prefixes));
    Ok(Some(RoutesReport {
        prefixes: sets.iter().map(|set| set.prefixes).sum(),
        holes,
        sets,
    }))
}
