//! What the decision needs of the maps, and flow entries that can be shared.

use core::cell::Cell;

use bytemuck::{Pod, Zeroable};

use crate::{
    abi::{
        Counters, Endpoint, FlowEntry, FlowKey, Fragment, FragmentKey, GroupId, KnownAddress, Move,
        Origin, Phase, Placer, Settings, Tunnel, TunnelCounters, TunnelId, VlanKey,
    },
    decide::{self, Exit, Place},
    moves::{self, Moved},
    parse::Parsed,
};

/// Where a flow is, by which group, and in which epoch that was found to be right.
///
/// One word of an entry, which is replaced as a whole: else a CPU that was held up could put the group of
/// yesterday's routes beside today's epoch, or a tunnel that is not in the group beside it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Standing {
    /// [`FlowEntry::epoch`].
    pub epoch: u32,
    /// [`FlowEntry::tunnel`].
    pub tunnel: u16,
    /// [`FlowEntry::group`].
    pub group: u16,
}

/// A [`FlowEntry`] in place: several CPUs may hold it at once, so fields are
/// read and written one by one, never the whole.
#[repr(C)]
#[expect(missing_docs, reason = "each field is that of FlowEntry")]
pub struct SharedFlow {
    pub created_ns: Cell<u64>,
    pub last_seen_ns: Cell<u64>,
    pub tx_packets: Cell<u64>,
    pub rx_packets: Cell<u64>,
    pub tx_bytes: Cell<u64>,
    pub rx_bytes: Cell<u64>,
    standing: Cell<u64>,
    pub home: Cell<u32>,
    pub origin: Cell<Origin>,
    pub local: Cell<Endpoint>,
    pub placer: Cell<Placer>,
    pub phase: Cell<Phase>,
}

const _: () = {
    assert!(size_of::<SharedFlow>() == size_of::<FlowEntry>());
    let standing = core::mem::offset_of!(SharedFlow, standing);
    assert!(core::mem::offset_of!(Standing, epoch) == 0);
    assert!(core::mem::offset_of!(FlowEntry, epoch) == standing);
    let tunnel = standing + core::mem::offset_of!(Standing, tunnel);
    assert!(core::mem::offset_of!(FlowEntry, tunnel) == tunnel);
    let group = standing + core::mem::offset_of!(Standing, group);
    assert!(core::mem::offset_of!(FlowEntry, group) == group);
    assert!(core::mem::offset_of!(SharedFlow, home) == core::mem::offset_of!(FlowEntry, home));
    assert!(core::mem::offset_of!(SharedFlow, phase) == core::mem::offset_of!(FlowEntry, phase));
};

impl Standing {
    #[inline(always)]
    const fn of(entry: &FlowEntry) -> Self {
        Self {
            epoch: entry.epoch,
            tunnel: entry.tunnel,
            group: entry.group,
        }
    }

    #[inline(always)]
    const fn word(self) -> u64 {
        bytemuck::must_cast(self)
    }
}

impl SharedFlow {
    /// The entry of a flow.
    pub const fn new(entry: &FlowEntry) -> Self {
        Self {
            created_ns: Cell::new(entry.created_ns),
            last_seen_ns: Cell::new(entry.last_seen_ns),
            tx_packets: Cell::new(entry.tx_packets),
            rx_packets: Cell::new(entry.rx_packets),
            tx_bytes: Cell::new(entry.tx_bytes),
            rx_bytes: Cell::new(entry.rx_bytes),
            standing: Cell::new(Standing::of(entry).word()),
            home: Cell::new(entry.home),
            origin: Cell::new(entry.origin),
            local: Cell::new(entry.local),
            placer: Cell::new(entry.placer),
            phase: Cell::new(entry.phase),
        }
    }

    /// Where the flow is now.
    #[inline(always)]
    pub fn standing(&self) -> Standing {
        bytemuck::cast(self.standing.get())
    }

    /// Puts the flow elsewhere, or says that it is still right there; whether it was still as it `was`.
    #[inline(always)]
    pub fn stand<T: Tables>(&self, tables: &T, was: Standing, is: Standing) -> bool {
        tables.replace(&self.standing, was.word(), is.word())
    }

