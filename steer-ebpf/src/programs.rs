//! The programs: what the kernel calls.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use steer_common::{
    abi::{AddressKind, GroupId, PassReason, Settings, TunnelId},
    decide::{Place, Verdict, count_sent, steer},
    key::mapped,
    learn::learn,
    packet::Packet as _,
    parse::{Layer, Parsed, parse},
    related::{Direction, has_vlan, relate},
    tables::Tables as _,
};

use crate::{
    maps::Maps,
    packet::Skb,
    rewrite::{clamp_mss, push_mac_header},
    route::{NextHop, next_hop},
};

/// What is not ours: on to the next program, then to the kernel. `TCX_NEXT` is the same number.
const NEXT: i32 = TC_ACT_UNSPEC;
/// What the parsers return for a packet with a flow key; else the number of a [`PassReason`].
const PARSED: u32 = u32::MAX;
/// In the last word of a packet's control block: another program of ours has sent it here.
const STEERED: u32 = 0x5723_5eed;
/// Where the source address is in the header of IPv4.
const IPV4_SRC: usize = 12;
/// The same for IPv6.
const IPV6_SRC: usize = 8;

/// Ingress of the LAN device: puts each packet of a flow on the flow's tunnel.
#[classifier]
pub(crate) fn steer_ingress(ctx: TcContext) -> i32 {
    on_lan(&ctx, Layer::Ethernet, Place::Lan)
}

/// The same for a device without MAC headers.
#[classifier]
pub(crate) fn steer_ingress_l3(ctx: TcContext) -> i32 {
    on_lan(&ctx, Layer::Network, Place::Lan)
}

/// Ingress of the LAN device: gives each packet of a flow the mark of the flow's tunnel.
#[classifier]
pub(crate) fn steer_mark(ctx: TcContext) -> i32 {
    on_lan(&ctx, Layer::Ethernet, Place::Mark)
}

/// The same for a device without MAC headers.
#[classifier]
pub(crate) fn steer_mark_l3(ctx: TcContext) -> i32 {
    on_lan(&ctx, Layer::Network, Place::Mark)
}

/// Egress of a tunnel: puts what the kernel sends into any tunnel of a group on the flow's own.
#[classifier]
pub(crate) fn steer_egress(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let (ifindex, marker) = unsafe { ((*skb).ifindex, (*skb).cb[4]) };
    if marker == STEERED {
        // SAFETY: as above.
        unsafe { (*skb).cb[4] = 0 };
        return NEXT;
    }
    let Some(device) = Maps::tunnel_of_device(ifindex) else {
        return NEXT;
    };
    let mut parsed = Parsed::EMPTY;
    let mut reason = parse_network(skb, &raw mut parsed);
    if reason == PARSED && !parsed.is_plain() {
        relate_sent(skb, &raw mut parsed);
    }
    if reason == PARSED {
        let home = device.group as GroupId;
        match sent(skb, &parsed, Place::Egress { ifindex, home }) {
            Ok(there) if there == ifindex => return NEXT,
            Ok(there) => return redirect(skb, there),
            Err(passed) => reason = passed as u32,
        }
    }
    pass(&ctx, reason)
}

/// Egress of a tunnel where marks choose: what comes from another tunnel's own address goes there,
/// because the far end takes it from no other. The kernel's route does not know that of the gateway's
/// own packets, nor does the mark of answers whose source was translated behind it.
#[classifier]
pub(crate) fn steer_own(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    let packet = Skb::with_headers(skb);
    let src = match packet.load::<u16>(0).map(|word| u16::from_be(word) >> 12) {
        Some(4) => packet.load(IPV4_SRC).map(mapped),
        Some(6) => packet.load(IPV6_SRC),
        _ => return NEXT,
    };
    let (Some(src), Some(maps), Some(device)) =
        (src, Maps::of(skb), Maps::tunnel_of_device(ifindex))
    else {
        return NEXT;
    };
    let own = maps
        .address(&src)
        .filter(|known| known.kind == AddressKind::Own && known.tunnel != device.tunnel);
    let tunnel = own.and_then(|known| maps.tunnel(known.tunnel as TunnelId));
    let Some(tunnel) = tunnel.filter(|tunnel| tunnel.is_usable()) else {
        return NEXT;
    };
    match Maps::tunnel_of_device(tunnel.ifindex) {
        // There it comes from the device's own address: nobody has to be told.
        // SAFETY: the helper takes numbers only.
        Some(there) if there.group == device.group => unsafe {
            bpf_redirect(tunnel.ifindex, 0) as i32
        },
        _ => NEXT,
    }
}

/// Ingress of a tunnel: notes which flows come by it.
#[classifier]
pub(crate) fn steer_learn(ctx: TcContext) -> i32 {
    let mut parsed = Parsed::EMPTY;
    let _: Option<Maps> = received(ctx.skb.skb, &mut parsed);
    NEXT
}

/// The same, and sends what is for the LAN there.
#[classifier]
pub(crate) fn steer_return(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let mut parsed = Parsed::EMPTY;
    let Some(maps) = received(skb, &mut parsed) else {
        return NEXT;
    };
    match to_lan(skb, &parsed) {
        Ok(next_hop) => {
            maps.note(|counters| counters.returned += 1);
            next_hop.redirect()
        }
        Err(reason) => pass(&ctx, reason as u32),
    }
}

