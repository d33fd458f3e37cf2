//! What pinned maps must look like.

use aya::maps::{MapData, MapInfo, MapType};
use steer_common::abi::{
    ABI_VERSION, ADDRESSES_MAX, BucketTable, Counters, DEVICES_MAX, EVENTS_MAX, Event,
    FRAGMENTS_MAX, FlowEntry, FlowKey, Fragment, FragmentKey, GROUPS_MAX, Group, Hook, HookKey,
    KnownAddress, LanDevice, MEMBERSHIPS_MAX, MOVES_MAX, Membership, MembershipKey, Move,
    PREFIXES_MAX, PassCounters, Prefix, Settings, TUNNELS_MAX, Tunnel, TunnelCounters,
    TunnelHealth, TunnelInfo, TunnelRef, VLANS_MAX, Vlan, VlanKey, maps,
};

use super::{DatapathError, Result};
use crate::datapath::{batch, pins::PinDir, records::on};

/// What a pinned map must be: name, type, key and value bytes, entries (`None`: any).
type Shape = (&'static str, MapType, usize, usize, Option<usize>);

const fn array<V>(name: &'static str, entries: usize) -> Shape {
    (name, MapType::Array, 4, size_of::<V>(), Some(entries))
}

const fn per_cpu<V>(name: &'static str, entries: usize) -> Shape {
    (name, MapType::PerCpuArray, 4, size_of::<V>(), Some(entries))
}

const fn hash<K, V>(name: &'static str, entries: Option<usize>) -> Shape {
    (name, MapType::Hash, size_of::<K>(), size_of::<V>(), entries)
}

const SHAPES: [Shape; maps::ALL.len()] = [
    array::<Settings>(maps::SETTINGS, 1),
    array::<Group>(maps::GROUPS, GROUPS_MAX),
    (
        maps::PREFIXES,
        MapType::LpmTrie,
        20,
        size_of::<Prefix>(),
        Some(PREFIXES_MAX),
    ),
    array::<Tunnel>(maps::TUNNELS, TUNNELS_MAX),
    array::<TunnelInfo>(maps::TUNNEL_INFO, TUNNELS_MAX),
    hash::<u32, TunnelRef>(maps::TUNNEL_DEVICES, Some(DEVICES_MAX)),
    hash::<u32, BucketTable>(maps::BUCKET_TABLES, Some(GROUPS_MAX)),
    hash::<FlowKey, FlowEntry>(maps::FLOWS, None),
    (
        maps::FRAGMENTS,
        MapType::LruHash,
        size_of::<FragmentKey>(),
        size_of::<Fragment>(),
        Some(FRAGMENTS_MAX),
    ),
    hash::<[u8; 16], KnownAddress>(maps::ADDRESSES, Some(ADDRESSES_MAX)),
    hash::<u32, LanDevice>(maps::LAN_DEVICES, Some(DEVICES_MAX)),
    hash::<VlanKey, Vlan>(maps::VLANS, Some(VLANS_MAX)),
    per_cpu::<TunnelCounters>(maps::TUNNEL_COUNTERS, TUNNELS_MAX),
    per_cpu::<PassCounters>(maps::PASS_COUNTERS, 1),
    per_cpu::<Counters>(maps::COUNTERS, 1),
    hash::<HookKey, Hook>(maps::HOOKS, Some(DEVICES_MAX)),
    hash::<MembershipKey, Membership>(maps::MEMBERSHIPS, Some(MEMBERSHIPS_MAX)),
    array::<TunnelHealth>(maps::TUNNEL_HEALTH, TUNNELS_MAX),
    array::<Event>(maps::EVENTS, EVENTS_MAX),
    per_cpu::<Move>(maps::MOVES, MOVES_MAX),
];

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
