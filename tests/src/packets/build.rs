//! From a recipe to bytes: the frame and the IP packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use steer_common::abi::TunnelId;

use super::{
    recipe::{DstMac, Extension, Hook, Layer, Options, Recipe, Usual},
    transport,
    world::LAN_MAC,
};

/// MAC address of every host on the LAN.
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// A packet at a hook.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where.
    pub hook: Hook,
    /// The tunnel, if the hook is at one.
    pub device: TunnelId,
    /// Size of its segments, if it stands for several.
    pub gso_size: u32,
    /// How many those are, at least 1.
    pub segments: u32,
    /// Its mark.
    pub mark: u32,
    /// What another program of ours left in its control block.
    pub marker: u32,
    /// From the start of the hook's layer.
    pub bytes: Vec<u8>,
}

impl Arrival {
    /// A packet that is nothing but its bytes.
    pub fn plain(hook: Hook, bytes: Vec<u8>) -> Self {
        Self {
            hook,
            device: 0,
            gso_size: 0,
            segments: 1,
            mark: 0,
            marker: 0,
            bytes,
        }
    }
}

/// The packet of a recipe where it arrives.
pub fn arrival(recipe: &Recipe) -> Arrival {
    Arrival {
        hook: recipe.hook(),
        device: recipe.device(),
        gso_size: recipe.gso_size,
        segments: segments(recipe),
        mark: 0,
        marker: 0,
        bytes: packet(recipe),
    }
}

fn segments(recipe: &Recipe) -> u32 {
    match recipe.gso_size {
        0 => 1,
        size => u32::from(recipe.payload).div_ceil(size).max(1),
    }
}

/// The bytes of a recipe, from the start of its hook's layer.
pub fn packet(recipe: &Recipe) -> Vec<u8> {
    let mut packet = ip(recipe, recipe.hook().is_out());
    packet.extend((0..recipe.padding).map(|_| 0xee));
    match recipe.hook().layer() {
        Layer::Network => packet,
        Layer::Ethernet => {
            let mut frame = mac_header(recipe);
            frame.extend(packet);
            frame.truncate(recipe.frame_bytes.unwrap_or(usize::MAX));
            frame
        }
    }
}

/// The source and destination of a recipe's packet.
pub fn addresses(recipe: &Recipe) -> (IpAddr, IpAddr) {
    addresses_of(recipe, recipe.hook().is_out())
}

fn addresses_of(recipe: &Recipe, is_out: bool) -> (IpAddr, IpAddr) {
    let (lan, remote): (IpAddr, IpAddr) = match recipe.ip {
        6 => (
            Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2).into(),
        ),
        _ => (
            Ipv4Addr::new(10, 1, 0, 2).into(),
            Ipv4Addr::new(10, 2, 0, 2).into(),
        ),
    };
    let (src, dst) = if is_out { (lan, remote) } else { (remote, lan) };
    (recipe.src.unwrap_or(src), recipe.dst.unwrap_or(dst))
}

/// The IP packet, cut as asked for; what an ICMP error is about goes the other way.
fn ip(recipe: &Recipe, is_out: bool) -> Vec<u8> {
    let (src, dst) = addresses_of(recipe, is_out);
    let about = recipe.about.as_ref().map(|inner| ip(inner, !is_out));
    let transport = transport::segment(recipe, src, dst, about);
    let mut packet = match recipe.ip {
        4 => ipv4(recipe, src, dst, &transport),
        6 => ipv6(recipe, src, dst, &transport),
        _ => vec![0; recipe.payload.into()],
    };
    packet.truncate(recipe.packet_bytes.unwrap_or(usize::MAX));
    packet
}

fn mac_header(recipe: &Recipe) -> Vec<u8> {
    const PRIORITY: u16 = 5 << 13;
    let mut header = Vec::from(match recipe.dst_mac {
        DstMac::Gateway => LAN_MAC,
        DstMac::Other => [2, 0, 0, 0, 0, 0x77],
        DstMac::Broadcast => [0xff; 6],
        DstMac::Multicast => [0x01, 0, 0x5e, 0, 0, 9],
    });
    header.extend(HOST_MAC);
    for tag in &recipe.tags {
        header.extend(tag.ethertype.to_be_bytes());
        header.extend((PRIORITY | tag.vlan).to_be_bytes());
    }
    let usual = if recipe.ip == 6 { 0x86dd } else { 0x0800 };
    header.extend(recipe.ethertype.unwrap_or(usual).to_be_bytes());
    header
}

