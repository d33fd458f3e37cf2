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
pub const ABI_VERSION: u32 = 1;

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
/// Buckets of a group's table; prime, as Maglev's permutations need.
pub const BUCKETS: usize = 65_537;
/// The bucket of an empty table.
pub const NO_TUNNEL: TunnelId = 255;
/// The largest id that a tunnel can have.
pub const TUNNEL_ID_MAX: TunnelId = 254;
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
    /// `percpu_array[TUNNELS_MAX]` of [`TunnelCounters`](super::TunnelCounters).
    pub const TUNNEL_COUNTERS: &str = "tunnel_counters";
    /// `percpu_array[1]` of [`PassCounters`](super::PassCounters).
    pub const PASS_COUNTERS: &str = "pass_counters";
    /// `hash`: [`HookKey`](super::HookKey) → [`Hook`](super::Hook).
    pub const HOOKS: &str = "hooks";

    /// All of them, in the order in which they are made.
    pub const ALL: [&str; 11] = [
        SETTINGS,
        GROUPS,
        PREFIXES,
        TUNNELS,
        TUNNEL_INFO,
        TUNNEL_DEVICES,
        BUCKET_TABLES,
        FLOWS,
        TUNNEL_COUNTERS,
        PASS_COUNTERS,
        HOOKS,
    ];
}

/// Names of the programs in the object.
pub mod programs {
    /// Steers what enters the LAN device.
    pub const INGRESS: &str = "steer_ingress";
    /// Learns flows from what enters a tunnel.
    pub const LEARN: &str = "steer_learn";
    /// The bare redirect that the benchmark measures everything against.
    pub const BARE_REDIRECT: &str = "bare_redirect";
}

/// What holds for every group.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
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

/// Both directions of one conversation: the endpoints are sorted.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub struct FlowKey {
    /// Address of the lower endpoint.
    pub low_addr: [u8; 16],
    /// Address of the higher endpoint.
    pub high_addr: [u8; 16],
    /// Port of the lower endpoint in host order; the identifier for echo; 0 where there is none.
    pub low_port: u16,
    /// Port of the higher endpoint.
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
    /// More IPv6 extension headers than the parser follows.
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
}

impl PassReason {
    /// All reasons, in counter order.
    pub const ALL: [Self; 12] = [
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
        }
    }
}

/// Packets left to the kernel on the LAN device, per CPU; fields in the order of [`PassReason`].
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
}

const _: () = assert!(size_of::<PassCounters>() == 8 * PassReason::ALL.len());

/// Where a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, NoUninit, CheckedBitPattern)]
pub enum HookKind {
    /// Ingress of the LAN device: steers.
    Ingress = 1,
    /// Ingress of a tunnel: learns.
    Learn = 2,
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
}
