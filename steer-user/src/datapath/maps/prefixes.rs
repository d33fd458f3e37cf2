//! The prefixes.

use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use steer_common::abi::{GroupId, Prefix, PrefixKind, address_bytes, maps};

use super::{DatapathError, Maps, Result};
use crate::datapath::records::{decode, encode, on};

impl Maps {
    /// All steered prefixes and the groups that they belong to.
    pub fn prefixes(&self) -> Result<Vec<(IpNet, GroupId)>> {
        let mut found = Vec::new();
        for (prefix, Prefix { group, kind }) in self.prefixes_and_holes()? {
            if kind == PrefixKind::Steered {
                let bad = |_| DatapathError::BadElement {
                    map: maps::PREFIXES,
                };
                found.push((prefix, GroupId::try_from(group).map_err(bad)?));
            }
        }
        Ok(found)
    }

    /// All prefixes, also those inside others that are left to the kernel.
    pub fn prefixes_and_holes(&self) -> Result<Vec<(IpNet, Prefix)>> {
        self.prefixes
            .iter()
            .map(|element| {
                let (key, value) = element.map_err(on(maps::PREFIXES))?;
                let prefix = prefix_of(key.data(), key.prefix_len());
                let prefix = prefix.ok_or(DatapathError::BadElement {
                    map: maps::PREFIXES,
                })?;
                Ok((prefix, decode(maps::PREFIXES, &value)?))
            })
            .collect()
    }

    /// Adds a prefix to a group.
    pub fn set_prefix(&mut self, prefix: IpNet, group: GroupId) -> Result<()> {
        let group = group.into();
        let kind = PrefixKind::Steered;
        self.put_prefix(prefix, Prefix { group, kind })
    }

    /// Leaves a prefix inside one of this home group to the kernel.
    pub fn set_hole(&mut self, prefix: IpNet, home: GroupId) -> Result<()> {
        let group = home.into();
        let kind = PrefixKind::Hole;
        self.put_prefix(prefix, Prefix { group, kind })
    }

    /// Sets a prefix as it was read.
    pub fn put_prefix(&mut self, prefix: IpNet, value: Prefix) -> Result<()> {
        self.prefixes
            .insert(
                &key_of(prefix),
                encode::<{ size_of::<Prefix>() }>(&value),
                0,
            )
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
    let within = match prefix {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    Key::new(
        within + u32::from(prefix.prefix_len()),
        address_bytes(prefix.network()),
    )
}

fn prefix_of(data: [u8; 16], prefix_len: u32) -> Option<IpNet> {
    let prefix_len = u8::try_from(prefix_len).ok()?;
    match IpAddr::from(data).to_canonical() {
        IpAddr::V4(addr) => IpNet::new(addr.into(), prefix_len.checked_sub(96)?).ok(),
        addr @ IpAddr::V6(_) => IpNet::new(addr, prefix_len).ok(),
    }
}
