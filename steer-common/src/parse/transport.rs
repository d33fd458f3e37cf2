//! What tells flows of one address pair and protocol apart.

use network_types::ip::IpProto;

use super::Version;
use crate::{
    abi::PassReason,
    packet::{Packet, be16},
};

/// Ports, or what stands in for them.
pub(crate) struct Transport {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) tcp_flags: u8,
    /// An ICMP error, which is about another packet.
    pub(crate) is_error: bool,
}

impl Transport {
    pub(crate) const NONE: Self = Self {
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
        is_error: false,
    };

    /// A number of 32 bits for both ends, as [`FlowKey`](crate::abi::FlowKey) keeps it.
    #[inline(always)]
    const fn identified(number: u32) -> Self {
        Self {
            src_port: (number >> 16) as u16,
            dst_port: number as u16,
            ..Self::NONE
        }
    }
}

/// How much of the transport header there should be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: less is malformed.
    All,
    /// The start, as in a first fragment or an ICMP error: less tells nothing.
    Start,
}

/// Reads the transport header at `offset`, of which `available_bytes` belong to the packet.
#[inline(always)]
pub(crate) fn transport<P: Packet>(
    packet: &P,
    protocol: u8,
    offset: usize,
    available_bytes: u32,
    version: Version,
    part: Part,
) -> Result<Transport, PassReason> {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const UDP_LITE: u8 = IpProto::UdpLite as u8;
    const SCTP: u8 = IpProto::Sctp as u8;
    const DCCP: u8 = IpProto::Dccp as u8;
    const ICMP: u8 = IpProto::Icmp as u8;
    const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
    const ESP: u8 = IpProto::Esp as u8;
    const AH: u8 = IpProto::Ah as u8;
    const GRE: u8 = IpProto::Gre as u8;
    const L2TP: u8 = IpProto::L2tp as u8;

    let (header_bytes, start_bytes) = match protocol {
        TCP => (20, 8),
        SCTP | DCCP | AH => (12, 8),
        UDP | UDP_LITE | ESP => (8, 8),
        // Its shortest message has the type, code, checksum and four bytes of body (RFC 4443 section 2.1).
        ICMP if version == Version::V4 => (8, 8),
        ICMPV6 if version == Version::V6 => (8, 8),
        GRE | L2TP => (4, 4),
        _ => return Ok(Transport::NONE),
    };
    let is_short = match part {
        Part::All => available_bytes < header_bytes,
        Part::Start => available_bytes < start_bytes,
    };
    if is_short {
        return too_short(part);
    }
    match protocol {
        ICMP | ICMPV6 => icmp(packet, offset, version),
        GRE => gre(packet, offset, available_bytes, part),
        ESP | L2TP => number(packet, offset, part),
        AH => number(packet, offset + 4, part),
        _ => {
            let Some(ports) = packet.load(offset).map(u32::from_be) else {
                return too_short(part);
            };
            let tcp_flags = if protocol == TCP && part == Part::All {
                be16(packet, offset + 12).ok_or(PassReason::Malformed)? as u8
            } else {
                0
            };
            Ok(Transport {
                src_port: (ports >> 16) as u16,
                dst_port: ports as u16,
                tcp_flags,
                is_error: false,
            })
        }
    }
}

#[inline(always)]
fn too_short(part: Part) -> Result<Transport, PassReason> {
    match part {
        Part::All => Err(PassReason::Malformed),
        Part::Start => Ok(Transport::NONE),
    }
}

/// A security parameter index (RFC 4303, RFC 4302), or a session (RFC 3931).
#[inline(always)]
fn number<P: Packet>(packet: &P, offset: usize, part: Part) -> Result<Transport, PassReason> {
    match packet.load(offset).map(u32::from_be) {
        Some(number) => Ok(Transport::identified(number)),
        None => too_short(part),
    }
}

/// The key (RFC 2890); of version 1, the call (RFC 2637 section 4.1), which shares its word with a
/// length.
#[inline(always)]
fn gre<P: Packet>(
    packet: &P,
    offset: usize,
    available_bytes: u32,
    part: Part,
) -> Result<Transport, PassReason> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const VERSION: u16 = 0x0007;
    let Some(flags) = be16(packet, offset) else {
        return too_short(part);
    };
    if flags & KEY == 0 || flags & VERSION > 1 {
        return Ok(Transport::NONE);
    }
    let at = if flags & CHECKSUM == 0 { 4 } else { 8 };
    if available_bytes < at as u32 + 4 {
        return too_short(part);
    }
    let Some(key) = packet.load(offset + at).map(u32::from_be) else {
        return too_short(part);
    };
    let is_call = flags & VERSION == 1;
    Ok(Transport::identified(if is_call {
        key & 0xffff
    } else {
        key
    }))
}

#[inline(always)]
fn icmp<P: Packet>(packet: &P, offset: usize, version: Version) -> Result<Transport, PassReason> {
    let kind = be16(packet, offset).ok_or(PassReason::Malformed)? >> 8;
    let (is_echo, is_error) = match version {
        // Echo reply and echo; unreachable, source quench, time exceeded, parameter problem (RFC 792).
        Version::V4 => (matches!(kind, 0 | 8), matches!(kind, 3 | 4 | 11 | 12)),
        // Neighbour discovery (RFC 4861) speaks of this segment only.
        Version::V6 if matches!(kind, 133..=137) => return Err(PassReason::LocalScope),
        Version::V6 => (matches!(kind, 128 | 129), matches!(kind, 1..=4)),
    };
    if !is_echo {
        return Ok(Transport {
            is_error,
            ..Transport::NONE
        });
    }
    let identifier = be16(packet, offset + 4).ok_or(PassReason::Malformed)?;
    Ok(Transport {
        src_port: identifier,
        dst_port: identifier,
        ..Transport::NONE
    })
}
