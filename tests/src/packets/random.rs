//! Rows without number: ordinary packets, strange ones, and broken ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use steer_common::hash::finish;

use super::{
    build,
    row::{DstMac, Expect, Extension, Fragment, Layer, Protocol, Row, Tag},
};

/// A generator of numbers that needs nothing but its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.0)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        usize::try_from(self.next_u64() % limit).unwrap_or(0)
    }

    /// Whether something that happens once in `n` times happens.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }

    fn word(&mut self) -> u16 {
        let [a, b, ..] = self.next_u64().to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    fn small(&mut self, limit: u16) -> u16 {
        u16::try_from(self.below(limit.into())).unwrap_or(0)
    }
}

const PROTOCOLS: [Protocol; 14] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::UdpLite,
    Protocol::Sctp,
    Protocol::Dccp,
    Protocol::Icmp,
    Protocol::Icmpv6,
    Protocol::Gre,
    Protocol::Esp,
    Protocol::Ah,
    Protocol::IpIp,
    Protocol::Ospf,
    Protocol::Experiment,
    Protocol::NoNextHeader,
];
const TAGS: [Tag; 3] = [Tag::Customer, Tag::Service, Tag::Priority];
const EXTENSIONS: [Extension; 4] = [
    Extension::HopByHop,
    Extension::Routing,
    Extension::Destination,
    Extension::Authentication,
];

/// A random packet: where it starts, and its bytes. Half of them are as ordinary hosts send them,
/// from few addresses and ports, so that flows come back; the rest is bent in some way.
pub fn packet(random: &mut Random) -> (Layer, Vec<u8>) {
    let row = row(random);
    let mut bytes = build::packet(&row);
    if random.one_in(3) {
        for _ in 0..=random.below(3) {
            mutate(random, row.layer, &mut bytes);
        }
    }
    (row.layer, bytes)
}

fn row(random: &mut Random) -> Row {
    let layer = random.pick(&[Layer::Ethernet, Layer::Ethernet, Layer::Network]);
    let ip = random.pick(&[4, 6]);
    let (lan, remote) = (lan(random, ip), remote(random, ip));
    let (src, dst) = match layer {
        Layer::Ethernet => (lan, remote),
        Layer::Network => (remote, lan),
    };
    let bent = random.one_in(2);
    let mut row = Row {
        name: String::new(),
        layer,
        dst_mac: DstMac::Gateway,
        tags: Vec::new(),
        ethertype: None,
        ip,
        src: Some(src),
        dst: Some(dst),
        ttl: 64,
        options: 0,
        fragment: None,
        extensions: Vec::new(),
        protocol: random.pick(&[Protocol::Tcp, Protocol::Udp]),
        src_port: 40_000 + random.small(8),
        dst_port: 443,
        flags: random.pick(&["S", "A", "PA", "A", "A", "FA", "R"]).into(),
        icmp_type: None,
        icmp_id: random.small(4),
        payload: random.small(100),
        version: None,
        ihl: None,
        length: None,
        extension_length: None,
        truncate: None,
        padding: 0,
        expect: Expect::Ignore,
    };
    if layer == Layer::Network {
        // The other direction of the flows from the LAN.
        (row.src_port, row.dst_port) = (row.dst_port, row.src_port);
    }
    if bent {
        for _ in 0..=random.below(3) {
            bend(random, &mut row);
        }
    }
    row
}

fn lan(random: &mut Random, ip: u8) -> IpAddr {
    let host = random.small(6);
    if ip == 4 {
        Ipv4Addr::new(10, 1, 0, host.to_le_bytes()[0]).into()
    } else {
        Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host).into()
    }
}

fn remote(random: &mut Random, ip: u8) -> IpAddr {
    // Mostly the group that has tunnels to choose from.
    let net = random.pick(&[2, 2, 2, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8]);
    let host = random.small(4);
    if ip == 4 {
        let [net, host] = [net, host].map(|n| n.to_le_bytes()[0]);
        Ipv4Addr::new(10, net, 0, host).into()
    } else {
        Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host).into()
    }
}

/// Makes a row unusual in one way.
fn bend(random: &mut Random, row: &mut Row) {
    match random.below(17) {
        0 => row.dst_mac = random.pick(&[DstMac::Other, DstMac::Broadcast, DstMac::Multicast]),
        1 | 2 => row.tags = (0..=random.below(4)).map(|_| random.pick(&TAGS)).collect(),
        3 => row.ethertype = Some(random.pick(&[0x0806, 0x0800, 0x86dd, 0x8100, 0x88a8, 46])),
        4 => row.ttl = random.pick(&[0, 1, 2, 3, 255]),
        5 => row.options = random.pick(&[4, 8, 20, 40]),
        6 => {
            row.fragment = Some(Fragment {
                offset: random.pick(&[0, 0, 1, 185, 8_191]),
                more: random.one_in(2),
                dont: random.one_in(4),
            });
        }
        7 | 8 => {
            let count = random.below(11);
            row.extensions = (0..count).map(|_| random.pick(&EXTENSIONS)).collect();
        }
        9 | 10 => row.protocol = random.pick(&PROTOCOLS),
        11 => row.icmp_type = Some(random.pick(&[0, 3, 8, 11, 128, 129, 133, 135, 137, 138])),
        12 => row.payload = random.pick(&[0, 1, 1_300, 1_380, 1_381, 1_400, 1_500]),
        13 => row.length = Some(random.word() % 1_500),
        14 => row.extension_length = Some(random.byte() % 16),
        15 => row.padding = random.small(60),
        _ => {
            let odd: [IpAddr; 6] = [
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(169, 254, 3, 4).into(),
                Ipv4Addr::BROADCAST.into(),
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a01, 2).into(),
            ];
            let addr = random.pick(&odd);
            if random.one_in(2) {
                row.src = Some(addr);
            } else {
                row.dst = Some(addr);
            }
        }
    }
}

/// Damages the bytes of a packet, mostly where the headers are.
fn mutate(random: &mut Random, layer: Layer, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let headers = bytes.len().min(80);
    match random.below(8) {
        0 => {
            let length = random.below(bytes.len() + 1);
            bytes.truncate(length);
        }
        1 => {
            let more = random.below(64);
            bytes.extend((0..more).map(|_| 0xaa));
        }
        2 => {
            let at = random.below(headers);
            bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        3 | 4 => {
            // The first 20 bytes of an IP header decide most.
            let start = if layer == Layer::Ethernet { 12 } else { 0 };
            let at = (start + random.below(24)).min(bytes.len() - 1);
            bytes[at] = random.byte();
        }
        _ => {
            let at = random.below(headers);
            bytes[at] ^= 1 << random.below(8);
        }
    }
}
