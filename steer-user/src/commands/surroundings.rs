//! Keeping the maps up to date with the machine around the tunnels.

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
