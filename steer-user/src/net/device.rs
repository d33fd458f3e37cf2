//! Network devices as steer sees them: plain data, so that planning and its
//! tests need no kernel.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// All devices of the network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// Devices in the order of their numbers.
    pub fn new(mut devices: Vec<Device>) -> Self {
        devices.sort_by_key(|device| device.ifindex);
        Self(devices)
    }

    /// The device of this name.
    pub fn by_name(&self, name: &str) -> Option<&Device> {
        self.0.iter().find(|device| device.name == name)
    }

    /// The device of this number.
    pub fn by_index(&self, ifindex: u32) -> Option<&Device> {
        self.0.iter().find(|device| device.ifindex == ifindex)
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> std::slice::Iter<'_, Device> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Devices {
    type Item = &'a Device;
    type IntoIter = std::slice::Iter<'a, Device>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Largest layer-3 packet that it takes.
    pub mtu_bytes: u32,
    /// Administratively up (`IFF_UP`). WireGuard never loses carrier, so this is all there is.
    pub up: bool,
    /// Packets have no MAC header; see [`has_no_mac_header`].
    pub layer3: bool,
    /// The loopback device.
    pub loopback: bool,
    /// `IFLA_INFO_KIND`: `wireguard`, `tun`, `veth`, …; `None` for hardware.
    pub kind: Option<String>,
    /// Addresses with their on-link prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Present when the device is WireGuard and would tell.
    pub wireguard: Option<WireGuard>,
}

/// What a WireGuard device tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireGuard {
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// A WireGuard peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where its encrypted packets go.
    pub endpoint: Option<SocketAddr>,
    /// What may be sent to it and come from it.
    pub allowed_ips: Vec<IpNet>,
    /// Time of the latest handshake since the Unix epoch; `None` when there was none.
    pub latest_handshake: Option<Duration>,
}

impl WireGuard {
    /// The allowed IPs of all peers.
    pub fn allowed_ips(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.peers
            .iter()
            .flat_map(|peer| peer.allowed_ips.iter().copied())
    }

    /// Addresses of the endpoints of all peers.
    pub fn endpoints(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.peers
            .iter()
            .filter_map(|peer| peer.endpoint)
            .map(|endpoint| endpoint.ip())
    }

    /// The latest handshake of any peer, since the Unix epoch.
    pub fn latest_handshake(&self) -> Option<Duration> {
        self.peers
            .iter()
            .filter_map(|peer| peer.latest_handshake)
            .max()
    }
}

/// Whether packets of a device of this link-layer type have no MAC header, as
/// the kernel's redirect decides it (`dev_is_mac_header_xmit`, `if_arp.h`).
pub fn has_no_mac_header(link_layer_type: u16) -> bool {
    const ARPHRD_PPP: u16 = 512;
    const ARPHRD_RAWIP: u16 = 519;
    const ARPHRD_TUNNEL: u16 = 768;
    const ARPHRD_TUNNEL6: u16 = 769;
    const ARPHRD_SIT: u16 = 776;
    const ARPHRD_IPGRE: u16 = 778;
    const ARPHRD_PIMREG: u16 = 779;
    const ARPHRD_IP6GRE: u16 = 823;
    const ARPHRD_VOID: u16 = 0xFFFF;
    const ARPHRD_NONE: u16 = 0xFFFE;
    matches!(
        link_layer_type,
        ARPHRD_PPP
            | ARPHRD_RAWIP
            | ARPHRD_TUNNEL
            | ARPHRD_TUNNEL6
            | ARPHRD_SIT
            | ARPHRD_IPGRE
            | ARPHRD_PIMREG
            | ARPHRD_IP6GRE
            | ARPHRD_VOID
            | ARPHRD_NONE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_layer_types() {
        assert!(has_no_mac_header(0xFFFE), "WireGuard and TUN");
        assert!(!has_no_mac_header(1), "Ethernet");
        assert!(!has_no_mac_header(772), "loopback");
    }
}
