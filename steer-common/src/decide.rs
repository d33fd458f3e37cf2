//! The decision: which tunnel a packet takes, or why the kernel gets it.

use network_types::ip::IpProto;

use crate::{
    abi::{
        AddressKind, Admin, FlowEntry, FlowKey, GroupId, Health, MoveReason, NO_TUNNEL, Origin,
        PassReason, Phase, Settings, Tunnel, TunnelId,
    },
    hash::{bucket_of, flow_hash, next_attempt},
    known::known,
    moves::put_on,
    packet::Packet,
    parse::{Parsed, tcp_flags},
    tables::{Fit, Inserted, SharedFlow, Tables},
};

/// Buckets tried before a new flow is given up.
///
/// The table holds usable tunnels only, so the first is right but for the
/// moment between a tunnel's end and the new table.
const ATTEMPTS: u32 = 32;

/// Where a packet is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a LAN device, past the kernel: steer is the router.
    Lan,
    /// On a LAN device, before the kernel, which follows the mark.
    Mark,
    /// On a tunnel's device, behind the kernel.
    Egress {
        /// The device's number.
        ifindex: u32,
        /// The home group of its tunnel: the kernel chose that, and steer stays in it.
        home: GroupId,
    },
}

impl Place {
    /// Whether the packet must fit the device: it is not there yet, and the kernel will not cut it.
    #[inline(always)]
    fn must_fit(self, ifindex: u32) -> bool {
        match self {
            Self::Lan => true,
            Self::Mark => false,
            Self::Egress { ifindex: here, .. } => here != ifindex,
        }
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it through the tunnel.
    Redirect(Exit),
    /// It is too big for its tunnel: leave it to the kernel, which should know the tunnel.
    TooBig(Exit),
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
    /// Whether the packet may be sent there as it is.
    pub fits: bool,
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

/// Decides about a packet from the side behind this gateway.
#[inline(always)]
pub fn steer<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    place: Place,
) -> Verdict {
    match choose(packet, tables, parsed, place) {
        Ok(exit) if exit.fits => Verdict::Redirect(exit),
        Ok(exit) => Verdict::TooBig(exit),
        Err(reason) => Verdict::Pass(reason),
    }
}

/// The tunnel; a packet that does not fit is neither entered nor counted.
#[inline(always)]
fn choose<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    place: Place,
) -> Result<Exit, PassReason> {
    let now_ns = tables.now_ns();
    let found = tables.flow(&parsed.key);
    let mut known =
        known(tables, parsed, found, parsed.source, now_ns).ok_or(PassReason::NotSteered)?;
    let live = known.live;
    match place {
        Place::Egress { home, .. } if home != known.home() => return Err(PassReason::NotSteered),
        Place::Lan | Place::Mark if parsed.ttl <= 1 => return Err(PassReason::TtlExpired),
        Place::Lan if parsed.router_options => return Err(PassReason::RouterOptions),
        _ => {}
    }
    let owner = if known.is_checked {
        None
    } else {
        let owner = owner(tables, parsed, place)?;
        if known.is_member {
            known.renew(tables);
        }
        owner
    };

    if let Some(flow) = live
        && known.is_member
        && let Some(exit) = exit_on(tables, parsed, known.tunnel(), place, Tunnel::is_usable)
    {
        if exit.fits {
            note_sent(packet, tables, parsed, flow, now_ns);
        }
        return Ok(exit);
    }
    if let Some(flow) = live
        && flow.origin.get() == Origin::Pinned
    {
        return Err(PassReason::NoTunnel);
    }
    if let Some(tunnel) = owner {
        let exit = exit_on(tables, parsed, tunnel, place, Tunnel::is_usable)
            .ok_or(PassReason::NoTunnel)?;
        if !exit.fits {
            return Ok(exit);
        }
        let entry = FlowEntry {
            origin: Origin::Pinned,
            ..known.new_entry(parsed, exit.tunnel, now_ns)
        };
        return enter(packet, tables, parsed, found, entry, exit, place, now_ns);
    }
    let (exit, has_moved) = if let Some(exit) = tables.pick(parsed, known.group(), place) {
        (exit, true)
    } else {
        // With every tunnel down the flow stays: its own may be the first to come back.
        let own = known.is_member.then(|| known.tunnel());
        let exit = own.and_then(|own| exit_on(tables, parsed, own, place, Tunnel::is_wanted));
        (exit.ok_or(PassReason::NoTunnel)?, false)
    };
    if !exit.fits {
        return Ok(exit);
    }
    let Some(flow) = live else {
        let entry = known.new_entry(parsed, exit.tunnel, now_ns);
        return enter(packet, tables, parsed, found, entry, exit, place, now_ns);
    };
    if has_moved {
        let reason = (!known.is_member).then_some(MoveReason::RouteGone);
        // Where another CPU was first, its choice may be this one, and is nobody's loss.
        if put_on(tables, &mut known, &parsed.key, exit.tunnel, reason) {
            flow.origin.set(Origin::Moved);
        }
    }
    note_sent(packet, tables, parsed, flow, now_ns);
    Ok(exit)
}

