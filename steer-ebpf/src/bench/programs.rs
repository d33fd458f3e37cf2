//! The programs: what the kernel calls.

use aya_ebpf::{
    bindings::{
        BPF_F_INGRESS, BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    btf_maps::HashMap,
    helpers::{bpf_get_prandom_u32, bpf_redirect},
    macros::{btf_map, classifier, socket_filter, xdp},
    programs::{SkBuffContext, TcContext, XdpContext},
};
use steer_common::{abi::FlowKey, bench::lost};

use crate::frame::Frame;

/// Packets and bytes of a flow, in as much room as a flow entry has.
type Entry = [u64; 8];

/// Flows as steer has them. The loader sets the number of entries.
#[btf_map(name = "bench_flows")]
static BENCH_FLOWS: HashMap<FlowKey, Entry, 1> = HashMap::new();

/// Flows with the least key that tells them apart here, and the least value.
#[btf_map(name = "bench_flows_small")]
static BENCH_FLOWS_SMALL: HashMap<u64, u64, 1> = HashMap::new();

/// Where packets are redirected to; the loader sets it.
#[unsafe(no_mangle)]
static BENCH_DEVICE: u32 = 0;

fn device() -> u32 {
    // SAFETY: reads a static; the compiler must not take the value above for the final one.
    unsafe { (&raw const BENCH_DEVICE).read_volatile() }
}

/// The least a program can do to forward: to the one device.
#[classifier]
pub(crate) fn bench_redirect(_ctx: TcContext) -> i32 {
    // SAFETY: the helper takes numbers only.
    unsafe { bpf_redirect(device(), 0) as i32 }
}

/// The least a program costs by being there.
#[classifier]
pub(crate) fn bench_idle(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The least that anything costs which keeps state for each flow: one look-up, two counters.
#[classifier]
pub(crate) fn bench_look_up(ctx: TcContext) -> i32 {
    let Some(frame) = Frame::at(ctx.data(), ctx.data_end()) else {
        return TC_ACT_UNSPEC;
    };
    let key = frame.key();
    if let Some(entry) = BENCH_FLOWS.get_ptr_mut(key) {
        // SAFETY: one CPU forwards, and nobody else knows the map.
        let entry = unsafe { &mut *entry };
        entry[0] += 1;
        entry[1] += u64::from(ctx.len());
    } else {
        let entry = [1, ctx.len().into(), 1, 1, 1, 1, 1, 1];
        // Without room it goes on without an entry.
        let _: Result<(), i32> = BENCH_FLOWS.insert(key, entry, BPF_NOEXIST.into());
    }
    // SAFETY: the helper takes numbers only.
    unsafe { bpf_redirect(device(), 0) as i32 }
}

/// The same with the smallest entries that a map can have: what of it is the memory's.
#[classifier]
pub(crate) fn bench_look_up_small(ctx: TcContext) -> i32 {
    let Some(frame) = Frame::at(ctx.data(), ctx.data_end()) else {
        return TC_ACT_UNSPEC;
    };
    let key = frame.small_key();
    if let Some(packets) = BENCH_FLOWS_SMALL.get_ptr_mut(key) {
        // SAFETY: as above.
        unsafe { *packets += 1 };
    } else {
        // As above.
        let _: Result<(), i32> = BENCH_FLOWS_SMALL.insert(key, 1, BPF_NOEXIST.into());
    }
    // SAFETY: the helper takes numbers only.
    unsafe { bpf_redirect(device(), 0) as i32 }
}

/// Makes a packet one of a flow that it draws. The kernel uses a packet again after it was
/// forwarded, so whatever forwarding changes is written, too.
#[xdp]
pub(crate) fn bench_source(ctx: XdpContext) -> u32 {
    let Some(frame) = Frame::at(ctx.data(), ctx.data_end()) else {
        return XDP_PASS;
    };
    let order = frame.order();
    if order.lost == lost::AT_SOURCE {
        return XDP_DROP;
    }
    // SAFETY: takes no arguments.
    frame.write(&order, order.draw(unsafe { bpf_get_prandom_u32() }));
    XDP_PASS
}

/// Ingress of the device in front of which the source is: the tunnels' numbers follow that of the
/// first, and that of the device where packets get lost follows theirs.
#[classifier]
pub(crate) fn bench_hop(ctx: TcContext) -> i32 {
    let Some(frame) = Frame::at(ctx.data(), ctx.data_end()) else {
        return TC_ACT_UNSPEC;
    };
    let order = frame.order();
    let tunnels = if order.tunnels == 0 { 1 } else { order.tunnels };
    let which = match order.lost {
        lost::ON_LAN => return TC_ACT_SHOT,
        lost::IN_TUNNEL => tunnels,
        _ => u32::from(frame.host()) % tunnels,
    };
    // SAFETY: the helper takes numbers only.
    unsafe { bpf_redirect(device() + which, BPF_F_INGRESS.into()) as i32 }
}

/// Ingress of the device where packets get lost.
#[classifier]
pub(crate) fn bench_drop(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// Takes every packet that a device without reader is given; the device counts them as dropped.
#[socket_filter]
pub(crate) fn bench_sink(_ctx: SkBuffContext) -> i64 {
    0
}