#[inline(always)]
fn on_lan(ctx: &TcContext, layer: Layer, place: Place) -> i32 {
    let skb = ctx.skb.skb;
    let mut parsed = Parsed::EMPTY;
    let mut reason = match layer {
        Layer::Ethernet => parse_ethernet(skb, &raw mut parsed),
        Layer::Network => parse_network(skb, &raw mut parsed),
    };
    if reason == PARSED && !parsed.is_plain() {
        reason = relate_sent(skb, &raw mut parsed);
    }
    if reason == PARSED {
        match sent(skb, &parsed, place) {
            Ok(_) if place == Place::Mark => return NEXT,
            Ok(ifindex) => return redirect(skb, ifindex),
            Err(passed) => reason = passed as u32,
        }
    }
    pass(ctx, reason)
}

/// The device to leave by; the packet is ready to leave.
#[inline(always)]
fn sent(skb: *mut __sk_buff, parsed: &Parsed, place: Place) -> Result<u32, PassReason> {
    let Some(maps) = Maps::of(skb) else {
        return Err(PassReason::NotSteered);
    };
    let exit = match steer(&Skb::new(skb), &maps, parsed, place) {
        Verdict::Redirect(exit) => exit,
        Verdict::TooBig(exit) => {
            mark(skb, maps.settings, exit.tunnel);
            return Err(PassReason::TooBig);
        }
        Verdict::Pass(reason) => return Err(reason),
    };
    clamp_mss(skb, maps.settings, parsed, exit.ifindex);
    match place {
        Place::Lan if Skb::new(skb).forward(parsed).is_err() => {
            return Err(PassReason::RewriteFailed);
        }
        Place::Mark => mark(skb, maps.settings, exit.tunnel),
        Place::Lan | Place::Egress { .. } => {}
    }
    count_sent(&Skb::new(skb), &maps, parsed, exit.tunnel);
    Ok(exit.ifindex)
}

/// Gives a packet the mark of a tunnel, if tunnels have marks.
#[inline(always)]
fn mark(skb: *mut __sk_buff, settings: &Settings, tunnel: TunnelId) {
    let mask = settings.mark_mask;
    if mask != 0 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*skb).mark = (*skb).mark & !mask | Settings::mark_of(mask, tunnel) };
    }
}

/// Sends a packet to a tunnel, whose own program is to leave it alone.
#[inline(always)]
fn redirect(skb: *mut __sk_buff, ifindex: u32) -> i32 {
    // SAFETY: the kernel hands a valid context to the program; the helper takes numbers only.
    unsafe {
        (*skb).cb[4] = STEERED;
        bpf_redirect(ifindex, 0) as i32
    }
}

/// Notes a packet that came out of a tunnel; the maps if it is of a steered flow.
#[inline(always)]
fn received(skb: *mut __sk_buff, parsed: &mut Parsed) -> Option<Maps> {
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    let device = Maps::tunnel_of_device(ifindex)?;
    if parse_network(skb, &raw mut *parsed) != PARSED {
        return None;
    }
    if !parsed.is_plain() {
        relate_received(skb, &raw mut *parsed);
    }
    let maps = Maps::of(skb)?;
    if !learn(&Skb::new(skb), &maps, parsed, device.tunnel as TunnelId) {
        return None;
    }
    clamp_mss(skb, maps.settings, parsed, ifindex);
    Some(maps)
}

/// The next hop on the LAN; the packet is ready to leave.
#[inline(always)]
fn to_lan(skb: *mut __sk_buff, parsed: &Parsed) -> Result<NextHop, PassReason> {
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    if parsed.ttl <= 1 {
        return Err(PassReason::TtlExpired);
    }
    if parsed.router_options {
        return Err(PassReason::RouterOptions);
    }
    let next_hop = next_hop(skb, parsed, ifindex)?;
    if Skb::new(skb).forward(parsed).is_err() {
        return Err(PassReason::RewriteFailed);
    }
    if next_hop.has_frame && push_mac_header(skb).is_err() {
        return Err(PassReason::RewriteFailed);
    }
    Ok(next_hop)
}

/// Counts a packet that the kernel gets.
#[inline(always)]
#[cfg_attr(
    not(feature = "log"),
    expect(unused_variables, reason = "the logger wants it")
)]
fn pass(ctx: &TcContext, reason: u32) -> i32 {
    Maps::count_pass(reason);
    #[cfg(feature = "log")]
    aya_log_ebpf::trace!(ctx, "passed: reason {}", reason);
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

/// [`relate`] for what goes to the tunnels, and whether its VLAN is ours.
#[unsafe(no_mangle)]
extern "C" fn relate_sent(skb: *mut __sk_buff, parsed: *mut Parsed) -> u32 {
    // SAFETY: as in `parse_ethernet`.
    let (Some(parsed), Some(maps)) = (unsafe { parsed.as_mut() }, Maps::of(skb)) else {
        return 0;
    };
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    if !has_vlan(&maps, ifindex, parsed) {
        return PassReason::UnknownVlan as u32;
    }
    relate(&Skb::new(skb), &maps, Direction::ToTunnel, parsed);
    PARSED
}

/// [`relate`] for what comes from the tunnels.
#[unsafe(no_mangle)]
extern "C" fn relate_received(skb: *mut __sk_buff, parsed: *mut Parsed) -> u32 {
    // SAFETY: as in `parse_ethernet`.
    let (Some(parsed), Some(maps)) = (unsafe { parsed.as_mut() }, Maps::of(skb)) else {
        return 0;
    };
    relate(&Skb::new(skb), &maps, Direction::FromTunnel, parsed);
    PARSED
}
