//! `steerctl weights`, `disable` and `enable`: small changes of what is pinned.

use steer_common::abi::{Admin, Tunnel, TunnelInfo};

use super::{Context, Failure, colour, print_either, requirements, show::live_flows, state};
use crate::{
    cli::{TunnelArgs, WeightsArgs},
    datapath::maps::Maps,
    output::{AdminReport, WeightsReport},
    plan::{self, Change},
};

/// `steerctl weights`.
pub(super) fn weights(context: &Context, args: &WeightsArgs) -> Result<(), Failure> {
    requirements::check()??;
    let _lock = context.pins.lock()?;
    let mut maps = Maps::open(&context.pins)?;
    let existing = state::existing(&maps)?;
    let change = plan::change_weights(&existing, args.group.as_deref(), &args.weights)?;
    if !args.dry_run && change.is_change() {
        write(&mut maps, &change)?;
    }
    let report = WeightsReport::new(&change, args.dry_run);
    print_either(context, &report, || report.render(colour()))
}

/// `steerctl disable`.
pub(super) fn disable(context: &Context, args: &TunnelArgs) -> Result<(), Failure> {
    set_admin(context, args, Admin::Disabled)
}

/// `steerctl enable`.
pub(super) fn enable(context: &Context, args: &TunnelArgs) -> Result<(), Failure> {
    set_admin(context, args, Admin::Active)
}

fn set_admin(context: &Context, args: &TunnelArgs, admin: Admin) -> Result<(), Failure> {
    requirements::check()??;
    let _lock = context.pins.lock()?;
    let mut maps = Maps::open(&context.pins)?;
    let existing = state::existing(&maps)?;
    let change = plan::change_admin(&existing, &args.name, admin)?;
    let moved = if admin == Admin::Disabled {
        let (_, tunnel) = existing.tunnel(&args.name)?;
        Some(live_flows(&maps, tunnel.id.into())?)
    } else {
        None
    };
    if !args.dry_run && change.is_change() {
        write(&mut maps, &change)?;
    }
    let report = AdminReport::new(&change, moved, args.dry_run);
    print_either(context, &report, || report.render(colour()))
}

/// Writes weights and admin states, then swaps the table.
fn write(maps: &mut Maps, change: &Change) -> Result<(), Failure> {
    for tunnel in &change.tunnels {
        if tunnel.weight != tunnel.weight_old {
            let info = maps.tunnel_info(tunnel.id)?;
            maps.set_tunnel_info(
                tunnel.id,
                &TunnelInfo {
                    weight: tunnel.weight,
                    ..info
                },
            )?;
        }
        if tunnel.admin != tunnel.admin_old {
            let state = maps.tunnel(tunnel.id)?;
            maps.set_tunnel(
                tunnel.id,
                &Tunnel {
                    admin: tunnel.admin,
                    ..state
                },
            )?;
        }
    }
    Ok(state::rebuild(maps, change.group_id)?)
}
