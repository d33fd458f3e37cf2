//! Lowering the MSS that a TCP connection announces to what fits through its tunnel.

use crate::{
    abi::{MSS_CLAMP_MTU, MSS_MIN},
    packet::{Packet, be16},
    parse::{Parsed, Version},
};

/// Options that are looked at: everybody's SYN has the MSS among the first.
const OPTIONS_MAX: usize = 12;
const HEADER_BYTES: usize = 20;

/// An MSS option that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Where its value is, from the start of the packet.
    pub offset: usize,
    /// The value that is there.
    pub from: u16,
    /// The value to be there.
    pub to: u16,
}

impl Clamp {
    /// Both values as the checksum sees them, in network order: a value at an odd place lies across
    /// two 16-bit words, and its bytes change places.
    #[inline(always)]
    pub fn for_checksum(self, l4_offset: usize) -> (u16, u16) {
        let (from, to) = (self.from.to_be(), self.to.to_be());
        if (self.offset - l4_offset).is_multiple_of(2) {
            (from, to)
        } else {
            (from.swap_bytes(), to.swap_bytes())
        }
    }
}

/// The largest MSS through a device, by [`Settings::mss_clamp`](crate::abi::Settings::mss_clamp).
#[inline(always)]
pub const fn mss_limit(mss_clamp: u32, mtu_bytes: u32, version: Version) -> u16 {
    // An IP and a TCP header without options (RFC 6691).
    let headers = match version {
        Version::V4 => 40,
        Version::V6 => 60,
    };
    let limit = if mss_clamp == MSS_CLAMP_MTU {
        mtu_bytes.saturating_sub(headers)
    } else {
        mss_clamp
    };
    if limit < MSS_MIN {
        MSS_MIN as u16
    } else if limit > u16::MAX as u32 {
        u16::MAX
    } else {
        limit as u16
    }
}

/// The MSS option of a SYN or SYN-ACK that announces more than `limit`.
#[inline(always)]
pub fn find<P: Packet>(packet: &P, parsed: &Parsed, l4_offset: usize, limit: u16) -> Option<Clamp> {
    const END: u16 = 0;
    const NO_OPERATION: u16 = 1;
    const MSS: u16 = 2;
    let header_bytes = (be16(packet, l4_offset + 12)? >> 12) as usize * 4;
    let packet_end = parsed.l3_offset + parsed.l3_len_bytes as usize;
    if l4_offset + header_bytes > packet_end {
        return None;
    }
    let mut at = HEADER_BYTES;
    let mut step = 0;
    // Four bytes is what the option takes, so it cannot start behind.
    while step < OPTIONS_MAX && at + 4 <= header_bytes {
        let option = be16(packet, l4_offset + at)?;
        let (kind, length) = (option >> 8, (option & 0xff) as usize);
        if kind == NO_OPERATION {
            at += 1;
        } else if kind == END || length < 2 {
            return None;
        } else if kind == MSS && length == 4 {
            let from = be16(packet, l4_offset + at + 2)?;
            return (from > limit).then_some(Clamp {
                offset: l4_offset + at + 2,
                from,
                to: limit,
            });
        } else {
            at += length;
        }
        step += 1;
    }
    None
}
