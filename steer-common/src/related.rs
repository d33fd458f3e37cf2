//! Packets that do not tell their flow themselves: fragments and ICMP errors.
//! And VLANs, which decide whether a frame is for this gateway at all.

use crate::{
    abi::{Endpoint, FlowKey, Fragment, FragmentKey, NO_TUNNEL, VlanKey},
    decide::is_idle,
    key::Address,
    packet::Packet,
    parse::{FRAGMENT, Kind, OFFSET_BITS, Parsed, Part, Transport, Version, map_v4, transport},
    tables::Tables,
};

/// How long fragments of one datagram are waited for (RFC 1122 section 3.3.2 asks for 60 s; 30 s is
/// what Linux has for IPv4, `net.ipv4.ipfrag_time`).
const FRAGMENT_NS: u64 = 30_000_000_000;
/// Bytes of an ICMP header, before the packet that the error is about.
const ICMP_BYTES: usize = 8;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side behind this gateway to the tunnels.
    ToTunnel,
    /// From a tunnel.
    FromTunnel,
}

/// Finds the flow of a fragment or an ICMP error.
///
/// The first fragment is remembered, the later ones are given its ports. An ICMP error gets the key
/// of the flow that it reports on, as its other end's, if that flow has an entry. What is not found
/// stays with its address pair and is counted.
#[inline(always)]
pub fn relate<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    parsed: &mut Parsed,
) {
    match parsed.kind {
        Kind::Whole => {}
        Kind::FirstFragment => {
            let remote = match direction {
                Direction::ToTunnel => parsed.source.other(),
                Direction::FromTunnel => parsed.source,
            };
            // What is not steered takes no room.
            if tables.group_of(parsed.key.addr(remote)).is_none() {
                return;
            }
            let key = fragment_key(
                parsed.addrs(),
                parsed.identification,
                parsed.version,
                parsed.key.protocol,
            );
            let is_swapped = parsed.source == Endpoint::High && !parsed.key.has_number();
            let (low_port, high_port) = (parsed.key.low_port, parsed.key.high_port);
            let (src_port, dst_port) = if is_swapped {
                (high_port, low_port)
            } else {
                (low_port, high_port)
            };
            let fragment = Fragment {
                seen_ns: tables.now_ns(),
                src_port,
                dst_port,
                protocol: parsed.key.protocol,
            };
            tables.remember_fragment(&key, &fragment);
        }
        Kind::LaterFragment => {
            let (src, dst) = parsed.addrs();
            let key = fragment_key(
                (src, dst),
                parsed.identification,
                parsed.version,
                parsed.key.protocol,
            );
            match first_of(tables, &key) {
                Some(first) => {
                    let protocol = first.protocol as u8;
                    parsed.source =
                        parsed
                            .key
                            .set(src, dst, first.src_port, first.dst_port, protocol);
                }
                None => tables.note(|counters| counters.unmatched_fragments += 1),
            }
        }
        Kind::Error => {
            if !relate_error(packet, tables, direction, parsed) {
                tables.note(|counters| counters.unmatched_errors += 1);
            }
        }
    }
}

#[inline(always)]
fn fragment_key(
    (src_addr, dst_addr): (Address, Address),
    identification: u32,
    version: Version,
    protocol: u32,
) -> FragmentKey {
    FragmentKey {
        src_addr: bytemuck::must_cast(src_addr),
        dst_addr: bytemuck::must_cast(dst_addr),
        identification,
        protocol: match version {
            Version::V4 => protocol,
            Version::V6 => FRAGMENT.into(),
        },
    }
}

#[inline(always)]
fn first_of<T: Tables>(tables: &T, key: &FragmentKey) -> Option<Fragment> {
    let first = tables.fragment(key)?;
    (tables.now_ns().saturating_sub(first.seen_ns) <= FRAGMENT_NS).then_some(first)
}

