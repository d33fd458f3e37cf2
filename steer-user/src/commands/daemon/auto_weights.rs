//! Weights by measurement (`weights = "auto"`): the part of the daemon that measures and writes.

use std::{collections::BTreeMap, time::Duration};

use steer_common::abi::{Cause, Event, EventKind, GroupId, HealthReason, TunnelInfo};

use crate::{
    commands::state::{self, KnownTunnel},
    datapath::{DatapathError, maps::Maps},
    plan::{
        self, Candidate,
        auto_weights::{AutoWeights, Measured, PERIOD, WeightStep, Why},
    },
    sys::now_ns,
};

/// How often it is to be called.
pub(in crate::commands) const TICK: Duration = PERIOD;

/// The controllers of all home groups.
#[derive(Default)]
pub(in crate::commands) struct Controllers(BTreeMap<GroupId, AutoWeights>);

impl Controllers {
    /// Measures, and changes weights where it is time to. The caller holds the write lock.
    pub(in crate::commands) fn tick(&mut self, maps: &mut Maps) -> Result<(), DatapathError> {
        let now = Duration::from_nanos(now_ns());
        let tunnels = state::tunnels(maps)?;
        for (id, group) in state::groups(maps)? {
            if group.parent != u32::from(id) {
                continue;
            }
            let of_group: Vec<_> = tunnels
                .iter()
                .filter(|tunnel| tunnel.info.group == u32::from(id))
                .collect();
            let measured = measure(maps, &of_group)?;
            let steps = self.0.entry(id).or_default().step(now, &measured);
            if !steps.is_empty() {
                write(maps, id, &of_group, &steps)?;
            }
        }
        Ok(())
    }
}

/// What the tunnels carry and suffer.
fn measure(maps: &Maps, tunnels: &[&KnownTunnel]) -> Result<Vec<Measured>, DatapathError> {
    let shares = plan::shares(tunnels.iter().map(|tunnel| Candidate {
        weight: tunnel.info.weight,
        tier: tunnel.info.tier,
        takes_new_flows: tunnel.state.takes_new_flows(),
    }));
    let mut measured = Vec::new();
    for (tunnel, share) in tunnels.iter().zip(shares) {
        let counters = maps.tunnel_counters(tunnel.id)?;
        let health = maps.tunnel_health(tunnel.id)?;
        let is_probed = health.probed_ns != 0;
        measured.push(Measured {
            id: tunnel.id,
            weight: tunnel.info.weight,
            is_used: share > 0.0,
            bytes: counters.tx_bytes + counters.rx_bytes,
            rtt_us: Some(health.rtt_us).filter(|rtt_us| *rtt_us != 0),
            loss_ppm: is_probed.then_some(health.loss_ppm),
        });
    }
    Ok(measured)
}

fn write(
    maps: &mut Maps,
    home: GroupId,
    tunnels: &[&KnownTunnel],
    steps: &[WeightStep],
) -> Result<(), DatapathError> {
    let known = |step: &WeightStep| tunnels.iter().find(|tunnel| tunnel.id == step.id);
    let mut infos = Vec::new();
    for (step, tunnel) in steps.iter().filter_map(|step| Some((step, known(step)?))) {
        let info = TunnelInfo {
            weight: step.after,
            ..tunnel.info
        };
        infos.push((step.id, info));
        let WeightStep {
            before, after, why, ..
        } = step;
        log::info!("tunnel {}: weight {before} → {after}: {why}", tunnel.name);
    }
    maps.set_tunnel_infos(&infos)?;
    state::rebuild(maps, home)?;
    for step in steps {
        maps.push_event(&Event {
            tunnel: step.id.into(),
            group: home.into(),
            before: step.before,
            after: step.after,
            reason: reason(step.why),
            name: known(step).map_or([0; _], |tunnel| tunnel.info.name),
            ..Event::new(EventKind::WeightChanged, Cause::Auto)
        })?;
    }
    Ok(())
}

fn reason(why: Why) -> HealthReason {
    match why {
        Why::Loss { .. } => HealthReason::Lossy,
        Why::Delay { .. } => HealthReason::Slow,
        Why::Room => HealthReason::RoomLeft,
        Why::Goodput { .. } => HealthReason::Goodput,
        Why::Scale => HealthReason::Rescaled,
        Why::Calm => HealthReason::Calm,
    }
}
