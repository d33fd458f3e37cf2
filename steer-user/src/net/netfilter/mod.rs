//! What the gateway's firewall does to forwarded packets: the rules of
//! `nf_tables` (iptables-nft included) and of the older iptables tables, as
//! findings that say what a packet misses when it does not pass netfilter.
//!
//! Only what hooks into forwarding counts: prerouting, forward, postrouting,
//! and the ingress and egress of devices. Rules on input and output are for
//! the gateway's own traffic.

mod attributes;
mod device_set;
mod expressions;
mod legacy;
mod legacy_entries;
mod nfnetlink;
mod nftables;
mod ruleset;
mod xtables;

use std::io;

pub use device_set::{DevicePattern, DeviceSet};

use super::NetError;

/// What netfilter does to forwarded packets in this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netfilter {
    /// At most one of each kind for each chain; none for chains that do nothing.
    pub findings: Vec<Finding>,
}

/// One thing that one chain does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it does.
    pub kind: FindingKind,
    /// The packets that it sees.
    pub family: PacketFamily,
    /// Where an operator finds it: `nft table inet filter, chain forward` or
    /// `iptables nat POSTROUTING`.
    pub place: String,
}

/// What a chain does to packets, as far as steering depends on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// It uses connection tracking, which has to see both directions of a
    /// connection: `ct state`, `ct mark`, flow tables, CONNMARK, …
    Stateful,
    /// It rewrites source addresses: `snat`, `masquerade`.
    SourceNat {
        /// The devices that a rewritten packet may leave by.
        may_leave_by: DeviceSet,
    },
    /// It rewrites destination addresses: `dnat`, `redirect`.
    DestinationNat,
    /// It lowers the maximum segment size in TCP handshakes.
    MssClamp,
    /// It gives packets to a proxy on the gateway: `tproxy`.
    TransparentProxy,
    /// Any other rule, or a policy that drops.
    Filter,
    /// Rules, or a policy that drops, on devices instead of on forwarding.
    DeviceFilter {
        /// The devices.
        devices: DeviceSet,
        /// They see what comes in by the devices; otherwise what leaves by them.
        ingress: bool,
    },
}

/// IP versions of the packets that a chain sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFamily {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Both,
}

impl Netfilter {
    /// Reads all rules of this thread's network namespace. Nothing is changed
    /// by that; an older iptables table that does not exist is not made.
    ///
    /// Needs `CAP_NET_ADMIN`. Blocks only for as long as the kernel takes to
    /// list its rules: for ten thousand of them less than a tenth of a second.
    pub fn read() -> Result<Self, NetError> {
        let mut tables = nftables::read()?;
        tables.extend(legacy::read()?);
        Ok(Self {
            findings: tables.iter().flat_map(ruleset::Table::findings).collect(),
        })
    }
}

/// How often something is asked again that changed while it was read.
const ATTEMPTS: usize = 50;

/// An answer of the kernel that makes no sense.
fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer")
}

/// Text that ends at a zero byte, or with the field.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
}
