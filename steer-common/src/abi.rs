//! The pinned maps: names, keys, values and limits.
//!
//! The maps are steer's only state, shared by the program, every `steerctl`
//! and `bpftool`. Whatever changes a name, a layout or a meaning here changes
//! [`ABI_VERSION`]; the loader refuses pins of another one.
//!
//! All types are `repr(C)` without padding (`NoUninit` makes padding a compile
//! error) and use plain named fields and field-less enums, so that
//! `bpftool map dump` reads like a report. Addresses are 16 bytes in network
//! order, IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2). Times are
//! nanoseconds of `CLOCK_MONOTONIC`.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// Version of everything in this module.
pub const ABI_VERSION: u32 = 2;

/// Bytes of a device or group name, as in `IFNAMSIZ` (`linux/if.h`), with the final zero.
pub const NAME_BYTES: usize = 16;
/// Most tunnels in a group.
pub const TUNNELS_PER_GROUP_MAX: usize = 64;
/// Entries of the tunnel maps; a [`TunnelId`] is the index.
pub const TUNNELS_MAX: usize = 256;
/// Entries of the group maps.
pub const GROUPS_MAX: usize = 64;
/// Entries of the prefix map.
pub const PREFIXES_MAX: usize = 16_384;
/// Entries of the hook and tunnel device maps.
pub const DEVICES_MAX: usize = 1_024;
/// Entries of the fragment map: datagrams in fragments that are remembered at once.
pub const FRAGMENTS_MAX: usize = 16_384;
/// Entries of the address map.
pub const ADDRESSES_MAX: usize = 4_096;
/// Entries of the VLAN map: as many as one device can have, and some.
pub const VLANS_MAX: usize = 8_192;
/// Buckets of a group's table; prime, as Maglev's permutations need.
pub const BUCKETS: usize = 65_537;
/// The bucket of an empty table.
pub const NO_TUNNEL: TunnelId = 255;
/// The largest id that a tunnel can have.
pub const TUNNEL_ID_MAX: TunnelId = 254;
/// [`Settings::mss_clamp`]: to what fits through the flow's tunnel.
pub const MSS_CLAMP_MTU: u32 = 1;
/// The least that [`Settings::mss_clamp`] may ask for (RFC 9293 section 3.7.1).
pub const MSS_MIN: u32 = 536;
/// Smallest flow table that is made without `--max-flows`.
pub const FLOWS_MIN: u32 = 65_536;
/// Largest flow table that is made without `--max-flows`.
pub const FLOWS_MAX: u32 = 1_048_576;

/// A tunnel's identity: index in the tunnel maps, value of a bucket.
pub type TunnelId = u8;
/// A group's index in the group maps.
pub type GroupId = u8;

/// Names of the maps, which are also the names of their pins. The kernel keeps 15 bytes.
pub mod maps {
    /// `array[1]` of [`Settings`](super::Settings).
    pub const SETTINGS: &str = "settings";
    /// `array[GROUPS_MAX]` of [`Group`](super::Group).
    pub const GROUPS: &str = "groups";
    /// `lpm_trie`: address prefix → [`Prefix`](super::Prefix).
    pub const PREFIXES: &str = "prefixes";
    /// `array[TUNNELS_MAX]` of [`Tunnel`](super::Tunnel).
    pub const TUNNELS: &str = "tunnels";
    /// `array[TUNNELS_MAX]` of [`TunnelInfo`](super::TunnelInfo).
    pub const TUNNEL_INFO: &str = "tunnel_info";
    /// `hash`: ifindex → [`TunnelRef`](super::TunnelRef).
    pub const TUNNEL_DEVICES: &str = "tunnel_devices";
    /// `hash[GROUPS_MAX]`: [`GroupId`](super::GroupId) → [`BucketTable`](super::BucketTable). An
    /// element of a hash is replaced whole, which one of an array is not.
    pub const BUCKET_TABLES: &str = "bucket_tables";
    /// `hash`: [`FlowKey`](super::FlowKey) → [`FlowEntry`](super::FlowEntry).
    pub const FLOWS: &str = "flows";
    /// `lru_hash`: [`FragmentKey`](super::FragmentKey) → [`Fragment`](super::Fragment).
    pub const FRAGMENTS: &str = "fragments";
    /// `hash`: address → [`KnownAddress`](super::KnownAddress).
    pub const ADDRESSES: &str = "addresses";
    /// `hash`: ifindex → [`LanDevice`](super::LanDevice).
    pub const LAN_DEVICES: &str = "lan_devices";
    /// `hash`: [`VlanKey`](super::VlanKey) → [`Vlan`](super::Vlan).
    pub const VLANS: &str = "vlans";
    /// `percpu_array[TUNNELS_MAX]` of [`TunnelCounters`](super::TunnelCounters).
    pub const TUNNEL_COUNTERS: &str = "tunnel_counters";
    /// `percpu_array[1]` of [`PassCounters`](super::PassCounters).
    pub const PASS_COUNTERS: &str = "pass_counters";
    /// `percpu_array[1]` of [`Counters`](super::Counters).
    pub const COUNTERS: &str = "counters";
    /// `hash`: [`HookKey`](super::HookKey) → [`Hook`](super::Hook).
    pub const HOOKS: &str = "hooks";

