//! The programs: what the kernel calls.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use steer_common::{
    abi::PassReason,
    decide::{Verdict, count_sent, learn, steer},
    parse::{Layer, Parsed, parse},
};

use crate::{maps::Maps, packet::Skb};

/// What is not ours: on to the next program, then to the kernel. `TCX_NEXT` is the same number.
const NEXT: i32 = TC_ACT_UNSPEC;
/// What the parsers return for a packet with a flow key; else the number of a [`PassReason`].
const PARSED: u32 = u32::MAX;

/// Ingress of the LAN device: puts each packet of a flow on the flow's tunnel.
#[classifier]
pub(crate) fn steer_ingress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut parsed = Parsed::EMPTY;
    let mut reason = parse_ethernet(skb, &raw mut parsed);
    if reason == PARSED {
        reason = match steer_parsed(skb, &parsed) {
            Ok(ifindex) => {
                // SAFETY: takes numbers only.
                return unsafe { bpf_redirect(ifindex, 0) } as i32;
            }
            Err(reason) => reason as u32,
        };
    }
    Maps::count_pass(reason);
    #[cfg(feature = "log")]
    aya_log_ebpf::trace!(&ctx, "passed: reason {}", reason);
    NEXT
}

/// The device to leave by; the packet is ready to leave.
#[inline(always)]
fn steer_parsed(skb: *mut __sk_buff, parsed: &Parsed) -> Result<u32, PassReason> {
    let Some(maps) = Maps::of(skb) else {
        return Err(PassReason::NotSteered);
    };
    let packet = Skb::new(skb);
    match steer(&packet, &maps, parsed) {
        Verdict::Redirect(exit) if packet.forward(parsed).is_ok() => {
            count_sent(&packet, &maps, parsed, exit.tunnel);
            Ok(exit.ifindex)
        }
        Verdict::Redirect(_) => Err(PassReason::RewriteFailed),
        Verdict::Pass(reason) => Err(reason),
    }
}

/// Ingress of a tunnel: notes which flows come by it.
#[classifier]
pub(crate) fn steer_learn(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    let mut parsed = Parsed::EMPTY;
    if let Some(tunnel) = Maps::tunnel_of_device(ifindex)
        && parse_network(skb, &raw mut parsed) == PARSED
        && let Some(maps) = Maps::of(skb)
    {
        learn(&Skb::new(skb), &maps, &parsed, tunnel);
    }
    NEXT
}

// The parsers are functions of their own, and global ones, so that the verifier proves each once
// instead of once for every way through the rest.

#[unsafe(no_mangle)]
extern "C" fn parse_ethernet(skb: *mut __sk_buff, parsed: *mut Parsed) -> u32 {
    // SAFETY: the caller's `parsed` is its own, or null as far as the verifier knows.
    let Some(parsed) = (unsafe { parsed.as_mut() }) else {
        return 0;
    };
    parse_as(Layer::Ethernet, skb, parsed)
}

#[unsafe(no_mangle)]
extern "C" fn parse_network(skb: *mut __sk_buff, parsed: *mut Parsed) -> u32 {
    // SAFETY: as in `parse_ethernet`.
    let Some(parsed) = (unsafe { parsed.as_mut() }) else {
        return 0;
    };
    parse_as(Layer::Network, skb, parsed)
}

#[inline(always)]
fn parse_as(layer: Layer, skb: *mut __sk_buff, parsed: &mut Parsed) -> u32 {
    match parse(&Skb::with_headers(skb), layer, parsed) {
        Ok(()) => PARSED,
        Err(reason) => reason as u32,
    }
}

/// The least a program can do to forward: what the benchmark measures the others against.
/// Only the benchmark loads it.
#[classifier]
pub(crate) fn bare_redirect(ctx: TcContext) -> i32 {
    // SAFETY: the kernel hands a valid context to the program, and the helper takes numbers only.
    unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) as i32 }
}
