//! What forwarding changes in a packet besides its TTL and tags.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_l4_csum_replace, bpf_skb_change_head, bpf_skb_store_bytes},
};
use steer_common::{
    abi::Settings,
    clamp::{find, mss_limit},
    parse::{Parsed, tcp_flags},
    tables::Tables as _,
};

use crate::{maps::Maps, packet::Skb};

/// Bytes of the checksum's place in a TCP header.
const TCP_CHECKSUM: usize = 16;
/// Bytes of a MAC header.
const MAC_BYTES: u32 = 14;

/// Lowers the MSS of a SYN to what fits through a tunnel's device, if that is wanted.
#[inline(always)]
pub(crate) fn clamp_mss(skb: *mut __sk_buff, settings: &Settings, parsed: &Parsed, ifindex: u32) {
    if parsed.tcp_flags & tcp_flags::SYN != 0 && settings.mss_clamp != 0 {
        clamp_syn(skb, parsed, ifindex);
    }
}

/// A global function: connections are opened rarely, and the verifier proves it once.
#[unsafe(no_mangle)]
extern "C" fn clamp_syn(skb: *mut __sk_buff, parsed: *const Parsed, ifindex: u32) -> u32 {
    // SAFETY: the caller's `parsed` is its own, or null as far as the verifier knows.
    let (Some(parsed), Some(maps)) = (unsafe { parsed.as_ref() }, Maps::of(skb)) else {
        return 0;
    };
    let Some(l4_offset) = parsed.l4_offset() else {
        return 0;
    };
    let Some(mtu_bytes) = maps.mtu_bytes(ifindex) else {
        return 0;
    };
    let limit = mss_limit(maps.settings.mss_clamp, mtu_bytes, parsed.version);
    let Some(clamp) = find(&Skb::with_headers(skb), parsed, l4_offset, limit) else {
        return 0;
    };
    let (from, to) = clamp.for_checksum(l4_offset);
    let value = clamp.to.to_be();
    // SAFETY: `skb` is valid, and `value` lives until the second call returns.
    let status = unsafe {
        bpf_l4_csum_replace(
            skb,
            (l4_offset + TCP_CHECKSUM) as u32,
            from.into(),
            to.into(),
            2,
        ) | bpf_skb_store_bytes(skb, clamp.offset as u32, (&raw const value).cast(), 2, 0)
    };
    if status == 0 {
        maps.note(|counters| counters.clamped_mss += 1);
    }
    0
}

/// Makes room for a MAC header before a packet that has none.
#[inline(always)]
pub(crate) fn push_mac_header(skb: *mut __sk_buff) -> Result<(), ()> {
    // SAFETY: `skb` is valid.
    let status = unsafe { bpf_skb_change_head(skb, MAC_BYTES, 0) };
    if status == 0 { Ok(()) } else { Err(()) }
}
