//! Packets without number: ordinary ones, strange ones, and broken ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    build::{self, Arrival},
    random::Random,
    recipe::{DstMac, Extension, Fragment, Hook, Layer, Options, Protocol, Recipe, Tag, Usual},
};

const PROTOCOLS: [Protocol; 17] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::UdpLite,
    Protocol::Sctp,
    Protocol::Dccp,
    Protocol::Icmp,
    Protocol::Icmpv6,
    Protocol::Igmp,
    Protocol::Gre,
    Protocol::Esp,
    Protocol::Ah,
    Protocol::L2tp,
    Protocol::IpIp,
    Protocol::Ipv6,
    Protocol::Ospf,
    Protocol::Experiment,
    Protocol::NoNextHeader,
];
const EXTENSIONS: [Usual; 4] = [
    Usual::HopByHop,
    Usual::Routing,
    Usual::Destination,
    Usual::Authentication,
];
/// Packets that later ones can refer to.
const REMEMBERED: usize = 16;

/// A stream of packets that have to do with each other: flows come back, both ways, in fragments,
/// and in errors about them. Half of the packets are as ordinary hosts send them, the rest is bent
/// in some way, and some of all is damaged.
#[derive(Clone, Debug)]
pub struct Traffic {
    random: Random,
    hooks: Vec<Hook>,
    recent: Vec<Recipe>,
}

impl Traffic {
    /// Starts a stream through these hooks.
    pub fn new(seed: u64, hooks: &[Hook]) -> Self {
        Self {
            random: Random::new(seed),
            hooks: hooks.to_vec(),
            recent: Vec::new(),
        }
    }

    /// The numbers that the stream is made of.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The next packet.
    pub fn arrival(&mut self) -> Arrival {
        let hook = self.hooks[self.random.below(self.hooks.len())];
        let recipe = match self.remembered() {
            Some(earlier) => match self.random.below(4) {
                0 => later_fragment(&mut self.random, &earlier),
                1 => error_about(&mut self.random, &earlier, hook),
                2 => reply(&earlier, hook),
                _ => earlier,
            },
            None => self.fresh(hook),
        };
        let mut arrival = build::arrival(&recipe);
        if self.random.one_in(3) {
            let layer = arrival.hook.layer();
            for _ in 0..=self.random.below(3) {
                mutate(&mut self.random, layer, &mut arrival.bytes);
            }
            // Or every damaged header would end at its checksum.
            if self.random.one_in(2) {
                mend_checksum(layer, &mut arrival.bytes);
            }
        }
        arrival
    }

    /// Half of the time, one of the recent packets.
    fn remembered(&mut self) -> Option<Recipe> {
        if self.recent.is_empty() || self.random.one_in(2) {
            return None;
        }
        let at = self.random.below(self.recent.len());
        Some(self.recent[at].clone())
    }

    fn fresh(&mut self, hook: Hook) -> Recipe {
        let recipe = recipe(&mut self.random, hook);
        if self.recent.len() == REMEMBERED {
            let at = self.random.below(REMEMBERED);
            self.recent.swap_remove(at);
        }
        self.recent.push(recipe.clone());
        recipe
    }
}

/// More of the datagram that an earlier packet was a fragment of, or of another one, or at once of
/// none.
fn later_fragment(random: &mut Random, earlier: &Recipe) -> Recipe {
    Recipe {
        identification: earlier.identification ^ u32::from(random.one_in(4)),
        fragment: Some(Fragment {
            offset: random.pick(&[1, 2, 185, 8_191]),
            more: random.one_in(2),
            df: false,
        }),
        payload: random.small(100),
        ..earlier.clone()
    }
}

/// An ICMP error about an earlier packet, at a hook; mostly one that could be true.
fn error_about(random: &mut Random, earlier: &Recipe, hook: Hook) -> Recipe {
    let (src, dst) = build::addresses(earlier);
    // What went out comes back in the other direction.
    let (near, far) = if earlier.hook().is_out() == hook.is_out() {
        (dst, src)
    } else {
        (src, dst)
    };
    let mut inner = Recipe {
        hook: None,
        src: Some(near),
        dst: Some(far),
        ..earlier.clone()
    };
    if random.one_in(3) {
        inner.packet_bytes = Some(random.pick(&[0, 1, 19, 20, 24, 27, 28, 40, 44, 47, 48, 60]));
    }
    let is_v4 = earlier.ip == 4;
    Recipe {
        hook: Some(hook),
        device: Some(random.pick(&[0, 1])),
        ip: earlier.ip,
        src: Some(if random.one_in(3) {
            lan(random, earlier.ip)
        } else {
            far
        }),
        dst: Some(if random.one_in(8) {
            remote(random, earlier.ip)
        } else {
            near
        }),
        protocol: if is_v4 {
            Protocol::Icmp
        } else {
            Protocol::Icmpv6
        },
        icmp_type: Some(if is_v4 {
            random.pick(&[3, 3, 4, 5, 11, 12])
        } else {
            random.pick(&[0, 1, 2, 3, 4, 5])
        }),
        icmp_code: random.pick(&[0, 1, 3, 4]),
        icmp_word: random.pick(&[0, 1_400]),
        about: Some(Box::new(inner)),
        ..Recipe::default()
    }
}

