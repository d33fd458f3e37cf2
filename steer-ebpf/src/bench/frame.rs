//! A frame of the source: Ethernet, IPv4 without options or IPv6, UDP, and the order in its payload.

use steer_common::{
    abi::FlowKey,
    bench::{Drawn, IPV4_PAYLOAD, IPV6_PAYLOAD, MAGIC, Order, TTL},
};

/// Offset of the `EtherType`.
const ETHERTYPE: usize = 12;
/// `ETH_P_IPV6` of `linux/if_ether.h`.
const IPV6: u16 = 0x86dd;
/// Bytes of an Ethernet header.
const L3: usize = 14;
/// Bytes of an UDP header.
const UDP: usize = 8;

/// A frame whose headers and order can be read and written.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    data: *mut u8,
    is_ipv6: bool,
}

impl Frame {
    /// The frame between these addresses, if it is the source's.
    #[inline(always)]
    pub(crate) fn at(data: usize, end: usize) -> Option<Self> {
        if data + IPV6_PAYLOAD + size_of::<Order>() > end {
            return None;
        }
        let data = data as *mut u8;
        // SAFETY: the frame is that long, and no alignment is taken for granted.
        let ethertype = unsafe { data.add(ETHERTYPE).cast::<u16>().read_unaligned() };
        let is_ipv6 = u16::from_be(ethertype) == IPV6;
        let frame = Self { data, is_ipv6 };
        (frame.order().magic == MAGIC).then_some(frame)
    }

    /// What the source is told.
    #[inline(always)]
    pub(crate) fn order(self) -> Order {
        // SAFETY: `at` has seen that it lies within the frame.
        unsafe {
            self.data
                .add(self.payload())
                .cast::<Order>()
                .read_unaligned()
        }
    }

    #[inline(always)]
    fn payload(self) -> usize {
        if self.is_ipv6 {
            IPV6_PAYLOAD
        } else {
            IPV4_PAYLOAD
        }
    }

    /// Where the addresses are: the source's, and the destination's.
    #[inline(always)]
    fn addresses(self) -> [usize; 2] {
        if self.is_ipv6 {
            [L3 + 8, L3 + 24]
        } else {
            [L3 + 12, L3 + 16]
        }
    }

    /// Last 16 bits of the address on the LAN of a packet that comes out of a tunnel.
    #[inline(always)]
    pub(crate) fn host(self) -> u16 {
        let [_, near] = self.addresses();
        self.word(near + self.last_word())
    }

    #[inline(always)]
    fn word(self, offset: usize) -> u16 {
        // SAFETY: as in `order`: all offsets are of headers.
        u16::from_be(unsafe { self.data.add(offset).cast::<u16>().read_unaligned() })
    }

    /// Offset of an address's last 16 bits.
    #[inline(always)]
    fn last_word(self) -> usize {
        if self.is_ipv6 { 14 } else { 2 }
    }

    /// Its flow, one direction.
    #[inline(always)]
    pub(crate) fn key(self) -> FlowKey {
        let [src, dst] = self.addresses();
        let ports = self.payload() - UDP;
        FlowKey {
            low_addr: self.addr(src),
            high_addr: self.addr(dst),
            low_port: self.word(ports),
            high_port: self.word(ports + 2),
            protocol: 17,
        }
    }

    /// What tells its flow from the source's others: both ports, and the last word of each address.
    #[inline(always)]
    pub(crate) fn small_key(self) -> u64 {
        let [src, dst] = self.addresses();
        let ports = self.payload() - UDP;
        u64::from(self.word(ports)) << 48
            | u64::from(self.word(ports + 2)) << 32
            | u64::from(self.word(src + self.last_word())) << 16
            | u64::from(self.word(dst + self.last_word()))
    }

    #[inline(always)]
    fn addr(self, offset: usize) -> [u8; 16] {
        // SAFETY: as in `order`: all offsets are of headers.
        unsafe {
            let addr = self.data.add(offset);
            bytemuck::must_cast(if self.is_ipv6 {
                addr.cast::<[u64; 2]>().read_unaligned()
            } else {
                [0, u64::from(addr.cast::<u32>().read_unaligned())]
            })
        }
    }

    /// Makes it a packet of the flow, as none has forwarded it yet.
    #[inline(always)]
    pub(crate) fn write(self, order: &Order, drawn: Drawn) {
        let [src, dst] = self.addresses();
        let src_port = self.payload() - UDP;
        let (near, far, near_port, far_port) = if order.tunnels == 0 {
            (src, dst, src_port, src_port + 2)
        } else {
            (dst, src, src_port + 2, src_port)
        };
        self.put(near + self.last_word(), drawn.host);
        self.put(near_port, drawn.near_port);
        self.put(far_port, drawn.far_port);
        if self.is_ipv6 {
            self.put(far + 4, drawn.prefix);
            self.put(far + self.last_word(), drawn.far_host);
            self.put_byte(L3 + 7, TTL);
        } else {
            let [high, low] = drawn.ipv4_far();
            self.put(far, high);
            self.put(far + 2, low);
            self.put(L3 + 10, order.ipv4_checksum(drawn));
            self.put_byte(L3 + 8, TTL);
        }
    }

    #[inline(always)]
    fn put(self, offset: usize, value: u16) {
        // SAFETY: as in `order`: all offsets are of headers.
        unsafe {
            self.data
                .add(offset)
                .cast::<u16>()
                .write_unaligned(value.to_be());
        }
    }

    #[inline(always)]
    fn put_byte(self, offset: usize, value: u8) {
        // SAFETY: as in `put`.
        unsafe { self.data.add(offset).write(value) };
    }
}
