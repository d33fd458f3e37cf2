//! Keeping the maps up to date with the machine around the tunnels.

use std::collections::BTreeSet;

use crate::{
    commands::state,
    datapath::{DatapathError, maps::Maps},
    net::Devices,
    plan,
};

/// Writes what the packet path must know of the devices, which have these LAN devices among them;
/// whether an address changed, so that every flow is to be checked again.
pub(in crate::commands) fn write(
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

/// What an operator should know of: addresses whose packets are not steered although their prefix
/// is, and MTUs for which packets would have to be marked.
pub(in crate::commands) fn conflicts(
    maps: &Maps,
    devices: &Devices,
) -> Result<BTreeSet<String>, DatapathError> {
    let known = state::tunnels(maps)?;
    let of_tunnels: Vec<_> = known
        .iter()
        .filter_map(|tunnel| devices.by_name(&tunnel.name))
        .collect();
    let prefixes = maps.prefixes()?;
    let prefixes = prefixes.iter().map(|(prefix, _)| *prefix);
    let found = plan::conflicts(prefixes, devices, &of_tunnels);
    let mut found: BTreeSet<String> = found.iter().map(plan::left_to_kernel).collect();
    if maps.settings()?.mark_mask == 0 {
        for (id, group) in state::groups(maps)? {
            let of_group = known
                .iter()
                .filter(|tunnel| tunnel.info.group == u32::from(id));
            let there = of_group.filter_map(|tunnel| devices.by_name(&tunnel.name));
            let mtus = plan::unequal_mtus(there.map(|d| (d.name.as_str(), d.mtu_bytes)));
            found.extend(mtus.map(|mtus| {
                format!(
                    "group {}: the tunnels' MTUs differ now ({mtus}): what is too big for its tunnel \
                     may leave by another, until the configuration is read again (SIGHUP) or steer started again",
                    state::decode_name(&group.name)
                )
            }));
        }
    }
    Ok(found)
}

/// What an operator was warned of.
#[derive(Debug, Default)]
pub(in crate::commands) struct Conflicts(BTreeSet<String>);

impl Conflicts {
    /// Warns of what is new.
    pub(in crate::commands) fn warn(&mut self, now: BTreeSet<String>) {
        for conflict in now.difference(&self.0) {
            log::warn!("{conflict}");
        }
        self.0 = now;
    }
}
