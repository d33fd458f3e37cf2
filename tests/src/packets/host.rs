//! The packet path on the host: `steer-common` over maps that are plain collections.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
};

use bytemuck::AnyBitPattern;
use steer_common::{
    abi::{
        Counters, FlowEntry, FlowKey, Fragment, FragmentKey, Group, GroupId, KnownAddress,
        MOVES_MAX, Move, NO_TUNNEL, PassReason, Settings, TUNNELS_MAX, Tunnel, TunnelCounters,
        TunnelId, VlanKey,
    },
    packet::Packet,
    parse::Parsed,
    tables::{Fit, Inserted, SharedFlow, Tables},
};

use super::world::{Buckets, GONE, HOLE, LAN_IFINDEX, LAN_MAC, MTU, SMALL, SMALL_MTU, World};

/// A packet in a slice.
#[derive(Clone, Copy, Debug)]
pub struct SlicePacket<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Size of its segments, 0 for a plain one.
    pub gso_size_bytes: u32,
    /// How many those are, at least 1.
    pub segments: u32,
}

impl Packet for SlicePacket<'_> {
    fn len_bytes(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        self.bytes
            .get(offset..end)
            .map(bytemuck::pod_read_unaligned)
    }

    fn gso_size_bytes(&self) -> u32 {
        self.gso_size_bytes
    }

    fn segments(&self) -> u32 {
        self.segments
    }

    fn tag_in_metadata(&self) -> u32 {
        0
    }

    fn to_this_host(&self) -> bool {
        self.bytes.starts_with(&LAN_MAC)
    }
}

/// The maps, the clock and the devices.
pub struct HostTables {
    /// What holds for every group.
    pub settings: Settings,
    /// The clock.
    pub now_ns: u64,
    /// The tunnels.
    pub tunnels: Vec<Option<Tunnel>>,
    /// The groups.
    pub groups: HashMap<GroupId, Group>,
    /// Address, length and group of each steered prefix.
    pub prefixes: Vec<([u8; 16], u32, GroupId)>,
    /// The bucket table of each group.
    pub tables: HashMap<GroupId, Buckets>,
    /// MTU of each device.
    pub devices: HashMap<u32, u32>,
    /// Number and home group of each tunnel's device.
    pub tunnel_devices: Vec<(u32, GroupId)>,
    /// Length of each segment of the packet at hand, if it stands for several.
    pub(super) segment_bytes: Cell<Option<u32>>,
    /// Flow entries in place: the index finds them, and they never move.
    flows: Vec<OnceCell<SharedFlow>>,
    index: RefCell<HashMap<FlowKey, usize>>,
    fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    addresses: HashMap<[u8; 16], KnownAddress>,
    vlans: HashMap<VlanKey, u32>,
    counters: Cell<Counters>,
    moves: RefCell<VecDeque<Move>>,
    tunnel_counters: Vec<Cell<TunnelCounters>>,
    pub(super) pass_counters: [Cell<u64>; PassReason::ALL.len()],
}

impl HostTables {
    /// The maps of a world, with room for as many flows. All devices of its tunnels exist but the
    /// one with the number that stands for a deleted one.
    pub fn new(world: &World, max_flows: usize) -> Self {
        let mut tunnels = vec![None; TUNNELS_MAX];
        let mut devices = HashMap::new();
        for &(id, tunnel) in &world.tunnels {
            tunnels[usize::from(id)] = Some(tunnel);
            if tunnel.ifindex != GONE {
                let mtu = if id == SMALL { SMALL_MTU } else { MTU };
                devices.insert(tunnel.ifindex, mtu);
            }
        }
        Self {
            settings: world.settings,
            now_ns: 1,
            tunnels,
            groups: world.groups.iter().copied().collect(),
            tables: world.tables.iter().cloned().collect(),
            devices,
            tunnel_devices: world.tunnel_devices(),
            segment_bytes: Cell::default(),
            prefixes: world.prefixes.clone(),
            flows: (0..max_flows).map(|_| OnceCell::new()).collect(),
            index: RefCell::default(),
            fragments: RefCell::default(),
            addresses: world.addresses.iter().copied().collect(),
            vlans: world.vlans(LAN_IFINDEX).into_iter().collect(),
            counters: Cell::default(),
            moves: RefCell::default(),
            tunnel_counters: vec![Cell::default(); TUNNELS_MAX],
            pass_counters: Default::default(),
        }
    }

    /// A copy of a flow's entry.
    pub fn entry(&self, key: &FlowKey) -> Option<FlowEntry> {
        self.flow(key).map(|flow| FlowEntry {
            created_ns: flow.created_ns.get(),
            last_seen_ns: flow.last_seen_ns.get(),
            tx_packets: flow.tx_packets.get(),
            rx_packets: flow.rx_packets.get(),
            tx_bytes: flow.tx_bytes.get(),
            rx_bytes: flow.rx_bytes.get(),
            epoch: flow.standing().epoch,
            tunnel: flow.standing().tunnel,
            group: flow.standing().group,
            home: flow.home.get(),
            origin: flow.origin.get(),
            local: flow.local.get(),
            placer: flow.placer.get(),
            phase: flow.phase.get(),
        })
    }

    /// How many flows are entered.
    pub fn flow_count(&self) -> usize {
        self.index.borrow().len()
    }

    /// A tunnel's counters.
    pub fn tunnel_counters(&self, id: TunnelId) -> TunnelCounters {
        self.tunnel_counters[usize::from(id)].get()
    }

