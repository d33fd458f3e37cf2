//! What the maps are told of a tunnel's health when steer starts.

use steer_common::abi::{Health, TunnelHealth};

use crate::{
    commands::state::KnownTunnel,
    datapath::{DatapathError, maps::Maps},
    plan::health::{self, DeviceState},
    sys::now_ns,
};

/// The health of a tunnel whose device is as given, and what is told of it. With somebody there to probe it,
/// what was known `before` goes on; without, only the device counts.
pub(in crate::commands) fn at_start(
    maps: &Maps,
    device: DeviceState,
    before: Option<&KnownTunnel>,
) -> Result<(Health, TunnelHealth), DatapathError> {
    let told = match before {
        Some(before) => Some((before.state.health, maps.tunnel_health(before.id)?)),
        None => None,
    };
    let reason = |told: &TunnelHealth| told.reason;
    let known = told.as_ref().map(|(health, told)| (*health, reason(told)));
    let (health, reason) = health::at_start(device, known);
    let told = match told {
        Some((before, told)) if (before, told.reason) == (health, reason) => told,
        _ => TunnelHealth {
            since_ns: now_ns(),
            probed_ns: 0,
            rtt_us: 0,
            jitter_us: 0,
            loss_ppm: 0,
            reason,
            answered_by: told.map_or([0; 16], |(_, told)| told.answered_by),
        },
    };
    Ok((health, told))
}

/// Whether probes were answered, so that there are figures to tell.
pub(in crate::commands) fn is_measured(told: &TunnelHealth) -> bool {
    told.rtt_us != 0
}