/// The tunnel whose own address a packet comes from: the far end takes it from no other.
///
/// What is from or to this gateway otherwise is refused, where the kernel would refuse it, and so
/// is what goes to the address that a tunnel's encrypted packets go to.
#[inline(always)]
fn owner<T: Tables>(
    tables: &T,
    parsed: &Parsed,
    place: Place,
) -> Result<Option<TunnelId>, PassReason> {
    if let Some(known) = tables.address(parsed.key.addr(parsed.source.other())) {
        return Err(match known.kind {
            AddressKind::Own => PassReason::OwnAddress,
            AddressKind::Endpoint => PassReason::TunnelEndpoint,
        });
    }
    match tables.address(parsed.key.addr(parsed.source)) {
        Some(known) if known.kind == AddressKind::Own => match place {
            Place::Lan | Place::Mark => Err(PassReason::OwnAddress),
            Place::Egress { .. } if known.tunnel == u32::from(NO_TUNNEL) => Ok(None),
            Place::Egress { .. } => Ok(Some(known.tunnel as TunnelId)),
        },
        _ => Ok(None),
    }
}

/// A tunnel as the way out, if it is good enough and its device exists.
#[inline(always)]
fn exit_on<T: Tables>(
    tables: &T,
    parsed: &Parsed,
    id: TunnelId,
    place: Place,
    is_good_enough: impl FnOnce(Tunnel) -> bool,
) -> Option<Exit> {
    let tunnel = tables.tunnel(id)?;
    if !is_good_enough(tunnel) {
        return None;
    }
    exit_by(tables, parsed, id, tunnel.ifindex, place)
}

/// A tunnel's device as the way out, if it exists.
#[inline(always)]
fn exit_by<T: Tables>(
    tables: &T,
    parsed: &Parsed,
    tunnel: TunnelId,
    ifindex: u32,
    place: Place,
) -> Option<Exit> {
    let fit = tables.fit(ifindex, parsed.l3_len_bytes);
    (fit != Fit::Gone).then_some(Exit {
        tunnel,
        ifindex,
        fits: fit == Fit::Fits || !place.must_fit(ifindex),
    })
}

/// Enters a flow that has no entry, or one that no longer holds.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "one step of choose(), of which it is a part"
)]
fn enter<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    parsed: &Parsed,
    found: Option<&SharedFlow>,
    mut entry: FlowEntry,
    exit: Exit,
    place: Place,
    now_ns: u64,
) -> Result<Exit, PassReason> {
    entry.tx_packets = packet.segments().into();
    entry.tx_bytes = parsed.l3_len_bytes.into();
    if let Some(flow) = found {
        flow.restart(&entry);
    } else {
        match tables.insert_flow(&parsed.key, &entry) {
            Inserted::Done => {}
            // The winner's choice is everybody's.
            Inserted::Exists => {
                let winner = tables.flow(&parsed.key).ok_or(PassReason::NoTunnel)?;
                let tunnel = winner.standing().tunnel as TunnelId;
                let exit = exit_on(tables, parsed, tunnel, place, Tunnel::is_usable)
                    .ok_or(PassReason::NoTunnel)?;
                if exit.fits {
                    note_sent(packet, tables, parsed, winner, now_ns);
                }
                return Ok(exit);
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

/// The tunnel of a flow by the bucket table, past those that cannot take it now.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, parsed: &Parsed, group: GroupId, place: Place) -> Option<Exit> {
    let mut hash = flow_hash(tables.settings().seed, &parsed.key);
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let id = tables.bucket(group, bucket_of(hash));
        if id == NO_TUNNEL {
            break;
        }
        if let Some(tunnel) = tables.tunnel(id)
            && tunnel.takes_new_flows()
            && let Some(exit) = exit_by(tables, parsed, id, tunnel.ifindex, place)
        {
            return Some(exit);
        }
        hash = next_attempt(hash);
        attempt += 1;
    }
    None
}

/// Counts a packet towards the tunnel in its flow.
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
pub(crate) fn phase_after(phase: Phase, parsed: &Parsed) -> Phase {
    if parsed.tcp_flags & (tcp_flags::FIN | tcp_flags::RST) == 0 {
        phase
    } else {
        Phase::Closing
    }
}

/// Notes that a flow lives; unchanged fields are not written, which spares the cache line.
#[inline(always)]
pub(crate) fn touch(flow: &SharedFlow, parsed: &Parsed, now_ns: u64) {
    if flow.last_seen_ns.get() != now_ns {
        flow.last_seen_ns.set(now_ns);
    }
    let phase = flow.phase.get();
    let next = phase_after(phase, parsed);
    if next != phase {
        flow.phase.set(next);
    }
}