/// Gives an ICMP error the key of the flow that it is about; whether that is known.
#[inline(always)]
fn relate_error<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    direction: Direction,
    parsed: &mut Parsed,
) -> bool {
    // This gateway's own report leaves by the tunnel whose address it bears, if it does.
    if let Some(known) = tables.address(parsed.key.addr(parsed.source))
        && known.tunnel != u32::from(NO_TUNNEL)
    {
        return false;
    }
    // A key of a map must lie on the function's own stack in kernels before 6.4; and the packet's own
    // key stays what it is if this one is of no use.
    let mut key = FlowKey::EMPTY;
    let Some(sender) = embedded(packet, tables, parsed, &mut key) else {
        return false;
    };
    // The error goes to the one who sent the packet that it is about.
    if key.addr(sender) != parsed.key.addr(parsed.source.other()) {
        return false;
    }
    let local = match direction {
        Direction::ToTunnel => sender.other(),
        Direction::FromTunnel => sender,
    };
    let is_known = tables.flow(&key).is_some_and(|flow| {
        let (phase, last_seen_ns) = (flow.phase.get(), flow.last_seen_ns.get());
        flow.local.get() == local
            && !is_idle(
                tables.settings(),
                &key,
                phase,
                last_seen_ns,
                tables.now_ns(),
            )
    });
    if is_known {
        parsed.source = sender.other();
        parsed.key = key;
    }
    is_known
}

/// Reads the packet that an ICMP error holds, of which only the start need be there, into the key.
/// Tells which endpoint sent it, or `None` if it does not tell its flow.
#[inline(always)]
fn embedded<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    key: &mut FlowKey,
) -> Option<Endpoint> {
    let version = parsed.version;
    let offset = parsed.l4_offset()? + ICMP_BYTES;
    let end = parsed.l3_offset + parsed.l3_len_bytes as usize;
    let (src, dst, protocol, l4_offset, kind, identification): (Address, Address, _, _, _, _);
    match version {
        Version::V4 => {
            let words: [u32; 5] = packet.load(offset)?;
            let [first, fragment, life, ..] = words.map(u32::from_be);
            let header_bytes = (first >> 24 & 0xf) as usize * 4;
            if first >> 28 != 4 || header_bytes < 20 {
                return None;
            }
            src = [0, map_v4(words[3])];
            dst = [0, map_v4(words[4])];
            protocol = (life >> 16 & 0xff) as u8;
            l4_offset = offset + header_bytes;
            identification = fragment >> 16;
            kind = if fragment & OFFSET_BITS == 0 {
                Kind::Whole
            } else {
                Kind::LaterFragment
            };
        }
        Version::V6 => {
            let words: [u32; 2] = packet.load(offset)?;
            if u32::from_be(words[0]) >> 28 != 6 {
                return None;
            }
            src = packet.load(offset + 8)?;
            dst = packet.load(offset + 24)?;
            let next_header = (u32::from_be(words[1]) >> 8 & 0xff) as u8;
            let upper = packet
                .upper(next_header, offset as u16 + 40, end as u32)
                .ok()?;
            protocol = upper.protocol;
            l4_offset = usize::from(upper.offset);
            identification = upper.identification;
            kind = upper.kind;
        }
    }
    let (src_port, dst_port, protocol) = if kind == Kind::LaterFragment {
        let fragment = fragment_key((src, dst), identification, version, protocol.into());
        let first = first_of(tables, &fragment)?;
        (first.src_port, first.dst_port, first.protocol as u8)
    } else {
        let available_bytes = end.saturating_sub(l4_offset) as u32;
        let Transport {
            src_port, dst_port, ..
        } = transport(
            packet,
            protocol,
            l4_offset,
            available_bytes,
            version,
            Part::Start,
        )
        .ok()?;
        (src_port, dst_port, protocol)
    };
    Some(key.set(src, dst, src_port, dst_port, protocol))
}

/// Whether this gateway has the VLAN that the tags of a packet name; `ifindex` is the device that
/// it came in on. A tag of VLAN 0 has a priority only (IEEE 802.1Q).
#[inline(always)]
pub fn has_vlan<T: Tables>(tables: &T, ifindex: u32, parsed: &Parsed) -> bool {
    let outer = if parsed.tags > 0 { parsed.vlans[0] } else { 0 };
    let inner = if parsed.tags > 1 { parsed.vlans[1] } else { 0 };
    vlan_device(tables, ifindex, outer)
        .is_some_and(|above| vlan_device(tables, above, inner).is_some())
}

/// The device that a frame with this tag reaches.
#[inline(always)]
fn vlan_device<T: Tables>(tables: &T, ifindex: u32, tag: u32) -> Option<u32> {
    let id = (tag & 0x0fff) as u16;
    if id == 0 {
        return Some(ifindex);
    }
    tables.vlan(&VlanKey {
        ifindex,
        protocol: (tag >> 16) as u16,
        id,
    })
}
