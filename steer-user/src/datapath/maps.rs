//! The pinned maps: checking, opening, reading and changing them.

use aya::maps::{LpmTrie, Map, MapData, MapInfo};
use bytemuck::Zeroable as _;
use steer_common::{
    abi::{
        BucketTable, Counters, Event, FlowEntry, FlowKey, Group, GroupId, Hook, HookKey,
        KnownAddress, LanDevice, Membership, MembershipKey, Move, PassCounters, Prefix, Settings,
        Tunnel, TunnelCounters, TunnelHealth, TunnelId, TunnelInfo, TunnelRef, Vlan, VlanKey, maps,
    },
    buckets::{self, Member},
};

use super::{
    error::DatapathError,
    pins::PinDir,
    records::{PerCpu, Records, Table, on},
};

mod flows;
mod history;
mod prefixes;
mod shapes;
mod tunnel_words;

pub use history::MoveCursor;
pub use shapes::{check_abi, check_shapes, pinned_abi};
pub use tunnel_words::TunnelWords;

type Result<T> = std::result::Result<T, DatapathError>;

const KEY_BYTES: usize = size_of::<FlowKey>();
const ENTRY_BYTES: usize = size_of::<FlowEntry>();

type HookTable = Table<{ size_of::<HookKey>() }, { size_of::<Hook>() }>;

/// The maps of one steer.
pub struct Maps {
    settings: Records<{ size_of::<Settings>() }>,
    groups: Records<{ size_of::<Group>() }>,
    prefixes: LpmTrie<MapData, [u8; 16], [u8; size_of::<Prefix>()]>,
    tunnels: Records<{ size_of::<Tunnel>() }>,
    tunnel_info: Records<{ size_of::<TunnelInfo>() }>,
    tunnel_devices: Table<4, { size_of::<TunnelRef>() }>,
    bucket_tables: Table<4, { size_of::<BucketTable>() }>,
    flows: Table<KEY_BYTES, ENTRY_BYTES>,
    addresses: Table<16, { size_of::<KnownAddress>() }>,
    lan_devices: Table<4, { size_of::<LanDevice>() }>,
    vlans: Table<{ size_of::<VlanKey>() }, { size_of::<Vlan>() }>,
    tunnel_counters: PerCpu<{ size_of::<TunnelCounters>() }>,
    pass_counters: PerCpu<{ size_of::<PassCounters>() }>,
    counters: PerCpu<{ size_of::<Counters>() }>,
    hooks: HookTable,
    memberships: Table<{ size_of::<MembershipKey>() }, { size_of::<Membership>() }>,
    tunnel_health: Records<{ size_of::<TunnelHealth>() }>,
    events: Records<{ size_of::<Event>() }>,
    moves: PerCpu<{ size_of::<Move>() }>,
    flow_capacity: u32,
}

impl Maps {
    /// Opens what is pinned, after comparing it with what it should be.
    pub fn open(pins: &PinDir) -> Result<Self> {
        if !pins.is_used() {
            return Err(DatapathError::NotRunning {
                dir: pins.path().to_owned(),
            });
        }
        check_abi(pins)?;
        check_shapes(pins)?;
        let map = |name| -> Result<Map> {
            let data = MapData::from_pin(pins.map(name)).map_err(|source| {
                // Somebody may be removing them at this moment.
                if pins.map(name).exists() {
                    return on(name)(source);
                }
                let dir = pins.path().to_owned();
                DatapathError::PinsMissing { dir, map: name }
            })?;
            Map::from_map_data(data).map_err(on(name))
        };
        let flows = Table::new(maps::FLOWS, map(maps::FLOWS)?)?;
        let flow_capacity = flows.data().info().map_err(on(maps::FLOWS))?.max_entries();
        Ok(Self {
            settings: Records::new(maps::SETTINGS, map(maps::SETTINGS)?)?,
            groups: Records::new(maps::GROUPS, map(maps::GROUPS)?)?,
            prefixes: map(maps::PREFIXES)?
                .try_into()
                .map_err(on(maps::PREFIXES))?,
            tunnels: Records::new(maps::TUNNELS, map(maps::TUNNELS)?)?,
            tunnel_info: Records::new(maps::TUNNEL_INFO, map(maps::TUNNEL_INFO)?)?,
            tunnel_devices: Table::new(maps::TUNNEL_DEVICES, map(maps::TUNNEL_DEVICES)?)?,
            bucket_tables: Table::new(maps::BUCKET_TABLES, map(maps::BUCKET_TABLES)?)?,
            flows,
            addresses: Table::new(maps::ADDRESSES, map(maps::ADDRESSES)?)?,
            lan_devices: Table::new(maps::LAN_DEVICES, map(maps::LAN_DEVICES)?)?,
            vlans: Table::new(maps::VLANS, map(maps::VLANS)?)?,
            tunnel_counters: PerCpu::new(maps::TUNNEL_COUNTERS, map(maps::TUNNEL_COUNTERS)?)?,
            pass_counters: PerCpu::new(maps::PASS_COUNTERS, map(maps::PASS_COUNTERS)?)?,
            counters: PerCpu::new(maps::COUNTERS, map(maps::COUNTERS)?)?,
            hooks: Table::new(maps::HOOKS, map(maps::HOOKS)?)?,
            memberships: Table::new(maps::MEMBERSHIPS, map(maps::MEMBERSHIPS)?)?,
            tunnel_health: Records::new(maps::TUNNEL_HEALTH, map(maps::TUNNEL_HEALTH)?)?,
            events: Records::new(maps::EVENTS, map(maps::EVENTS)?)?,
            moves: PerCpu::new(maps::MOVES, map(maps::MOVES)?)?,
            flow_capacity,
        })
    }

