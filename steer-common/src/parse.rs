//! From bytes to a flow key: what kind of packet this is.
//!
//! A packet that contradicts itself, or that only the kernel can judge, is an
//! `Err` with the reason for leaving it to the kernel. Fragments and ICMP
//! errors have no ports of their own and go by address pair and protocol.

use network_types::{eth::EtherType, ip::IpProto};

use crate::{
    abi::{Endpoint, FlowKey, PassReason},
    key::Address,
    packet::{Packet, be16},
};

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

/// What the parser found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The flow, both directions.
    pub key: FlowKey,
    /// Which endpoint of the key sent this packet.
    pub source: Endpoint,
    /// IP version.
    pub version: Version,
    /// Where the IP header starts.
    pub l3_offset: usize,
    /// Length of the IP packet, without layer-2 header or padding.
    pub l3_len_bytes: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// VLAN tags before the IP header, in the frame and in its metadata.
    pub tags: u8,
    /// TCP flags of byte 13 (RFC 9293 section 3.1); 0 for everything else.
    pub tcp_flags: u8,
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
/// IPv6 extension headers that are followed.
const EXTENSIONS_MAX: usize = 8;
/// Where the IP header starts at the latest.
pub const L3_OFFSET_MAX: usize = ETHERNET_BYTES + TAG_BYTES * TAGS_MAX as usize;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// An IPv4 header without options, as it lies in memory (RFC 791 section 3.1).
type Ipv4Words = [u32; 5];

impl Parsed {
    /// Room for [`parse`] to fill.
    pub const EMPTY: Self = Self {
        key: FlowKey::EMPTY,
        source: Endpoint::Low,
        version: Version::V4,
        l3_offset: 0,
        l3_len_bytes: 0,
        ttl: 0,
        tags: 0,
        tcp_flags: 0,
    };
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
        Version::V4 => ipv4(packet, l3_offset, parsed),
        Version::V6 => ipv6(packet, l3_offset, parsed),
    }
}

/// The IP version and where its header starts.
#[inline(always)]
fn ethernet<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(Version, usize), PassReason> {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;
    const CUSTOMER_TAG: u16 = EtherType::Ieee8021q as u16;
    const SERVICE_TAG: u16 = EtherType::Ieee8021ad as u16;

    let mut tags = packet.tags_in_metadata();
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

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, l3_offset: usize, parsed: &mut Parsed) -> Result<(), PassReason> {
    let words: Ipv4Words = packet.load(l3_offset).ok_or(PassReason::Malformed)?;
    let [first, fragment, life, src, dst] = words.map(u32::from_be);
    let header_bytes = (first >> 24 & 0xf) as usize * 4;
    let readable = packet.len_bytes() - l3_offset as u32;
    let mut l3_len_bytes = first & 0xffff;
    // BIG TCP: more than 16 bits of merged segments (linux/ip.h, iph_totlen).
    if l3_len_bytes == 0 && packet.gso_size_bytes() > 0 {
        l3_len_bytes = readable;
    }
    if first >> 28 != 4
        || header_bytes < IPV4_BYTES
        || l3_len_bytes < header_bytes as u32
        || l3_len_bytes > readable
    {
        return Err(PassReason::Malformed);
    }
    if is_local_scope_v4(src) || is_local_scope_v4(dst) {
        return Err(PassReason::LocalScope);
    }
    let protocol = (life >> 16 & 0xff) as u8;
    // More-fragments flag or an offset.
    let is_fragment = fragment & 0x3fff != 0;
    let l4 = if is_fragment {
        Transport::NONE
    } else {
        let l4_offset = l3_offset + header_bytes;
        transport(
            packet,
            protocol,
            l4_offset,
            l3_len_bytes - header_bytes as u32,
            Version::V4,
        )?
    };
    let [src, dst] = [words[3], words[4]].map(|raw| [0, map_v4(raw)]);
    parsed.source = parsed.key.set(src, dst, l4.src_port, l4.dst_port, protocol);
    parsed.ttl = (life >> 24) as u8;
    parsed.l3_len_bytes = l3_len_bytes;
    parsed.tcp_flags = l4.tcp_flags;
    Ok(())
}

