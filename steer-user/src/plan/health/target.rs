//! Whom to ask whether a tunnel works: the far end's address in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Means, ProbeSpec};
use crate::net::Device;

/// What there is to judge a tunnel by; `Err` with the address that was asked for but cannot be used.
pub fn means(device: &Device, spec: &ProbeSpec) -> Result<Means, IpAddr> {
    if !spec.enabled {
        return Ok(Means::Device);
    }
    if let Some(target) = spec.target {
        return if source(device, target).is_some() {
            Ok(Means::Echo(target))
        } else {
            Err(target)
        };
    }
    Ok(match (far_end(device), &device.wireguard) {
        (Some(target), _) => Means::Echo(target),
        (None, Some(_)) => Means::WireGuard,
        (None, None) => Means::Device,
    })
}

/// The tunnel's own address from which to ask. Without one there is no asking: from any other
/// address a probe could be steered into another tunnel.
pub fn source(device: &Device, target: IpAddr) -> Option<IpAddr> {
    let own = device.addresses.iter().map(IpNet::addr);
    own.filter(|own| own.is_ipv4() == target.is_ipv4() && !is_link_local(*own))
        .find(|own| *own != target)
}

/// An address to knock at where nobody is known: WireGuard makes a handshake for any packet.
pub fn door(device: &Device) -> Option<IpAddr> {
    let wireguard = device.wireguard.as_ref()?;
    wireguard
        .allowed_ips()
        .filter_map(|network| network.hosts().next())
        .find(|address| source(device, *address).is_some())
}

/// The far end's address, in the order in which it is certain.
fn far_end(device: &Device) -> Option<IpAddr> {
    let host_routes = device.wireguard.iter().flat_map(|wireguard| {
        let routes = wireguard.allowed_ips();
        routes.filter(|route| route.prefix_len() == route.max_prefix_len())
    });
    let peers = device.peer_addresses.iter().copied();
    peers
        .chain(device.addresses.iter().filter_map(other_end))
        .chain(host_routes.map(|route| route.addr()))
        .find(|target| is_usable(device, *target))
}

fn is_usable(device: &Device, target: IpAddr) -> bool {
    let is_own = device.addresses.iter().any(|own| own.addr() == target);
    let is_allowed = device.wireguard.as_ref().is_none_or(|wireguard| {
        let mut allowed = wireguard.allowed_ips();
        allowed.any(|network| network.contains(&target))
    });
    !is_own
        && is_allowed
        && !is_link_local(target)
        && !target.is_unspecified()
        && source(device, target).is_some()
}

/// The other address of a network that has two: /30 and /31 (RFC 3021), /126 and /127 (RFC 6164).
fn other_end(own: &IpNet) -> Option<IpAddr> {
    match own {
        IpNet::V4(net) => {
            let own = u32::from(net.addr());
            let other = other(own & 3, net.prefix_len().checked_sub(30)?)?;
            Some(Ipv4Addr::from(own ^ (own & 3) ^ other).into())
        }
        IpNet::V6(net) => {
            let own = u128::from(net.addr());
            let last = u32::try_from(own & 3).ok()?;
            let other = other(last, net.prefix_len().checked_sub(126)?)?;
            Some(Ipv6Addr::from(own ^ (own & 3) ^ u128::from(other)).into())
        }
    }
}

/// The last two bits of the other address; `excess` is by how much the prefix is longer than four
/// addresses. Of four, the first and the last are nobody's.
fn other(last: u32, excess: u8) -> Option<u32> {
    match (excess, last) {
        (0, 1) => Some(2),
        (0, 2) => Some(1),
        (1, _) => Some(last ^ 1),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Peer, WireGuard};

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    fn device(addresses: &[&str], allowed: &[&str]) -> Device {
        Device {
            addresses: networks(addresses),
            wireguard: Some(WireGuard {
                peers: vec![Peer {
                    allowed_ips: networks(allowed),
                    ..Peer::default()
                }],
                ..WireGuard::default()
            }),
            ..Device::default()
        }
    }

    fn found(device: &Device) -> Option<String> {
        match means(device, &ProbeSpec::default()) {
            Ok(Means::Echo(target)) => Some(target.to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_far_end() {
        const ALL: &[&str] = &["0.0.0.0/0", "::/0"];
        for (addresses, allowed, target) in [
            (&["10.9.0.1/30"][..], ALL, Some("10.9.0.2")),
            (&["10.9.0.6/30"], ALL, Some("10.9.0.5")),
            (&["10.9.0.4/30"], ALL, None),
            (&["10.9.0.6/31"], ALL, Some("10.9.0.7")),
            (&["10.9.0.7/31"], ALL, Some("10.9.0.6")),
            (&["10.9.0.1/24"], ALL, None),
            (&["fd00::1/126"], ALL, Some("fd00::2")),
            (&["fd00::3/126"], ALL, None),
            (&["fd00::a/127"], ALL, Some("fd00::b")),
            (&["fd00::1/64"], ALL, None),
            (&["fe80::1/126"], ALL, None),
            // The first that serves.
            (&["10.9.0.1/24", "fd00::1/127"], ALL, Some("fd00::")),
            // WireGuard would refuse to send there.
            (&["10.9.0.1/30"], &["10.2.0.0/16"], None),
            (
                &["10.9.0.1/32"],
                &["10.2.0.0/16", "10.9.0.1/32", "10.9.0.7/32"],
                Some("10.9.0.7"),
            ),
            // No address of that family to ask from.
            (&["10.9.0.1/32"], &["fd00::7/128"], None),
            (
                &["10.9.0.1/32", "fd00::1/128"],
                &["fd00::7/128"],
                Some("fd00::7"),
            ),
            (&[], &["10.9.0.7/32"], None),
        ] {
            let device = device(addresses, allowed);
            assert_eq!(
                found(&device).as_deref(),
                target,
                "{addresses:?} {allowed:?}"
            );
        }
    }

    #[test]
    fn a_peer_address_comes_first() {
        let mut device = device(&["10.9.0.1/30"], &["0.0.0.0/0"]);
        device.peer_addresses = vec!["192.0.2.7".parse().expect("an address")];
        assert_eq!(found(&device).as_deref(), Some("192.0.2.7"));
        device.wireguard = None;
        assert_eq!(
            found(&device).as_deref(),
            Some("192.0.2.7"),
            "whatever it is"
        );
    }

    #[test]
    fn what_an_operator_says() {
        let device = device(&["10.9.0.1/30"], &["0.0.0.0/0"]);
        let to = |target: &str| ProbeSpec {
            target: Some(target.parse().expect("an address")),
            ..ProbeSpec::default()
        };
        let target = "10.2.0.1".parse().expect("an address");
        assert_eq!(means(&device, &to("10.2.0.1")), Ok(Means::Echo(target)));
        let other = "fd00::1".parse().expect("an address");
        assert_eq!(means(&device, &to("fd00::1")), Err(other));
        assert_eq!(means(&device, &ProbeSpec::off()), Ok(Means::Device));
    }

    #[test]
    fn nobody_to_ask() {
        let mut device = device(&["10.9.0.1/24"], &["fd00:2::/64", "10.2.0.0/16"]);
        assert_eq!(means(&device, &ProbeSpec::default()), Ok(Means::WireGuard));
        assert_eq!(door(&device), "10.2.0.1".parse().ok());
        device.wireguard = None;
        assert_eq!(means(&device, &ProbeSpec::default()), Ok(Means::Device));
        assert_eq!(door(&device), None);
    }
}
