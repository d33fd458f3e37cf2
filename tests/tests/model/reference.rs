//! What the decision must do, written down a second time and as plainly as
//! possible: one table of flows, one rule after the other.

use std::collections::BTreeMap;

use steer_common::{
    abi::{FlowKey, GroupId, MoveReason, NO_TUNNEL, TunnelId},
    hash::{bucket_of, flow_hash, next_attempt},
};
use steer_tests::packets::world::Buckets;

/// A tunnel as the operator and the health check see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Good,
    Draining,
    /// The operator took it out, or its device number is 0.
    Out,
    /// The health check gave it up.
    Down,
    /// The device was deleted; nobody told the maps yet.
    Gone,
}

impl State {
    /// Its flows stay.
    fn keeps(self) -> bool {
        matches!(self, Self::Good | Self::Draining)
    }
}

/// Who put a flow where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Hash,
    Learning,
    Moving,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) tunnel: TunnelId,
    pub(crate) by: By,
    /// The far gateway chose the first tunnel.
    pub(crate) far_leads: bool,
    /// The home of the group that it was entered in.
    pub(crate) home: GroupId,
    closing: bool,
    seen_secs: u64,
}

/// One packet, as far as the decision looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) key: FlowKey,
    pub(crate) tcp: bool,
    pub(crate) opens: bool,
    pub(crate) closes: bool,
}

/// Some tunnels of a home group.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) home: GroupId,
    pub(crate) members: Vec<TunnelId>,
    pub(crate) table: Buckets,
}

/// What happened to a flow or a tunnel, as often as it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted {
    New(TunnelId),
    In(TunnelId),
    Out(TunnelId),
}

/// A line of the log: the flow, from where, to where, in which group, and why.
pub(crate) type Moved = (Vec<u8>, TunnelId, TunnelId, GroupId, MoveReason);

pub(crate) struct Reference {
    pub(crate) now_secs: u64,
    pub(crate) tunnels: BTreeMap<TunnelId, State>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// The one that the prefix belongs to.
    pub(crate) group: GroupId,
    pub(crate) seed: u64,
    pub(crate) room: usize,
    pub(crate) flows: BTreeMap<Vec<u8>, Flow>,
    pub(crate) full: u64,
    pub(crate) counted: BTreeMap<Counted, u64>,
    pub(crate) log: Vec<Moved>,
}

impl Reference {
    pub(crate) fn group(&self) -> &Group {
        &self.groups[&self.group]
    }

    /// The entry as it counts now: not if its conversation is over, or if it is of another home.
    fn live(&self, packet: &Packet) -> Option<Flow> {
        let flow = *self.flows.get(&name(&packet.key))?;
        let reopened = flow.closing && packet.opens;
        let is_of_home = flow.home == self.group().home;
        (!self.is_idle(&flow, packet.tcp) && !reopened && is_of_home).then_some(flow)
    }

    fn is_idle(&self, flow: &Flow, tcp: bool) -> bool {
        let limit = match (tcp, flow.closing) {
            (true, true) => 30,
            (true, false) => 7_440,
            (false, _) => 300,
        };
        self.now_secs - flow.seen_secs > limit
    }

    /// Where the hash puts a new flow.
    fn placed(&self, key: &FlowKey) -> Option<TunnelId> {
        let mut hash = flow_hash(self.seed, key);
        for _ in 0..32 {
            let id = self.group().table[bucket_of(hash) as usize];
            if id == NO_TUNNEL {
                return None;
            }
            if self.tunnels[&id] == State::Good {
                return Some(id);
            }
            hash = next_attempt(hash);
        }
        None
    }

