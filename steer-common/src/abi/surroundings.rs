//! Addresses, LAN devices and VLANs.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// What an address is to this gateway.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum AddressKind {
    /// One of its own.
    Own = 1,
    /// Where a tunnel's encrypted packets go.
    Endpoint = 2,
}

/// An address that is never steered to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct KnownAddress {
    /// What it is.
    pub kind: AddressKind,
    /// The [`TunnelId`](super::TunnelId) of the tunnel whose own address it is, else [`NO_TUNNEL`](super::NO_TUNNEL).
    pub tunnel: u32,
}

/// What packets on a LAN device start with.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet = 1,
    /// An IP header.
    Network = 2,
}

/// A device that packets from a tunnel may be forwarded to: a LAN device, or a VLAN on one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct LanDevice {
    /// What its packets start with.
    pub link_layer: LinkLayer,
    /// The LAN device that has the hook; itself, or the one below.
    pub hook_ifindex: u32,
}

/// A VLAN tag on a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct VlanKey {
    /// The device that the tagged frame came in on.
    pub ifindex: u32,
    /// Tag protocol: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// VLAN number, 1 to 4094.
    pub id: u16,
}

/// A VLAN device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Vlan {
    /// Its number.
    pub ifindex: u32,
}
