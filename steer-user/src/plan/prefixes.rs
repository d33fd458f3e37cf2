//! Which prefixes may be steered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{ExistingGroup, PlanError};
use crate::net::{Device, Devices, WireGuard};

const fn v4(a: u8, b: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length))
}

const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last),
        length,
    ))
}

/// What the packet path leaves to the kernel whatever the prefixes say.
const SCOPES: [(&str, IpNet); 10] = [
    ("unspecified", v4(0, 0, 8)),
    ("loopback", v4(127, 0, 8)),
    ("link-local", v4(169, 254, 16)),
    ("multicast", v4(224, 0, 4)),
    (
        "broadcast",
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    ),
    ("unspecified", v6(0, 0, 128)),
    ("loopback", v6(0, 1, 128)),
    ("link-local", v6(0xfe80, 0, 10)),
    ("multicast", v6(0xff00, 0, 8)),
    ("IPv4-mapped", MAPPED),
];

/// IPv4 addresses have this form in the maps, so an IPv6 prefix around it would catch them all.
const MAPPED: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
    96,
));

/// Whether the packet path leaves all addresses of a prefix to the kernel, or could not tell them apart from
/// others.
pub(super) fn is_never_steered(prefix: IpNet) -> bool {
    let is_local = SCOPES.iter().any(|(_, network)| network.contains(&prefix));
    is_local || prefix.prefix_len() > 0 && prefix.contains(&MAPPED)
}

/// Checks one prefix by itself.
pub fn check_prefix(prefix: IpNet) -> Result<(), PlanError> {
    if prefix.prefix_len() == 0 {
        return Err(PlanError::DefaultRoute { prefix });
    }
    if let Some((scope, _)) = SCOPES.iter().find(|(_, network)| network.contains(&prefix)) {
        return Err(PlanError::Scope { prefix, scope });
    }
    if prefix.contains(&MAPPED) {
        return Err(PlanError::Mapped { prefix });
    }
    Ok(())
}

/// Checks one prefix by itself and against this machine's addresses and tunnels.
pub(super) fn check(
    prefix: IpNet,
    devices: &Devices,
    tunnels: &[&Device],
) -> Result<(), PlanError> {
    check_prefix(prefix)?;
    match conflicts([prefix], devices, tunnels).into_iter().next() {
        Some(conflict) => Err(conflict),
        None => Ok(()),
    }
}

/// Every endpoint of a tunnel and every own address in these prefixes: their packets are left to
/// the kernel.
pub fn conflicts(
    prefixes: impl IntoIterator<Item = IpNet>,
    devices: &Devices,
    tunnels: &[&Device],
) -> Vec<PlanError> {
    let mut found = Vec::new();
    for prefix in prefixes {
        for tunnel in tunnels {
            let endpoints = tunnel.wireguard.iter().flat_map(WireGuard::endpoints);
            let inside = endpoints.filter(|address| prefix.contains(&plain(*address)));
            found.extend(inside.map(|address| PlanError::Endpoint {
                prefix,
                address,
                tunnel: tunnel.name.clone(),
            }));
        }
        for device in devices {
            let own = device.addresses.iter().map(IpNet::addr);
            let inside = own.filter(|address| prefix.contains(address));
            found.extend(inside.map(|address| PlanError::OwnAddress {
                prefix,
                address,
                device: device.name.clone(),
            }));
        }
    }
    found
}

/// A dual-stack socket tells IPv4 endpoints as IPv4-mapped ones.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What becomes of packets to an address that is a conflict.
pub fn left_to_kernel(conflict: &PlanError) -> String {
    format!("{conflict}; packets to it are left to the kernel")
}

/// Checks one prefix against the prefixes of other groups.
pub(super) fn check_others(prefix: IpNet, others: &[&ExistingGroup]) -> Result<(), PlanError> {
    let overlap = others.iter().find_map(|group| {
        let other = group
            .prefixes
            .iter()
            .find(|other| overlap(prefix, **other))?;
        Some((group.name.clone(), *other))
    });
    match overlap {
        Some((group, other)) => Err(PlanError::OverlappingPrefix {
            prefix,
            other,
            group: Some(group),
        }),
        None => Ok(()),
    }
}

/// Checks all prefixes of a group, of which some may be `known` already.
pub(super) fn check_all(
    prefixes: &[IpNet],
    known: &[IpNet],
    devices: &Devices,
    tunnels: &[&Device],
    others: &[&ExistingGroup],
    notes: &mut Vec<String>,
) -> Result<(), PlanError> {
    for (index, prefix) in prefixes.iter().copied().enumerate() {
        match check(prefix, devices, tunnels) {
            // What came since does not keep a restart from going on.
            Err(error) if known.contains(&prefix) => notes.push(left_to_kernel(&error)),
            checked => checked?,
        }
        for other in prefixes[..index].iter().copied() {
            if prefix == other {
                return Err(PlanError::DuplicatePrefix { prefix });
            }
            if overlap(prefix, other) {
                return Err(PlanError::OverlappingPrefix {
                    prefix,
                    other,
                    group: None,
                });
            }
        }
        check_others(prefix, others)?;
    }
    Ok(())
}

/// Prefixes overlap when one contains the other.
fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
