//! Noting which tunnel the flows of the far side come by.

use crate::{
    abi::{FlowEntry, Origin, Placer, Tunnel, TunnelId},
    decide::{Known, known, new_entry, put_on, touch},
    packet::Packet,
    parse::Parsed,
    tables::{Inserted, Tables},
};

/// Notes a packet that came out of a tunnel. Returns whether it is of a steered prefix.
///
/// A flow that the far gateway placed is entered on, and follows, the tunnel
/// that it arrives by; a flow placed here stays where it is.
#[inline(always)]
pub fn learn<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    arrived_by: TunnelId,
) -> bool {
    let now_ns = tables.now_ns();
    let found = tables.flow(&parsed.key);
    let Some(Known { live, group, .. }) =
        known(tables, parsed, found, parsed.source.other(), now_ns)
    else {
        return false;
    };
    let (packets, bytes) = (u64::from(packet.segments()), u64::from(parsed.l3_len_bytes));
    tables.count(arrived_by, |counters| {
        counters.rx_packets += packets;
        counters.rx_bytes += bytes;
    });
    let can_carry = tables.tunnel(arrived_by).is_some_and(Tunnel::is_usable);
    if let Some(flow) = live {
        let has_moved = flow.tunnel.get() != u32::from(arrived_by);
        if has_moved && can_carry && flow.placer.get() == Placer::Far {
            put_on(tables, flow, arrived_by);
            flow.origin.set(Origin::Learned);
        }
        touch(flow, parsed, now_ns);
        tables.add(&flow.rx_packets, packets);
        tables.add(&flow.rx_bytes, bytes);
        return true;
    }
    // What cannot carry the replies teaches nothing: the first reply is placed instead.
    if !can_carry {
        return true;
    }
    let entry = FlowEntry {
        rx_packets: packets,
        rx_bytes: bytes,
        origin: Origin::Learned,
        local: parsed.source.other(),
        placer: Placer::Far,
        ..new_entry(tables, parsed, group, arrived_by, now_ns)
    };
    if let Some(flow) = found {
        flow.restart(&entry);
    } else if tables.insert_flow(&parsed.key, &entry) != Inserted::Done {
        return true;
    }
    tables.count(arrived_by, |counters| counters.new_flows += 1);
    true
}
