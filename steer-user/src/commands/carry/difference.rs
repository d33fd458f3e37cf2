//! How a plan differs from what is steered, and how many live flows that concerns.

use std::net::IpAddr;

use steer_common::decide;

use crate::{
    commands::carry::outlook::{Outlook, Pinned},
    datapath::{DatapathError, maps::Maps, pins::PinDir},
    output::DifferenceReport,
    plan::Difference,
    sys::now_ns,
};

/// The difference, with numbers of flows; `None` when nothing is steered.
pub(in crate::commands) fn report(
    pins: &PinDir,
    outlook: &Outlook,
) -> Result<Option<DifferenceReport>, DatapathError> {
    if outlook.pinned != Pinned::Steer {
        return Ok(None);
    }
    let difference = Difference::of(&outlook.existing, &outlook.plan);
    count(&Maps::open(pins)?, &difference).map(Some)
}

/// Counts the live flows that a difference concerns.
pub(in crate::commands) fn count(
    maps: &Maps,
    difference: &Difference,
) -> Result<DifferenceReport, DatapathError> {
    let (mut moved, mut released) = (0, 0);
    if difference.concerns_flows() {
        let settings = maps.settings()?;
        let now_ns = now_ns();
        maps.for_each_flow(|key, entry| {
            if decide::is_idle(&settings, key, entry.phase, entry.last_seen_ns, now_ns) {
                return;
            }
            let remote = IpAddr::from(*key.addr(entry.local.other())).to_canonical();
            if difference.releases(remote) {
                released += 1;
            } else if difference.rehomes(entry.home, remote)
                || difference
                    .leaving
                    .iter()
                    .any(|id| u16::from(*id) == entry.tunnel)
            {
                moved += 1;
            }
        })?;
    }
    Ok(DifferenceReport::new(difference, moved, released))
}
