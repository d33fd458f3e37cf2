//! From bytes to a flow key: what kind of packet this is.
//!
//! A packet that contradicts itself, or that only the kernel can judge, is an
//! `Err` with the reason for leaving it to the kernel. Later fragments and
//! ICMP errors have no ports of their own: here they go by address pair and
//! protocol, and [`relate`](crate::related::relate) finds their flow.

mod ipv4;
mod ipv6;
mod transport;

use network_types::eth::EtherType;

use crate::{
    abi::{Endpoint, FlowKey, PassReason},
    key::Address,
    packet::{Packet, be16},
};

pub(crate) use ipv4::{OFFSET_BITS, map_v4};
pub(crate) use ipv6::FRAGMENT;
pub use ipv6::{EXTENSION_OFFSET_MAX, Upper, upper};
pub(crate) use transport::{Part, Transport, transport};

/// What the bytes at offset 0 are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// An Ethernet header.
    Ethernet,
    /// An IP header, as on a WireGuard or TUN device.
    Network,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Whether a packet tells its flow by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Whole,
    /// It does, and those that follow it do not.
    FirstFragment,
    /// It does not: the first fragment had the ports.
    LaterFragment,
    /// It does not: an ICMP error, which is about another packet.
    Error,
}

/// What the parser found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The flow, both directions.
    pub key: FlowKey,
    /// Which endpoint of the key sent this packet.
    pub source: Endpoint,
    /// IP version.
    pub version: Version,
    /// Whether the key is that of the flow.
    pub kind: Kind,
    /// VLAN tags before the IP header, in the frame and in its metadata.
    pub tags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags of byte 13 (RFC 9293 section 3.1); 0 for everything else.
    pub tcp_flags: u8,
    /// Where the transport header starts, at most 255: what is further is not looked at.
    pub l4_offset: u8,
    /// It has options that a router must look at.
    pub router_options: bool,
    /// Where the IP header starts.
    pub l3_offset: usize,
    /// Length of the IP packet, without layer-2 header or padding.
    pub l3_len_bytes: u32,
    /// Identification of a fragment.
    pub identification: u32,
    /// The VLAN tags, outermost first, as [`Packet::tag_in_metadata`].
    pub vlans: [u32; TAGS_MAX as usize],
}

/// TCP flag bits.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opening.
    pub const SYN: u8 = 0x02;
    /// The connection is gone.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

const ETHERNET_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
/// VLAN tags that are followed: one customer, one service tag (IEEE 802.1ad).
const TAGS_MAX: u8 = 2;
/// Where the IP header starts at the latest.
pub const L3_OFFSET_MAX: usize = ETHERNET_BYTES + TAG_BYTES * TAGS_MAX as usize;

impl Parsed {
    /// Room for [`parse`] to fill.
    pub const EMPTY: Self = Self {
        key: FlowKey::EMPTY,
        source: Endpoint::Low,
        version: Version::V4,
        kind: Kind::Whole,
        tags: 0,
        ttl: 0,
        tcp_flags: 0,
        l4_offset: 0,
        router_options: false,
        l3_offset: 0,
        l3_len_bytes: 0,
        identification: 0,
        vlans: [0; TAGS_MAX as usize],
    };

    /// Where the transport header starts, if that is looked at.
    #[inline(always)]
    pub fn l4_offset(&self) -> Option<usize> {
        (self.l4_offset < u8::MAX).then_some(self.l4_offset.into())
    }

    /// Source and destination.
    #[inline(always)]
    pub(crate) fn addrs(&self) -> (Address, Address) {
        (
            bytemuck::must_cast(*self.key.addr(self.source)),
            bytemuck::must_cast(*self.key.addr(self.source.other())),
        )
    }

    /// Whether the key is final: neither [`relate`](crate::related::relate) nor
    /// [`has_vlan`](crate::related::has_vlan) has to look at the packet.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.kind == Kind::Whole && self.tags == 0
    }
}

/// Parses one packet into `parsed`, which means nothing after an error.
///
/// The result is filled in place because moving it costs a copy in the kernel.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, layer: Layer, parsed: &mut Parsed) -> Result<(), PassReason> {
    let (version, l3_offset) = match layer {
        Layer::Ethernet if !packet.to_this_host() => return Err(PassReason::OtherHost),
        Layer::Ethernet => ethernet(packet, parsed)?,
        Layer::Network => {
            parsed.tags = 0;
            match be16(packet, 0).ok_or(PassReason::Malformed)? >> 12 {
                4 => (Version::V4, 0),
                6 => (Version::V6, 0),
                _ => return Err(PassReason::NotIp),
            }
        }
    };
    parsed.version = version;
    parsed.l3_offset = l3_offset;
    match version {
        Version::V4 => ipv4::parse(packet, l3_offset, parsed),
        Version::V6 => ipv6::parse(packet, l3_offset, parsed),
    }
}

/// The IP version and where its header starts.
#[inline(always)]
fn ethernet<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(Version, usize), PassReason> {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;
    const CUSTOMER_TAG: u16 = EtherType::Ieee8021q as u16;
    const SERVICE_TAG: u16 = EtherType::Ieee8021ad as u16;

    let mut tags = 0;
    let stripped = packet.tag_in_metadata();
    if stripped != 0 {
        parsed.vlans[0] = stripped;
        tags = 1;
    }
    let mut l3_offset = ETHERNET_BYTES;
    let mut step = 0;
    while step <= TAGS_MAX {
        let kind = packet.load::<u16>(l3_offset - 2).ok_or(PassReason::NotIp)?;
        if kind == IPV4 || kind == IPV6 {
            parsed.tags = tags;
            return Ok((
                if kind == IPV4 {
                    Version::V4
                } else {
                    Version::V6
                },
                l3_offset,
            ));
        }
        match kind {
            CUSTOMER_TAG | SERVICE_TAG if tags < TAGS_MAX => {
                let control = be16(packet, l3_offset).ok_or(PassReason::NotIp)?;
                let tag = u32::from(u16::from_be(kind)) << 16 | u32::from(control);
                // A constant index for each: the verifier knows the stack only by constants.
                if tags == 0 {
                    parsed.vlans[0] = tag;
                } else {
                    parsed.vlans[1] = tag;
                }
                tags += 1;
                l3_offset += TAG_BYTES;
            }
            CUSTOMER_TAG | SERVICE_TAG => return Err(PassReason::TooManyTags),
            _ => return Err(PassReason::NotIp),
        }
        step += 1;
    }
    Err(PassReason::TooManyTags)
}
