//! The gateway that the packets meet, the same on the host and in the kernel.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use steer_common::{
    abi::{
        ABI_VERSION, AddressKind, Admin, BUCKETS, Group, GroupId, Health, HookMode, KnownAddress,
        NAME_BYTES, NO_TUNNEL, Placement, PrefixSource, Settings, Tunnel, TunnelId, VlanKey,
        bitmap,
    },
    buckets::{self, Member},
    key::mapped,
};

/// MAC address of the LAN device.
pub const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Number of the LAN device, on the host only.
pub const LAN_IFINDEX: u32 = 1;
/// Bits of the mark, not at its end, so that a shift that is missing shows.
pub const MARK_MASK: u32 = 0x00ff_0000;
/// MTU of the LAN device.
pub const LAN_MTU: u32 = 1_500;
/// MTU of the tunnels.
pub const MTU: u32 = 1_420;
/// The group with two active tunnels, 0 and 1.
pub const GROUP: GroupId = 0;
/// A group derived from it, of tunnel 0.
pub const ONLY_0: GroupId = 7;
/// One of tunnel 1.
pub const ONLY_1: GroupId = 8;
/// One of both, with more for tunnel 1.
pub const MORE_OF_1: GroupId = 9;
/// Instead of a group: a prefix in a steered one that is left to the kernel.
pub const HOLE: GroupId = GroupId::MAX;
/// Tunnels that have a device: 0 and 1 in [`GROUP`], 2 disabled, 3 draining, 4 down, 5 with
/// [`SMALL_MTU`].
pub const DEVICES: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];
/// The last of them.
pub const SMALL: TunnelId = 5;
/// Its MTU.
pub const SMALL_MTU: u32 = 1_280;

/// The number of a device that is gone: they are given out in ascending order, so nothing has it.
pub const GONE: u32 = u32::MAX >> 1;

/// Idle time-outs of the default settings.
const SECOND: u64 = 1_000_000_000;

/// A table of buckets; many worlds have the same.
pub type Buckets = Arc<[TunnelId; BUCKETS]>;

/// Settings, prefixes, tunnels and tables.
#[derive(Clone)]
pub struct World {
    /// What holds for every group.
    pub settings: Settings,
    /// Address, length and group of each steered prefix, and of each [`HOLE`].
    pub prefixes: Vec<([u8; 16], u32, GroupId)>,
    /// What is known of single addresses.
    pub addresses: Vec<([u8; 16], KnownAddress)>,
    /// The tunnels.
    pub tunnels: Vec<(TunnelId, Tunnel)>,
    /// The groups.
    pub groups: Vec<(GroupId, Group)>,
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
    let mut buckets: Box<[TunnelId; BUCKETS]> = vec![NO_TUNNEL; BUCKETS]
        .try_into()
        .unwrap_or_else(|_| unreachable!("as many as asked for"));
    buckets::fill(&mut buckets, &members);
    buckets.into()
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

/// A group's element.
pub fn group(parent: GroupId, members: &[TunnelId]) -> Group {
    Group {
        name: [0; NAME_BYTES],
        placement: Placement::Hash,
        parent: parent.into(),
        members: bitmap(members.iter().copied()),
        prefixes_from: PrefixSource::Operator,
        reserved: 0,
    }
}

/// The gateway's own addresses, on the LAN (`10.1.0.1`) and on tunnels 0 and 1 (`10.2.8.0`,
/// `10.2.8.1`), and the endpoint of tunnel 0 (`10.2.9.0`); and the same over IPv6.
fn known_addresses() -> Vec<([u8; 16], KnownAddress)> {
    let both = |net: u8, third: u8, host: u8| {
        let v6 = Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, third.into(), host.into());
        [mapped([10, net, third, host]), v6.octets()]
    };
    let known = |kind, tunnel: TunnelId| KnownAddress {
        kind,
        tunnel: tunnel.into(),
    };
    let own = AddressKind::Own;
    [
        (both(1, 0, 1), known(own, NO_TUNNEL)),
        (both(2, 8, 0), known(own, 0)),
        (both(2, 8, 1), known(own, 1)),
        (both(2, 9, 0), known(AddressKind::Endpoint, 0)),
    ]
    .into_iter()
    .flat_map(|(addrs, known)| addrs.map(|addr| (addr, known)))
    .collect()
}

