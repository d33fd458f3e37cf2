//! `steerctl weights`, `disable`, `enable` and `undrain`: small changes of what is pinned.

use std::path::Path;

use steer_common::abi::{Admin, Cause, Tunnel, TunnelId, TunnelInfo};

use crate::{
    cli::{TunnelArgs, WeightsArgs},
    commands::{
        Context, Failure,
        carry::{
            journal,
            running::{self, Running},
        },
        colour,
        flows::{flow_moves, rebalance, stop::Interrupt},
        print_either, requirements, routes, state,
    },
    config::NewWeights,
    datapath::{DatapathError, maps::Maps, mover::Mover},
    output::{AdminReport, LiveFlows, WeightsReport},
    plan::{self, Change, Existing, Fate, Pinned, PlanError, Served},
};

/// `steerctl weights`.
pub(in crate::commands) async fn weights(
    context: &Context,
    args: &WeightsArgs,
) -> Result<(), Failure> {
    requirements::check()??;
    let lock = context.pins.lock()?;
    // From now on, so that an early signal finds the weights changed, or not.
    let mut interrupt = args.rebalance.then(Interrupt::listen).transpose()?;
    let mut maps = Maps::open(&context.pins)?;
    let existing = state::existing(&maps)?;
    let mut change = plan::change_weights(&existing, args.group.as_deref(), &args.weights)?;
    let routed = routes::read_pinned(&maps, &state::groups(&maps)?)?;
    plan::note_routes(&mut change, &existing, &routed);
    // Whatever can be refused is refused before anything is changed.
    let config = running::file_or(args.config.as_deref(), Running::of(&context.pins).as_ref());
    let saved = args.save.then(|| prepare(&config, &change)).transpose()?;
    let moves_flows = args.rebalance && !args.dry_run;
    let pins = &context.pins;
    let _turn = moves_flows.then(|| pins.begin_moving()).transpose()?;
    let mut mover = moves_flows.then(|| Mover::load(pins)).transpose()?;
    if !args.dry_run {
        if change.is_change() {
            write(&mut maps, &change)?;
        }
        if let Some(saved) = saved
            && let Err(error) = saved.commit()
        {
            write(&mut maps, &change.undone())?;
            return Err(error.into());
        }
        journal::record(&mut maps, &existing, Cause::Operator)?;
    }
    // From here on the table is only read, or changed batch by batch.
    drop(lock);
    let (flows, end) = match mover.as_mut().zip(interrupt.as_mut()) {
        Some((mover, interrupt)) => {
            let rate = args.rate.unwrap_or_default();
            rebalance::rebalance(context, &mut maps, mover, &change, rate, interrupt).await?
        }
        None if args.dry_run => (rebalance::rehearse(&maps, &change, args.rebalance)?, None),
        None => (LiveFlows::default(), None),
    };
    let mut report = WeightsReport::new(&change, &flows, args.dry_run);
    report.saved = args.save.then(|| config.display().to_string());
    print_either(context, &report, || report.render(colour()))?;
    end.map_or(Ok(()), |end| Err(end.into()))
}

/// The file with the weights that the group is to have, beside the old one.
fn prepare(config: &Path, change: &Change) -> Result<NewWeights, Failure> {
    let weights: Vec<_> = change
        .tunnels
        .iter()
        .map(|tunnel| (tunnel.name.as_str(), tunnel.weight))
        .collect();
    Ok(NewWeights::prepare(config, &change.group, &weights)?)
}

/// `steerctl disable`.
pub(in crate::commands) fn disable(context: &Context, args: &TunnelArgs) -> Result<(), Failure> {
    let name = &args.name;
    let mut leaving = None;
    let plan = |maps: &Maps, existing: &Existing, routed: &Pinned| {
        let change = plan::change_admin(existing, name, Admin::Disabled)?;
        let served = Served::by(&change, existing, routed);
        leaving = Some(fate(maps, change.id_of(name)?, &served)?);
        Ok(change)
    };
    let (_, change) = set_admin(context, args.dry_run, plan)?;
    let mut report = AdminReport::new(&change, args.dry_run);
    report.live_flows_moved = leaving.map(Fate::leave);
    report.live_flows_to_kernel = leaving.map(Fate::left_to_kernel);
    print_either(context, &report, || report.render(colour()))
}

/// `steerctl enable`.
pub(in crate::commands) fn enable(context: &Context, args: &TunnelArgs) -> Result<(), Failure> {
    activate(context, args, |existing| {
        plan::change_admin(existing, &args.name, Admin::Active)
    })
}

/// `steerctl undrain`.
pub(in crate::commands) fn undrain(context: &Context, args: &TunnelArgs) -> Result<(), Failure> {
    activate(context, args, |existing| {
        plan::undrain(existing, &args.name)
    })
}

fn activate(
    context: &Context,
    args: &TunnelArgs,
    plan: impl FnOnce(&Existing) -> Result<Change, PlanError>,
) -> Result<(), Failure> {
    let (_, change) = set_admin(context, args.dry_run, |_, existing, _| Ok(plan(existing)?))?;
    let report = AdminReport::new(&change, args.dry_run);
    print_either(context, &report, || report.render(colour()))
}

/// What becomes of a tunnel's live flows when it takes none any more.
pub(in crate::commands) fn fate(
    maps: &Maps,
    id: TunnelId,
    served: &Served,
) -> Result<Fate, DatapathError> {
    let mut fate = Fate::default();
    flow_moves::for_each_live(maps, |_, entry| {
        if entry.tunnel == u16::from(id) {
            fate.add(entry, served);
        }
    })?;
    Ok(fate)
}

/// Changes admin states as planned. The plan is given what routes made of the groups, too.
pub(in crate::commands) fn set_admin(
    context: &Context,
    dry_run: bool,
    plan: impl FnOnce(&Maps, &Existing, &Pinned) -> Result<Change, Failure>,
) -> Result<(Maps, Change), Failure> {
    requirements::check()??;
    let _lock = context.pins.lock()?;
    let mut maps = Maps::open(&context.pins)?;
    let existing = state::existing(&maps)?;
    let routed = routes::read_pinned(&maps, &state::groups(&maps)?)?;
    let mut change = plan(&maps, &existing, &routed)?;
    plan::note_routes(&mut change, &existing, &routed);
    if !dry_run && change.is_change() {
        write(&mut maps, &change)?;
        journal::record(&mut maps, &existing, Cause::Operator)?;
    }
    Ok((maps, change))
}

/// Writes weights and admin states, then swaps the tables.
pub(in crate::commands) fn write(maps: &mut Maps, change: &Change) -> Result<(), DatapathError> {
    let mut infos = Vec::new();
    for tunnel in &change.tunnels {
        if tunnel.weight != tunnel.weight_old {
            let info = maps.tunnel_info(tunnel.id)?;
            let weight = tunnel.weight;
            infos.push((tunnel.id, TunnelInfo { weight, ..info }));
        }
    }
    maps.set_tunnel_infos(&infos)?;
    for tunnel in &change.tunnels {
        if tunnel.admin != tunnel.admin_old {
            // The daemon may find the tunnel dead at the same moment.
            let admin = tunnel.admin;
            let words = maps.tunnel_words()?;
            words.update(tunnel.id, |state| Some(Tunnel { admin, ..state }));
        }
    }
    state::rebuild(maps, change.group_id)
}
