//! The IPv6 header and its extension headers (RFC 8200).

use network_types::ip::IpProto;

use super::{Kind, Parsed, Part, Transport, Version, transport};
use crate::{abi::PassReason, key::Address, packet::Packet};

const HEADER_BYTES: usize = 40;
/// Extension headers that are followed.
const EXTENSIONS_MAX: usize = 8;
/// Where one starts at the latest, from the start of the packet.
pub const EXTENSION_OFFSET_MAX: u16 = 255;

const NO_NEXT_HEADER: u8 = IpProto::Ipv6NoNxt as u8;
const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
/// The fragment header.
pub(crate) const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
const AUTHENTICATION: u8 = IpProto::Ah as u8;

#[inline(always)]
pub(super) fn parse<P: Packet>(
    packet: &P,
    l3_offset: usize,
    parsed: &mut Parsed,
) -> Result<(), PassReason> {
    let words: [u32; 2] = packet.load(l3_offset).ok_or(PassReason::Malformed)?;
    let src: Address = packet.load(l3_offset + 8).ok_or(PassReason::Malformed)?;
    let dst: Address = packet.load(l3_offset + 24).ok_or(PassReason::Malformed)?;
    let [first, second] = words.map(u32::from_be);
    let readable = packet.len_bytes() - l3_offset as u32;
    let payload_bytes = second >> 16;
    let protocol = (second >> 8 & 0xff) as u8;
    if first >> 28 != 6 {
        return Err(PassReason::Malformed);
    }
    // A jumbogram says 0 and its length in an option (RFC 2675), merged segments say 0 as well.
    if payload_bytes == 0 && readable > HEADER_BYTES as u32 && protocol != NO_NEXT_HEADER {
        return Err(PassReason::Jumbogram);
    }
    let l3_len_bytes = HEADER_BYTES as u32 + payload_bytes;
    if l3_len_bytes > readable {
        return Err(PassReason::Malformed);
    }
    if is_local_scope(src) || is_local_scope(dst) {
        return Err(PassReason::LocalScope);
    }
    let extensions = l3_offset + HEADER_BYTES;
    parsed.router_options =
        protocol == HOP_BY_HOP && !is_padding(packet, extensions).ok_or(PassReason::Malformed)?;

    let end = l3_offset as u32 + l3_len_bytes;
    let upper = if is_extension(protocol) {
        packet.upper(protocol, extensions as u16, end)?
    } else {
        Upper {
            protocol,
            offset: extensions as u16,
            kind: Kind::Whole,
            identification: 0,
        }
    };
    let l4_offset = usize::from(upper.offset);
    let available_bytes = end - u32::from(upper.offset);
    parsed.kind = upper.kind;
    let part = match upper.kind {
        Kind::Whole => Part::All,
        _ => Part::Start,
    };
    let l4 = if upper.kind == Kind::LaterFragment {
        Transport::NONE
    } else {
        transport(
            packet,
            upper.protocol,
            l4_offset,
            available_bytes,
            Version::V6,
            part,
        )?
    };
    if l4.is_error {
        parsed.kind = Kind::Error;
    }
    parsed.source = parsed
        .key
        .set(src, dst, l4.src_port, l4.dst_port, upper.protocol);
    parsed.identification = upper.identification;
    parsed.ttl = second as u8;
    parsed.l4_offset = if l4_offset > u8::MAX as usize {
        u8::MAX
    } else {
        l4_offset as u8
    };
    parsed.l3_len_bytes = l3_len_bytes;
    parsed.tcp_flags = l4.tcp_flags;
    Ok(())
}

/// What is behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol.
    pub protocol: u8,
    /// Where it starts.
    pub offset: u16,
    /// Whether it is a fragment.
    pub kind: Kind,
    /// Identification of a fragment.
    pub identification: u32,
}

/// Follows the extension headers of a packet that ends at `end`, from one of `protocol` at `offset`.
#[inline(always)]
pub fn upper<P: Packet>(
    packet: &P,
    protocol: u8,
    offset: u16,
    end: u32,
) -> Result<Upper, PassReason> {
    let mut found = Upper {
        protocol,
        offset,
        kind: Kind::Whole,
        identification: 0,
    };
    if !is_extension(found.protocol) {
        return Ok(found);
    }
    let mut step = 0;
    // The test stands at the end: kernels before 6.7 take a loop only if it is closed by a jump, and
    // the compiler puts the start of a `while` where no jump leads (`check_cfg`).
    loop {
        if step == EXTENSIONS_MAX || found.offset > EXTENSION_OFFSET_MAX {
            return Err(PassReason::TooManyHeaders);
        }
        // Every extension header has at least eight bytes (RFC 8200 section 4).
        let words: [u32; 2] = packet
            .load(found.offset.into())
            .ok_or(PassReason::Malformed)?;
        let word = u32::from_be(words[0]);
        let length = (word >> 16 & 0xff) as u16;
        found.offset += match found.protocol {
            FRAGMENT => {
                // Offset or more-fragments; an atomic fragment (RFC 6946) has neither. A second
                // fragment header is nobody's, but what it says counts all the same.
                if word & 0xfff9 != 0 {
                    found.kind = if word & 0xfff8 == 0 {
                        Kind::FirstFragment
                    } else {
                        Kind::LaterFragment
                    };
                    found.identification = u32::from_be(words[1]);
                }
                8
            }
            // In 4-byte units minus two (RFC 4302 section 2.2); the rest in 8-byte units minus one.
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        found.protocol = (word >> 24) as u8;
        if found.kind == Kind::LaterFragment || !is_extension(found.protocol) {
            break;
        }
        step += 1;
    }
    if u32::from(found.offset) > end {
        return Err(PassReason::Malformed);
    }
    Ok(found)
}

/// Whether hop-by-hop options are eight bytes of padding and nothing else: type 1, length 4, zeros.
#[inline(always)]
fn is_padding<P: Packet>(packet: &P, offset: usize) -> Option<bool> {
    let words: [u32; 2] = packet.load(offset)?;
    Some(u32::from_be(words[0]) & 0x00ff_ffff == 0x0000_0104 && words[1] == 0)
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// Unspecified, loopback, IPv4-compatible and -mapped (which would look like
/// IPv4 in a key), link-local and multicast (RFC 6890).
#[inline(always)]
const fn is_local_scope(addr: Address) -> bool {
    let [high, low] = [u64::from_be(addr[0]), u64::from_be(addr[1])];
    high >> 56 == 0xff
        || high >> 54 == 0xfe80 >> 6
        || (high == 0 && matches!(low >> 32, 0 | 0xffff))
}
