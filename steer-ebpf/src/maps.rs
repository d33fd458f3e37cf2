//! The maps, and what the programs ask of them without the decision.

use aya_ebpf::{
    bindings::__sk_buff,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    helpers::bpf_jiffies64,
    macros::btf_map,
};
use steer_common::abi::{
    ADDRESSES_MAX, BucketTable, Counters, DEVICES_MAX, EVENTS_MAX, Event, FLOWS_MAX, FRAGMENTS_MAX,
    FlowEntry, FlowKey, Fragment, FragmentKey, GROUPS_MAX, Group, Hook, HookKey, KnownAddress,
    LanDevice, MEMBERSHIPS_MAX, MOVES_MAX, Membership, MembershipKey, Move, PREFIXES_MAX,
    PassCounters, PassReason, Prefix, Settings, TUNNELS_MAX, Tunnel, TunnelCounters, TunnelHealth,
    TunnelInfo, TunnelRef, VLANS_MAX, Vlan, VlanKey,
};

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map(name = "groups")]
pub(crate) static GROUPS: Array<Group, GROUPS_MAX> = Array::new();
#[btf_map(name = "prefixes")]
pub(crate) static PREFIXES: LpmTrie<[u8; 16], Prefix, PREFIXES_MAX> = LpmTrie::new();
#[btf_map(name = "tunnels")]
pub(crate) static TUNNELS: Array<Tunnel, TUNNELS_MAX> = Array::new();
#[btf_map(name = "tunnel_info")]
static TUNNEL_INFO: Array<TunnelInfo, TUNNELS_MAX> = Array::new();
#[btf_map(name = "tunnel_devices")]
static TUNNEL_DEVICES: HashMap<u32, TunnelRef, DEVICES_MAX> = HashMap::new();
#[btf_map(name = "bucket_tables")]
pub(crate) static BUCKET_TABLES: HashMap<u32, BucketTable, GROUPS_MAX> = HashMap::new();
/// The loader sets the number of entries.
#[btf_map(name = "flows")]
pub(crate) static FLOWS: HashMap<FlowKey, FlowEntry, { FLOWS_MAX as usize }> = HashMap::new();
#[btf_map(name = "fragments")]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment, FRAGMENTS_MAX> = LruHashMap::new();
#[btf_map(name = "addresses")]
pub(crate) static ADDRESSES: HashMap<[u8; 16], KnownAddress, ADDRESSES_MAX> = HashMap::new();
#[btf_map(name = "lan_devices")]
static LAN_DEVICES: HashMap<u32, LanDevice, DEVICES_MAX> = HashMap::new();
#[btf_map(name = "vlans")]
pub(crate) static VLANS: HashMap<VlanKey, Vlan, VLANS_MAX> = HashMap::new();
#[btf_map(name = "tunnel_counters")]
pub(crate) static TUNNEL_COUNTERS: PerCpuArray<TunnelCounters, TUNNELS_MAX> = PerCpuArray::new();
#[btf_map(name = "pass_counters")]
static PASS_COUNTERS: PerCpuArray<PassCounters, 1> = PerCpuArray::new();
#[btf_map(name = "counters")]
pub(crate) static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map(name = "hooks")]
static HOOKS: HashMap<HookKey, Hook, DEVICES_MAX> = HashMap::new();
#[btf_map(name = "memberships")]
static MEMBERSHIPS: HashMap<MembershipKey, Membership, MEMBERSHIPS_MAX> = HashMap::new();
#[btf_map(name = "tunnel_health")]
static TUNNEL_HEALTH: Array<TunnelHealth, TUNNELS_MAX> = Array::new();
#[btf_map(name = "events")]
static EVENTS: Array<Event, EVENTS_MAX> = Array::new();
#[btf_map(name = "moves")]
pub(crate) static MOVES: PerCpuArray<Move, MOVES_MAX> = PerCpuArray::new();

/// What this CPU learned during this tick. Nobody else's business, so not pinned.
#[btf_map(name = "tick_clock")]
pub(crate) static TICK_CLOCK: PerCpuArray<TickClock, 1> = PerCpuArray::new();
#[btf_map(name = "tick_devices")]
pub(crate) static TICK_DEVICES: PerCpuArray<TickDevice, TICK_DEVICES_MAX> = PerCpuArray::new();

pub(crate) const TICK_DEVICES_MAX: usize = 64;

/// The coarse clock, which stands still during a tick: reading it costs more than this look.
#[repr(C)]
pub(crate) struct TickClock {
    pub(crate) jiffies: u64,
    pub(crate) now_ns: u64,
}

/// A device that existed during a tick, and its MTU then.
#[repr(C)]
pub(crate) struct TickDevice {
    pub(crate) jiffies: u64,
    pub(crate) ifindex: u32,
    pub(crate) mtu_bytes: u32,
}

/// The tick that this is; the verifier makes a plain load of it.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { bpf_jiffies64() }
}

/// The maps during one packet.
pub(crate) struct Maps {
    pub(crate) settings: &'static Settings,
    pub(crate) skb: *mut __sk_buff,
}

impl Maps {
    /// `None` never happens: an array always has its elements.
    #[inline(always)]
    pub(crate) fn of(skb: *mut __sk_buff) -> Option<Self> {
        Some(Self {
            settings: SETTINGS.get(0)?,
            skb,
        })
    }

    /// Which tunnel a device is.
    #[inline(always)]
    pub(crate) fn tunnel_of_device(ifindex: u32) -> Option<TunnelRef> {
        // SAFETY: elements are replaced whole, never written in place.
        unsafe { TUNNEL_DEVICES.get(ifindex) }.copied()
    }

    /// What packets may be forwarded to without the kernel.
    #[inline(always)]
    pub(crate) fn lan_device(ifindex: u32) -> Option<LanDevice> {
        // SAFETY: as above.
        unsafe { LAN_DEVICES.get(ifindex) }.copied()
    }

    /// Counts a packet that the kernel gets, by the number of its [`PassReason`].
    #[inline(always)]
    pub(crate) fn count_pass(reason: u32) {
        // The compiler knows the bound from the functions that made the number, the verifier does
        // not: a volatile read keeps the check.
        // SAFETY: reads a local variable.
        let reason = unsafe { (&raw const reason).read_volatile() };
        if let Some(counters) = PASS_COUNTERS.get_ptr_mut(0)
            && (reason as usize) < PassReason::ALL.len()
        {
            // SAFETY: the counters are as many `u64` as there are reasons (asserted beside their
            // definition), and no other code runs on this CPU's copy at the same time.
            unsafe { *counters.cast::<u64>().add(reason as usize) += 1 };
        }
    }
}
