//! What is steered, as the maps tell it.

use steer_common::abi::{EventKind, GroupId, PrefixSource, TunnelId};

use crate::{
    commands::state::{self, decode_name},
    datapath::{DatapathError, maps::Maps},
    plan::{
        Marks,
        doctor::{Steered, SteeredGroup, SteeredTunnel},
    },
    sys::now_ns,
};

pub(super) fn read(maps: &Maps) -> Result<Steered, DatapathError> {
    let settings = maps.settings()?;
    let prefixes = maps.prefixes()?;
    let events = maps.events()?;
    let now_ns = now_ns();
    let secs_since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000_000;
    let admin_secs = |id: TunnelId| {
        let changed = events
            .iter()
            .rev()
            .find(|event| event.kind == EventKind::AdminChanged && event.tunnel == u32::from(id));
        changed.map(|event| secs_since(event.at_ns))
    };
    let mut tunnels = Vec::new();
    for tunnel in state::tunnels(maps)? {
        let measured = maps.tunnel_health(tunnel.id)?;
        tunnels.push(SteeredTunnel {
            name: tunnel.name,
            id: tunnel.id,
            weight: tunnel.info.weight,
            tier: tunnel.info.tier,
            admin: tunnel.state.admin,
            admin_secs: admin_secs(tunnel.id),
            health: tunnel.state.health,
            told: measured,
            health_secs: (measured.since_ns != 0).then(|| secs_since(measured.since_ns)),
        });
    }
    let all = state::groups(maps)?;
    let name_of = |wanted: GroupId| {
        let found = all.iter().find(|(id, _)| *id == wanted);
        found.map_or_else(String::new, |(_, group)| decode_name(&group.name))
    };
    let groups = all
        .iter()
        .map(|(id, group)| {
            let home_id = state::home_of(&all, *id);
            let home = name_of(home_id);
            let members = tunnels.iter().filter(|tunnel| group.has_member(tunnel.id));
            let members: Vec<&str> = members.map(|tunnel| tunnel.name.as_str()).collect();
            let of_group = prefixes.iter().filter(|(_, of)| of == id);
            let mut prefixes: Vec<_> = of_group.map(|(prefix, _)| *prefix).collect();
            prefixes.sort();
            SteeredGroup {
                name: if home_id == *id {
                    home.clone()
                } else {
                    format!("{home} over {}", members.join(" "))
                },
                home,
                follows_routes: group.prefixes_from == PrefixSource::Routes,
                prefixes,
                tunnels: group.members().collect(),
            }
        })
        .collect();
    let mut lan: Vec<String> = state::lan_devices(&maps.hooks()?)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    lan.sort();
    lan.dedup();
    Ok(Steered {
        mode: settings.hook,
        marks: Marks::of(&settings),
        lan,
        groups,
        tunnels,
        undiscovered: None,
    })
}
