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

use core::net::IpAddr;

use bytemuck::{CheckedBitPattern, NoUninit};

mod counters;
mod flow;
mod group;
mod history;
mod hook;
mod surroundings;
mod tunnel;

pub use counters::{Counters, PassCounters, PassReason, TunnelCounters};
pub use flow::{
    Endpoint, FlowEntry, FlowKey, Fragment, FragmentKey, MoveRecord, Origin, Phase, Placer,
};
pub use group::{
    BucketTable, Group, Membership, MembershipKey, Placement, Prefix, PrefixKind, PrefixSource,
    TunnelRef, bitmap,
};
pub use history::{Cause, Event, EventKind, Move, MoveReason};
pub use hook::{AttachKind, Hook, HookKey, HookKind, HookOrder};
pub use surroundings::{AddressKind, KnownAddress, LanDevice, LinkLayer, Vlan, VlanKey};
pub use tunnel::{Admin, Health, HealthReason, Tunnel, TunnelHealth, TunnelInfo};

/// Version of everything in this module.
pub const ABI_VERSION: u32 = 4;

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
/// Entries of the membership map: every tunnel of every group.
pub const MEMBERSHIPS_MAX: usize = GROUPS_MAX * TUNNELS_PER_GROUP_MAX;
/// Events that are kept; the oldest makes room.
pub const EVENTS_MAX: usize = 4_096;
/// Moves that each CPU keeps; the oldest makes room.
pub const MOVES_MAX: usize = 1_024;
/// Flows that one run of the program `steer_move` moves at most.
pub const MOVE_RECORDS_MAX: usize = 32;
/// Words of a group's bitmap of members, a bit for each [`TunnelId`].
pub const MEMBER_WORDS: usize = TUNNELS_MAX / 64;
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

/// An address as the maps hold it. `IpAddr::from(bytes).to_canonical()` is the way back.
pub const fn address_bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

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
    /// `hash`: [`MembershipKey`](super::MembershipKey) → [`Membership`](super::Membership).
    pub const MEMBERSHIPS: &str = "memberships";
    /// `array[TUNNELS_MAX]` of [`TunnelHealth`](super::TunnelHealth).
    pub const TUNNEL_HEALTH: &str = "tunnel_health";
    /// `array[EVENTS_MAX]` of [`Event`](super::Event), a ring: the slot is `seq % EVENTS_MAX`.
    pub const EVENTS: &str = "events";
    /// `percpu_array[MOVES_MAX]` of [`Move`](super::Move), a ring on each CPU: the slot is
    /// `seq % MOVES_MAX`. How many there were is in [`Counters::moves`](super::Counters::moves).
    pub const MOVES: &str = "moves";

    /// All of them, in the order in which they are made.
    pub const ALL: [&str; 20] = [
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
        MEMBERSHIPS,
        TUNNEL_HEALTH,
        EVENTS,
        MOVES,
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

    /// Moves flows; userspace runs it, it is never attached.
    pub const MOVE: &str = "steer_move";
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
    /// Which daemon looks after this: a number it chose when it started; 0 while there has been none.
    pub daemon: u64,
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
