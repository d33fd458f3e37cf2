//! What `steerctl weights` does to live flows.

use steer_common::abi::EventKind;

use crate::{
    commands::{
        Context, Failure,
        flows::{
            flow_moves::{self, Run, Table},
            stop::{Interrupt, StopError},
        },
        state::{self, KnownTunnel},
    },
    datapath::{DatapathError, maps::Maps, mover::Mover},
    output::{FlowsOfTunnel, LiveFlows},
    plan::{Change, Rate, rebalance::Target},
};

/// What a change would do to live flows, on the live table.
pub(in crate::commands) fn rehearse(
    maps: &Maps,
    change: &Change,
    rebalance: bool,
) -> Result<LiveFlows, DatapathError> {
    let tunnels = after(state::tunnels(maps)?, change);
    let table = Table::read(maps, change.group_id, &tunnels)?;
    let targets = if rebalance {
        table.targets()
    } else {
        Vec::new()
    };
    let of_tunnels = change.tunnels.iter().map(|tunnel| {
        let of = || targets.iter().filter(|target| target.tunnel == tunnel.id);
        let (gains, loses): (u64, u64) = (
            of().map(Target::deficit).sum(),
            of().map(Target::surplus).sum(),
        );
        let before = table.flows(tunnel.id);
        let after = before + gains - loses;
        FlowsOfTunnel { before, after }
    });
    let moved = targets.iter().map(Target::surplus).sum();
    Ok(LiveFlows {
        tunnels: of_tunnels.collect(),
        moved,
        left: rebalance.then_some(0),
        gone: 0,
    })
}

/// The tunnels as a change leaves them.
fn after(mut tunnels: Vec<KnownTunnel>, change: &Change) -> Vec<KnownTunnel> {
    for tunnel in &mut tunnels {
        if let Some(next) = change.tunnels.iter().find(|next| next.id == tunnel.id) {
            tunnel.info.weight = next.weight;
            tunnel.state.admin = next.admin;
        }
    }
    tunnels
}

/// Moves live flows until the tunnels of a group have their shares; also says why it ended before, if it did.
pub(in crate::commands) async fn rebalance(
    context: &Context,
    maps: &mut Maps,
    mover: &mut Mover,
    change: &Change,
    rate: Rate,
    interrupt: &mut Interrupt,
) -> Result<(LiveFlows, Option<StopError>), Failure> {
    let home = (change.group_id, change.group.as_str());
    let mut run = Run::new(&context.pins, maps, mover, home, rate)?;
    let before = Table::read(maps, change.group_id, &state::tunnels(maps)?)?;
    let moves = before.moves(maps)?;
    let outcome = run.carry_out(maps, &moves, interrupt).await?;
    if outcome.moved > 0 {
        let of = (change.group_id, None);
        flow_moves::record(&context.pins, maps, EventKind::Rebalanced, of, &outcome)?;
    }
    let after = Table::read(maps, change.group_id, &state::tunnels(maps)?)?;
    let of_tunnels = change.tunnels.iter().map(|tunnel| FlowsOfTunnel {
        before: before.flows(tunnel.id),
        after: after.flows(tunnel.id),
    });
    let flows = LiveFlows {
        tunnels: of_tunnels.collect(),
        moved: outcome.moved,
        left: Some(outcome.left),
        gone: outcome.gone,
    };
    Ok((flows, outcome.end))
}
