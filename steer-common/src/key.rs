//! Building canonical flow keys.

use network_types::ip::IpProto;

use crate::abi::{Endpoint, FlowKey};

/// An address as it lies in memory: 16 bytes in network order.
pub type Address = [u64; 2];

/// An IPv4 address, given as its four bytes, in the 16-byte form of the maps (`::ffff:a.b.c.d`).
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

/// Whether both ends of a flow share one number of 32 bits instead of having ports: the security
/// parameter index of ESP and AH, the key of GRE, the session of `L2TPv3`.
#[inline(always)]
pub const fn has_number(protocol: u8) -> bool {
    const ESP: u8 = IpProto::Esp as u8;
    const AH: u8 = IpProto::Ah as u8;
    const GRE: u8 = IpProto::Gre as u8;
    const L2TP: u8 = IpProto::L2tp as u8;
    matches!(protocol, ESP | AH | GRE | L2TP)
}

impl Endpoint {
    /// The other one.
    #[must_use]
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl FlowKey {
    /// Room for [`FlowKey::set`] to fill.
    pub const EMPTY: Self = Self {
        low_addr: [0; 16],
        high_addr: [0; 16],
        low_port: 0,
        high_port: 0,
        protocol: 0,
    };

    /// Makes this the key of a packet, and tells which endpoint its source is.
    ///
    /// Endpoints are compared as numbers in network order, address first, so
    /// that every machine sorts alike. The halves of a number that both ends
    /// share ([`has_number`]) are given as ports, the upper one first, and stay
    /// in this order.
    #[inline(always)]
    pub fn set(
        &mut self,
        src_addr: Address,
        dst_addr: Address,
        src_port: u16,
        dst_port: u16,
        protocol: u8,
    ) -> Endpoint {
        let order = u64::from_be(src_addr[0]).cmp(&u64::from_be(dst_addr[0]));
        let order = order.then(u64::from_be(src_addr[1]).cmp(&u64::from_be(dst_addr[1])));
        self.protocol = protocol.into();
        if has_number(protocol) {
            self.low_port = src_port;
            self.high_port = dst_port;
            return self.set_addrs(src_addr, dst_addr, order.is_le());
        }
        let source_is_low = order.then(src_port.cmp(&dst_port)).is_le();
        if source_is_low {
            self.low_port = src_port;
            self.high_port = dst_port;
        } else {
            self.low_port = dst_port;
            self.high_port = src_port;
        }
        self.set_addrs(src_addr, dst_addr, source_is_low)
    }

    #[inline(always)]
    fn set_addrs(&mut self, src_addr: Address, dst_addr: Address, source_is_low: bool) -> Endpoint {
        if source_is_low {
            self.low_addr = bytemuck::must_cast(src_addr);
            self.high_addr = bytemuck::must_cast(dst_addr);
            Endpoint::Low
        } else {
            self.low_addr = bytemuck::must_cast(dst_addr);
            self.high_addr = bytemuck::must_cast(src_addr);
            Endpoint::High
        }
    }

    /// Whether the ports are the halves of one number, [`has_number`].
    #[inline(always)]
    pub const fn has_number(&self) -> bool {
        has_number(self.protocol as u8)
    }

    /// The address of an endpoint.
    #[inline(always)]
    pub const fn addr(&self, endpoint: Endpoint) -> &[u8; 16] {
        match endpoint {
            Endpoint::Low => &self.low_addr,
            Endpoint::High => &self.high_addr,
        }
    }

    /// The port of an endpoint.
    #[inline(always)]
    pub const fn port(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Low => self.low_port,
            Endpoint::High => self.high_port,
        }
    }
}
