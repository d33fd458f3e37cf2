//! What the packet path must know of the machine around the tunnels: addresses that are never steered
//! to, VLANs, and where packets from the tunnels may be forwarded to.

use std::net::IpAddr;

use steer_common::abi::{
    ADDRESSES_MAX, AddressKind, KnownAddress, LanDevice, LinkLayer, NO_TUNNEL, TunnelId, Vlan,
    VlanKey, address_bytes,
};

use crate::net::Devices;

/// The maps `addresses`, `lan_devices` and `vlans` as they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// What each address is.
    pub addresses: Vec<([u8; 16], KnownAddress)>,
    /// LAN devices, and the VLAN devices on them.
    pub lan_devices: Vec<(u32, LanDevice)>,
    /// Which tag leads to which VLAN device.
    pub vlans: Vec<(VlanKey, Vlan)>,
}

/// What there is around the tunnels, given by id and ifindex, and the LAN devices, by ifindex.
pub fn surroundings(devices: &Devices, tunnels: &[(TunnelId, u32)], lan: &[u32]) -> Surroundings {
    let mut found = Surroundings::default();
    for device in devices {
        let owner = tunnels
            .iter()
            .find(|(_, ifindex)| *ifindex == device.ifindex)
            .map_or(NO_TUNNEL, |(id, _)| *id);
        for network in &device.addresses {
            add_own(&mut found.addresses, network.addr(), owner);
        }
    }
    for (_, ifindex) in tunnels {
        let wireguard = devices
            .by_index(*ifindex)
            .and_then(|device| device.wireguard.as_ref());
        for address in wireguard.iter().flat_map(|wireguard| wireguard.endpoints()) {
            let key = address_bytes(address);
            if found.addresses.iter().all(|(known, _)| *known != key) {
                let kind = AddressKind::Endpoint;
                found.addresses.push((key, known(kind, NO_TUNNEL)));
            }
        }
    }
    found.addresses.truncate(ADDRESSES_MAX);
    for &hook_ifindex in lan {
        let Some(device) = devices.by_index(hook_ifindex) else {
            continue;
        };
        let lan_device = |layer3| LanDevice {
            link_layer: if layer3 {
                LinkLayer::Network
            } else {
                LinkLayer::Ethernet
            },
            hook_ifindex,
        };
        let mut add = |ifindex, device| {
            if found.lan_devices.iter().all(|(known, _)| *known != ifindex) {
                found.lan_devices.push((ifindex, device));
            }
        };
        add(hook_ifindex, lan_device(device.layer3));
        for above in devices.vlans_on(hook_ifindex) {
            let Some(vlan) = above.vlan.filter(|_| above.up) else {
                continue;
            };
            add(above.ifindex, lan_device(false));
            let key = VlanKey {
                ifindex: vlan.parent,
                protocol: vlan.protocol,
                id: vlan.id,
            };
            let vlan = Vlan {
                ifindex: above.ifindex,
            };
            if !found.vlans.contains(&(key, vlan)) {
                found.vlans.push((key, vlan));
            }
        }
    }
    found
}

/// An own address; one that several tunnels have belongs to none of them.
fn add_own(addresses: &mut Vec<([u8; 16], KnownAddress)>, address: IpAddr, owner: TunnelId) {
    let key = address_bytes(address);
    match addresses.iter_mut().find(|(found, _)| *found == key) {
        Some((_, found)) if found.tunnel != u32::from(owner) => found.tunnel = NO_TUNNEL.into(),
        Some(_) => {}
        None => addresses.push((key, known(AddressKind::Own, owner))),
    }
}

fn known(kind: AddressKind, tunnel: TunnelId) -> KnownAddress {
    KnownAddress {
        kind,
        tunnel: tunnel.into(),
    }
}

#[cfg(test)]
mod tests;