    /// All of them, in the order in which they are made.
    pub const ALL: [&str; 16] = [
        SETTINGS,
        GROUPS,
        PREFIXES,
        TUNNELS,
        TUNNEL_INFO,
        TUNNEL_DEVICES,
        BUCKET_TABLES,
        FLOWS,
        FRAGMENTS,
        ADDRESSES,
        LAN_DEVICES,
        VLANS,
        TUNNEL_COUNTERS,
        PASS_COUNTERS,
        COUNTERS,
        HOOKS,
    ];
}

/// Names of the programs in the object.
pub mod programs {
    /// Steers what enters the LAN device.
    pub const INGRESS: &str = "steer_ingress";
    /// The same for a LAN device without MAC headers.
    pub const INGRESS_L3: &str = "steer_ingress_l3";
    /// Marks what enters the LAN device for the kernel's policy rules.
    pub const MARK: &str = "steer_mark";
    /// The same for a LAN device without MAC headers.
    pub const MARK_L3: &str = "steer_mark_l3";
    /// Learns flows from what comes out of a tunnel.
    pub const LEARN: &str = "steer_learn";
    /// The same, and forwards it to the LAN.
    pub const RETURN: &str = "steer_return";
    /// Steers what the kernel sends into a tunnel.
    pub const EGRESS: &str = "steer_egress";
    /// Leads what the kernel sends into a tunnel to the tunnel whose own address it comes from.
    pub const OWN: &str = "steer_own";
    /// All that steer attaches.
    pub const ALL: [&str; 8] = [
        INGRESS, INGRESS_L3, MARK, MARK_L3, LEARN, RETURN, EGRESS, OWN,
    ];

    /// The bare redirect that the benchmark measures everything against.
    pub const BARE_REDIRECT: &str = "bare_redirect";
}

/// How this gateway steers.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum HookMode {
    /// Not decided yet.
    Unset = 0,
    /// On the LAN devices, past the kernel's forwarding and netfilter, both ways.
    Ingress = 1,
    /// On the tunnels, after the kernel's forwarding and netfilter.
    Egress = 2,
    /// By a mark that is set on the LAN devices and chooses the kernel's route.
    Mark = 3,
}

impl HookMode {
    /// The name in options, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Mark => "mark",
        }
    }
}

/// What holds for every group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Settings {
    /// [`ABI_VERSION`] of the loader that made the maps; written last, so 0 means unfinished.
    pub abi_version: u32,
    /// Bumped when membership or prefixes change.
    pub epoch: u32,
    /// Seed of the flow hash.
    pub seed: u64,
    /// Idle time-out of a TCP flow (RFC 5382 REQ-5).
    pub idle_tcp_ns: u64,
    /// Idle time-out of a TCP flow after FIN or RST.
    pub idle_closing_ns: u64,
    /// Idle time-out of a UDP or UDP-Lite flow (RFC 4787 REQ-5).
    pub idle_udp_ns: u64,
    /// Idle time-out of all other flows (RFC 5508 REQ-2).
    pub idle_other_ns: u64,
    /// Inode of the network namespace that the device numbers belong to (`/proc/self/ns/net`).
    pub netns: u64,
    /// How this gateway steers.
    pub hook: HookMode,
    /// Largest MSS that a TCP connection may announce through a tunnel: 0 leaves it alone,
    /// [`MSS_CLAMP_MTU`] follows the tunnel's MTU, more is the number itself.
    pub mss_clamp: u32,
    /// Bits of the packet mark that are steer's: `tunnel id + 1`. 0 when no packet is marked.
    pub mark_mask: u32,
    /// Which policy rules and routing tables are steer's, counted from 1; 0 when it has none.
    pub routing_slot: u32,
}

impl Settings {
    /// The mark of a tunnel under [`Settings::mark_mask`].
    pub const fn mark_of(mask: u32, tunnel: TunnelId) -> u32 {
        (tunnel as u32 + 1) << (mask.trailing_zeros() & 31) & mask
    }
}

/// How a new flow gets its tunnel.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Placement {
    /// No such group.
    Absent = 0,
    /// By the bucket table.
    Hash = 1,
}

