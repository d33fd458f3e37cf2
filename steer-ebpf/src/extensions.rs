//! Following IPv6 extension headers as a function of its own: a global one, so that the verifier proves
//! the loop once, and knows nothing of the many ways through it behind.

use aya_ebpf::bindings::__sk_buff;
use steer_common::{
    abi::PassReason,
    parse::{EXTENSION_OFFSET_MAX, Kind, Upper, upper},
};

use crate::packet::Skb;

/// [`Kind::FirstFragment`].
const FIRST: u64 = 1 << 28;
/// [`Kind::LaterFragment`].
const LATER: u64 = 1 << 29;
/// [`PassReason::Malformed`].
const MALFORMED: u64 = 1 << 30;
/// [`PassReason::TooManyHeaders`].
const TOO_MANY: u64 = 1 << 31;

/// Follows them through the global function.
#[inline(always)]
pub(crate) fn call(
    skb: *mut __sk_buff,
    protocol: u8,
    offset: u16,
    end: u32,
) -> Result<Upper, PassReason> {
    let answer = follow_extensions(skb, protocol.into(), offset.into(), end);
    if answer & TOO_MANY != 0 {
        return Err(PassReason::TooManyHeaders);
    }
    if answer & MALFORMED != 0 {
        return Err(PassReason::Malformed);
    }
    Ok(Upper {
        protocol: answer as u8,
        offset: (answer >> 8) as u16 & 0x0fff,
        kind: if answer & LATER != 0 {
            Kind::LaterFragment
        } else if answer & FIRST != 0 {
            Kind::FirstFragment
        } else {
            Kind::Whole
        },
        identification: (answer >> 32) as u32,
    })
}

#[unsafe(no_mangle)]
extern "C" fn follow_extensions(skb: *mut __sk_buff, protocol: u32, offset: u32, end: u32) -> u64 {
    // The parser never asks for more; the verifier does not know.
    if offset > u32::from(EXTENSION_OFFSET_MAX) {
        return TOO_MANY;
    }
    match upper(&Skb::new(skb), protocol as u8, offset as u16, end) {
        Ok(found) => {
            let kind = match found.kind {
                Kind::LaterFragment => LATER,
                Kind::FirstFragment => FIRST,
                Kind::Whole | Kind::Error => 0,
            };
            u64::from(found.protocol)
                | u64::from(found.offset) << 8
                | kind
                | u64::from(found.identification) << 32
        }
        Err(PassReason::TooManyHeaders) => TOO_MANY,
        Err(_) => MALFORMED,
    }
}
