//! A packet by direct access, and what forwarding changes in it.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_csum_update, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_vlan_pop},
};
use bytemuck::AnyBitPattern;
use steer_common::{
    abi::PassReason,
    packet::Packet,
    parse::{L3_OFFSET_MAX, Parsed, Upper, Version},
    rewrite::checksum_after_ttl,
};

use crate::extensions;

/// Bytes that are made readable: enough for the headers of all but contrived packets.
const HEADERS_BYTES: u32 = 192;
/// Bits of every offset that an IP header can have.
const L3_OFFSET_MASK: usize = L3_OFFSET_MAX.next_power_of_two() - 1;
/// Headers of a merged packet, rounded up: Ethernet, IPv6, TCP with time-stamps.
const HEADERS_USUAL_BYTES: u32 = 86;
/// `PACKET_HOST` of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// The packet at hand.
pub(crate) struct Skb {
    context: *mut __sk_buff,
    data: usize,
    data_end: usize,
}

impl Skb {
    /// The packet, with its headers readable.
    #[inline(always)]
    pub(crate) fn with_headers(skb: *mut __sk_buff) -> Self {
        // SAFETY: the kernel hands a valid context to the program.
        let (data, data_end, len) = unsafe { ((*skb).data, (*skb).data_end, (*skb).len) };
        let wanted = if len < HEADERS_BYTES {
            len
        } else {
            HEADERS_BYTES
        };
        if data_end - data < wanted {
            // A failure leaves less readable, which the parser notices.
            // SAFETY: `skb` is valid.
            let _: i64 = unsafe { bpf_skb_pull_data(skb, wanted) };
        }
        Self::new(skb)
    }

    /// The packet as it is.
    #[inline(always)]
    pub(crate) fn new(skb: *mut __sk_buff) -> Self {
        // SAFETY: the kernel hands a valid context to the program.
        let (data, data_end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        Self {
            context: skb,
            data,
            data_end,
        }
    }

    /// Makes the packet what a router would send: TTL down, no VLAN tag, no padding.
    ///
    /// The first step fails before it changes anything; the later ones fail only for want of memory,
    /// and leave the TTL lowered.
    #[inline(always)]
    pub(crate) fn forward(&self, parsed: &Parsed) -> Result<(), ()> {
        let &Parsed {
            version,
            l3_offset,
            l3_len_bytes,
            ttl,
            tags,
            ..
        } = parsed;
        match version {
            Version::V4 => self.decrement_ttl(l3_offset, ttl)?,
            Version::V6 => self.decrement_hop_limit(l3_offset, ttl)?,
        }
        let end = l3_offset as u32 + l3_len_bytes;
        // SAFETY: `skb` is valid.
        if unsafe { (*self.context).len } > end && self.gso_size_bytes() == 0 {
            // SAFETY: as above.
            done(unsafe { bpf_skb_change_tail(self.context, end, 0) })?;
        }
        if tags > 0 {
            self.pop_tag()?;
        }
        if tags > 1 {
            self.pop_tag()?;
        }
        Ok(())
    }

    /// The header as a whole keeps its sum, so the checksum of the packet that
    /// the driver may have left in the skb stays right (`ip_decrease_ttl`).
    #[inline(always)]
    fn decrement_ttl(&self, l3_offset: usize, ttl: u8) -> Result<(), ()> {
        let header = self.header(l3_offset, 20)?;
        // SAFETY: the header lies within the packet, checked just now.
        unsafe {
            *((header + 8) as *mut u8) = ttl - 1;
            let checksum = (header + 10) as *mut u16;
            *checksum = checksum_after_ttl(*checksum);
        }
        Ok(())
    }

    /// No checksum in the header makes up for the change, so the one of the whole packet that the
    /// driver may have left in the skb must follow (`ip6_forward` gives it up instead).
    #[inline(always)]
    fn decrement_hop_limit(&self, l3_offset: usize, hop_limit: u8) -> Result<(), ()> {
        let header = self.header(l3_offset, 40)?;
        // SAFETY: the header lies within the packet, checked just now.
        unsafe { *((header + 7) as *mut u8) = hop_limit - 1 };
        // One less in the low byte of a 16-bit word, in ones' complement.
        let difference = !u32::from(1_u16.to_be());
        // It refuses packets without such a checksum, which need nothing.
        // SAFETY: `skb` is valid.
        let _: i64 = unsafe { bpf_csum_update(self.context, difference) };
        Ok(())
    }

    /// Where the IP header is, if so many bytes of it can be written.
    #[inline(always)]
    fn header(&self, l3_offset: usize, bytes: usize) -> Result<usize, ()> {
        // The verifier no longer knows what the parser found; the mask changes nothing.
        let start = self.data + (l3_offset & L3_OFFSET_MASK);
        if start + bytes > self.data_end {
            Err(())
        } else {
            Ok(start)
        }
    }

    #[inline(always)]
    fn pop_tag(&self) -> Result<(), ()> {
        // SAFETY: `skb` is valid.
        done(unsafe { bpf_skb_vlan_pop(self.context) })
    }
}

#[inline(always)]
fn done(status: i64) -> Result<(), ()> {
    if status == 0 { Ok(()) } else { Err(()) }
}

impl Packet for Skb {
    #[inline(always)]
    fn len_bytes(&self) -> u32 {
        // SAFETY: `skb` is valid.
        unsafe { (*self.context).len }
    }

    #[inline(always)]
    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let start = self.data + offset;
        if start + size_of::<T>() > self.data_end {
            return None;
        }
        // SAFETY: the bytes lie within the packet, checked just now, and make a `T` whatever they
        // are. The machines that steer runs on read unaligned words, and the verifier refuses
        // the load elsewhere.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn gso_size_bytes(&self) -> u32 {
        // SAFETY: `skb` is valid.
        unsafe { (*self.context).gso_size }
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: `skb` is valid.
        let (segments, size, len) = unsafe {
            (
                (*self.context).gso_segs,
                (*self.context).gso_size,
                (*self.context).len,
            )
        };
        if segments > 0 {
            return segments;
        }
        // Virtual machines' devices leave the count to whoever needs it (SKB_GSO_DODGY). A packet
        // that is not merged has the size 0.
        let payload = len.saturating_sub(HEADERS_USUAL_BYTES);
        payload.checked_div(size).map_or(1, |whole| whole + 1)
    }

    #[inline(always)]
    fn tag_in_metadata(&self) -> u32 {
        // SAFETY: `skb` is valid.
        let (is_there, protocol, control) = unsafe {
            (
                (*self.context).vlan_present,
                (*self.context).vlan_proto,
                (*self.context).vlan_tci,
            )
        };
        if is_there == 0 {
            return 0;
        }
        u32::from(u16::from_be(protocol as u16)) << 16 | control & 0xffff
    }

    #[inline(always)]
    fn upper(&self, protocol: u8, offset: u16, end: u32) -> Result<Upper, PassReason> {
        extensions::call(self.context, protocol, offset, end)
    }

    #[inline(always)]
    fn to_this_host(&self) -> bool {
        // SAFETY: `skb` is valid.
        unsafe { (*self.context).pkt_type == PACKET_HOST }
    }
}