/// A packet the other way, at a hook.
fn reply(earlier: &Recipe, hook: Hook) -> Recipe {
    let (src, dst) = build::addresses(earlier);
    if earlier.hook().is_out() == hook.is_out() {
        return earlier.clone();
    }
    Recipe {
        hook: Some(hook),
        src: Some(dst),
        dst: Some(src),
        src_port: earlier.dst_port,
        dst_port: earlier.src_port,
        ..earlier.clone()
    }
}

fn recipe(random: &mut Random, hook: Hook) -> Recipe {
    let ip = random.pick(&[4, 6]);
    let (lan, remote) = (lan(random, ip), remote(random, ip));
    let (src, dst) = if hook.is_out() {
        (lan, remote)
    } else {
        (remote, lan)
    };
    let (client, server) = (40_000 + random.small(8), 443);
    // Of flows from the LAN, the other direction.
    let (src_port, dst_port) = if hook.is_out() {
        (client, server)
    } else {
        (server, client)
    };
    let mut recipe = Recipe {
        hook: Some(hook),
        device: Some(random.pick(&[0, 0, 1, 1, 2, 3, 4])),
        ip,
        src: Some(src),
        dst: Some(dst),
        protocol: random.pick(&[Protocol::Tcp, Protocol::Udp]),
        src_port,
        dst_port,
        flags: random
            .pick(&["S", "SA", "A", "PA", "A", "A", "FA", "R"])
            .into(),
        icmp_id: random.small(4),
        identification: random.small(4).into(),
        id: u32::from(random.small(4)) << 14,
        payload: random.small(100),
        ..Recipe::default()
    };
    if recipe.flags.contains('S') && random.one_in(2) {
        recipe.tcp_options = tcp_options(random);
    }
    if random.one_in(2) {
        for _ in 0..=random.below(3) {
            bend(random, &mut recipe);
        }
    }
    recipe
}

fn lan(random: &mut Random, ip: u8) -> IpAddr {
    // The gateway's own address is among them.
    let host = 1 + random.small(6);
    if ip == 4 {
        Ipv4Addr::new(10, 1, 0, host.to_le_bytes()[0]).into()
    } else {
        Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host).into()
    }
}

fn remote(random: &mut Random, ip: u8) -> IpAddr {
    // Mostly the group that has tunnels to choose from.
    let net = random.pick(&[2, 2, 2, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9]);
    let host = random.small(4);
    if ip == 4 {
        let [net, host] = [net, host].map(|n| n.to_le_bytes()[0]);
        Ipv4Addr::new(10, net, 0, host).into()
    } else {
        Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host).into()
    }
}

