//! Keeping the maps up to date with the machine around the tunnels.

use std::collections::BTreeSet;

use super::state;
use crate::{
    datapath::{DatapathError, maps::Maps},
    net::Devices,
    plan,
};

/// Writes what the packet path must know of the devices, which have these LAN devices among them;
/// whether an address changed, so that every flow is to be checked again.
pub(super) fn write(
    maps: &mut Maps,
    devices: &Devices,
    lan: &[u32],
) -> Result<bool, DatapathError> {
    let tunnels: Vec<_> = state::tunnels(maps)?
        .iter()
        .filter(|tunnel| tunnel.state.ifindex != 0)
        .map(|tunnel| (tunnel.id, tunnel.state.ifindex))
        .collect();
    let found = plan::surroundings(devices, &tunnels, lan);
    maps.replace_lan_devices(&found.lan_devices)?;
    maps.replace_vlans(&found.vlans)?;
    maps.replace_addresses(&found.addresses)
}

/// What makes packets of a prefix not steered: an address that is this gateway's own, or a tunnel's
/// endpoint, each in words.
pub(super) fn conflicts(maps: &Maps, devices: &Devices) -> Result<BTreeSet<String>, DatapathError> {
    let tunnels = state::tunnels(maps)?;
    let tunnels: Vec<_> = tunnels
        .iter()
        .filter_map(|tunnel| devices.by_name(&tunnel.name))
        .collect();
    let prefixes = maps.prefixes()?;
    let prefixes = prefixes.iter().map(|(prefix, _)| *prefix);
    Ok(plan::conflicts(prefixes, devices, &tunnels)
        .iter()
        .map(ToString::to_string)
        .collect())
}

/// What an operator was warned of.
#[derive(Debug, Default)]
pub(super) struct Conflicts(BTreeSet<String>);

impl Conflicts {
    /// Warns of what is new.
    pub(super) fn warn(&mut self, now: BTreeSet<String>) {
        for conflict in now.difference(&self.0) {
            log::warn!("{conflict}; packets to it are left to the kernel");
        }
        self.0 = now;
    }
}