/// Where the kernel sends what comes out of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out on the LAN by this device, to a host whose MAC address is known.
    Lan(&'static str),
    /// Out on the LAN by this device, which has no MAC headers and no neighbours.
    Bare(&'static str),
    /// Out on the LAN, to a host that does not answer.
    Silent,
    /// Out by a device with this MTU that is not steer's.
    Elsewhere(u32),
    /// Nowhere: to the gateway itself, or to all hosts.
    Nowhere,
}

/// The kernel's ways, as far as it has any.
const WAYS: [(&str, u32, Way); 24] = [
    ("10.1.0.0", 16, Way::Silent),
    ("10.1.0.1", 32, Way::Nowhere),
    ("10.1.0.2", 31, Way::Lan("lan0")),
    ("10.1.0.4", 30, Way::Lan("lan0")),
    ("10.1.255.255", 32, Way::Nowhere),
    ("10.2.0.0", 16, Way::Elsewhere(MTU)),
    ("10.2.8.0", 31, Way::Nowhere),
    ("10.10.0.0", 16, Way::Silent),
    ("10.10.0.1", 32, Way::Nowhere),
    ("10.10.0.2", 32, Way::Lan("lan0.10")),
    ("10.10.255.255", 32, Way::Nowhere),
    ("10.11.0.0", 16, Way::Bare("lan1")),
    ("172.16.0.0", 12, Way::Elsewhere(LAN_MTU)),
    ("fd00:1::", 32, Way::Silent),
    ("fd00:1::1", 128, Way::Nowhere),
    ("fd00:1::2", 127, Way::Lan("lan0")),
    ("fd00:1::4", 126, Way::Lan("lan0")),
    ("fd00:2::", 32, Way::Elsewhere(MTU)),
    ("fd00:2::8:0", 127, Way::Nowhere),
    ("fd00:10::", 32, Way::Silent),
    ("fd00:10::1", 128, Way::Nowhere),
    ("fd00:10::2", 128, Way::Lan("lan0.10")),
    ("fd00:11::", 32, Way::Bare("lan1")),
    ("fd00:172::", 32, Way::Elsewhere(LAN_MTU)),
];

/// The way to an address.
pub fn way(addr: &[u8; 16]) -> Way {
    let addr = u128::from_be_bytes(*addr);
    WAYS.iter()
        .filter_map(|&(prefix, length, way)| {
            let (prefix, length) = match prefix.parse().ok()? {
                IpAddr::V4(prefix) => (mapped(prefix.octets()), 96 + length),
                IpAddr::V6(prefix) => (prefix.octets(), length),
            };
            let differs = addr ^ u128::from_be_bytes(prefix);
            (differs.leading_zeros() >= length).then_some((length, way))
        })
        .max_by_key(|(length, _)| *length)
        .map_or(Way::Nowhere, |(_, way)| way)
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
    /// | `10.7.0.0/16` | 5 | 6, whose device is gone |
    /// | `10.8.0.0/16`, `fd00:8::/32` | 6 | 5, with a smaller MTU |
    /// | `10.2.64.0/18`, `fd00:2:64::/48` | 8, derived from 0 | 1 |
    /// | `10.2.96.0/24`, `fd00:2:64:96::/64` | holes in 8 | |
    ///
    /// Groups 7 and 9 are derived from group 0, too, and have no prefix at first.
    pub fn new(devices: [u32; DEVICES.len()]) -> Self {
        let v4 = |second: u8, group| (mapped([10, second, 0, 0]), 96 + 16, group);
        let v6 = |second: u16, group| {
            let addr = Ipv6Addr::new(0xfd00, second, 0, 0, 0, 0, 0, 0);
            (addr.octets(), 32, group)
        };
        let [t0, t1, t2, t3, t4, t5] = devices;
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
                daemon: 0,
                hook: HookMode::Ingress,
                mss_clamp: 0,
                mark_mask: MARK_MASK,
                routing_slot: 0,
            },
            addresses: known_addresses(),
            prefixes: vec![
                v4(2, 0),
                v6(2, 0),
                (mapped([10, 2, 64, 0]), 96 + 18, ONLY_1),
                (
                    Ipv6Addr::new(0xfd00, 2, 0x64, 0, 0, 0, 0, 0).octets(),
                    48,
                    ONLY_1,
                ),
                (mapped([10, 2, 96, 0]), 96 + 24, HOLE),
                (
                    Ipv6Addr::new(0xfd00, 2, 0x64, 0x96, 0, 0, 0, 0).octets(),
                    64,
                    HOLE,
                ),
                v4(3, 1),
                v6(3, 1),
                v4(4, 2),
                v4(5, 3),
                v4(6, 4),
                v4(7, 5),
                v4(8, 6),
                v6(8, 6),
            ],
            tunnels: vec![
                (0, tunnel(t0, Admin::Active, Health::Up)),
                (1, tunnel(t1, Admin::Active, Health::Unknown)),
                (2, tunnel(t2, Admin::Disabled, Health::Up)),
                (3, tunnel(t3, Admin::Drain, Health::Up)),
                (4, tunnel(t4, Admin::Active, Health::Down)),
                (5, tunnel(t5, Admin::Active, Health::Up)),
                (6, tunnel(GONE, Admin::Active, Health::Up)),
            ],
            groups: [
                (0, 0, &[0, 1][..]),
                (1, 1, &[]),
                (2, 2, &[2]),
                (3, 3, &[3]),
                (4, 4, &[4]),
                (5, 5, &[6]),
                (6, 6, &[5]),
                (ONLY_0, GROUP, &[0]),
                (ONLY_1, GROUP, &[1]),
                (MORE_OF_1, GROUP, &[0, 1]),
            ]
            .map(|(id, parent, members)| (id, group(parent, members)))
            .to_vec(),
            tables: vec![
                (0, table(&[(0, 1), (1, 1)])),
                (2, table(&[(2, 1)])),
                (3, table(&[(3, 1)])),
                (4, table(&[(4, 1)])),
                (5, table(&[(6, 1)])),
                (6, table(&[(5, 1)])),
                (ONLY_0, table(&[(0, 1)])),
                (ONLY_1, table(&[(1, 1)])),
                (MORE_OF_1, table(&[(0, 1), (1, 3)])),
            ],
        }
    }

    /// Number and home group of each tunnel's device.
    pub fn tunnel_devices(&self) -> Vec<(u32, GroupId)> {
        self.tunnels
            .iter()
            .map(|&(id, tunnel)| {
                let group = match id {
                    0 | 1 => GROUP,
                    SMALL => 6,
                    6 => 5,
                    other => other,
                };
                (tunnel.ifindex, group)
            })
            .collect()
    }

    /// The VLANs on a LAN device with this number, and theirs: 10, in it 10; service VLAN 20, in it 10
    /// and 30. The numbers of the VLAN devices are none that a device has.
    pub fn vlans(&self, lan: u32) -> [(VlanKey, u32); 5] {
        const C: u16 = 0x8100;
        const S: u16 = 0x88a8;
        let (c10, s20, above) = (1 << 30, 1 << 30 | 1, 1 << 30 | 2);
        [
            (lan, C, 10, c10),
            (lan, S, 20, s20),
            (c10, C, 10, above),
            (s20, C, 10, above),
            (s20, C, 30, above),
        ]
        .map(|(ifindex, protocol, id, to)| {
            let key = VlanKey {
                ifindex,
                protocol,
                id,
            };
            (key, to)
        })
    }
}
