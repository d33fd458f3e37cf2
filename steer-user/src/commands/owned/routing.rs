//! The policy rules and routes that lead marked packets to their tunnels.
//!
//! The settings say which of them are steer's before any is made, and as long as any is there, so
//! that whoever comes after a crash finds them.

use steer_common::abi::TunnelId;

use crate::{
    commands::{
        Failure,
        state::{self, KnownTunnel},
    },
    datapath::maps::Maps,
    net::{Devices, Family, NetError, Netlink, NoRoute, RouteOutcome},
    plan::{Marks, Plan, own_routing},
};

/// Puts in place what a plan needs, beside what is needed until the plan is written.
pub(in crate::commands) async fn prepare(
    netlink: &Netlink,
    maps: &mut Maps,
    plan: &Plan,
    devices: &Devices,
) -> Result<(), Failure> {
    let Some(marks) = plan.marks else {
        return Ok(());
    };
    let mut settings = maps.settings()?;
    let known = state::tunnels(maps)?;
    let marks_before = Marks::of(&settings);
    if settings.routing_slot != marks.slot {
        settings.routing_slot = marks.slot;
        maps.set_settings(&settings)?;
    }
    let mut ids: Vec<TunnelId> = known.iter().map(|tunnel| tunnel.id).collect();
    let has_v6 = plan.prefixes().any(|prefix| prefix.addr().is_ipv6());
    for tunnel in plan.tunnels() {
        if !ids.contains(&tunnel.id) {
            ids.push(tunnel.id);
        }
        let skipped = set_routes(netlink, marks, tunnel.id, &tunnel.name, devices).await?;
        if let Some(reason) = skipped.filter(|_| has_v6) {
            let name = &tunnel.name;
            log::warn!(
                "tunnel {name}: it {reason}: IPv6 packets for it go by the kernel's own route"
            );
        }
    }
    for tunnel in &known {
        let is_planned = plan.tunnels().any(|planned| planned.id == tunnel.id);
        if !is_planned {
            set_routes(netlink, marks, tunnel.id, &tunnel.name, devices).await?;
        }
    }
    let mut rules = marks.rules(ids);
    if let Some(before) = marks_before {
        rules.extend(before.rules(known.iter().map(|tunnel| tunnel.id)));
    }
    netlink
        .ensure_rules(&own_routing(marks.slot), &rules)
        .await?;
    Ok(())
}

/// Brings rules and routes to what the maps say, no more and no less.
pub(in crate::commands) async fn settle(
    netlink: &Netlink,
    maps: &mut Maps,
    devices: &Devices,
) -> Result<(), Failure> {
    let mut settings = maps.settings()?;
    if settings.routing_slot == 0 {
        return Ok(());
    }
    let own = own_routing(settings.routing_slot);
    let Some(marks) = Marks::of(&settings) else {
        remove(netlink, settings.routing_slot).await?;
        settings.routing_slot = 0;
        maps.set_settings(&settings)?;
        return Ok(());
    };
    let known = state::tunnels(maps)?;
    for tunnel in &known {
        set_routes(netlink, marks, tunnel.id, &tunnel.name, devices).await?;
    }
    let rules = marks.rules(known.iter().map(|tunnel| tunnel.id));
    let changes = netlink.ensure_rules(&own, &rules).await?;
    for rule in &changes.added {
        log::info!("{} rule '{rule}' is back", rule.family);
    }
    remove_stale_routes(netlink, marks, &known).await?;
    Ok(())
}

/// How many rules there are.
pub(in crate::commands) async fn rules(netlink: &Netlink, maps: &Maps) -> Result<usize, Failure> {
    let own = own_routing(maps.settings()?.routing_slot);
    let rules = netlink.rules().await?;
    Ok(rules.iter().filter(|rule| own.has_rule(rule)).count())
}

/// Removes the rules and routes of a slot: first what leads to the tables, then what is in them.
pub(in crate::commands) async fn remove(netlink: &Netlink, slot: u32) -> Result<(), NetError> {
    let own = own_routing(slot);
    netlink.remove_rules(&own).await?;
    netlink.remove_tunnel_routes(&own.tables).await?;
    Ok(())
}

/// Sets the routes of one tunnel, if its device is there; tells why there can be none for IPv6.
async fn set_routes(
    netlink: &Netlink,
    marks: Marks,
    id: TunnelId,
    name: &str,
    devices: &Devices,
) -> Result<Option<NoRoute>, NetError> {
    let Some(device) = devices.by_name(name) else {
        return Ok(None);
    };
    let mut no_ipv6 = None;
    for family in Family::ALL {
        let outcome = netlink
            .ensure_tunnel_route(family, marks.table(id), device)
            .await?;
        if let RouteOutcome::Skipped(reason) = outcome {
            log::debug!("tunnel {name}: no {family} route: it {reason}");
            if matches!(reason, NoRoute::NoIpv6 | NoRoute::Ipv6Disabled) {
                no_ipv6 = Some(reason);
            }
        }
    }
    Ok(no_ipv6)
}

async fn remove_stale_routes(
    netlink: &Netlink,
    marks: Marks,
    known: &[KnownTunnel],
) -> Result<(), NetError> {
    let tables = own_routing(marks.slot).tables;
    let is_stale = |table: u32| known.iter().all(|tunnel| marks.table(tunnel.id) != table);
    for route in netlink.tunnel_routes(&tables).await? {
        if is_stale(route.table) {
            netlink
                .remove_tunnel_routes(&(route.table..=route.table))
                .await?;
        }
    }
    Ok(())
}