fn ipv4(recipe: &Recipe, src: IpAddr, dst: IpAddr, transport: &[u8]) -> Vec<u8> {
    const NO_OPERATION: u8 = 1;
    let options = match &recipe.options {
        Options::Idle(count) => vec![NO_OPERATION; usize::from(*count)],
        Options::Bytes(bytes) => bytes.clone(),
    };
    let header_bytes = 20 + length_of(&options);
    let ihl = recipe
        .ihl
        .unwrap_or_else(|| u8::try_from(header_bytes / 4).unwrap_or(15));
    let length = recipe.length.unwrap_or(header_bytes + length_of(transport));
    let fragment = match recipe.fragment {
        None => u16::from(recipe.df) << 14,
        Some(fragment) => {
            u16::from(fragment.df) << 14 | u16::from(fragment.more) << 13 | fragment.offset
        }
    };
    let [_, _, id_high, id_low] = recipe.identification.to_be_bytes();
    let mut header = vec![recipe.version.unwrap_or(4) << 4 | ihl & 0xf, recipe.tos];
    header.extend(length.to_be_bytes());
    header.extend([id_high, id_low]);
    header.extend(fragment.to_be_bytes());
    header.extend([recipe.ttl, recipe.protocol.number(), 0, 0]);
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(addr) => header.extend(addr.octets()),
            IpAddr::V6(_) => header.extend([0; 4]),
        }
    }
    header.extend(options);
    header.extend(transport);
    // Over as much as the header says that it has.
    let summed = (usize::from(ihl) * 4).clamp(20, header.len());
    let sum = recipe.checksum.unwrap_or(checksum(&header[..summed]));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn ipv6(recipe: &Recipe, src: IpAddr, dst: IpAddr, transport: &[u8]) -> Vec<u8> {
    let mut headers: Vec<(u8, Vec<u8>)> = recipe.extensions.iter().map(extension).collect();
    if let Some(fragment) = recipe.fragment {
        let place = (fragment.offset << 3 | u16::from(fragment.more)).to_be_bytes();
        let id = recipe.identification.to_be_bytes();
        headers.push((FRAGMENT, [&[0], &place[..], &id[..]].concat()));
    }
    let kinds: Vec<u8> = headers
        .iter()
        .map(|(kind, _)| *kind)
        .chain([recipe.protocol.number()])
        .collect();
    let mut body = Vec::new();
    let mut last = 0;
    for ((_, rest), next) in headers.iter().zip(&kinds[1..]) {
        last = body.len();
        body.push(*next);
        body.extend(rest);
    }
    if let Some(length) = recipe.extension_length
        && let Some(byte) = body.get_mut(last + 1)
    {
        *byte = length;
    }
    body.extend(transport);

    let class = u32::from(recipe.version.unwrap_or(6)) << 28 | u32::from(recipe.tos) << 20;
    let mut packet = class.to_be_bytes().to_vec();
    packet.extend(recipe.length.unwrap_or(length_of(&body)).to_be_bytes());
    packet.extend([kinds[0], recipe.ttl]);
    for addr in [src, dst] {
        match addr {
            IpAddr::V6(addr) => packet.extend(addr.octets()),
            IpAddr::V4(addr) => packet.extend(addr.to_ipv6_mapped().octets()),
        }
    }
    packet.extend(body);
    packet
}

/// An extension header without its first byte, which is the number of the next.
fn extension(extension: &Extension) -> (u8, Vec<u8>) {
    let (kind, bytes) = match extension {
        // PadN with four bytes of padding.
        Extension::Usual(Usual::HopByHop) => (0, vec![1, 4, 0, 0, 0, 0]),
        Extension::Usual(Usual::Routing) => (43, vec![0; 22]),
        Extension::Usual(Usual::Destination) => (60, vec![0; 14]),
        Extension::Usual(Usual::Long) => (60, [&[1, 124][..], &[0; 124]].concat()),
        Extension::Usual(Usual::Authentication) => (AUTHENTICATION, vec![0; 22]),
        Extension::Raw {
            header,
            zeros,
            bytes,
        } => (*header, [&vec![0; *zeros], &bytes[..]].concat()),
    };
    let whole = 2 + length_of(&bytes);
    // The length byte counts eight bytes beyond the first eight; of an authentication header, four
    // bytes beyond the first eight.
    let length = if kind == AUTHENTICATION {
        whole / 4 - 2
    } else {
        whole / 8 - 1
    };
    let [_, length] = length.to_be_bytes();
    (kind, [&[length], &bytes[..]].concat())
}

/// The length of some bytes in a 16-bit field.
pub(super) fn length_of(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// The checksum of bytes whose own checksum field is 0 (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