    /// Notes how long the segments of a merged packet are, headers and all.
    pub(super) fn measure(&self, packet: &SlicePacket<'_>, parsed: &Parsed) {
        const TCP: u32 = 6;
        let l4_offset = usize::from(parsed.l4_offset);
        let l4_bytes = match (parsed.key.protocol, packet.bytes.get(l4_offset + 12)) {
            (TCP, Some(offset)) => usize::from(offset >> 4) * 4,
            _ => 8,
        };
        let headers = u32::try_from(l4_offset - parsed.l3_offset + l4_bytes).unwrap_or(0);
        let size = packet.gso_size_bytes;
        self.segment_bytes.set((size > 0).then_some(headers + size));
    }

    /// What happened besides.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// The latest moves, as many as a CPU keeps.
    pub fn moves(&self) -> Vec<Move> {
        self.moves.borrow().iter().copied().collect()
    }

    /// The keys of all flows.
    pub fn flow_keys(&self) -> Vec<FlowKey> {
        self.index.borrow().keys().copied().collect()
    }

    /// All fragments that are remembered.
    pub fn fragments(&self) -> HashMap<FragmentKey, Fragment> {
        self.fragments.borrow().clone()
    }

    /// Puts a flow's last packet at another time, if it has an entry.
    pub fn set_last_seen(&self, key: &FlowKey, last_seen_ns: u64) {
        if let Some(flow) = self.flow(key) {
            flow.last_seen_ns.set(last_seen_ns);
        }
    }

    /// Puts every fragment at another time.
    pub fn set_fragments_seen(&self, seen_ns: u64) {
        for fragment in self.fragments.borrow_mut().values_mut() {
            fragment.seen_ns = seen_ns;
        }
    }

    /// Forgets every flow.
    pub fn delete_flows(&mut self) {
        self.index.borrow_mut().clear();
        for flow in &mut self.flows {
            flow.take();
        }
    }

    /// Forgets everything that packets left.
    pub fn forget(&mut self) {
        self.delete_flows();
        self.fragments.get_mut().clear();
        self.moves.get_mut().clear();
        self.counters = Cell::default();
        self.tunnel_counters.fill_with(Cell::default);
        self.pass_counters = Default::default();
    }

    /// Packets passed, by reason.
    pub fn pass_counters(&self) -> [u64; PassReason::ALL.len()] {
        self.pass_counters.each_ref().map(Cell::get)
    }
}

impl Tables for HostTables {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn group_of(&self, addr: &[u8; 16]) -> Option<GroupId> {
        let addr = u128::from_be_bytes(*addr);
        self.prefixes
            .iter()
            .filter(|(prefix, length, _)| {
                let differs = addr ^ u128::from_be_bytes(*prefix);
                differs.leading_zeros() >= *length
            })
            .max_by_key(|(_, length, _)| length)
            .map(|&(_, _, group)| group)
            .filter(|group| *group != HOLE)
    }

    fn home_of(&self, group: GroupId) -> GroupId {
        let parent = self.groups.get(&group).map_or(0, |group| group.parent);
        GroupId::try_from(parent).unwrap_or(GroupId::MAX)
    }

    fn is_member(&self, group: GroupId, tunnel: TunnelId) -> bool {
        let group = self.groups.get(&group);
        group.is_some_and(|group| group.has_member(tunnel))
    }

    fn flow(&self, key: &FlowKey) -> Option<&SharedFlow> {
        let place = *self.index.borrow().get(key)?;
        self.flows[place].get()
    }

    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> Inserted {
        let mut index = self.index.borrow_mut();
        if index.contains_key(key) {
            return Inserted::Exists;
        }
        let Some(place) = self.flows.get(index.len()) else {
            return Inserted::Full;
        };
        place.get_or_init(|| SharedFlow::new(entry));
        let number = index.len();
        index.insert(*key, number);
        Inserted::Done
    }

    fn address(&self, addr: &[u8; 16]) -> Option<KnownAddress> {
        self.addresses.get(addr).copied()
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn vlan(&self, key: &VlanKey) -> Option<u32> {
        self.vlans.get(key).copied()
    }

    fn bucket(&self, group: GroupId, bucket: u32) -> TunnelId {
        self.tables
            .get(&group)
            .map_or(NO_TUNNEL, |table| table[bucket as usize])
    }

    fn tunnel(&self, id: TunnelId) -> Option<Tunnel> {
        self.tunnels[usize::from(id)]
    }

    fn fit(&self, ifindex: u32, l3_len_bytes: u32) -> Fit {
        let l3_len_bytes = self.segment_bytes.get().unwrap_or(l3_len_bytes);
        match self.devices.get(&ifindex) {
            None => Fit::Gone,
            Some(&mtu) if l3_len_bytes > mtu => Fit::TooBig,
            Some(_) => Fit::Fits,
        }
    }

    fn mtu_bytes(&self, ifindex: u32) -> Option<u32> {
        self.devices.get(&ifindex).copied()
    }

    fn log_move(&self, moved: &Move) {
        self.note(|counters| counters.moves += 1);
        let seq = self.counters.get().moves;
        let mut moves = self.moves.borrow_mut();
        if moves.len() == MOVES_MAX {
            moves.pop_front();
        }
        moves.push_back(Move { seq, ..*moved });
    }

    fn note(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn count(&self, id: TunnelId, change: impl FnOnce(&mut TunnelCounters)) {
        let cell = &self.tunnel_counters[usize::from(id)];
        let mut counters = cell.get();
        change(&mut counters);
        cell.set(counters);
    }

    fn add(&self, counter: &Cell<u64>, n: u64) {
        counter.set(counter.get() + n);
    }

    fn replace(&self, number: &Cell<u64>, from: u64, to: u64) -> bool {
        let is_from = number.get() == from;
        if is_from {
            number.set(to);
        }
        is_from
    }
}