/// The second half of `::ffff:a.b.c.d` in memory order.
#[inline(always)]
fn map_v4(raw: u32) -> u64 {
    bytemuck::must_cast([0xffff_u32.to_be(), raw])
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, l3_offset: usize, parsed: &mut Parsed) -> Result<(), PassReason> {
    let words: [u32; 2] = packet.load(l3_offset).ok_or(PassReason::Malformed)?;
    let src: Address = packet.load(l3_offset + 8).ok_or(PassReason::Malformed)?;
    let dst: Address = packet.load(l3_offset + 24).ok_or(PassReason::Malformed)?;
    let [first, second] = words.map(u32::from_be);
    let readable = packet.len_bytes() - l3_offset as u32;
    let payload_bytes = second >> 16;
    let mut protocol = (second >> 8 & 0xff) as u8;
    if first >> 28 != 6 {
        return Err(PassReason::Malformed);
    }
    // A jumbogram says 0 and its length in an option (RFC 2675), merged segments say 0 as well.
    if payload_bytes == 0 && readable > IPV6_BYTES as u32 && protocol != NO_NEXT_HEADER {
        return Err(PassReason::Jumbogram);
    }
    let l3_len_bytes = IPV6_BYTES as u32 + payload_bytes;
    if l3_len_bytes > readable {
        return Err(PassReason::Malformed);
    }
    if is_local_scope_v6(src) || is_local_scope_v6(dst) {
        return Err(PassReason::LocalScope);
    }

    let end = l3_offset + l3_len_bytes as usize;
    let mut offset = l3_offset + IPV6_BYTES;
    let mut is_fragment = false;
    let mut step = 0;
    while is_extension(protocol) {
        if step == EXTENSIONS_MAX {
            return Err(PassReason::TooManyHeaders);
        }
        // Every extension header has at least eight bytes (RFC 8200 section 4).
        if offset + 8 > end {
            return Err(PassReason::Malformed);
        }
        let word: u32 = packet
            .load(offset)
            .map(u32::from_be)
            .ok_or(PassReason::Malformed)?;
        let header_bytes = match protocol {
            FRAGMENT => {
                // Offset or more-fragments; an atomic fragment (RFC 6946) has neither.
                is_fragment = word & 0xfff9 != 0;
                8
            }
            // In 4-byte units minus two (RFC 4302 section 2.2); the rest in 8-byte units minus one.
            AUTHENTICATION => ((word >> 16 & 0xff) as usize + 2) * 4,
            _ => ((word >> 16 & 0xff) as usize + 1) * 8,
        };
        protocol = (word >> 24) as u8;
        offset += header_bytes;
        if is_fragment {
            break;
        }
        step += 1;
    }
    if offset > end {
        return Err(PassReason::Malformed);
    }
    let l4 = if is_fragment {
        Transport::NONE
    } else {
        transport(packet, protocol, offset, (end - offset) as u32, Version::V6)?
    };
    parsed.source = parsed.key.set(src, dst, l4.src_port, l4.dst_port, protocol);
    parsed.ttl = second as u8;
    parsed.l3_len_bytes = l3_len_bytes;
    parsed.tcp_flags = l4.tcp_flags;
    Ok(())
}

const NO_NEXT_HEADER: u8 = IpProto::Ipv6NoNxt as u8;
const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
const AUTHENTICATION: u8 = IpProto::Ah as u8;

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// What tells flows of one address pair and protocol apart.
struct Transport {
    src_port: u16,
    dst_port: u16,
    tcp_flags: u8,
}

impl Transport {
    const NONE: Self = Self {
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
    };
}

#[inline(always)]
fn transport<P: Packet>(
    packet: &P,
    protocol: u8,
    offset: usize,
    available_bytes: u32,
    version: Version,
) -> Result<Transport, PassReason> {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const UDP_LITE: u8 = IpProto::UdpLite as u8;
    const SCTP: u8 = IpProto::Sctp as u8;
    const DCCP: u8 = IpProto::Dccp as u8;
    const ICMP: u8 = IpProto::Icmp as u8;
    const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;

    let header_bytes = match protocol {
        TCP => 20,
        SCTP | DCCP => 12,
        UDP | UDP_LITE => 8,
        ICMP if version == Version::V4 => 8,
        // Its shortest message has the type, code, checksum and four bytes of body (RFC 4443 section 2.1).
        ICMPV6 if version == Version::V6 => 8,
        _ => return Ok(Transport::NONE),
    };
    if available_bytes < header_bytes {
        return Err(PassReason::Malformed);
    }
    if matches!(protocol, ICMP | ICMPV6) {
        return icmp(packet, offset, version);
    }
    let ports: u32 = packet
        .load(offset)
        .map(u32::from_be)
        .ok_or(PassReason::Malformed)?;
    let tcp_flags = if protocol == TCP {
        be16(packet, offset + 12).ok_or(PassReason::Malformed)? as u8
    } else {
        0
    };
    Ok(Transport {
        src_port: (ports >> 16) as u16,
        dst_port: ports as u16,
        tcp_flags,
    })
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, offset: usize, version: Version) -> Result<Transport, PassReason> {
    let kind = be16(packet, offset).ok_or(PassReason::Malformed)? >> 8;
    let is_echo = match version {
        // Echo reply and echo (RFC 792).
        Version::V4 => matches!(kind, 0 | 8),
        // Neighbour discovery (RFC 4861) speaks of this segment only.
        Version::V6 if matches!(kind, 133..=137) => return Err(PassReason::LocalScope),
        Version::V6 => matches!(kind, 128 | 129),
    };
    if !is_echo {
        return Ok(Transport::NONE);
    }
    let identifier = be16(packet, offset + 4).ok_or(PassReason::Malformed)?;
    Ok(Transport {
        src_port: identifier,
        dst_port: identifier,
        tcp_flags: 0,
    })
}

/// "This network", loopback, link-local, multicast, reserved and broadcast (RFC 6890).
#[inline(always)]
const fn is_local_scope_v4(addr: u32) -> bool {
    matches!(addr >> 24, 0 | 127 | 224..) || addr >> 16 == 0xa9fe
}

/// Unspecified, loopback, IPv4-compatible and -mapped (which would look like
/// IPv4 in a key), link-local and multicast (RFC 6890).
#[inline(always)]
const fn is_local_scope_v6(addr: Address) -> bool {
    let [high, low] = [u64::from_be(addr[0]), u64::from_be(addr[1])];
    high >> 56 == 0xff
        || high >> 54 == 0xfe80 >> 6
        || (high == 0 && matches!(low >> 32, 0 | 0xffff))
}
