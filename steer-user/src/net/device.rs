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

    /// VLAN devices on top of this device, and those on top of them (`QinQ`),
    /// in the order of their numbers.
    ///
    /// Their names say nothing: `lan0.10` may have any VLAN id and any parent.
    pub fn vlans_on(&self, ifindex: u32) -> Vec<&Device> {
        let mut found: Vec<&Device> = Vec::new();
        let mut parents = vec![ifindex];
        while let Some(parent) = parents.pop() {
            for device in &self.0 {
                let is_on_parent = device.vlan.is_some_and(|vlan| vlan.parent == parent);
                // The kernel has no circles, but a listing is not made at one moment.
                let is_new = !found.iter().any(|known| known.ifindex == device.ifindex);
                if is_on_parent && is_new && device.ifindex != ifindex {
                    found.push(device);
                    parents.push(device.ifindex);
                }
            }
        }
        found.sort_by_key(|device| device.ifindex);
        found
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// The device that it is a part of: its packets are that one's.
    pub master: Option<Master>,
    /// Present for a VLAN device whose parent is in this network namespace.
    pub vlan: Option<Vlan>,
    /// Addresses with their on-link prefix lengths.
    pub addresses: Vec<IpNet>,
    /// The far ends of point-to-point addresses.
    pub peer_addresses: Vec<IpAddr>,
    /// Present when the device is WireGuard and would tell.
    pub wireguard: Option<WireGuard>,
}

/// The bridge, bond, … that a device belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its number.
    pub ifindex: u32,
    /// What it is.
    pub kind: MasterKind,
}

/// What a [`Master`] is, and so what its members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKind {
    /// A bridge; the member is a bridge port.
    Bridge,
    /// A bond; the member is a bond slave.
    Bond,
    /// A team; the member is a team port.
    Team,
    /// A VRF; the member keeps its packets, but routes by the VRF's table.
    Vrf,
    /// Another one, by the kernel's word; empty when the kernel has none.
    Other(String),
}

/// Which frames of its parent a VLAN device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Number of the device that it is on top of.
    pub parent: u32,
    /// `EtherType` of the tag: 0x8100 (802.1Q) or 0x88A8 (802.1ad).
    pub protocol: u16,
    /// VLAN id.
    pub id: u16,
}

/// What a WireGuard device tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireGuard {
    /// Mark of the encrypted packets that it sends; `None` when it sets none.
    pub fwmark: Option<u32>,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// A WireGuard peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its name in WireGuard.
    pub public_key: [u8; 32],
    /// How often this side says that it is there; `None` when it does not.
    pub keepalive_secs: Option<u16>,
    /// Where its encrypted packets go.
    pub endpoint: Option<SocketAddr>,
    /// What may be sent to it and come from it.
    pub allowed_ips: Vec<IpNet>,
    /// Time of the latest handshake since the Unix epoch; `None` when there was none.
    pub latest_handshake: Option<Duration>,
    /// Bytes that came from it, handshakes and empty packets too.
    pub rx_bytes: u64,
    /// Bytes that went to it.
    pub tx_bytes: u64,
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

    /// The peer to which packets for this address go, by the longest allowed IP.
    pub fn peer_of(&self, address: IpAddr) -> Option<&Peer> {
        let length = |peer: &&Peer| {
            let allowed = peer.allowed_ips.iter();
            let matching = allowed.filter(|network| network.contains(&address));
            matching.map(IpNet::prefix_len).max()
        };
        let peers = self.peers.iter().filter(|peer| length(peer).is_some());
        peers.max_by_key(length)
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

    #[test]
    fn the_peer_of_an_address() {
        let peer = |allowed: &str, rx_bytes| Peer {
            allowed_ips: vec![allowed.parse().expect("a network")],
            rx_bytes,
            ..Peer::default()
        };
        let wireguard = WireGuard {
            peers: vec![
                peer("10.0.0.0/8", 1),
                peer("10.9.0.2/32", 2),
                peer("fd00::/8", 3),
            ],
            ..WireGuard::default()
        };
        let of = |address: &str| {
            let address = address.parse().expect("an address");
            wireguard.peer_of(address).map(|peer| peer.rx_bytes)
        };
        assert_eq!(of("10.9.0.2"), Some(2));
        assert_eq!(of("10.9.0.3"), Some(1));
        assert_eq!(of("192.0.2.1"), None);
    }

    fn vlan(ifindex: u32, parent: u32) -> Device {
        Device {
            ifindex,
            vlan: Some(Vlan {
                parent,
                protocol: 0x8100,
                id: 10,
            }),
            ..Device::default()
        }
    }

    #[test]
    fn vlans_on_top_of_each_other() {
        let lan = |ifindex| Device {
            ifindex,
            ..Device::default()
        };
        // 3 is on 5 is on 2; numbers do not follow the order in which devices were made.
        let devices = Devices::new(vec![
            lan(2),
            lan(4),
            vlan(3, 5),
            vlan(5, 2),
            vlan(6, 2),
            vlan(7, 4),
        ]);
        let on = |ifindex| {
            let vlans = devices.vlans_on(ifindex);
            vlans
                .iter()
                .map(|device| device.ifindex)
                .collect::<Vec<_>>()
        };
        assert_eq!(on(2), [3, 5, 6]);
        assert_eq!(on(5), [3]);
        assert_eq!(on(4), [7]);
        assert_eq!(on(3), [0; 0]);
        assert_eq!(
            Devices::new(vec![vlan(2, 3), vlan(3, 2)]).vlans_on(2).len(),
            1,
            "a circle ends"
        );
    }
}
