//! The `rp_filter` of tunnels, which `--fix` changes and steer's end restores.
//!
//! The maps remember the old value before the new one is set.

use steer_common::abi::{TUNNEL_ID_MAX, TunnelId, TunnelInfo};

use crate::{
    commands::{
        Failure,
        state::{self, KnownTunnel, decode_name, encode_name},
    },
    datapath::{DatapathError, maps::Maps},
    net::{Devices, NetError, sysctl},
    plan::{GroupPlan, Plan, RP_FILTER_LOOSE},
};

/// Makes a plan's changes; after an error some may be made.
pub(in crate::commands) fn change(maps: &mut Maps, plan: &Plan) -> Result<(), Failure> {
    let known = state::tunnels(maps)?;
    for change in &plan.sysctls {
        let of_group = |group: &GroupPlan| {
            let mut tunnels = group.tunnels.iter();
            let tunnel = tunnels.find(|tunnel| tunnel.name == change.tunnel);
            tunnel.map(|tunnel| (group.id, tunnel.clone()))
        };
        let Some((group, tunnel)) = plan.groups.iter().find_map(of_group) else {
            continue;
        };
        let is_others = |other: &KnownTunnel| other.id == tunnel.id && other.name != tunnel.name;
        // A number that passes from one tunnel to another is written with the rest of the plan, and so is what
        // is new of a tunnel that is known.
        if !known.iter().any(is_others) {
            let same = known.iter().find(|other| other.id == tunnel.id);
            let planned = TunnelInfo {
                name: encode_name(&tunnel.name),
                weight: tunnel.weight,
                group: group.into(),
                rp_filter_before: tunnel.rp_filter_before,
                tier: tunnel.tier,
            };
            let info = TunnelInfo {
                rp_filter_before: tunnel.rp_filter_before,
                ..same.map_or(planned, |same| same.info)
            };
            maps.set_tunnel_info(tunnel.id, &info)?;
        }
        sysctl::set_rp_filter(&change.tunnel, change.to)?;
        log::debug!("{} = {}", change.name, change.to);
    }
    Ok(())
}

/// Undoes a plan's changes, made or not, of which the maps knew `before`.
pub(in crate::commands) fn undo(maps: &mut Maps, plan: &Plan, before: &[KnownTunnel]) {
    for change in &plan.sysctls {
        if let Err(error) = sysctl::set_rp_filter(&change.tunnel, change.from) {
            log::warn!("{error}");
        }
        let known = before.iter().find(|tunnel| tunnel.name == change.tunnel);
        let planned = plan.tunnels().find(|t| t.name == change.tunnel);
        let result = match (known, planned) {
            (Some(known), _) => maps.set_tunnel_info(known.id, &known.info),
            (None, Some(planned)) => forget(maps, planned.id),
            (None, None) => Ok(()),
        };
        if let Err(error) = result {
            log::warn!("{error}");
        }
    }
}

/// Changes again what a plan restored that was not carried out.
pub(in crate::commands) fn change_again(known: &[KnownTunnel]) {
    for tunnel in known.iter().filter(|t| t.info.rp_filter_before != 0) {
        let is_there = nix::net::if_::if_nametoindex(tunnel.name.as_str()).is_ok();
        if is_there && let Err(error) = sysctl::set_rp_filter(&tunnel.name, RP_FILTER_LOOSE) {
            log::warn!("{error}");
        }
    }
}

/// Restores what was changed for a tunnel that leaves, and forgets it.
pub(in crate::commands) fn restore(maps: &mut Maps, id: TunnelId) -> Result<(), Failure> {
    let info = maps.tunnel_info(id)?;
    if info.rp_filter_before == 0 {
        return Ok(());
    }
    let name = decode_name(&info.name);
    put_back(&name, maps.tunnel(id)?.ifindex, info.rp_filter_before - 1)?;
    forget(maps, id)?;
    Ok(())
}

/// Forgets what was changed for a tunnel that goes on under another number.
pub(in crate::commands) fn forget(maps: &mut Maps, id: TunnelId) -> Result<(), DatapathError> {
    let info = maps.tunnel_info(id)?;
    maps.set_tunnel_info(
        id,
        &TunnelInfo {
            rp_filter_before: 0,
            ..info
        },
    )
}

/// Restores everything that was changed, also by a start that did not finish.
pub(in crate::commands) fn restore_all(maps: &mut Maps) -> Vec<Failure> {
    let mut errors = Vec::new();
    for id in 0..=TUNNEL_ID_MAX {
        errors.extend(restore(maps, id).err());
    }
    errors
}

/// The names of what is to be restored.
pub(in crate::commands) fn changed(maps: &Maps) -> Result<Vec<String>, DatapathError> {
    let mut found = Vec::new();
    for id in 0..=TUNNEL_ID_MAX {
        let info = maps.tunnel_info(id)?;
        if info.rp_filter_before != 0 {
            found.push(sysctl::rp_filter_name(&decode_name(&info.name)));
        }
    }
    Ok(found)
}

/// Changes what devices brought along that were made anew; to be called before the maps know them.
pub(in crate::commands) fn follow(maps: &mut Maps, devices: &Devices) -> Result<(), Failure> {
    for tunnel in state::tunnels(maps)? {
        let device = devices.by_name(&tunnel.name);
        let Some(device) = device.filter(|device| device.layer3) else {
            continue;
        };
        let is_new = device.ifindex != tunnel.state.ifindex;
        if !is_new || tunnel.info.rp_filter_before == 0 {
            continue;
        }
        let before = sysctl::rp_filter(&tunnel.name)?.device;
        // Changed already by an earlier call after which the maps did not get to know the device: what is noted
        // is what it brought along. Unless that is what all new devices bring along.
        let is_changed = || sysctl::rp_filter("default").map(|new| new.device != RP_FILTER_LOOSE);
        if before == RP_FILTER_LOOSE && is_changed()? {
            continue;
        }
        maps.set_tunnel_info(
            tunnel.id,
            &TunnelInfo {
                rp_filter_before: before + 1,
                ..tunnel.info
            },
        )?;
        sysctl::set_rp_filter(&tunnel.name, RP_FILTER_LOOSE)?;
        let name = sysctl::rp_filter_name(&tunnel.name);
        log::info!("{name}: {before} becomes {RP_FILTER_LOOSE} again");
    }
    Ok(())
}

/// Gives a device its value back, if nobody else has changed it since.
fn put_back(name: &str, ifindex: u32, value: u32) -> Result<(), NetError> {
    // A device that is gone took it along, and one that was made anew has its own.
    let number = nix::net::if_::if_nametoindex(name).unwrap_or(0);
    if number == 0 || (ifindex != 0 && ifindex != number) {
        return Ok(());
    }
    if sysctl::rp_filter(name)?.device == RP_FILTER_LOOSE {
        sysctl::set_rp_filter(name, value)?;
    }
    Ok(())
}