    /// A packet from the LAN: the tunnel it takes.
    pub(crate) fn lan(&mut self, packet: &Packet) -> Option<TunnelId> {
        let placed = self.placed(&packet.key);
        let Some(mut flow) = self.live(packet) else {
            let tunnel = placed?;
            self.enter(packet, tunnel, false);
            return Some(tunnel);
        };
        let state = self.tunnels[&flow.tunnel];
        let is_member = self.group().members.contains(&flow.tunnel);
        if !state.keeps() || !is_member {
            match placed {
                Some(tunnel) => {
                    let why = match state {
                        State::Out => MoveReason::TunnelDisabled,
                        State::Down => MoveReason::TunnelDown,
                        _ if !is_member => MoveReason::RouteGone,
                        _ => MoveReason::TunnelGone,
                    };
                    self.put_on(&packet.key, &mut flow, tunnel, why);
                    flow.by = By::Moving;
                }
                // Nothing better: a tunnel that is merely given up may be back already.
                None if state == State::Down && is_member => {}
                None => return None,
            }
        }
        self.note(packet, flow);
        Some(flow.tunnel)
    }

    /// A packet out of a tunnel.
    pub(crate) fn remote(&mut self, packet: &Packet, tunnel: TunnelId) {
        // A packet out of a deleted device cannot be; the maps still believe in it.
        let can_carry = matches!(
            self.tunnels[&tunnel],
            State::Good | State::Draining | State::Gone
        );
        let may_carry = can_carry && self.group().members.contains(&tunnel);
        if let Some(mut flow) = self.live(packet) {
            if flow.far_leads && may_carry && flow.tunnel != tunnel {
                self.put_on(&packet.key, &mut flow, tunnel, MoveReason::FarEnd);
                flow.by = By::Learning;
            }
            self.note(packet, flow);
        } else if may_carry {
            self.enter(packet, tunnel, true);
        }
    }

    /// Userspace wants a flow moved; whether it is.
    pub(crate) fn rebalance(&mut self, packet: &Packet, from: TunnelId, to: TunnelId) -> bool {
        let Some(mut flow) = self.flows.get(&name(&packet.key)).copied() else {
            return false;
        };
        // A deleted device is one that the maps still believe in.
        let is_offered = matches!(self.tunnels[&to], State::Good | State::Gone)
            && self.group().members.contains(&to);
        let may_move = flow.tunnel == from
            && from != to
            && !flow.far_leads
            && flow.home == self.group().home
            && !self.is_idle(&flow, packet.tcp);
        if is_offered && may_move {
            self.put_on(&packet.key, &mut flow, to, MoveReason::Rebalanced);
            flow.by = By::Moving;
            self.flows.insert(name(&packet.key), flow);
        }
        is_offered && may_move
    }

    fn put_on(&mut self, key: &FlowKey, flow: &mut Flow, to: TunnelId, why: MoveReason) {
        self.count(Counted::Out(flow.tunnel));
        self.count(Counted::In(to));
        let from = std::mem::replace(&mut flow.tunnel, to);
        self.log.push((name(key), from, to, self.group, why));
    }

    fn count(&mut self, what: Counted) {
        *self.counted.entry(what).or_default() += 1;
    }

    fn enter(&mut self, packet: &Packet, tunnel: TunnelId, far_leads: bool) {
        let is_there = self.flows.contains_key(&name(&packet.key));
        if !is_there && self.flows.len() == self.room {
            self.full += u64::from(!far_leads);
            return;
        }
        let by = if far_leads { By::Learning } else { By::Hash };
        let flow = Flow {
            tunnel,
            by,
            far_leads,
            home: self.group().home,
            closing: false,
            seen_secs: 0,
        };
        self.note(packet, flow);
        self.count(Counted::New(tunnel));
    }

    fn note(&mut self, packet: &Packet, mut flow: Flow) {
        flow.seen_secs = self.now_secs;
        flow.closing |= packet.closes;
        self.flows.insert(name(&packet.key), flow);
    }
}

/// The key in a form that sorts.
pub(crate) fn name(key: &FlowKey) -> Vec<u8> {
    bytemuck::bytes_of(key).to_vec()
}
