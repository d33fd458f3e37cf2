//! The decision: which tunnel a packet takes, or why the kernel gets it.

use network_types::ip::IpProto;

use crate::{
    abi::{
        Admin, Endpoint, FlowEntry, FlowKey, GroupId, Health, NO_TUNNEL, Origin, PassReason, Phase,
        Placer, Settings, Tunnel, TunnelId,
    },
    hash::{bucket_of, flow_hash, next_attempt},
    packet::Packet,
    parse::{Parsed, tcp_flags},
    tables::{Fit, Inserted, SharedFlow, Tables},
};

/// Buckets tried before a new flow is given up.
///
/// The table holds usable tunnels only, so the first is right but for the
/// moment between a tunnel's end and the new table.
const ATTEMPTS: u32 = 32;

/// What to do with a packet from the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it through the tunnel, TTL down and tags popped.
    Redirect(Exit),
    /// Leave it to the kernel.
    Pass(PassReason),
}

/// A tunnel to leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its device.
    pub ifindex: u32,
}

impl Tunnel {
    /// A map element, read as one word; `None` if it is not a valid one.
    #[inline(always)]
    pub fn from_word(word: u64) -> Option<Self> {
        bytemuck::checked::try_cast(word).ok()
    }

    /// Whether the operator lets it carry flows.
    #[inline(always)]
    pub fn is_wanted(self) -> bool {
        self.ifindex != 0 && matches!(self.admin, Admin::Active | Admin::Drain)
    }

    /// Whether flows may stay on it.
    #[inline(always)]
    pub fn is_usable(self) -> bool {
        self.is_wanted() && self.health != Health::Down
    }

    /// Whether it takes new flows.
    #[inline(always)]
    pub fn takes_new_flows(self) -> bool {
        self.admin == Admin::Active && self.is_usable()
    }
}

/// Decides about a packet that entered the LAN device.
#[inline(always)]
pub fn steer<P: Packet, T: Tables>(packet: &P, tables: &T, parsed: &Parsed) -> Verdict {
    match choose(packet, tables, parsed) {
        Ok(exit) => Verdict::Redirect(exit),
        Err(reason) => Verdict::Pass(reason),
    }
}

#[inline(always)]
fn choose<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
) -> Result<Exit, PassReason> {
    let now_ns = tables.now_ns();
    let found = tables.flow(&parsed.key);
    let (live, group) =
        known(tables, parsed, found, parsed.source, now_ns).ok_or(PassReason::NotSteered)?;
    if parsed.ttl <= 1 {
        return Err(PassReason::TtlExpired);
    }

    if let Some(flow) = live
        && let Some(exit) = stay(tables, parsed, flow, Tunnel::is_usable)?
    {
        note_sent(packet, tables, parsed, flow, now_ns);
        return Ok(exit);
    }
    let (exit, has_moved) = match pick(tables, &parsed.key, parsed.l3_len_bytes, group) {
        Ok(exit) => (exit, true),
        // With every tunnel down the flow stays: its own may be the first to come back.
        Err(PassReason::NoTunnel) => {
            let flow = live.ok_or(PassReason::NoTunnel)?;
            let exit = stay(tables, parsed, flow, Tunnel::is_wanted)?;
            (exit.ok_or(PassReason::NoTunnel)?, false)
        }
        Err(reason) => return Err(reason),
    };
    let Some(flow) = live else {
        return enter(packet, tables, parsed, found, group, exit, now_ns);
    };
    if has_moved {
        put_on(tables, flow, exit.tunnel);
        flow.origin.set(Origin::Moved);
    }
    note_sent(packet, tables, parsed, flow, now_ns);
    Ok(exit)
}

/// The group of a packet, and its flow's entry if that holds; `None` if the packet is not steered.
///
/// Prefixes are searched only for a flow that is not known in this epoch.
#[inline(always)]
fn known<'t, T: Tables>(
    tables: &'t T,
    parsed: &Parsed,
    found: Option<&'t SharedFlow>,
    local: Endpoint,
    now_ns: u64,
) -> Option<(Option<&'t SharedFlow>, GroupId)> {
    let epoch = tables.settings().epoch;
    let live =
        found.filter(|flow| flow.local.get() == local && !is_over(flow, parsed, tables, now_ns));
    if let Some(flow) = live
        && flow.epoch.get() == epoch
    {
        return Some((live, flow.group.get() as GroupId));
    }
    let group = tables.group_of(parsed.key.addr(local.other()))?;
    let live = live.filter(|flow| flow.group.get() == u32::from(group));
    if let Some(flow) = live {
        flow.epoch.set(epoch);
    }
    Some((live, group))
}