    /// The hooks alone, where other pins may be missing.
    pub fn pinned_hooks(pins: &PinDir) -> Result<Vec<(HookKey, Hook)>> {
        check_abi(pins)?;
        let data = MapData::from_pin(pins.map(maps::HOOKS)).map_err(on(maps::HOOKS))?;
        let map = Map::from_map_data(data).map_err(on(maps::HOOKS))?;
        HookTable::new(maps::HOOKS, map)?.all()
    }

    /// Whether these are, still, the maps that are pinned there.
    pub fn is_pinned(&self, pins: &PinDir) -> bool {
        let id = |info: std::result::Result<MapInfo, _>| info.map(|info| info.id()).ok();
        let own = id(self.flows.data().info());
        own.is_some() && own == id(MapInfo::from_pin(pins.map(maps::FLOWS)))
    }

    /// Entries that the flow table can hold.
    pub fn flow_capacity(&self) -> u32 {
        self.flow_capacity
    }

    /// The settings.
    pub fn settings(&self) -> Result<Settings> {
        self.settings.get(0)
    }

    /// Replaces the settings. The program reads each field on its own.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        self.settings.set(0, settings)
    }

    /// A group, also an absent one.
    pub fn group(&self, id: GroupId) -> Result<Group> {
        self.groups.get(id.into())
    }

    /// Replaces a group.
    pub fn set_group(&mut self, id: GroupId, group: &Group) -> Result<()> {
        self.groups.set(id.into(), group)
    }

    /// A tunnel's state, also that of an absent one.
    pub fn tunnel(&self, id: TunnelId) -> Result<Tunnel> {
        self.tunnels.get(id.into())
    }

    /// Replaces a tunnel's state; the packet path sees it whole.
    pub fn set_tunnel(&mut self, id: TunnelId, tunnel: &Tunnel) -> Result<()> {
        self.tunnels.set(id.into(), tunnel)
    }

    /// The tunnels' states in shared memory, for changes without the write lock.
    pub fn tunnel_words(&self) -> Result<TunnelWords> {
        TunnelWords::of(self.tunnels.data().fd()).map_err(|source| DatapathError::Io {
            path: maps::TUNNELS.into(),
            source,
        })
    }

    /// A tunnel's name, weight and group.
    pub fn tunnel_info(&self, id: TunnelId) -> Result<TunnelInfo> {
        self.tunnel_info.get(id.into())
    }

    /// Replaces a tunnel's name, weight and group.
    pub fn set_tunnel_info(&mut self, id: TunnelId, info: &TunnelInfo) -> Result<()> {
        self.tunnel_info.set(id.into(), info)
    }

    /// Replaces names, weights and groups of several tunnels; of a process that is killed meanwhile, all of them or
    /// none, so that no bucket table is ever made from some of the old and some of the new weights.
    pub fn set_tunnel_infos(&mut self, infos: &[(TunnelId, TunnelInfo)]) -> Result<()> {
        let infos: Vec<_> = infos
            .iter()
            .map(|(id, info)| (u32::from(*id), *info))
            .collect();
        self.tunnel_info.set_all(&infos)
    }

    /// Which tunnel each device is, by ifindex.
    pub fn tunnel_devices(&self) -> Result<Vec<(u32, TunnelRef)>> {
        self.tunnel_devices.all()
    }

    /// Says which tunnel a device is.
    pub fn set_tunnel_device(&mut self, ifindex: u32, tunnel: TunnelRef) -> Result<()> {
        self.tunnel_devices.set(&ifindex, &tunnel)
    }

    /// Forgets a device.
    pub fn remove_tunnel_device(&mut self, ifindex: u32) -> Result<bool> {
        self.tunnel_devices.remove(&ifindex)
    }

    /// The tunnels of the derived groups, and their weights there.
    pub fn memberships(&self) -> Result<Vec<(MembershipKey, Membership)>> {
        self.memberships.all()
    }

    /// Puts a tunnel into a derived group.
    pub fn set_membership(&mut self, key: MembershipKey, membership: Membership) -> Result<()> {
        self.memberships.set(&key, &membership)
    }

    /// Takes a tunnel out of a derived group; whether it was there.
    pub fn remove_membership(&mut self, key: MembershipKey) -> Result<bool> {
        self.memberships.remove(&key)
    }

    /// What was measured of a tunnel.
    pub fn tunnel_health(&self, id: TunnelId) -> Result<TunnelHealth> {
        self.tunnel_health.get(id.into())
    }

    /// Says what was measured of a tunnel.
    pub fn set_tunnel_health(&mut self, id: TunnelId, health: &TunnelHealth) -> Result<()> {
        self.tunnel_health.set(id.into(), health)
    }

    /// Makes a new bucket table and puts it in the place of the old one, if that is another. A packet
    /// sees the one or the other.
    pub fn swap_buckets(&mut self, group: GroupId, members: &[Member]) -> Result<()> {
        let mut table = Box::new(BucketTable::zeroed());
        buckets::fill(&mut table.buckets, members);
        match self.buckets(group)? {
            // Often so when tunnels change that are not in this group; and waiting takes its time.
            Some(before) if before == table => return Ok(()),
            Some(_) => wait_for_packets(),
            // Its memory comes from where removed ones go, which were waited for.
            None => {}
        }
        self.bucket_tables.set(&u32::from(group), &*table)
    }

    /// Waits until every packet that was under way has passed, and with it what it read of the maps before.
    pub fn settle(&self) {
        wait_for_packets();
    }

    /// Removes a group's bucket table, if it has one.
    pub fn remove_buckets(&mut self, group: GroupId) -> Result<()> {
        if self.bucket_tables.remove(&u32::from(group))? {
            wait_for_packets();
        }
        Ok(())
    }

    /// A group's bucket table, if it has one.
    pub fn buckets(&self, group: GroupId) -> Result<Option<Box<BucketTable>>> {
        Ok(self.bucket_tables.get(&u32::from(group))?.map(Box::new))
    }

    /// What a tunnel carried since the maps were made.
    pub fn tunnel_counters(&self, id: TunnelId) -> Result<TunnelCounters> {
        self.tunnel_counters.sum(id.into())
    }

    /// Packets left to the kernel since the maps were made.
    pub fn pass_counters(&self) -> Result<PassCounters> {
        self.pass_counters.sum(0)
    }

    /// What happened to packets besides, since the maps were made.
    pub fn counters(&self) -> Result<Counters> {
        self.counters.sum(0)
    }

    /// What an address is to this gateway.
    pub fn address(&self, addr: &[u8; 16]) -> Result<Option<KnownAddress>> {
        self.addresses.get(addr)
    }

    /// Brings the known addresses to just these; whether anything changed.
    pub fn replace_addresses(&mut self, wanted: &[([u8; 16], KnownAddress)]) -> Result<bool> {
        self.addresses.replace(wanted)
    }

    /// Brings the devices that packets may be forwarded to, to just these.
    pub fn replace_lan_devices(&mut self, wanted: &[(u32, LanDevice)]) -> Result<bool> {
        self.lan_devices.replace(wanted)
    }

    /// Brings the VLANs to just these.
    pub fn replace_vlans(&mut self, wanted: &[(VlanKey, Vlan)]) -> Result<bool> {
        self.vlans.replace(wanted)
    }

    /// The hooks that are, or were being, attached.
    pub fn hooks(&self) -> Result<Vec<(HookKey, Hook)>> {
        self.hooks.all()
    }

    /// Notes a hook.
    pub fn set_hook(&mut self, key: HookKey, hook: &Hook) -> Result<()> {
        self.hooks.set(&key, hook)
    }

    /// Forgets a hook.
    pub fn remove_hook(&mut self, key: HookKey) -> Result<bool> {
        self.hooks.remove(&key)
    }
}

/// Waits until every packet that was under way has passed: the element that the last swap or removal took out
/// is the memory of the next one (`kernel/bpf/hashtab.c`), and somebody may still be reading it.
fn wait_for_packets() {
    /// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`: an RCU grace period.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes numbers only.
    if unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } != 0 {
        // Kernels with nohz_full refuse it. No packet takes so long.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
