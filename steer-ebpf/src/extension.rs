//! Reading an IPv6 extension header as a function of its own: a global one, so that the verifier proves
//! it once instead of once for every way through those before it.

use aya_ebpf::bindings::__sk_buff;
use steer_common::parse::{EXTENSION_OFFSET_MAX, Extension, Kind, extension};

use crate::packet::Skb;

/// What stands for no header.
const NONE: u64 = u64::MAX;
/// [`Kind::FirstFragment`].
const FIRST: u64 = 1 << 24;
/// [`Kind::LaterFragment`].
const LATER: u64 = 1 << 25;

/// Reads through the global function.
#[inline(always)]
pub(crate) fn call(skb: *mut __sk_buff, protocol: u8, offset: usize) -> Option<Extension> {
    let answer = read_extension(skb, protocol.into(), offset as u32);
    if answer == NONE {
        return None;
    }
    Some(Extension {
        protocol: answer as u8,
        bytes: (answer >> 8) as u16 & 0x0fff,
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
extern "C" fn read_extension(skb: *mut __sk_buff, protocol: u32, offset: u32) -> u64 {
    // The parser looks no further; the verifier does not know.
    if offset > EXTENSION_OFFSET_MAX as u32 {
        return NONE;
    }
    let Some(found) = extension(&Skb::new(skb), protocol as u8, offset as usize) else {
        return NONE;
    };
    let kind = match found.kind {
        Kind::LaterFragment => LATER,
        Kind::FirstFragment => FIRST,
        Kind::Whole | Kind::Error => 0,
    };
    u64::from(found.protocol)
        | u64::from(found.bytes) << 8
        | kind
        | u64::from(found.identification) << 32
}
