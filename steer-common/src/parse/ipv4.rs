//! The IPv4 header (RFC 791 section 3.1).

use super::{Kind, Parsed, Part, Transport, Version, transport};
use crate::{abi::PassReason, packet::Packet};

/// Without options, as it lies in memory.
type Words = [u32; 5];

const HEADER_BYTES: usize = 20;
/// 32-bit words that options can have.
const OPTION_WORDS_MAX: usize = 10;
/// Four times "no operation".
const NO_OPERATIONS: u32 = 0x0101_0101;
/// The more-fragments flag and the offset.
const FRAGMENT_BITS: u32 = 0x3fff;
/// The fragment offset, in the word with the identification.
pub(crate) const OFFSET_BITS: u32 = 0x1fff;

#[inline(always)]
pub(super) fn parse<P: Packet>(
    packet: &P,
    l3_offset: usize,
    parsed: &mut Parsed,
) -> Result<(), PassReason> {
    let words: Words = packet.load(l3_offset).ok_or(PassReason::Malformed)?;
    let [first, fragment, life, src, dst] = words.map(u32::from_be);
    let header_bytes = (first >> 24 & 0xf) as usize * 4;
    let readable = packet.len_bytes() - l3_offset as u32;
    let mut l3_len_bytes = first & 0xffff;
    // BIG TCP: more than 16 bits of merged segments (linux/ip.h, iph_totlen).
    if l3_len_bytes == 0 {
        // At once: the verifier of kernel 6.1 believes that 0 may exceed the header's length below.
        if packet.gso_size_bytes() == 0 {
            return Err(PassReason::Malformed);
        }
        l3_len_bytes = readable;
    }
    if first >> 28 != 4
        || header_bytes < HEADER_BYTES
        || l3_len_bytes < header_bytes as u32
        || l3_len_bytes > readable
    {
        return Err(PassReason::Malformed);
    }
    let mut sum: u64 = words.iter().map(|&word| u64::from(word)).sum();
    parsed.router_options = false;
    if header_bytes > HEADER_BYTES {
        let option_words = header_bytes / 4 - HEADER_BYTES / 4;
        let mut at = 0;
        while at < OPTION_WORDS_MAX {
            if at == option_words {
                break;
            }
            let word: u32 = packet
                .load(l3_offset + HEADER_BYTES + at * 4)
                .ok_or(PassReason::Malformed)?;
            // Nothing but padding is forwarded as it is.
            if word != 0 && word != NO_OPERATIONS {
                parsed.router_options = true;
            }
            sum += u64::from(word);
            at += 1;
        }
    }
    if !is_checksum_right(sum) {
        return Err(PassReason::BadChecksum);
    }
    if is_local_scope(src) || is_local_scope(dst) {
        return Err(PassReason::LocalScope);
    }
    let protocol = (life >> 16 & 0xff) as u8;
    let l4_offset = l3_offset + header_bytes;
    let available_bytes = l3_len_bytes - header_bytes as u32;
    parsed.kind = if fragment & OFFSET_BITS != 0 {
        Kind::LaterFragment
    } else if fragment & FRAGMENT_BITS != 0 {
        Kind::FirstFragment
    } else {
        Kind::Whole
    };
    let part = match parsed.kind {
        Kind::Whole => Part::All,
        _ => Part::Start,
    };
    let l4 = if parsed.kind == Kind::LaterFragment {
        Transport::NONE
    } else {
        transport(
            packet,
            protocol,
            l4_offset,
            available_bytes,
            Version::V4,
            part,
        )?
    };
    if l4.is_error {
        parsed.kind = Kind::Error;
    }
    let [src, dst] = [words[3], words[4]].map(|raw| [0, map_v4(raw)]);
    parsed.source = parsed.key.set(src, dst, l4.src_port, l4.dst_port, protocol);
    parsed.identification = fragment >> 16;
    parsed.ttl = (life >> 24) as u8;
    parsed.l4_offset = if l4_offset > u8::MAX as usize {
        u8::MAX
    } else {
        l4_offset as u8
    };
    parsed.l3_len_bytes = l3_len_bytes;
    parsed.tcp_flags = l4.tcp_flags;
    Ok(())
}

/// Whether words, added up in whatever byte order, are all ones in ones' complement (RFC 1071).
#[inline(always)]
const fn is_checksum_right(sum: u64) -> bool {
    // Fifteen words make less than 2^36: once to 33 bits, then to 18, 17 and 16.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// The second half of `::ffff:a.b.c.d` in memory order.
#[inline(always)]
pub(crate) fn map_v4(raw: u32) -> u64 {
    bytemuck::must_cast([0xffff_u32.to_be(), raw])
}

/// "This network", loopback, link-local, multicast, reserved and broadcast (RFC 6890).
#[inline(always)]
const fn is_local_scope(addr: u32) -> bool {
    matches!(addr >> 24, 0 | 127 | 224..) || addr >> 16 == 0xa9fe
}
