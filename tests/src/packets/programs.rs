//! The programs on the host: what each does with a packet, over [`HostTables`].

use steer_common::{
    abi::{MSS_MIN, PassReason, Settings, TunnelId},
    decide::{Exit, Place, Verdict, count_sent, steer},
    learn::learn,
    parse::{self, Parsed, Version, parse},
    related::{Direction, has_vlan, relate},
    tables::Tables as _,
};

use super::{
    build::Arrival,
    host::{HostTables, SlicePacket},
    recipe::{Hook, Layer},
    rewrite::{clamped, delivered, forwarded},
    world::{LAN_IFINDEX, LAN_MTU, Way, way},
};

/// In the control block of a packet: a program of ours has sent it on its way.
pub const STEERED: u32 = 0x5723_5eed;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It goes by this tunnel: redirected or marked, or it was on its way there already.
    Sent(Exit),
    /// It goes out by this LAN device.
    Forwarded(&'static str),
    /// The kernel gets it, counted.
    Passed(PassReason),
    /// The kernel gets it.
    Left,
}

/// What a program does with a packet.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What becomes of it.
    pub seen: Seen,
    /// What the parser found.
    pub parsed: Result<Parsed, PassReason>,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
    /// Its mark afterwards.
    pub mark: u32,
    /// What it has in its control block afterwards, for another program of ours.
    pub marker: u32,
    /// Whether it goes where the program says, and not to the next program or the kernel.
    pub redirected: bool,
}

/// What the parser finds.
pub fn parsed(layer: parse::Layer, bytes: &[u8]) -> Result<Parsed, PassReason> {
    let packet = SlicePacket {
        bytes,
        gso_size_bytes: 0,
        segments: 1,
    };
    let mut parsed = Parsed::EMPTY;
    parse(&packet, layer, &mut parsed).map(|()| parsed)
}

/// Lets a packet arrive, as the programs do.
pub fn arrive(tables: &HostTables, arrival: &Arrival) -> Ran {
    let packet = SlicePacket {
        bytes: &arrival.bytes,
        gso_size_bytes: arrival.gso_size,
        segments: arrival.segments,
    };
    let layer = match arrival.hook.layer() {
        Layer::Ethernet => parse::Layer::Ethernet,
        Layer::Network => parse::Layer::Network,
    };
    let mut parsed = Parsed::EMPTY;
    let parsed = parse(&packet, layer, &mut parsed).map(|()| parsed);
    let mut run = Run {
        tables,
        packet,
        bytes: arrival.bytes.clone(),
        mark: arrival.mark,
    };
    if arrival.hook == Hook::Egress && arrival.marker == STEERED {
        return Ran {
            seen: Seen::Left,
            parsed,
            bytes: run.bytes,
            mark: run.mark,
            marker: 0,
            redirected: false,
        };
    }
    let (seen, parsed) = match parsed {
        Ok(mut parsed) => {
            let seen = if arrival.hook.is_out() {
                run.towards_tunnel(arrival, &mut parsed)
            } else {
                run.out_of_tunnel(arrival, &mut parsed)
            };
            (seen, Ok(parsed))
        }
        Err(reason) if arrival.hook.is_out() => (Seen::Passed(reason), Err(reason)),
        Err(reason) => (Seen::Left, Err(reason)),
    };
    if let Seen::Passed(reason) = seen {
        let counter = &tables.pass_counters[reason as usize];
        counter.set(counter.get() + 1);
    }
    let to_tunnel = match (seen, arrival.hook) {
        (Seen::Sent(_), Hook::Lan | Hook::LanL3) => true,
        (Seen::Sent(exit), Hook::Egress) => {
            exit.ifindex != tables.tunnel_devices[usize::from(arrival.device)].0
        }
        _ => false,
    };
    Ran {
        seen,
        parsed,
        bytes: run.bytes,
        mark: run.mark,
        marker: if to_tunnel { STEERED } else { arrival.marker },
        redirected: to_tunnel || matches!(seen, Seen::Forwarded(_)),
    }
}

/// One run of a program.
struct Run<'t> {
    tables: &'t HostTables,
    packet: SlicePacket<'t>,
    bytes: Vec<u8>,
    mark: u32,
}

