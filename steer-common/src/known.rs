//! What the flow table and the prefixes know of a packet.

use bytemuck::Zeroable as _;

use crate::{
    abi::{Endpoint, FlowEntry, GroupId, Origin, Phase, Placer, TunnelId},
    decide::{is_idle, phase_after},
    parse::{Parsed, tcp_flags},
    tables::{SharedFlow, Standing, Tables},
};

/// What is known.
pub(crate) struct Known<'t> {
    /// The flow's entry, if it holds.
    pub(crate) live: Option<&'t SharedFlow>,
    /// What that said when it was looked at. It is changed from there or not at all: what another CPU made of
    /// it meanwhile was not looked at.
    was: Standing,
    /// The packet's group, the home group of that, and the epoch *before* the prefixes were searched: what
    /// changes meanwhile is for the next packet to see. In one word, because the stack is short.
    facts: u64,
    /// Whether the entry was checked in this epoch.
    pub(crate) is_checked: bool,
    /// Whether the entry's tunnel may carry the group's flows.
    pub(crate) is_member: bool,
}

/// The group of a packet, and its flow's entry if that holds; `None` if the packet is not steered.
///
/// Prefixes are searched only for a flow that is not known in this epoch. The prefix may belong to
/// another group by now: the entry holds as long as both have the same home.
#[inline(always)]
pub(crate) fn known<'t, T: Tables>(
    tables: &'t T,
    parsed: &Parsed,
    found: Option<&'t SharedFlow>,
    local: Endpoint,
    now_ns: u64,
) -> Option<Known<'t>> {
    let epoch = tables.settings().epoch;
    let live =
        found.filter(|flow| flow.local.get() == local && !is_over(flow, parsed, tables, now_ns));
    let was = live.map_or_else(Standing::zeroed, SharedFlow::standing);
    if let Some(flow) = live
        && was.epoch == epoch
    {
        return Some(Known {
            live,
            was,
            facts: facts(epoch, was.group as GroupId, flow.home.get() as GroupId),
            is_checked: true,
            is_member: true,
        });
    }
    let group = tables.group_of(parsed.key.addr(local.other()))?;
    let home = tables.home_of(group);
    let live = live.filter(|flow| flow.home.get() == u32::from(home));
    // The far end takes a pinned flow from no other tunnel, whatever the routes say.
    let is_member = live.is_some_and(|flow| {
        flow.origin.get() == Origin::Pinned || tables.is_member(group, was.tunnel as TunnelId)
    });
    Some(Known {
        live,
        was,
        facts: facts(epoch, group, home),
        is_checked: false,
        is_member,
    })
}

#[inline(always)]
const fn facts(epoch: u32, group: GroupId, home: GroupId) -> u64 {
    (epoch as u64) << 32 | (home as u64) << 8 | group as u64
}

impl Known<'_> {
    /// The packet's group.
    #[inline(always)]
    pub(crate) const fn group(&self) -> GroupId {
        self.facts as GroupId
    }

    /// The home group of that.
    #[inline(always)]
    pub(crate) const fn home(&self) -> GroupId {
        (self.facts >> 8) as GroupId
    }

    #[inline(always)]
    const fn epoch(&self) -> u32 {
        (self.facts >> 32) as u32
    }

    /// The tunnel that the entry names, if it holds.
    #[inline(always)]
    pub(crate) const fn tunnel(&self) -> TunnelId {
        self.was.tunnel as TunnelId
    }

    /// Notes in the entry that it was checked in this epoch.
    #[inline(always)]
    pub(crate) fn renew<T: Tables>(&mut self, tables: &T) {
        self.stand_on(tables, self.tunnel());
    }

    /// Puts the flow on a tunnel, as one that was checked in this epoch. Whether it did: another CPU may
    /// have been first, and then the next packet looks again.
    #[inline(always)]
    pub(crate) fn stand_on<T: Tables>(&mut self, tables: &T, tunnel: TunnelId) -> bool {
        let is = Standing {
            epoch: self.epoch(),
            tunnel: tunnel.into(),
            group: self.group().into(),
        };
        let is_done = self
            .live
            .is_some_and(|flow| flow.stand(tables, self.was, is));
        if is_done {
            self.was = is;
        }
        is_done
    }

    /// The entry of a flow that starts now, on a tunnel.
    #[inline(always)]
    pub(crate) fn new_entry(&self, parsed: &Parsed, tunnel: TunnelId, now_ns: u64) -> FlowEntry {
        FlowEntry {
            created_ns: now_ns,
            last_seen_ns: now_ns,
            tx_packets: 0,
            tx_bytes: 0,
            rx_packets: 0,
            rx_bytes: 0,
            epoch: self.epoch(),
            tunnel: tunnel.into(),
            group: self.group().into(),
            home: self.home().into(),
            origin: Origin::Hashed,
            local: parsed.source,
            placer: Placer::Near,
            phase: phase_after(Phase::Open, parsed),
        }
    }
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
