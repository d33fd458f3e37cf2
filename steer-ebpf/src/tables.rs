//! How the decision sees the maps, the clock and the devices.

use core::cell::Cell;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS},
    btf_maps::lpm_trie::Key,
    helpers::{bpf_check_mtu, bpf_ktime_get_coarse_ns},
};
use steer_common::{
    abi::{
        BUCKETS, Counters, FlowEntry, FlowKey, Fragment, FragmentKey, GroupId, KnownAddress,
        MEMBER_WORDS, Move, NO_TUNNEL, PrefixKind, Settings, Tunnel, TunnelCounters, TunnelId,
        VlanKey,
    },
    decide::{Exit, Place},
    moves::Moved,
    parse::Parsed,
    tables::{Fit, Inserted, SharedFlow, Tables},
};

use crate::{
    maps::{
        ADDRESSES, BUCKET_TABLES, COUNTERS, FLOWS, FRAGMENTS, GROUPS, Maps, PREFIXES, TICK_CLOCK,
        TICK_DEVICES, TICK_DEVICES_MAX, TUNNEL_COUNTERS, TUNNELS, TickDevice, VLANS, jiffies,
    },
    moves, pick,
};

impl Maps {
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
            .filter(|found| found.kind == PrefixKind::Steered)
            .map(|found| found.group as GroupId)
    }

    #[inline(always)]
    fn home_of(&self, group: GroupId) -> GroupId {
        let Some(element) = GROUPS.get_ptr(group.into()) else {
            return group;
        };
        // SAFETY: an element of an array, of which one word is read.
        unsafe { (&raw const (*element).parent).read_volatile() as GroupId }
    }

    #[inline(always)]
    fn is_member(&self, group: GroupId, tunnel: TunnelId) -> bool {
        let Some(element) = GROUPS.get_ptr(group.into()) else {
            return false;
        };
        let at = usize::from(tunnel) / 64 % MEMBER_WORDS;
        // SAFETY: as above; there are so many words.
        let word = unsafe { (&raw const (*element).members[at]).read_volatile() };
        word >> (tunnel % 64) & 1 == 1
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
    fn address(&self, addr: &[u8; 16]) -> Option<KnownAddress> {
        // A key of a map must lie on the function's own stack in kernels before 6.4.
        let addr = *addr;
        // SAFETY: elements are replaced whole, never written in place.
        unsafe { ADDRESSES.get(addr) }.copied()
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: as above.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        // Without room the later ones go by their address pair.
        let _: Result<(), i32> = FRAGMENTS.insert(key, fragment, BPF_ANY.into());
    }

    #[inline(always)]
    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        // SAFETY: elements are replaced whole, never written in place.
        unsafe { VLANS.get(key) }.map(|vlan| vlan.ifindex)
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
    fn mtu_bytes(&self, ifindex: u32) -> Option<u32> {
        let (fit, mtu_bytes) = self.ask_device(ifindex, 0, 0);
        (fit != Fit::Gone).then_some(mtu_bytes)
    }

    #[inline(always)]
    fn pick(&self, parsed: &Parsed, group: GroupId, place: Place) -> Option<Exit> {
        pick::call(self.skb, parsed, group, place)
    }

    #[inline(always)]
    fn note_move(&self, moved: &Moved<'_>) {
        moves::note(moved);
    }

    #[inline(always)]
    fn log_move(&self, moved: &Move) {
        moves::log(moved);
    }

    #[inline(always)]
    fn note(&self, change: impl FnOnce(&mut Counters)) {
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            // SAFETY: no other code runs on this CPU's copy at the same time.
            change(unsafe { &mut *counters });
        }
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

    #[inline(always)]
    fn replace(&self, number: &Cell<u64>, from: u64, to: u64) -> bool {
        let found: u64;
        // SAFETY: an aligned `u64` of a map element; the instruction wants `from` in register 0, and
        // leaves there what it found.
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({number} + 0, r0, {to})",
                number = in(reg) number.as_ptr(),
                to = in(reg) to,
                inlateout("r0") from => found,
                options(nostack),
            );
        }
        found == from
    }
}

/// Adds to a number that others may add to as well; what it was before.
///
/// # Safety
///
/// It is an aligned `u64` of a map element.
#[inline(always)]
pub(crate) unsafe fn fetch_add(number: *mut u64, n: u64) -> u64 {
    let mut value = n;
    // SAFETY: what the caller promises; and see `Tables::add`.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({number} + 0), {value})",
            number = in(reg) number,
            value = inout(reg) value,
            options(nostack),
        );
    }
    value
}
