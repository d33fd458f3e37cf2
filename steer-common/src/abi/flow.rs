//! Flows and fragments.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// What sets the fragments of one datagram apart from all others (RFC 791 section 3.2, RFC 8200
/// section 4.5). One direction only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source address.
    pub src_addr: [u8; 16],
    /// Destination address.
    pub dst_addr: [u8; 16],
    /// Identification, in host order.
    pub identification: u32,
    /// IP protocol number of an IPv4 datagram; 44, the fragment header's, for IPv6, whose
    /// reassembly does not look at the protocol.
    pub protocol: u32,
}

/// What the first fragment told about its datagram.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Fragment {
    /// When it was seen.
    pub seen_ns: u64,
    /// Source port, as in a [`FlowKey`].
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// IP protocol number.
    pub protocol: u32,
}

/// Both directions of one conversation: the endpoints are sorted.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey {
    /// Address of the lower endpoint.
    pub low_addr: [u8; 16],
    /// Address of the higher endpoint.
    pub high_addr: [u8; 16],
    /// Port of the lower endpoint in host order; the identifier for echo; 0 where there is none.
    ///
    /// ESP, AH, GRE and `L2TPv3` have one number of 32 bits for both ends: its upper half is here.
    pub low_port: u16,
    /// Port of the higher endpoint, or the lower half of such a number.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u32,
}

/// Why a flow is on its tunnel.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Origin {
    /// By the bucket table.
    Hashed = 1,
    /// By least load.
    LeastLoaded = 2,
    /// From the tunnel it arrived on.
    Learned = 3,
    /// Its tunnel became unusable.
    Moved = 4,
    /// By the operator.
    Pinned = 5,
}

impl Origin {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::LeastLoaded => "least_loaded",
            Self::Learned => "learned",
            Self::Moved => "moved",
            Self::Pinned => "pinned",
        }
    }
}

/// An endpoint of a [`FlowKey`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Endpoint {
    /// `low_addr`, `low_port`.
    Low = 1,
    /// `high_addr`, `high_port`.
    High = 2,
}

/// Which gateway chose a flow's tunnel first, and therefore leads.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Placer {
    /// This one.
    Near = 1,
    /// The far one; this one follows.
    Far = 2,
}

/// How far a flow's life has come.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Phase {
    /// Open, or of a protocol without an end.
    Open = 1,
    /// TCP FIN or RST was seen.
    Closing = 2,
}

/// The sticky state of a flow: one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct FlowEntry {
    /// When the first packet was seen.
    pub created_ns: u64,
    /// When the latest packet was seen, either way.
    pub last_seen_ns: u64,
    /// Packets towards the tunnel (segments for GSO).
    pub tx_packets: u64,
    /// Packets from the tunnel. (Between the other two so that a new entry has no run of zeros,
    /// which the compiler would turn into a call of a bytewise `memset`.)
    pub rx_packets: u64,
    /// Layer-3 bytes towards the tunnel.
    pub tx_bytes: u64,
    /// Layer-3 bytes from the tunnel.
    pub rx_bytes: u64,
    /// [`Settings::epoch`](super::Settings::epoch) at which the flow was last checked against the prefixes.
    pub epoch: u32,
    /// Its [`TunnelId`](super::TunnelId).
    pub tunnel: u16,
    /// The [`GroupId`](super::GroupId) of the group that its prefix belonged to in that epoch.
    pub group: u16,
    /// That group's home group, which stays when routes change.
    pub home: u32,
    /// Why it is there.
    pub origin: Origin,
    /// The side behind this gateway.
    pub local: Endpoint,
    /// Who leads.
    pub placer: Placer,
    /// How far it has come.
    pub phase: Phase,
}

/// One flow for the program `steer_move`, which takes up to [`MOVE_RECORDS_MAX`](super::MOVE_RECORDS_MAX) of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct MoveRecord {
    /// Which.
    pub key: FlowKey,
    /// The [`TunnelId`](super::TunnelId) that it is on, else it stays.
    pub from: u32,
    /// The one to put it on.
    pub to: u32,
}