/// The flow's own tunnel, if it is good enough and its device exists.
#[inline(always)]
fn stay<T: Tables>(
    tables: &T,
    parsed: &Parsed,
    flow: &SharedFlow,
    is_good_enough: impl FnOnce(Tunnel) -> bool,
) -> Result<Option<Exit>, PassReason> {
    let id = flow.tunnel.get() as TunnelId;
    let Some(tunnel) = tables.tunnel(id) else {
        return Ok(None);
    };
    if !is_good_enough(tunnel) {
        return Ok(None);
    }
    match tables.fit(tunnel.ifindex, parsed.l3_len_bytes) {
        Fit::Fits => Ok(Some(Exit {
            tunnel: id,
            ifindex: tunnel.ifindex,
        })),
        Fit::TooBig => Err(PassReason::TooBig),
        Fit::Gone => Ok(None),
    }
}

/// Enters a flow that has no entry, or one that no longer holds.
#[inline(always)]
fn enter<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    found: Option<&SharedFlow>,
    group: GroupId,
    exit: Exit,
    now_ns: u64,
) -> Result<Exit, PassReason> {
    let entry = FlowEntry {
        tx_packets: packet.segments().into(),
        tx_bytes: parsed.l3_len_bytes.into(),
        ..new_entry(tables, parsed, group, exit.tunnel, now_ns)
    };
    if let Some(flow) = found {
        flow.restart(&entry);
    } else {
        match tables.insert_flow(&parsed.key, &entry) {
            Inserted::Done => {}
            // The winner's choice is everybody's.
            Inserted::Exists => {
                let winner = tables.flow(&parsed.key).ok_or(PassReason::NoTunnel)?;
                note_sent(packet, tables, parsed, winner, now_ns);
                return stay(tables, parsed, winner, Tunnel::is_usable)?
                    .ok_or(PassReason::NoTunnel);
            }
            Inserted::Full => {
                tables.count(exit.tunnel, |counters| counters.table_full += 1);
                return Ok(exit);
            }
        }
    }
    tables.count(exit.tunnel, |counters| counters.new_flows += 1);
    Ok(exit)
}

#[inline(always)]
fn new_entry<T: Tables>(
    tables: &T,
    parsed: &Parsed,
    group: GroupId,
    tunnel: TunnelId,
    now_ns: u64,
) -> FlowEntry {
    FlowEntry {
        created_ns: now_ns,
        last_seen_ns: now_ns,
        tx_packets: 0,
        tx_bytes: 0,
        rx_packets: 0,
        rx_bytes: 0,
        epoch: tables.settings().epoch,
        tunnel: tunnel.into(),
        group: group.into(),
        origin: Origin::Hashed,
        local: parsed.source,
        placer: Placer::Near,
        phase: phase_after(Phase::Open, parsed),
    }
}

/// The tunnel of a flow by the bucket table, past those that cannot take it now.
#[inline(always)]
pub fn pick<T: Tables>(
    tables: &T,
    key: &FlowKey,
    l3_len_bytes: u32,
    group: GroupId,
) -> Result<Exit, PassReason> {
    let mut hash = flow_hash(tables.settings().seed, key);
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let id = tables.bucket(group, bucket_of(hash));
        if id == NO_TUNNEL {
            break;
        }
        if let Some(tunnel) = tables.tunnel(id)
            && tunnel.takes_new_flows()
        {
            match tables.fit(tunnel.ifindex, l3_len_bytes) {
                Fit::Fits => {
                    return Ok(Exit {
                        tunnel: id,
                        ifindex: tunnel.ifindex,
                    });
                }
                Fit::TooBig => return Err(PassReason::TooBig),
                Fit::Gone => {}
            }
        }
        hash = next_attempt(hash);
        attempt += 1;
    }
    Err(PassReason::NoTunnel)
}

