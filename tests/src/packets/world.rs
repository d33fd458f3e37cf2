//! The gateway that the packets meet, the same on the host and in the kernel.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    sync::{Mutex, PoisonError},
};

use steer_common::{
    abi::{
        ABI_VERSION, Admin, BUCKETS, GroupId, Health, HookMode, KnownAddress, NO_TUNNEL, Settings,
        Tunnel, TunnelId, VlanKey,
    },
    buckets::{self, Member},
    key::mapped,
};

/// MAC address of the LAN device.
pub const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Number of the LAN device, on the host only.
pub const LAN_IFINDEX: u32 = 1;
/// MTU of the tunnels.
pub const MTU: u32 = 1_420;
/// The group with two active tunnels, 0 and 1.
pub const GROUP: GroupId = 0;
/// Tunnels that have a device: 0 and 1 in [`GROUP`], 2 disabled, 3 draining, 4 down.
pub const DEVICES: [&str; 5] = ["t0", "t1", "t2", "t3", "t4"];

/// Idle time-outs of the default settings.
const SECOND: u64 = 1_000_000_000;

/// A table of buckets.
pub type Buckets = Box<[TunnelId; BUCKETS]>;

/// Settings, prefixes, tunnels and tables.
#[derive(Clone)]
pub struct World {
    /// What holds for every group.
    pub settings: Settings,
    /// Address, length and group of each steered prefix.
    pub prefixes: Vec<([u8; 16], u32, GroupId)>,
    /// What is known of single addresses.
    pub addresses: Vec<([u8; 16], KnownAddress)>,
    /// The tunnels.
    pub tunnels: Vec<(TunnelId, Tunnel)>,
    /// The bucket table of each group.
    pub tables: Vec<(GroupId, Buckets)>,
}

/// The table of members given as id and weight; each is filled once.
pub fn table(members: &[(TunnelId, u32)]) -> Buckets {
    static FILLED: Mutex<BTreeMap<Vec<(TunnelId, u32)>, Buckets>> = Mutex::new(BTreeMap::new());
    FILLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(members.to_vec())
        .or_insert_with(|| filled(members))
        .clone()
}

fn filled(members: &[(TunnelId, u32)]) -> Buckets {
    let members: Vec<_> = members
        .iter()
        .map(|&(id, weight)| Member { id, weight })
        .collect();
    let mut buckets: Buckets = vec![NO_TUNNEL; BUCKETS]
        .try_into()
        .unwrap_or_else(|_| unreachable!("as many as asked for"));
    buckets::fill(&mut buckets, &members);
    buckets
}

/// A tunnel's element.
pub fn tunnel(ifindex: u32, admin: Admin, health: Health) -> Tunnel {
    Tunnel {
        ifindex,
        admin,
        health,
        reserved: 0,
    }
}

impl World {
    /// The world of the packet table, over devices with these numbers.
    ///
    /// | prefix | group | tunnels |
    /// |---|---|---|
    /// | `10.2.0.0/16`, `fd00:2::/32` | 0 | 0 and 1, active and up |
    /// | `10.3.0.0/16`, `fd00:3::/32` | 1 | none |
    /// | `10.4.0.0/16` | 2 | 2, disabled |
    /// | `10.5.0.0/16` | 3 | 3, draining |
    /// | `10.6.0.0/16` | 4 | 4, down |
    /// | `10.7.0.0/16` | 5 | 5, whose device is gone |
    pub fn new(devices: [u32; DEVICES.len()]) -> Self {
        let v4 = |second: u8, group| (mapped([10, second, 0, 0]), 96 + 16, group);
        let v6 = |second: u16, group| {
            let addr = Ipv6Addr::new(0xfd00, second, 0, 0, 0, 0, 0, 0);
            (addr.octets(), 32, group)
        };
        let [t0, t1, t2, t3, t4] = devices;
        // Device numbers are given out in ascending order: nothing has this one.
        let gone = u32::MAX >> 1;
        Self {
            settings: Settings {
                abi_version: ABI_VERSION,
                epoch: 1,
                seed: 0x5eed_5eed_5eed_5eed,
                idle_tcp_ns: 7_440 * SECOND,
                idle_closing_ns: 30 * SECOND,
                idle_udp_ns: 300 * SECOND,
                idle_other_ns: 60 * SECOND,
                netns: 0,
                hook: HookMode::Ingress,
                mss_clamp: 0,
                mark_mask: 0,
                routing_slot: 0,
            },
            addresses: Vec::new(),
            prefixes: vec![
                v4(2, 0),
                v6(2, 0),
                v4(3, 1),
                v6(3, 1),
                v4(4, 2),
                v4(5, 3),
                v4(6, 4),
                v4(7, 5),
            ],
            tunnels: vec![
                (0, tunnel(t0, Admin::Active, Health::Up)),
                (1, tunnel(t1, Admin::Active, Health::Unknown)),
                (2, tunnel(t2, Admin::Disabled, Health::Up)),
                (3, tunnel(t3, Admin::Drain, Health::Up)),
                (4, tunnel(t4, Admin::Active, Health::Down)),
                (5, tunnel(gone, Admin::Active, Health::Up)),
            ],
            tables: vec![
                (0, table(&[(0, 1), (1, 1)])),
                (2, table(&[(2, 1)])),
                (3, table(&[(3, 1)])),
                (4, table(&[(4, 1)])),
                (5, table(&[(5, 1)])),
            ],
        }
    }

    /// The VLANs on a LAN device with this number: tag 10 and service tag 20, each with both inside.
    pub fn vlans(&self, lan: u32) -> Vec<(VlanKey, u32)> {
        const TAGS: [(u16, u16); 2] = [(0x8100, 10), (0x88a8, 20)];
        // Numbers that no device has.
        let above =
            |below: u32, (protocol, _): (u16, u16)| below << 16 | u32::from(protocol) | 1 << 31;
        let mut found = Vec::new();
        for outer in TAGS {
            let vlan = above(lan, outer);
            let mut add = |ifindex, (protocol, id): (u16, u16), to| {
                let key = VlanKey {
                    ifindex,
                    protocol,
                    id,
                };
                found.push((key, to));
            };
            add(lan, outer, vlan);
            for inner in TAGS {
                add(vlan, inner, above(vlan, inner));
            }
        }
        found
    }
}
