//! What is counted, and why packets are left to the kernel.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// What a tunnel carried, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TunnelCounters {
    /// Packets steered into it (segments for GSO).
    pub tx_packets: u64,
    /// Layer-3 bytes steered into it.
    pub tx_bytes: u64,
    /// Packets of steered prefixes that came out of it.
    pub rx_packets: u64,
    /// Layer-3 bytes of them.
    pub rx_bytes: u64,
    /// Flows placed on it or learned from it.
    pub new_flows: u64,
    /// Flows moved to it.
    pub moved_in: u64,
    /// Flows moved away from it.
    pub moved_out: u64,
    /// Packets placed by the hash alone because the flow table was full.
    pub table_full: u64,
}

/// Why a packet was left to the kernel. Append only; [`PassCounters`] has a field for each.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum PassReason {
    /// Neither IPv4 nor IPv6.
    NotIp = 0,
    /// Not addressed to this machine's MAC address (or broadcast or multicast at layer 2).
    OtherHost = 1,
    /// The headers contradict themselves or the packet.
    Malformed = 2,
    /// More IPv6 extension headers than the parser follows, or longer ones.
    TooManyHeaders = 3,
    /// Multicast, broadcast, link-local, loopback or unspecified address.
    LocalScope = 4,
    /// The destination is in no group's prefixes.
    NotSteered = 5,
    /// TTL or hop limit does not survive this hop.
    TtlExpired = 6,
    /// Larger than the tunnel's MTU.
    TooBig = 7,
    /// The group has no usable tunnel.
    NoTunnel = 8,
    /// More VLAN tags than the parser follows.
    TooManyTags = 9,
    /// An IPv6 jumbogram (RFC 2675), or a packet whose length only the kernel knows.
    Jumbogram = 10,
    /// Rewriting the packet failed for want of memory; its TTL may have gone down already.
    RewriteFailed = 11,
    /// The checksum of the IPv4 header is wrong.
    BadChecksum = 12,
    /// IPv4 options or IPv6 hop-by-hop options that a router must look at.
    RouterOptions = 13,
    /// Tagged for a VLAN that this gateway has no device for.
    UnknownVlan = 14,
    /// From or to one of the gateway's own addresses.
    OwnAddress = 15,
    /// To the address that a tunnel's encrypted packets go to.
    TunnelEndpoint = 16,
    /// From a tunnel, and the kernel has no route that forwards it: for this gateway itself, usually.
    NotForwarded = 17,
    /// From a tunnel, and the next hop's MAC address is not known.
    NoNeighbour = 18,
    /// From a tunnel, and its way leads out by a device that is not a LAN device.
    NotLan = 19,
}

impl PassReason {
    /// All reasons, in counter order.
    pub const ALL: [Self; 20] = [
        Self::NotIp,
        Self::OtherHost,
        Self::Malformed,
        Self::TooManyHeaders,
        Self::LocalScope,
        Self::NotSteered,
        Self::TtlExpired,
        Self::TooBig,
        Self::NoTunnel,
        Self::TooManyTags,
        Self::Jumbogram,
        Self::RewriteFailed,
        Self::BadChecksum,
        Self::RouterOptions,
        Self::UnknownVlan,
        Self::OwnAddress,
        Self::TunnelEndpoint,
        Self::NotForwarded,
        Self::NoNeighbour,
        Self::NotLan,
    ];

    /// The name in JSON, tables and [`PassCounters`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::OtherHost => "other_host",
            Self::Malformed => "malformed",
            Self::TooManyHeaders => "too_many_headers",
            Self::LocalScope => "local_scope",
            Self::NotSteered => "not_steered",
            Self::TtlExpired => "ttl_expired",
            Self::TooBig => "too_big",
            Self::NoTunnel => "no_tunnel",
            Self::TooManyTags => "too_many_tags",
            Self::Jumbogram => "jumbogram",
            Self::RewriteFailed => "rewrite_failed",
            Self::BadChecksum => "bad_checksum",
            Self::RouterOptions => "router_options",
            Self::UnknownVlan => "unknown_vlan",
            Self::OwnAddress => "own_address",
            Self::TunnelEndpoint => "tunnel_endpoint",
            Self::NotForwarded => "not_forwarded",
            Self::NoNeighbour => "no_neighbour",
            Self::NotLan => "not_lan",
        }
    }
}

/// Packets left to the kernel, per CPU; fields in the order of [`PassReason`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[expect(missing_docs, reason = "each field is the PassReason of its name")]
pub struct PassCounters {
    pub not_ip: u64,
    pub other_host: u64,
    pub malformed: u64,
    pub too_many_headers: u64,
    pub local_scope: u64,
    pub not_steered: u64,
    pub ttl_expired: u64,
    pub too_big: u64,
    pub no_tunnel: u64,
    pub too_many_tags: u64,
    pub jumbogram: u64,
    pub rewrite_failed: u64,
    pub bad_checksum: u64,
    pub router_options: u64,
    pub unknown_vlan: u64,
    pub own_address: u64,
    pub tunnel_endpoint: u64,
    pub not_forwarded: u64,
    pub no_neighbour: u64,
    pub not_lan: u64,
}

const _: () = assert!(size_of::<PassCounters>() == 8 * PassReason::ALL.len());

/// What happened to packets besides, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Fragments without a first one, which went by their address pair.
    pub unmatched_fragments: u64,
    /// ICMP errors about flows that are not known, which went by their address pair.
    pub unmatched_errors: u64,
    /// TCP openings whose MSS was lowered.
    pub clamped_mss: u64,
    /// Packets from tunnels that were forwarded to the LAN without the kernel.
    pub returned: u64,
    /// Flows put on another tunnel; the number of the latest [`Move`](super::Move) of this CPU.
    pub moves: u64,
}