/// Puts a flow on another tunnel.
#[inline(always)]
fn put_on<T: Tables>(tables: &T, flow: &SharedFlow, to: TunnelId) {
    let from = flow.tunnel.get() as TunnelId;
    flow.tunnel.set(to.into());
    tables.count(from, |counters| counters.moved_out += 1);
    tables.count(to, |counters| counters.moved_in += 1);
}

/// Counts a packet from the LAN in its flow.
#[inline(always)]
fn note_sent<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    flow: &SharedFlow,
    now_ns: u64,
) {
    touch(flow, parsed, now_ns);
    tables.add(&flow.tx_packets, packet.segments().into());
    tables.add(&flow.tx_bytes, parsed.l3_len_bytes.into());
}

/// Counts a packet that was sent through its tunnel.
#[inline(always)]
pub fn count_sent<P: Packet, T: Tables>(packet: &P, tables: &T, parsed: &Parsed, tunnel: TunnelId) {
    tables.count(tunnel, |counters| {
        counters.tx_packets += u64::from(packet.segments());
        counters.tx_bytes += u64::from(parsed.l3_len_bytes);
    });
}

/// Notes a packet that came out of a tunnel; it goes on to the kernel in any case.
///
/// A flow that the far gateway placed is entered on, and follows, the tunnel
/// that it arrives by; a flow placed here stays where it is.
#[inline(always)]
pub fn learn<P: Packet, T: Tables>(packet: &P, tables: &T, parsed: &Parsed, arrived_by: TunnelId) {
    let now_ns = tables.now_ns();
    let found = tables.flow(&parsed.key);
    let Some((live, group)) = known(tables, parsed, found, parsed.source.other(), now_ns) else {
        return;
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
        return;
    }
    // What cannot carry the replies teaches nothing: the first reply is placed instead.
    if !can_carry {
        return;
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
        return;
    }
    tables.count(arrived_by, |counters| counters.new_flows += 1);
}

/// Whether the entry's conversation is over: idle for too long, or closed and opened anew.
#[inline(always)]
fn is_over<T: Tables>(flow: &SharedFlow, parsed: &Parsed, tables: &T, now_ns: u64) -> bool {
    let phase = flow.phase.get();
    let opens = parsed.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    if phase == Phase::Closing && opens {
        return true;
    }
    is_idle(
        tables.settings(),
        &parsed.key,
        phase,
        flow.last_seen_ns.get(),
        now_ns,
    )
}

/// Whether a flow has been idle for longer than its protocol allows.
#[inline(always)]
pub fn is_idle(
    settings: &Settings,
    key: &FlowKey,
    phase: Phase,
    last_seen_ns: u64,
    now_ns: u64,
) -> bool {
    now_ns.saturating_sub(last_seen_ns) > settings.idle_limit_ns(key.protocol, phase)
}

impl Settings {
    /// How long a flow may be idle before its entry no longer holds.
    #[inline(always)]
    pub const fn idle_limit_ns(&self, protocol: u32, phase: Phase) -> u64 {
        const TCP: u32 = IpProto::Tcp as u32;
        const UDP: u32 = IpProto::Udp as u32;
        const UDP_LITE: u32 = IpProto::UdpLite as u32;
        match (protocol, phase) {
            (TCP, Phase::Closing) => self.idle_closing_ns,
            (TCP, Phase::Open) => self.idle_tcp_ns,
            (UDP | UDP_LITE, _) => self.idle_udp_ns,
            _ => self.idle_other_ns,
        }
    }
}

#[inline(always)]
fn phase_after(phase: Phase, parsed: &Parsed) -> Phase {
    if parsed.tcp_flags & (tcp_flags::FIN | tcp_flags::RST) == 0 {
        phase
    } else {
        Phase::Closing
    }
}

/// Notes that a flow lives; unchanged fields are not written, which spares the cache line.
#[inline(always)]
fn touch(flow: &SharedFlow, parsed: &Parsed, now_ns: u64) {
    if flow.last_seen_ns.get() != now_ns {
        flow.last_seen_ns.set(now_ns);
    }
    let phase = flow.phase.get();
    let next = phase_after(phase, parsed);
    if next != phase {
        flow.phase.set(next);
    }
}
