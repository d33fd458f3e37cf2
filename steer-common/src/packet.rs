//! What the parser needs of a packet.

use bytemuck::AnyBitPattern;

use crate::{
    abi::PassReason,
    parse::{self, Upper},
};

/// A packet, read at byte offsets from its layer-2 or layer-3 start.
///
/// In the kernel this is direct packet access, on the host a slice.
pub trait Packet {
    /// Length of the whole packet in bytes, from offset 0, whether or not all of it can be read.
    fn len_bytes(&self) -> u32;

    /// The bytes at `offset` as they are (network order), or `None` beyond the readable part.
    ///
    /// `T` is an integer or an array of integers; `offset` need not be aligned. Not for single
    /// bytes: the verifier does not follow the comparison that the compiler makes of them.
    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;

    /// Size of the payload of each segment if the packet stands for several (GRO, GSO), else 0.
    fn gso_size_bytes(&self) -> u32;

    /// How many packets on the wire this one stands for, at least 1.
    fn segments(&self) -> u32;

    /// The VLAN tag that the driver took out of the frame, protocol in the upper half and control
    /// information in the lower (IEEE 802.1Q); 0 if there is none.
    fn tag_in_metadata(&self) -> u32;

    /// What is behind the IPv6 extension headers, of which the first has `protocol` and is at `offset`.
    /// In the kernel this is a function of its own for the verifier.
    fn upper(&self, protocol: u8, offset: u16, end: u32) -> Result<Upper, PassReason>
    where
        Self: Sized,
    {
        parse::upper(self, protocol, offset, end)
    }

    /// Whether the frame's layer-2 destination is this machine.
    fn to_this_host(&self) -> bool;
}

/// A big-endian `u16` field.
#[inline(always)]
pub(crate) fn be16<P: Packet>(packet: &P, offset: usize) -> Option<u16> {
    packet.load::<u16>(offset).map(u16::from_be)
}
