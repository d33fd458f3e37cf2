//! The maps, and how the decision sees them.

use core::cell::Cell;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::{bpf_check_mtu, bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::btf_map,
};
use steer_common::{
    abi::{
        BUCKETS, BucketTable, DEVICES_MAX, FLOWS_MAX, FlowEntry, FlowKey, GROUPS_MAX, Group,
        GroupId, Hook, HookKey, NO_TUNNEL, PREFIXES_MAX, PassCounters, PassReason, Prefix,
        Settings, TUNNELS_MAX, Tunnel, TunnelCounters, TunnelId, TunnelInfo, TunnelRef,
    },
    tables::{Fit, Inserted, SharedFlow, Tables},
};

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map(name = "groups")]
static GROUPS: Array<Group, GROUPS_MAX> = Array::new();
#[btf_map(name = "prefixes")]
static PREFIXES: LpmTrie<[u8; 16], Prefix, PREFIXES_MAX> = LpmTrie::new();
#[btf_map(name = "tunnels")]
static TUNNELS: Array<Tunnel, TUNNELS_MAX> = Array::new();
#[btf_map(name = "tunnel_info")]
static TUNNEL_INFO: Array<TunnelInfo, TUNNELS_MAX> = Array::new();
#[btf_map(name = "tunnel_devices")]
static TUNNEL_DEVICES: HashMap<u32, TunnelRef, DEVICES_MAX> = HashMap::new();
#[btf_map(name = "bucket_tables")]
static BUCKET_TABLES: HashMap<u32, BucketTable, GROUPS_MAX> = HashMap::new();
/// The loader sets the number of entries.
#[btf_map(name = "flows")]
static FLOWS: HashMap<FlowKey, FlowEntry, { FLOWS_MAX as usize }> = HashMap::new();
#[btf_map(name = "tunnel_counters")]
static TUNNEL_COUNTERS: PerCpuArray<TunnelCounters, TUNNELS_MAX> = PerCpuArray::new();
#[btf_map(name = "pass_counters")]
static PASS_COUNTERS: PerCpuArray<PassCounters, 1> = PerCpuArray::new();
#[btf_map(name = "hooks")]
static HOOKS: HashMap<HookKey, Hook, DEVICES_MAX> = HashMap::new();

/// What this CPU learned during this tick. Nobody else's business, so not pinned.
#[btf_map(name = "tick_clock")]
static TICK_CLOCK: PerCpuArray<TickClock, 1> = PerCpuArray::new();
#[btf_map(name = "tick_devices")]
static TICK_DEVICES: PerCpuArray<TickDevice, TICK_DEVICES_MAX> = PerCpuArray::new();

const TICK_DEVICES_MAX: usize = 64;

/// The coarse clock, which stands still during a tick: reading it costs more than this look.
#[repr(C)]
struct TickClock {
    jiffies: u64,
    now_ns: u64,
}

/// A device that existed during a tick, and its MTU then.
#[repr(C)]
struct TickDevice {
    jiffies: u64,
    ifindex: u32,
    mtu_bytes: u32,
}

/// The tick that this is; the verifier makes a plain load of it.
#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { bpf_jiffies64() }
}

/// The maps during one packet.
pub(crate) struct Maps {
    settings: &'static Settings,
    skb: *mut __sk_buff,
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

    /// Asks the kernel whether a length, or with a flag each segment, fits a device; and its MTU.
    #[inline(always)]
    fn ask_device(&self, ifindex: u32, length: u32, flags: u32) -> (Fit, u32) {
        const GONE: i64 = -19;
        let mut length = length;
        // SAFETY: `length` is read and written as a `u32` during the call only.
        let answer =
            unsafe { bpf_check_mtu(self.skb.cast(), ifindex, &raw mut length, 0, flags.into()) };
        let fit = match answer {
            0 => Fit::Fits,
            GONE => Fit::Gone,
            _ => Fit::TooBig,
        };
        (fit, length)
    }

