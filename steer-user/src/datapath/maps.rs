//! The pinned maps: checking, opening, reading and changing them.

use std::net::IpAddr;

use aya::maps::{LpmTrie, Map, MapData, MapInfo, MapType, lpm_trie::Key};
use bytemuck::Zeroable as _;
use ipnet::IpNet;
use steer_common::{
    abi::{
        self, ABI_VERSION, BucketTable, FlowEntry, FlowKey, Fragment, FragmentKey, Group, GroupId,
        Hook, HookKey, KnownAddress, LanDevice, PassCounters, Prefix, Settings, Tunnel,
        TunnelCounters, TunnelId, TunnelInfo, TunnelRef, Vlan, VlanKey, maps,
    },
    buckets::{self, Member},
};

use super::{
    batch,
    error::DatapathError,
    pins::PinDir,
    records::{Counters, Records, Table, on},
};

type Result<T> = std::result::Result<T, DatapathError>;

const KEY_BYTES: usize = size_of::<FlowKey>();
const ENTRY_BYTES: usize = size_of::<FlowEntry>();

/// What a pinned map must be: name, type, key and value bytes, entries (`None`: any).
type Shape = (&'static str, MapType, usize, usize, Option<usize>);

const SHAPES: [Shape; maps::ALL.len()] = [
    (
        maps::SETTINGS,
        MapType::Array,
        4,
        size_of::<Settings>(),
        Some(1),
    ),
    (
        maps::GROUPS,
        MapType::Array,
        4,
        size_of::<Group>(),
        Some(abi::GROUPS_MAX),
    ),
    (
        maps::PREFIXES,
        MapType::LpmTrie,
        20,
        size_of::<Prefix>(),
        Some(abi::PREFIXES_MAX),
    ),
    (
        maps::TUNNELS,
        MapType::Array,
        4,
        size_of::<Tunnel>(),
        Some(abi::TUNNELS_MAX),
    ),
    (
        maps::TUNNEL_INFO,
        MapType::Array,
        4,
        size_of::<TunnelInfo>(),
        Some(abi::TUNNELS_MAX),
    ),
    (
        maps::TUNNEL_DEVICES,
        MapType::Hash,
        4,
        size_of::<TunnelRef>(),
        Some(abi::DEVICES_MAX),
    ),
    (
        maps::BUCKET_TABLES,
        MapType::Hash,
        4,
        size_of::<BucketTable>(),
        Some(abi::GROUPS_MAX),
    ),
    (maps::FLOWS, MapType::Hash, KEY_BYTES, ENTRY_BYTES, None),
    (
        maps::FRAGMENTS,
        MapType::LruHash,
        size_of::<FragmentKey>(),
        size_of::<Fragment>(),
        Some(abi::FRAGMENTS_MAX),
    ),
    (
        maps::ADDRESSES,
        MapType::Hash,
        16,
        size_of::<KnownAddress>(),
        Some(abi::ADDRESSES_MAX),
    ),
    (
        maps::LAN_DEVICES,
        MapType::Hash,
        4,
        size_of::<LanDevice>(),
        Some(abi::DEVICES_MAX),
    ),
    (
        maps::VLANS,
        MapType::Hash,
        size_of::<VlanKey>(),
        size_of::<Vlan>(),
        Some(abi::VLANS_MAX),
    ),
    (
        maps::TUNNEL_COUNTERS,
        MapType::PerCpuArray,
        4,
        size_of::<TunnelCounters>(),
        Some(abi::TUNNELS_MAX),
    ),
    (
        maps::PASS_COUNTERS,
        MapType::PerCpuArray,
        4,
        size_of::<PassCounters>(),
        Some(1),
    ),
    (
        maps::COUNTERS,
        MapType::PerCpuArray,
        4,
        size_of::<abi::Counters>(),
        Some(1),
    ),
    (
        maps::HOOKS,
        MapType::Hash,
        size_of::<HookKey>(),
        size_of::<Hook>(),
        Some(abi::DEVICES_MAX),
    ),
];

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
    tunnel_counters: Counters<{ size_of::<TunnelCounters>() }>,
    pass_counters: Counters<{ size_of::<PassCounters>() }>,
    counters: Counters<{ size_of::<abi::Counters>() }>,
    hooks: Table<{ size_of::<HookKey>() }, { size_of::<Hook>() }>,
    flow_capacity: u32,
}

