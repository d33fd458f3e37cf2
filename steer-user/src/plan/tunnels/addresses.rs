//! Addresses for new tunnels: little networks of the two ends, next to the original's. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Conf, TunnelsError};
use crate::net::Family;

/// The two ends of a tunnel in one family, with the length of their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) near: IpNet,
    pub(super) far: IpNet,
}

/// The addresses of `count` new tunnels: for each a link in every family that the original has,
/// cut from a network of `pools` or else from what follows the original's address.
pub(super) fn links(
    conf: &Conf,
    pools: &[IpNet],
    count: usize,
) -> Result<Vec<Vec<Link>>, TunnelsError> {
    let mut tunnels = vec![Vec::new(); count];
    for family in Family::ALL {
        let is_of_family = |network: &&IpNet| Family::from(network.addr()) == family;
        let original = conf.addresses.iter().find(is_of_family).copied();
        let pool = pools.iter().find(is_of_family).copied();
        if original.is_none() && pool.is_none() {
            continue;
        }
        let shape = Shape::of(family, original);
        let taken: Vec<Span> = conf
            .allowed_ips
            .iter()
            .chain(&conf.addresses)
            .filter(is_of_family)
            .map(|network| shape.taken(*network))
            .collect();
        let within = match (pool, original) {
            (Some(pool), _) => Span::of(pool),
            (None, Some(original)) => shape.around(original.addr()),
            (None, None) => continue,
        };
        let found = shape
            .cut(within, &taken, count)
            .ok_or_else(|| TunnelsError::NoRoom {
                count,
                within: pool.or(original).map(|network| network.to_string()),
                has_pool: pool.is_some(),
            })?;
        for (tunnel, first) in tunnels.iter_mut().zip(found) {
            tunnel.push(shape.link(first));
        }
    }
    if tunnels.iter().any(Vec::is_empty) {
        return Err(TunnelsError::NoAddress);
    }
    Ok(tunnels)
}

/// Addresses from one to another, as numbers.
#[derive(Clone, Copy)]
struct Span {
    first: u128,
    last: u128,
}

impl Span {
    fn of(network: IpNet) -> Self {
        Self {
            first: number(network.network()),
            last: number(network.broadcast()),
        }
    }
}

/// What the network of one tunnel looks like.
struct Shape {
    family: Family,
    /// 2 for a /30 or /126, 1 for a /31 or /127.
    host_bits: u32,
    /// Where in it this gateway is, and the far one.
    near: u128,
    far: u128,
}

impl Shape {
    /// As the original's, if that is as small.
    fn of(family: Family, original: Option<IpNet>) -> Self {
        let host = original.map_or(1, |network| number(network.addr()) & 3);
        let is_pair =
            original.is_some_and(|network| network.max_prefix_len() - network.prefix_len() == 1);
        let (host_bits, near, far) = match (is_pair, host) {
            (true, 0 | 2) => (1, 0, 1),
            (true, _) => (1, 1, 0),
            (false, 2) => (2, 2, 1),
            (false, _) => (2, 1, 2),
        };
        Self {
            family,
            host_bits,
            near,
            far,
        }
    }

    fn size(&self) -> u128 {
        1 << self.host_bits
    }

    /// What a network of the original keeps from being used: all of it, or at least the little one
    /// that this address would be in.
    fn taken(&self, network: IpNet) -> Span {
        let is_host_of_larger = network.addr() != network.network()
            && u32::from(network.max_prefix_len() - network.prefix_len()) > self.host_bits;
        if is_host_of_larger {
            let first = number(network.addr()) & !(self.size() - 1);
            let last = first + (self.size() - 1);
            return Span { first, last };
        }
        Span::of(network)
    }

    /// From an address to the end of the /16 or /48 that it is in.
    fn around(&self, address: IpAddr) -> Span {
        let host_bits = match self.family {
            Family::V4 => 16,
            Family::V6 => 80,
        };
        let first = number(address);
        Span {
            first,
            last: first | ((1 << host_bits) - 1),
        }
    }

