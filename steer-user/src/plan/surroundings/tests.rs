//! Addresses, LAN devices and VLANs as the packet path gets them.

use crate::net::{self, Device, Peer, WireGuard};

use super::*;

fn device(ifindex: u32, addresses: &[&str]) -> Device {
    let network = |text: &&str| text.parse().expect("a network");
    Device {
        ifindex,
        name: format!("dev{ifindex}"),
        up: true,
        addresses: addresses.iter().map(network).collect(),
        ..Device::default()
    }
}

fn tunnel(ifindex: u32, addresses: &[&str], endpoints: &[&str]) -> Device {
    let peer = |text: &&str| Peer {
        endpoint: Some(text.parse().expect("an endpoint")),
        ..Peer::default()
    };
    Device {
        layer3: true,
        wireguard: Some(WireGuard {
            peers: endpoints.iter().map(peer).collect(),
            ..WireGuard::default()
        }),
        ..device(ifindex, addresses)
    }
}

fn vlan(ifindex: u32, parent: u32, protocol: u16, id: u16) -> Device {
    Device {
        vlan: Some(net::Vlan {
            parent,
            protocol,
            id,
        }),
        ..device(ifindex, &[])
    }
}

/// What an address is: its kind, and the tunnel that has it.
fn known_as(found: &Surroundings, address: &str) -> Option<(AddressKind, u32)> {
    let key = address_bytes(address.parse().expect("an address"));
    let mut known = found.addresses.iter().filter(|(known, _)| *known == key);
    let first = known.next().map(|(_, known)| (known.kind, known.tunnel));
    assert!(known.next().is_none(), "{address}: twice");
    first
}

const NOBODY: u32 = NO_TUNNEL as u32;

#[test]
fn addresses() {
    let devices = Devices::new(vec![
        device(1, &["127.0.0.1/8", "::1/128"]),
        device(2, &["10.1.0.1/24", "fd00:1::1/64"]),
        tunnel(
            3,
            &["10.9.0.1/30", "10.9.9.9/32", "10.1.0.1/32"],
            &["192.0.2.3:51820", "[2001:db8::3]:51820"],
        ),
        tunnel(
            4,
            &["10.9.1.1/30", "10.9.9.9/32"],
            // A dual-stack socket tells it so; and one that is this gateway itself.
            &[
                "[::ffff:192.0.2.4]:51820",
                "192.0.2.3:51821",
                "10.1.0.1:51820",
            ],
        ),
        // A tunnel of nobody.
        tunnel(5, &["10.9.5.1/30"], &["192.0.2.5:51820"]),
    ]);
    let found = surroundings(&devices, &[(7, 3), (8, 4)], &[2]);
    for (address, expected) in [
        ("127.0.0.1", Some((AddressKind::Own, NOBODY))),
        ("10.1.0.1", Some((AddressKind::Own, NOBODY))),
        ("fd00:1::1", Some((AddressKind::Own, NOBODY))),
        ("10.9.0.1", Some((AddressKind::Own, 7))),
        ("10.9.1.1", Some((AddressKind::Own, 8))),
        // On two tunnels: either may have sent it.
        ("10.9.9.9", Some((AddressKind::Own, NOBODY))),
        ("192.0.2.3", Some((AddressKind::Endpoint, NOBODY))),
        ("192.0.2.4", Some((AddressKind::Endpoint, NOBODY))),
        ("2001:db8::3", Some((AddressKind::Endpoint, NOBODY))),
        ("10.9.5.1", Some((AddressKind::Own, NOBODY))),
        ("192.0.2.5", None),
        // The network is not an address.
        ("10.1.0.0", None),
    ] {
        assert_eq!(known_as(&found, address), expected, "{address}");
    }
}

#[test]
fn more_addresses_than_there_is_room_for() {
    let mut device = device(2, &[]);
    device.addresses = (0..5_000_u32)
        .map(|n| ipnet::IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n))))
        .collect();
    let found = surroundings(&Devices::new(vec![device]), &[], &[]);
    assert_eq!(found.addresses.len(), ADDRESSES_MAX);
}

#[test]
fn lan_devices() {
    const CUSTOMER: u16 = 0x8100;
    const SERVICE: u16 = 0x88a8;
    let mut down = vlan(13, 2, CUSTOMER, 30);
    down.up = false;
    let mut tun = device(6, &[]);
    tun.layer3 = true;
    let devices = Devices::new(vec![
        device(2, &[]),
        device(3, &[]),
        tun,
        vlan(10, 2, CUSTOMER, 10),
        // QinQ: the inner one is on the outer one, whatever their numbers.
        vlan(12, 2, SERVICE, 20),
        vlan(11, 12, CUSTOMER, 10),
        down,
        // Not on a LAN device.
        vlan(14, 3, CUSTOMER, 40),
    ]);
    let found = surroundings(&devices, &[], &[2, 6, 99]);
    let lan: Vec<_> = found
        .lan_devices
        .iter()
        .map(|(ifindex, device)| (*ifindex, device.link_layer, device.hook_ifindex))
        .collect();
    assert_eq!(
        lan,
        [
            (2, LinkLayer::Ethernet, 2),
            (10, LinkLayer::Ethernet, 2),
            (11, LinkLayer::Ethernet, 2),
            (12, LinkLayer::Ethernet, 2),
            (6, LinkLayer::Network, 6),
        ]
    );
    let vlans: Vec<_> = found
        .vlans
        .iter()
        .map(|(key, vlan)| (key.ifindex, key.protocol, key.id, vlan.ifindex))
        .collect();
    assert_eq!(
        vlans,
        [
            (2, CUSTOMER, 10, 10),
            (12, CUSTOMER, 10, 11),
            (2, SERVICE, 20, 12),
        ]
    );
    // Told twice, it is known once.
    let twice = surroundings(&devices, &[], &[2, 12]);
    let inner = twice
        .lan_devices
        .iter()
        .filter(|(ifindex, _)| *ifindex == 11);
    assert_eq!(inner.count(), 1);
    let tags = twice.vlans.iter().filter(|(key, _)| key.ifindex == 12);
    assert_eq!(tags.count(), 1);
}