/// Refuses pins that are not maps of this layout. Missing ones are no error.
pub fn check_shapes(pins: &PinDir) -> Result<()> {
    for (name, kind, key_bytes, value_bytes, entries) in SHAPES {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(on(name))?;
        let differs = |what, found: String, wanted: String| {
            Err(DatapathError::OtherMap {
                path: path.clone(),
                what,
                found,
                wanted,
            })
        };
        let found_kind = info.map_type().map_err(on(name))?;
        if found_kind != kind {
            return differs(
                "the map's type",
                format!("{found_kind:?}"),
                format!("{kind:?}"),
            );
        }
        for (what, found, wanted) in [
            ("the key's size", info.key_size() as usize, Some(key_bytes)),
            (
                "the value's size",
                info.value_size() as usize,
                Some(value_bytes),
            ),
            (
                "the number of entries",
                info.max_entries() as usize,
                entries,
            ),
        ] {
            if wanted.is_some_and(|wanted| wanted != found) {
                return differs(
                    what,
                    found.to_string(),
                    wanted.unwrap_or_default().to_string(),
                );
            }
        }
    }
    Ok(())
}

/// The layout version of the pins: `None` where the settings are not pinned or unreadable, 0 where
/// the start that made them did not finish.
pub fn pinned_abi(pins: &PinDir) -> Option<u32> {
    let map = MapData::from_pin(pins.map(maps::SETTINGS)).ok()?;
    // The version is the first field of every layout, whatever size the rest has.
    let settings = batch::first_element(&map).ok()?;
    Some(u32::from_ne_bytes(settings.first_chunk().copied()?))
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
            let data = MapData::from_pin(pins.map(name)).map_err(on(name))?;
            Map::from_map_data(data).map_err(on(name))
        };
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
            flows: Table::new(maps::FLOWS, map(maps::FLOWS)?)?,
            addresses: Table::new(maps::ADDRESSES, map(maps::ADDRESSES)?)?,
            lan_devices: Table::new(maps::LAN_DEVICES, map(maps::LAN_DEVICES)?)?,
            vlans: Table::new(maps::VLANS, map(maps::VLANS)?)?,
            tunnel_counters: Counters::new(maps::TUNNEL_COUNTERS, map(maps::TUNNEL_COUNTERS)?)?,
            pass_counters: Counters::new(maps::PASS_COUNTERS, map(maps::PASS_COUNTERS)?)?,
            counters: Counters::new(maps::COUNTERS, map(maps::COUNTERS)?)?,
            hooks: Table::new(maps::HOOKS, map(maps::HOOKS)?)?,
            flow_capacity: MapInfo::from_pin(pins.map(maps::FLOWS))
                .map_err(on(maps::FLOWS))?
                .max_entries(),
        })
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

    /// A tunnel's name, weight and group.
    pub fn tunnel_info(&self, id: TunnelId) -> Result<TunnelInfo> {
        self.tunnel_info.get(id.into())
    }

    /// Replaces a tunnel's name, weight and group.
    pub fn set_tunnel_info(&mut self, id: TunnelId, info: &TunnelInfo) -> Result<()> {
        self.tunnel_info.set(id.into(), info)
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

    /// All prefixes and the groups that they belong to.
    pub fn prefixes(&self) -> Result<Vec<(IpNet, GroupId)>> {
        self.prefixes
            .iter()
            .map(|element| {
                let (key, value) = element.map_err(on(maps::PREFIXES))?;
                let bad = || DatapathError::BadElement {
                    map: maps::PREFIXES,
                };
                let prefix = prefix_of(key.data(), key.prefix_len()).ok_or_else(bad)?;
                let group = GroupId::try_from(u32::from_ne_bytes(value)).map_err(|_| bad())?;
                Ok((prefix, group))
            })
            .collect()
    }

    /// Adds a prefix to a group.
    pub fn set_prefix(&mut self, prefix: IpNet, group: GroupId) -> Result<()> {
        self.prefixes
            .insert(&key_of(prefix), u32::from(group).to_ne_bytes(), 0)
            .map_err(on(maps::PREFIXES))
    }

    /// Removes a prefix.
    pub fn remove_prefix(&mut self, prefix: IpNet) -> Result<()> {
        self.prefixes
            .remove(&key_of(prefix))
            .map_err(on(maps::PREFIXES))
    }

    /// Makes a new bucket table and puts it in the place of the old one. A packet sees the one or
    /// the other.
    pub fn swap_buckets(&mut self, group: GroupId, members: &[Member]) -> Result<()> {
        let mut table = Box::new(BucketTable::zeroed());
        buckets::fill(&mut table.buckets, members);
        wait_for_packets();
        self.bucket_tables.set(&u32::from(group), &*table)
    }

    /// A group's bucket table, if it has one.
    pub fn buckets(&self, group: GroupId) -> Result<Option<Box<BucketTable>>> {
        Ok(self.bucket_tables.get(&u32::from(group))?.map(Box::new))
    }

    /// Calls `visit` with every flow entry, expired ones too.
    pub fn for_each_flow(&self, mut visit: impl FnMut(&FlowKey, &FlowEntry)) -> Result<()> {
        let mut bad = false;
        batch::for_each::<KEY_BYTES, ENTRY_BYTES>(self.flows.data(), |key, entry| {
            match (
                bytemuck::checked::try_pod_read_unaligned(key),
                bytemuck::checked::try_pod_read_unaligned(entry),
            ) {
                (Ok(key), Ok(entry)) => visit(&key, &entry),
                _ => bad = true,
            }
        })
        .map_err(|source| DatapathError::Batch {
            map: maps::FLOWS,
            source,
        })?;
        if bad {
            Err(DatapathError::BadElement { map: maps::FLOWS })
        } else {
            Ok(())
        }
    }

    /// One flow entry.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>> {
        self.flows.get(key)
    }

    /// Removes a flow entry.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool> {
        self.flows.remove(key)
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
    pub fn counters(&self) -> Result<abi::Counters> {
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

/// Waits until every packet that was under way has passed: the element that the last swap took out
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

/// Refuses pins of another layout; unfinished ones are none.
pub fn check_abi(pins: &PinDir) -> Result<()> {
    match pinned_abi(pins) {
        Some(found) if found != 0 && found != ABI_VERSION => Err(DatapathError::OtherAbi {
            dir: pins.path().to_owned(),
            found,
            wanted: ABI_VERSION,
        }),
        _ => Ok(()),
    }
}

/// The trie's key: IPv4 prefixes lie within `::ffff:0:0/96`.
fn key_of(prefix: IpNet) -> Key<[u8; 16]> {
    match prefix {
        IpNet::V4(net) => Key::new(
            96 + u32::from(net.prefix_len()),
            net.network().to_ipv6_mapped().octets(),
        ),
        IpNet::V6(net) => Key::new(net.prefix_len().into(), net.network().octets()),
    }
}

fn prefix_of(data: [u8; 16], prefix_len: u32) -> Option<IpNet> {
    let prefix_len = u8::try_from(prefix_len).ok()?;
    match IpAddr::from(data).to_canonical() {
        IpAddr::V4(addr) => IpNet::new(addr.into(), prefix_len.checked_sub(96)?).ok(),
        addr @ IpAddr::V6(_) => IpNet::new(addr, prefix_len).ok(),
    }
}