    /// The first networks that hold nothing that is taken.
    fn cut(&self, within: Span, taken: &[Span], count: usize) -> Option<Vec<u128>> {
        let mut found = Vec::new();
        let mut first = within.first.checked_next_multiple_of(self.size())?;
        while found.len() < count {
            let last = first.checked_add(self.size() - 1)?;
            if last > within.last {
                return None;
            }
            let in_the_way = taken
                .iter()
                .find(|taken| taken.first <= last && first <= taken.last);
            let next = if let Some(taken) = in_the_way {
                taken.last
            } else {
                found.push(first);
                last
            };
            let next = next.checked_add(1)?;
            first = next.checked_next_multiple_of(self.size())?;
        }
        Some(found)
    }

    fn link(&self, first: u128) -> Link {
        Link {
            near: self.address(first + self.near),
            far: self.address(first + self.far),
        }
    }

    fn address(&self, number: u128) -> IpNet {
        let address: IpAddr = match self.family {
            // What is cut from IPv4 is IPv4.
            Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Family::V6 => Ipv6Addr::from(number).into(),
        };
        let mut network = IpNet::from(address);
        let length = u32::from(network.max_prefix_len()) - self.host_bits;
        if let Ok(shorter) = IpNet::new(address, u8::try_from(length).unwrap_or(u8::MAX)) {
            network = shorter;
        }
        network
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Whether an allowed network belongs to the tunnel itself and not to what is behind its far end:
/// it lies in the tunnel's own network, or is a host next to the tunnel's own address.
pub(super) fn is_of_tunnel(network: IpNet, addresses: &[IpNet]) -> bool {
    addresses.iter().any(|own| {
        let near = match own.addr() {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        };
        let is_host = network.prefix_len() == network.max_prefix_len();
        let is_next_to = IpNet::new(own.addr(), near).is_ok_and(|near| near.contains(&network));
        own.contains(&network) || (is_host && is_next_to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(addresses: &[&str], allowed_ips: &[&str]) -> Conf {
        let list = |texts: &[&str]| -> String { texts.join(", ") };
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let text = format!(
            "[Interface]\nPrivateKey = {key}\nAddress = {}\n[Peer]\nPublicKey = {key}\nAllowedIPs = {}\n",
            list(addresses),
            list(allowed_ips)
        );
        Conf::parse("wg0.conf", &text).expect("a configuration")
    }

    /// Near and far addresses, tunnel by tunnel.
    fn cut(addresses: &[&str], allowed_ips: &[&str], pools: &[&str], count: usize) -> Vec<String> {
        let pools: Vec<IpNet> = pools
            .iter()
            .map(|pool| pool.parse().expect("pool"))
            .collect();
        let links = links(&conf(addresses, allowed_ips), &pools, count).expect("addresses");
        links
            .iter()
            .map(|links| {
                let both = links
                    .iter()
                    .map(|link| format!("{} {}", link.near, link.far));
                both.collect::<Vec<_>>().join(", ")
            })
            .collect()
    }

    #[test]
    fn networks_follow_the_original() {
        for (address, expected) in [
            (
                "10.9.0.1/30",
                ["10.9.0.5/30 10.9.0.6/30", "10.9.0.9/30 10.9.0.10/30"],
            ),
            // This end is the second one, and stays so.
            (
                "10.9.0.2/30",
                ["10.9.0.6/30 10.9.0.5/30", "10.9.0.10/30 10.9.0.9/30"],
            ),
            (
                "10.9.0.0/31",
                ["10.9.0.2/31 10.9.0.3/31", "10.9.0.4/31 10.9.0.5/31"],
            ),
            (
                "10.9.0.1/31",
                ["10.9.0.3/31 10.9.0.2/31", "10.9.0.5/31 10.9.0.4/31"],
            ),
            (
                "10.9.0.1/24",
                ["10.9.0.5/30 10.9.0.6/30", "10.9.0.9/30 10.9.0.10/30"],
            ),
            (
                "10.9.0.1/32",
                ["10.9.0.5/30 10.9.0.6/30", "10.9.0.9/30 10.9.0.10/30"],
            ),
            (
                "fd00:9::1/126",
                ["fd00:9::5/126 fd00:9::6/126", "fd00:9::9/126 fd00:9::a/126"],
            ),
            (
                "fd00:9::/127",
                ["fd00:9::2/127 fd00:9::3/127", "fd00:9::4/127 fd00:9::5/127"],
            ),
            (
                "fd00:9::2/64",
                ["fd00:9::6/126 fd00:9::5/126", "fd00:9::a/126 fd00:9::9/126"],
            ),
        ] {
            assert_eq!(
                cut(&[address], &["10.2.0.0/16"], &[], 2),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn both_families() {
        assert_eq!(
            cut(&["fd00:9::1/126", "10.9.0.1/30"], &["10.2.0.0/16"], &[], 1),
            ["10.9.0.5/30 10.9.0.6/30, fd00:9::5/126 fd00:9::6/126"]
        );
    }

    #[test]
    fn what_the_original_allows_is_taken() {
        // Others may have addresses in a network that it allows as a whole.
        assert_eq!(
            cut(&["10.9.0.1/24"], &["10.9.0.0/24", "10.9.1.4/32"], &[], 2),
            ["10.9.1.1/30 10.9.1.2/30", "10.9.1.9/30 10.9.1.10/30"]
        );
        let conf = conf(&["10.9.0.1/24"], &["10.0.0.0/8"]);
        let error = links(&conf, &[], 1).expect_err("no room");
        assert!(matches!(error, TunnelsError::NoRoom { .. }), "{error}");
    }

    #[test]
    fn pools() {
        assert_eq!(
            cut(&["10.9.0.1/24"], &["10.0.0.0/8"], &["192.168.7.0/28"], 2),
            [
                "192.168.7.1/30 192.168.7.2/30",
                "192.168.7.5/30 192.168.7.6/30"
            ]
        );
        let small = ["192.168.7.0/30".parse().expect("pool")];
        let error = links(&conf(&["10.9.0.1/24"], &[]), &small, 2).expect_err("no room");
        assert!(
            matches!(error, TunnelsError::NoRoom { has_pool: true, .. }),
            "{error}"
        );
        let none = Conf {
            addresses: Vec::new(),
            ..conf(&["10.9.0.1/24"], &[])
        };
        assert_eq!(links(&none, &[], 1), Err(TunnelsError::NoAddress));
        let of_pool = links(&none, &small, 1).expect("addresses");
        assert_eq!(of_pool[0][0].near.to_string(), "192.168.7.1/30");
    }

    #[test]
    fn the_end_of_the_address_space() {
        let last = conf(&["255.255.255.253/30"], &[]);
        assert!(links(&last, &[], 1).is_err());
        let last = conf(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd/126"], &[]);
        assert!(links(&last, &[], 1).is_err());
    }

    #[test]
    fn whose_networks() {
        let own = [
            "10.9.0.1/30".parse().expect("net"),
            "fd00:9::1/128".parse().expect("net"),
        ];
        for (network, expected) in [
            ("10.9.0.0/30", true),
            ("10.9.0.2/32", true),
            ("10.9.0.77/32", true),
            ("10.9.1.2/32", false),
            ("10.9.0.0/24", false),
            ("10.2.0.0/16", false),
            ("fd00:9::2/128", true),
            ("fd00:9:0:1::2/128", false),
            ("fd00:2::/64", false),
        ] {
            let network = network.parse().expect("net");
            assert_eq!(is_of_tunnel(network, &own), expected, "{network}");
        }
    }
}
