//! Noting which tunnel the flows of the far side come by.

use crate::{
    abi::{FlowEntry, MoveReason, Origin, Placer, Tunnel, TunnelId},
    decide::touch,
    known::known,
    moves::put_on,
    packet::Packet,
    parse::Parsed,
    tables::{Inserted, Tables},
};

/// Notes a packet that came out of a tunnel. Returns whether it is of a steered prefix.
///
/// A flow that the far gateway placed is entered on, and follows, the tunnel
/// that it arrives by, if replies may leave by that; a flow placed here stays where it is.
#[inline(always)]
pub fn learn<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    arrived_by: TunnelId,
) -> bool {
    let now_ns = tables.now_ns();
    let found = tables.flow(&parsed.key);
    let Some(mut known) = known(tables, parsed, found, parsed.source.other(), now_ns) else {
        return false;
    };
    let (packets, bytes) = (u64::from(packet.segments()), u64::from(parsed.l3_len_bytes));
    tables.count(arrived_by, |counters| {
        counters.rx_packets += packets;
        counters.rx_bytes += bytes;
    });
    let can_carry = tables.tunnel(arrived_by).is_some_and(Tunnel::is_usable);
    if let Some(flow) = known.live {
        let follows = known.tunnel() != arrived_by
            && can_carry
            && flow.placer.get() == Placer::Far
            && tables.is_member(known.group(), arrived_by);
        if follows {
            let reason = Some(MoveReason::FarEnd);
            if put_on(tables, &mut known, &parsed.key, arrived_by, reason) {
                flow.origin.set(Origin::Learned);
            }
        } else if !known.is_checked && known.is_member {
            known.renew(tables);
        }
        touch(flow, parsed, now_ns);
        tables.add(&flow.rx_packets, packets);
        tables.add(&flow.rx_bytes, bytes);
        return true;
    }
    // What cannot carry the replies teaches nothing: the first reply is placed instead.
    if !can_carry || !tables.is_member(known.group(), arrived_by) {
        return true;
    }
    let entry = FlowEntry {
        rx_packets: packets,
        rx_bytes: bytes,
        origin: Origin::Learned,
        local: parsed.source.other(),
        placer: Placer::Far,
        ..known.new_entry(parsed, arrived_by, now_ns)
    };
    if let Some(flow) = found {
        flow.restart(&entry);
    } else if tables.insert_flow(&parsed.key, &entry) != Inserted::Done {
        return true;
    }
    tables.count(arrived_by, |counters| counters.new_flows += 1);
    true
}
