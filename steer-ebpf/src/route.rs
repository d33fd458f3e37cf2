//! The way from a tunnel to the LAN, as the kernel's routes and neighbours have it.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_SUCCESS,
    },
    helpers::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh},
};
use steer_common::{
    abi::{LinkLayer, PassReason},
    parse::{Parsed, Version},
};

use crate::maps::Maps;

/// `struct bpf_fib_lookup` of `linux/bpf.h`, without its unions.
#[repr(C)]
struct FibLookup {
    family: u8,
    l4_protocol: u8,
    src_port: u16,
    dst_port: u16,
    total_bytes: u16,
    ifindex: u32,
    tos: u32,
    src_addr: [u8; 16],
    dst_addr: [u8; 16],
    vlan: u32,
    macs: [u16; 6],
}

/// The sizes as the helpers want them.
const LOOKUP_BYTES: i32 = 64;
const NEIGHBOUR_BYTES: i32 = 20;

const _: () = assert!(size_of::<FibLookup>() == LOOKUP_BYTES as usize);
const _: () = assert!(size_of::<Neighbour>() == NEIGHBOUR_BYTES as usize);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct bpf_redir_neigh` of `linux/bpf.h`, without its union.
#[repr(C)]
pub(crate) struct Neighbour {
    family: u32,
    addr: [u32; 4],
}

/// The next hop of a packet.
pub(crate) struct NextHop {
    /// The device to leave by.
    pub(crate) ifindex: u32,
    /// Whose MAC address the frame gets, if the device wants one.
    pub(crate) neighbour: Neighbour,
    /// Whether the device wants one.
    pub(crate) has_frame: bool,
}

/// Asks the kernel for the way of a packet that came in on a device.
#[inline(always)]
pub(crate) fn next_hop(
    skb: *mut __sk_buff,
    parsed: &Parsed,
    ifindex: u32,
) -> Result<NextHop, PassReason> {
    let from = parsed.key.addr(parsed.source);
    let to = parsed.key.addr(parsed.source.other());
    let family = match parsed.version {
        Version::V4 => AF_INET,
        Version::V6 => AF_INET6,
    };
    // SAFETY: `skb` is valid.
    let is_merged = unsafe { (*skb).gso_size } > 0;
    let mut lookup = FibLookup {
        family,
        l4_protocol: 0,
        src_port: 0,
        dst_port: 0,
        // 0 asks about the segments of a merged packet.
        total_bytes: if is_merged {
            0
        } else {
            parsed.l3_len_bytes as u16
        },
        ifindex,
        tos: 0,
        src_addr: address(from, parsed.version),
        dst_addr: address(to, parsed.version),
        vlan: 0,
        // Zeros would become a call of a bytewise `memset`.
        macs: [1; 6],
    };
    // It answers with the gateway's address in place of the destination's, if there is a gateway.
    // SAFETY: the kernel reads and writes `lookup` during the call only, and knows its layout.
    let answer = unsafe { bpf_fib_lookup(skb.cast(), (&raw mut lookup).cast(), LOOKUP_BYTES, 0) };
    if answer == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        return Err(PassReason::TooBig);
    }
    let has_neighbour = answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS);
    if !has_neighbour && answer != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
        return Err(PassReason::NotForwarded);
    }
    let Some(device) = Maps::lan_device(lookup.ifindex) else {
        return Err(PassReason::NotLan);
    };
    let has_frame = match device.link_layer {
        LinkLayer::Network => false,
        LinkLayer::Ethernet if !has_neighbour => return Err(PassReason::NoNeighbour),
        // The kernel fills in the frame, and sees to it that the neighbour is asked now and then.
        LinkLayer::Ethernet => true,
    };
    Ok(NextHop {
        ifindex: lookup.ifindex,
        neighbour: Neighbour {
            family: lookup.family.into(),
            addr: bytemuck::must_cast(lookup.dst_addr),
        },
        has_frame,
    })
}

impl NextHop {
    /// Sends a packet there that has a MAC header if a neighbour is known.
    #[inline(always)]
    pub(crate) fn redirect(mut self) -> i32 {
        // SAFETY: the kernel reads the neighbour during the call only, and knows its layout.
        unsafe {
            if self.has_frame {
                bpf_redirect_neigh(
                    self.ifindex,
                    (&raw mut self.neighbour).cast(),
                    NEIGHBOUR_BYTES,
                    0,
                ) as i32
            } else {
                bpf_redirect(self.ifindex, 0) as i32
            }
        }
    }
}

/// An address as the kernel wants it: IPv4 in the first four bytes.
#[inline(always)]
fn address(addr: &[u8; 16], version: Version) -> [u8; 16] {
    match version {
        Version::V6 => *addr,
        Version::V4 => {
            let words: [u32; 4] = bytemuck::must_cast(*addr);
            bytemuck::must_cast([words[3], 0, 0, 0])
        }
    }
}