    /// Which tunnel a device is.
    #[inline(always)]
    pub(crate) fn tunnel_of_device(ifindex: u32) -> Option<TunnelId> {
        // SAFETY: elements are replaced whole, never written in place.
        unsafe { TUNNEL_DEVICES.get(ifindex) }.map(|found| found.tunnel as TunnelId)
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

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> &Settings {
        self.settings
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        let Some(clock) = TICK_CLOCK.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: no other code runs on this CPU's copy at the same time.
        let clock = unsafe { &mut *clock };
        let jiffies = jiffies();
        if clock.jiffies != jiffies {
            clock.jiffies = jiffies;
            // SAFETY: takes no arguments.
            clock.now_ns = unsafe { bpf_ktime_get_coarse_ns() };
        }
        clock.now_ns
    }

    #[inline(always)]
    fn group_of(&self, addr: &[u8; 16]) -> Option<GroupId> {
        PREFIXES
            .get(&Key::new(128, *addr))
            .map(|found| found.group as GroupId)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<&SharedFlow> {
        // SAFETY: `SharedFlow` has the layout of `FlowEntry` (asserted beside its definition), and
        // its fields are written one by one.
        FLOWS
            .get_ptr(key)
            .map(|entry| unsafe { &*entry.cast::<SharedFlow>() })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> Inserted {
        const EEXIST: i32 = -17;
        match FLOWS.insert(key, entry, BPF_NOEXIST.into()) {
            Ok(()) => Inserted::Done,
            Err(EEXIST) => Inserted::Exists,
            Err(_) => Inserted::Full,
        }
    }

    #[inline(always)]
    fn bucket(&self, group: GroupId, bucket: u32) -> TunnelId {
        // SAFETY: elements are replaced whole, and their memory is not used again while a packet
        // reads them (`Maps::swap_buckets` of the loader).
        let Some(table) = (unsafe { BUCKET_TABLES.get(u32::from(group)) }) else {
            return NO_TUNNEL;
        };
        let bucket = bucket as usize;
        if bucket < BUCKETS {
            table.buckets[bucket]
        } else {
            NO_TUNNEL
        }
    }

    #[inline(always)]
    fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        let element = TUNNELS.get_ptr(id.into())?;
        // SAFETY: an element is eight aligned bytes, which one load reads whole.
        let word = unsafe { element.cast::<u64>().read_volatile() };
        Tunnel::from_word(word)
    }

    #[inline(always)]
    fn fit(&self, ifindex: u32, l3_len_bytes: u32) -> Fit {
        // SAFETY: `skb` is the packet at hand.
        if unsafe { (*self.skb).gso_size } > 0 {
            // The kernel measures each segment; a length of its own is not allowed then.
            return self.ask_device(ifindex, 0, BPF_MTU_CHK_SEGS).0;
        }
        let Some(known) = TICK_DEVICES.get_ptr_mut(ifindex % TICK_DEVICES_MAX as u32) else {
            return Fit::Gone;
        };
        // SAFETY: no other code runs on this CPU's copy at the same time.
        let known = unsafe { &mut *known };
        let jiffies = jiffies();
        if known.jiffies == jiffies && known.ifindex == ifindex {
            return if l3_len_bytes <= known.mtu_bytes {
                Fit::Fits
            } else {
                Fit::TooBig
            };
        }
        let (fit, mtu_bytes) = self.ask_device(ifindex, l3_len_bytes, 0);
        if fit != Fit::Gone {
            *known = TickDevice {
                jiffies,
                ifindex,
                mtu_bytes,
            };
        }
        fit
    }

    #[inline(always)]
    fn count(&self, id: TunnelId, change: impl FnOnce(&mut TunnelCounters)) {
        if let Some(counters) = TUNNEL_COUNTERS.get_ptr_mut(id.into()) {
            // SAFETY: no other code runs on this CPU's copy at the same time.
            change(unsafe { &mut *counters });
        }
    }

    #[inline(always)]
    fn add(&self, counter: &Cell<u64>, n: u64) {
        // SAFETY: the counter is an aligned `u64` of a map element, which outlives the program. The
        // instruction is written out because `core` has no read-modify-write for this target.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({counter} + 0) += {n}",
                counter = in(reg) counter.as_ptr(),
                n = in(reg) n,
                options(nostack),
            );
        }
    }
}
