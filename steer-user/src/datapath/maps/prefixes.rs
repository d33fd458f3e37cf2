//! The steered prefixes.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use steer_common::abi::{GroupId, maps};

use super::{DatapathError, Maps, Result};
use crate::datapath::records::on;

impl Maps {
    /// All prefixes and the groups that they belong to.
    pub fn prefixes(&self) -> Result<Vec<(IpNet, GroupId)>> {
        self.prefixes
            .iter()
            .map(|element| {
                let (key, value) = element.map_err(on(maps::PREFIXES))?;
                let bad = || DatapathError::BadElement {
                    map: maps::PREFIXES,
                };
                let prefix = prefix_of(key.data(), key.prefix_len()).ok_or_else(bad)?;
                let group = GroupId::try_from(u32::from_ne_bytes(value)).map_err(|_| bad())?;
                Ok((prefix, group))
            })
            .collect()
    }

    /// Adds a prefix to a group.
    pub fn set_prefix(&mut self, prefix: IpNet, group: GroupId) -> Result<()> {
        self.prefixes
            .insert(&key_of(prefix), u32::from(group).to_ne_bytes(), 0)
            .map_err(on(maps::PREFIXES))
    }

    /// Removes a prefix.
    pub fn remove_prefix(&mut self, prefix: IpNet) -> Result<()> {
        self.prefixes
            .remove(&key_of(prefix))
            .map_err(on(maps::PREFIXES))
    }
}

/// The trie's key: IPv4 prefixes lie within `::ffff:0:0/96`.
fn key_of(prefix: IpNet) -> Key<[u8; 16]> {
    match prefix {
        IpNet::V4(net) => Key::new(
            96 + u32::from(net.prefix_len()),
            net.network().to_ipv6_mapped().octets(),
        ),
        IpNet::V6(net) => Key::new(net.prefix_len().into(), net.network().octets()),
    }
}

fn prefix_of(data: [u8; 16], prefix_len: u32) -> Option<IpNet> {
    let prefix_len = u8::try_from(prefix_len).ok()?;
    match IpAddr::from(data).to_canonical() {
        IpAddr::V4(addr) => IpNet::new(addr.into(), prefix_len.checked_sub(96)?).ok(),
        addr @ IpAddr::V6(_) => IpNet::new(addr, prefix_len).ok(),
    }
}