/// Makes a packet unusual in one way.
fn bend(random: &mut Random, recipe: &mut Recipe) {
    match random.below(21) {
        0 => recipe.dst_mac = random.pick(&[DstMac::Other, DstMac::Broadcast, DstMac::Multicast]),
        1 | 2 => recipe.tags = (0..=random.below(3)).map(|_| tag(random)).collect(),
        3 => recipe.ethertype = Some(random.pick(&[0x0806, 0x0800, 0x86dd, 0x8100, 0x88a8, 46])),
        4 => recipe.ttl = random.pick(&[0, 1, 2, 3, 255]),
        5 => recipe.options = options(random),
        6 | 7 => {
            recipe.fragment = Some(Fragment {
                offset: random.pick(&[0, 0, 0, 1, 185, 8_191]),
                more: random.one_in(2),
                df: random.one_in(4),
            });
        }
        8 => {
            let count = random.below(11);
            let usual = |random: &mut Random| Extension::Usual(random.pick(&EXTENSIONS));
            recipe.extensions = (0..count).map(|_| usual(random)).collect();
        }
        9 => {
            let header = random.pick(&[0, 0, 43, 60, 135, 139]);
            let length = random.pick(&[6, 6, 14]);
            let bytes = random.bytes(length);
            recipe.extensions.push(Extension::Raw {
                header,
                zeros: 0,
                bytes,
            });
        }
        10..=12 => recipe.protocol = random.pick(&PROTOCOLS),
        13 => {
            recipe.icmp_type = Some(random.pick(&[0, 3, 8, 11, 13, 128, 129, 133, 135, 137, 138]));
        }
        14 => recipe.payload = random.pick(&[0, 1, 3, 7, 1_300, 1_380, 1_381, 1_400, 1_500]),
        15 => recipe.length = Some(random.small(1_500)),
        16 => recipe.extension_length = Some(random.byte() % 16),
        17 => recipe.padding = random.small(60),
        18 => recipe.gre_flags = random.pick(&[0x2000, 0x8000, 0xb000, 0x2001, 0x3081, 0x2002]),
        19 => match random.below(4) {
            0 => recipe.checksum = Some(random.small(u16::MAX)),
            1 => recipe.tos = random.byte(),
            2 => recipe.df = false,
            _ => recipe.dst_port = random.pick(&[4_789, 6_081, 51_820]),
        },
        _ => {
            let odd: [IpAddr; 20] = [
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(169, 254, 3, 4).into(),
                Ipv4Addr::BROADCAST.into(),
                Ipv4Addr::new(10, 2, 8, 1).into(),
                Ipv4Addr::new(10, 2, 9, 0).into(),
                Ipv4Addr::new(10, 2, 64, 2).into(),
                Ipv4Addr::new(10, 2, 96, 2).into(),
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a01, 2).into(),
                Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 8, 1).into(),
                Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 9, 0).into(),
                // Behind the LAN's other devices, and behind none of them.
                Ipv4Addr::new(10, 1, 0, 99).into(),
                Ipv4Addr::new(10, 10, 0, 2).into(),
                Ipv4Addr::new(10, 11, 0, 2).into(),
                Ipv4Addr::new(172, 16, 0, 2).into(),
                Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x99).into(),
                Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 2).into(),
                Ipv6Addr::new(0xfd00, 0x11, 0, 0, 0, 0, 0, 2).into(),
                Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 2).into(),
            ];
            let addr = random.pick(&odd);
            if random.one_in(2) {
                recipe.src = Some(addr);
            } else {
                recipe.dst = Some(addr);
            }
        }
    }
}

fn tag(random: &mut Random) -> Tag {
    Tag {
        ethertype: random.pick(&[0x8100, 0x8100, 0x88a8]),
        vlan: random.pick(&[0, 10, 10, 20, 20, 99]),
    }
}

fn options(random: &mut Random) -> Options {
    match random.below(3) {
        0 => Options::Idle(random.pick(&[4, 8, 20, 40])),
        1 => Options::Bytes(vec![0; random.pick(&[4, 12])]),
        _ => {
            let length = random.pick(&[4, 8]);
            let mut bytes = random.bytes(length);
            // Router alert, record route, loose source route, time-stamp.
            bytes[0] = random.pick(&[0, 1, 148, 7, 131, 68]);
            Options::Bytes(bytes)
        }
    }
}

fn tcp_options(random: &mut Random) -> Vec<u8> {
    let [high, low] = random
        .pick(&[536_u16, 1_360, 1_380, 1_381, 1_460, 8_960])
        .to_be_bytes();
    let mss = [2, 4, high, low];
    match random.below(5) {
        0 => mss.to_vec(),
        1 => [&mss[..], &[4, 2, 1, 1]].concat(),
        // At an odd address.
        2 => [&[1], &mss[..], &[1, 3, 3]].concat(),
        3 => [&[0], &mss[..], &[0, 0, 0]].concat(),
        _ => {
            let length = random.pick(&[4, 8, 40]);
            random.bytes(length)
        }
    }
}

/// Damages the bytes of a packet, mostly where the headers are.
fn mutate(random: &mut Random, layer: Layer, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let headers = bytes.len().min(100);
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

/// Makes the header checksum of an untagged IPv4 packet right, as far as it has a header.
fn mend_checksum(layer: Layer, bytes: &mut [u8]) {
    let start = if layer == Layer::Ethernet { 14 } else { 0 };
    let Some(packet) = bytes.get_mut(start..) else {
        return;
    };
    let header_bytes = packet
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    if is_v4 && header_bytes >= 20 && header_bytes <= packet.len() {
        packet[10..12].fill(0);
        let sum = build::checksum(&packet[..header_bytes]).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
    }
}
