//! Building canonical flow keys.

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
    /// that every machine sorts alike.
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
        let source_is_low = order.then(src_port.cmp(&dst_port)).is_le();
        self.protocol = protocol.into();
        if source_is_low {
            self.low_addr = bytemuck::must_cast(src_addr);
            self.high_addr = bytemuck::must_cast(dst_addr);
            self.low_port = src_port;
            self.high_port = dst_port;
            Endpoint::Low
        } else {
            self.low_addr = bytemuck::must_cast(dst_addr);
            self.high_addr = bytemuck::must_cast(src_addr);
            self.low_port = dst_port;
            self.high_port = src_port;
            Endpoint::High
        }
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