    /// Starts the entry over with the values of another flow.
    #[inline(always)]
    pub fn restart(&self, entry: &FlowEntry) {
        self.created_ns.set(entry.created_ns);
        self.tx_packets.set(entry.tx_packets);
        self.tx_bytes.set(entry.tx_bytes);
        self.rx_packets.set(entry.rx_packets);
        self.rx_bytes.set(entry.rx_bytes);
        self.standing.set(Standing::of(entry).word());
        self.home.set(entry.home);
        self.origin.set(entry.origin);
        self.local.set(entry.local);
        self.placer.set(entry.placer);
        self.phase.set(entry.phase);
        self.last_seen_ns.set(entry.last_seen_ns);
    }
}

/// Whether a packet can leave through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Fits,
    /// It, or one of its segments, is larger than the device's MTU.
    TooBig,
    /// There is no such device.
    Gone,
}

/// What became of a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the table.
    Done,
    /// Another CPU was first.
    Exists,
    /// There is no room.
    Full,
}

/// The maps, the clock and the devices.
pub trait Tables {
    /// The settings in place; they may change from one read of a field to the next.
    fn settings(&self) -> &Settings;
    /// Now, in nanoseconds since boot; may lag by a few milliseconds.
    fn now_ns(&self) -> u64;
    /// The group whose longest prefix holds an address.
    fn group_of(&self, addr: &[u8; 16]) -> Option<GroupId>;
    /// The home group of a group.
    fn home_of(&self, group: GroupId) -> GroupId;
    /// Whether a tunnel may carry a group's flows.
    fn is_member(&self, group: GroupId, tunnel: TunnelId) -> bool;
    /// A flow's entry, expired or not.
    fn flow(&self, key: &FlowKey) -> Option<&SharedFlow>;
    /// Enters a flow unless it is there already.
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> Inserted;
    /// What an address is to this gateway.
    fn address(&self, addr: &[u8; 16]) -> Option<KnownAddress>;
    /// What the first fragment of a datagram told, however long ago.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// Keeps what the first fragment of a datagram tells.
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment);
    /// The number of a VLAN device.
    fn vlan(&self, key: &VlanKey) -> Option<u32>;
    /// The tunnel of a bucket, [`NO_TUNNEL`](crate::abi::NO_TUNNEL) if there is none.
    fn bucket(&self, group: GroupId, bucket: u32) -> TunnelId;
    /// A tunnel's state.
    fn tunnel(&self, id: TunnelId) -> Option<Tunnel>;
    /// Whether the packet at hand, whose IP packet has `l3_len_bytes`, can leave through a device.
    fn fit(&self, ifindex: u32, l3_len_bytes: u32) -> Fit;
    /// The MTU of a device; `None` if that is not known now.
    fn mtu_bytes(&self, ifindex: u32) -> Option<u32>;
    /// Picks a tunnel for a new flow. In the kernel this is a function of its own for the verifier.
    fn pick(&self, parsed: &Parsed, group: GroupId, place: Place) -> Option<Exit>
    where
        Self: Sized,
    {
        decide::pick(self, parsed, group, place)
    }
    /// Counts and logs a move. In the kernel this is a function of its own: moves are rare.
    fn note_move(&self, moved: &Moved<'_>)
    where
        Self: Sized,
    {
        moves::note_move(self, moved);
    }
    /// Writes a move into this CPU's ring, and numbers it.
    fn log_move(&self, moved: &Move);
    /// Changes the counters of a tunnel.
    fn count(&self, id: TunnelId, change: impl FnOnce(&mut TunnelCounters));
    /// Changes the other counters.
    fn note(&self, change: impl FnOnce(&mut Counters));
    /// Adds to a counter that other CPUs add to as well.
    fn add(&self, counter: &Cell<u64>, n: u64);
    /// Replaces a number that other CPUs may replace as well; whether it was still `from`.
    fn replace(&self, number: &Cell<u64>, from: u64, to: u64) -> bool;
}