/// Tunnels that serve the same remote prefixes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Group {
    /// Name, zero-padded.
    pub name: [u8; NAME_BYTES],
    /// How its new flows are placed.
    pub placement: Placement,
}

/// What a destination prefix belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Prefix {
    /// The group's [`GroupId`].
    pub group: u32,
}

/// What the operator wants of a tunnel.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Admin {
    /// No such tunnel.
    Absent = 0,
    /// In use.
    Active = 1,
    /// Keeps its flows, gets no new ones.
    Drain = 2,
    /// Its flows leave at their next packet.
    Disabled = 3,
}

impl Admin {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        }
    }
}

/// What is known of a tunnel's ability to carry packets.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum Health {
    /// Nobody has looked yet; used like `Up`.
    Unknown = 0,
    /// Carries packets.
    Up = 1,
    /// Carries packets badly; used like `Up`.
    Degraded = 2,
    /// Carries none: device down or gone, or the probe failed.
    Down = 3,
}

impl Health {
    /// The name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// What the packet path needs of a tunnel. Eight bytes, so that no reader sees half of an update.
/// The MTU is not here: the program asks the device itself.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Tunnel {
    /// The device; 0 when it does not exist now.
    pub ifindex: u32,
    /// What the operator wants.
    pub admin: Admin,
    /// What is known.
    pub health: Health,
    /// Always 0.
    pub reserved: u16,
}

/// What only userspace needs of a tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TunnelInfo {
    /// Device name, zero-padded; all zero when there is no such tunnel.
    pub name: [u8; NAME_BYTES],
    /// Weight, 0 to 65,535.
    pub weight: u32,
    /// The group's [`GroupId`].
    pub group: u32,
    /// The device's `rp_filter` before steer changed it, plus 1; 0 when steer did not.
    pub rp_filter_before: u32,
}

/// Which tunnel a device is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TunnelRef {
    /// Its [`TunnelId`].
    pub tunnel: u32,
    /// The group's [`GroupId`].
    pub group: u32,
}

/// A group's consistent-hash table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BucketTable {
    /// The tunnel of each bucket, or [`NO_TUNNEL`].
    pub buckets: [TunnelId; BUCKETS],
}

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
    /// The [`TunnelId`] of the tunnel whose own address it is, else [`NO_TUNNEL`].
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

/// Both directions of one conversation: the endpoints are sorted.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
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
    /// [`Settings::epoch`] at which the flow was last checked against the prefixes.
    pub epoch: u32,
    /// Its [`TunnelId`].
    pub tunnel: u32,
    /// Its [`GroupId`].
    pub group: u32,
    /// Why it is there.
    pub origin: Origin,
    /// The side behind this gateway.
    pub local: Endpoint,
    /// Who leads.
    pub placer: Placer,
    /// How far it has come.
    pub phase: Phase,
}

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
}

/// Where a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum HookKind {
    /// Ingress of the LAN device: steers.
    Ingress = 1,
    /// Ingress of a tunnel: learns, and forwards to the LAN in ingress mode.
    Learn = 2,
    /// Egress of a tunnel: steers.
    Egress = 3,
    /// Ingress of the LAN device: marks.
    Mark = 4,
    /// Egress of a tunnel in mark mode: leads what comes from another tunnel's own address there.
    Own = 5,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ingress,
        Self::Learn,
        Self::Egress,
        Self::Mark,
        Self::Own,
    ];

    /// The name in JSON, tables and pins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Learn => "learn",
            Self::Egress => "egress",
            Self::Mark => "mark",
            Self::Own => "own",
        }
    }
}

/// Where among the programs of a device ours stands.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum HookOrder {
    /// Before those that are there.
    First = 1,
    /// After them.
    Last = 2,
}

impl HookOrder {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Last];
}

/// How a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub enum AttachKind {
    /// A TCX link (kernel 6.6), pinned.
    Tcx = 1,
    /// A filter of the clsact qdisc that was there.
    Clsact = 2,
    /// A filter of a clsact qdisc that steer made, and removes when it is empty.
    ClsactOwned = 3,
}

/// A hook's identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub struct HookKey {
    /// The device.
    pub ifindex: u32,
    /// Which program.
    pub kind: HookKind,
}

/// A hook that steer has attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit, CheckedBitPattern)]
pub struct Hook {
    /// Device name, zero-padded.
    pub name: [u8; NAME_BYTES],
    /// How.
    pub attach: AttachKind,
    /// The group's [`GroupId`].
    pub group: u32,
    /// The kernel's id of the program that was attached last.
    pub program_id: u32,
    /// Where among the device's programs.
    pub order: HookOrder,
}
