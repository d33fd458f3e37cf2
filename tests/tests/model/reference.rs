//! What the decision must do, written down a second time and as plainly as
//! possible: one table of flows, one rule after the other.

use std::collections::BTreeMap;

use steer_common::{
    abi::{FlowKey, NO_TUNNEL, TunnelId},
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

pub(crate) struct Reference {
    pub(crate) now_secs: u64,
    pub(crate) tunnels: BTreeMap<TunnelId, State>,
    pub(crate) table: Buckets,
    pub(crate) seed: u64,
    pub(crate) room: usize,
    pub(crate) flows: BTreeMap<Vec<u8>, Flow>,
    pub(crate) full: u64,
}

impl Reference {
    /// The entry as it counts now: not if its conversation is over.
    fn live(&self, packet: &Packet) -> Option<Flow> {
        let flow = *self.flows.get(&name(&packet.key))?;
        let limit = match (packet.tcp, flow.closing) {
            (true, true) => 30,
            (true, false) => 7_440,
            (false, _) => 300,
        };
        let idle = self.now_secs - flow.seen_secs > limit;
        let reopened = flow.closing && packet.opens;
        (!idle && !reopened).then_some(flow)
    }

    /// Where the hash puts a new flow.
    fn placed(&self, key: &FlowKey) -> Option<TunnelId> {
        let mut hash = flow_hash(self.seed, key);
        for _ in 0..32 {
            let id = self.table[bucket_of(hash) as usize];
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
        if !state.keeps() {
            match placed {
                Some(tunnel) => {
                    flow.tunnel = tunnel;
                    flow.by = By::Moving;
                }
                // Nothing better: a tunnel that is merely given up may be back already.
                None if state == State::Down => {}
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
        if let Some(mut flow) = self.live(packet) {
            if flow.far_leads && can_carry && flow.tunnel != tunnel {
                flow.tunnel = tunnel;
                flow.by = By::Learning;
            }
            self.note(packet, flow);
        } else if can_carry {
            self.enter(packet, tunnel, true);
        }
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
            closing: false,
            seen_secs: 0,
        };
        self.note(packet, flow);
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