impl Run<'_> {
    fn towards_tunnel(&mut self, arrival: &Arrival, parsed: &mut Parsed) -> Seen {
        let tables = self.tables;
        if !has_vlan(tables, LAN_IFINDEX, parsed) {
            return Seen::Passed(PassReason::UnknownVlan);
        }
        relate(&self.packet, tables, Direction::ToTunnel, parsed);
        tables.measure(&self.packet, parsed);
        let place = match arrival.hook {
            Hook::Mark | Hook::MarkL3 => Place::Mark,
            Hook::Egress => {
                let (ifindex, home) = tables.tunnel_devices[usize::from(arrival.device)];
                Place::Egress { ifindex, home }
            }
            _ => Place::Lan,
        };
        let exit = match steer(&self.packet, tables, parsed, place) {
            Verdict::Redirect(exit) => exit,
            Verdict::TooBig(exit) => {
                self.set_mark(exit.tunnel);
                return Seen::Passed(PassReason::TooBig);
            }
            Verdict::Pass(reason) => return Seen::Passed(reason),
        };
        self.clamp(parsed, exit.ifindex);
        match place {
            Place::Lan => self.bytes = forwarded(&self.bytes, parsed),
            Place::Mark => self.set_mark(exit.tunnel),
            Place::Egress { .. } => {}
        }
        count_sent(&self.packet, tables, parsed, exit.tunnel);
        Seen::Sent(exit)
    }

    fn out_of_tunnel(&mut self, arrival: &Arrival, parsed: &mut Parsed) -> Seen {
        let tables = self.tables;
        relate(&self.packet, tables, Direction::FromTunnel, parsed);
        tables.measure(&self.packet, parsed);
        if !learn(&self.packet, tables, parsed, arrival.device) {
            return Seen::Left;
        }
        let (ifindex, _) = tables.tunnel_devices[usize::from(arrival.device)];
        self.clamp(parsed, ifindex);
        if arrival.hook != Hook::Return {
            return Seen::Left;
        }
        if parsed.ttl <= 1 {
            return Seen::Passed(PassReason::TtlExpired);
        }
        if parsed.router_options {
            return Seen::Passed(PassReason::RouterOptions);
        }
        let way = way(parsed.key.addr(parsed.source.other()));
        // The kernel does not measure segments here (`is_skb_forwardable` in `net/core/dev.c`).
        let length = if arrival.gso_size > 0 {
            0
        } else {
            parsed.l3_len_bytes
        };
        match way {
            Way::Nowhere => Seen::Passed(PassReason::NotForwarded),
            Way::Lan(_) | Way::Bare(_) | Way::Silent if length > LAN_MTU => {
                Seen::Passed(PassReason::TooBig)
            }
            Way::Silent => Seen::Passed(PassReason::NoNeighbour),
            Way::Elsewhere(mtu) if length > mtu => Seen::Passed(PassReason::TooBig),
            Way::Elsewhere(_) => Seen::Passed(PassReason::NotLan),
            Way::Lan(device) | Way::Bare(device) => {
                tables.note(|counters| counters.returned += 1);
                self.bytes = forwarded(&self.bytes, parsed);
                if matches!(way, Way::Lan(_)) {
                    self.bytes = delivered(&self.bytes);
                }
                Seen::Forwarded(device)
            }
        }
    }

    fn set_mark(&mut self, tunnel: TunnelId) {
        let mask = self.tables.settings.mark_mask;
        if mask != 0 {
            self.mark = self.mark & !mask | Settings::mark_of(mask, tunnel);
        }
    }

    fn clamp(&mut self, parsed: &Parsed, ifindex: u32) {
        let limit = match (
            self.tables.settings.mss_clamp,
            self.tables.devices.get(&ifindex),
        ) {
            (0, _) | (1, None) => return,
            (1, Some(mtu)) => match parsed.version {
                Version::V4 => mtu - 40,
                Version::V6 => mtu - 60,
            },
            (limit, _) => limit,
        };
        let end = parsed.l3_offset + parsed.l3_len_bytes as usize;
        let packet = &mut self.bytes[parsed.l3_offset..end];
        let limit = u16::try_from(limit.max(MSS_MIN)).unwrap_or(u16::MAX);
        let after = clamped(packet, parsed.l3_offset, limit);
        if after != packet {
            self.tables.note(|counters| counters.clamped_mss += 1);
            packet.copy_from_slice(&after);
        }
    }
}
