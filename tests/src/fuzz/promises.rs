//! What a packet may do to flows, tunnels and itself.

use std::collections::HashMap;

use steer_common::{
    abi::{FlowEntry, FlowKey, Origin, Phase, Placer, Settings, Tunnel, TunnelId},
    decide::is_idle,
    parse::{Parsed, tcp_flags},
    tables::Tables as _,
};

use super::decide::ROOM;
use crate::packets::{
    build::Arrival,
    host::HostTables,
    programs::{Ran, STEERED, Seen},
    recipe::Hook,
    world::DEVICES,
};

type Flows = HashMap<FlowKey, FlowEntry>;

/// What is known before a packet arrives.
pub(super) struct Before {
    flows: Flows,
    passed: u64,
    sent: [u64; DEVICES.len()],
}

impl Before {
    pub(super) fn of(tables: &HostTables) -> Self {
        Self {
            flows: flows(tables),
            passed: tables.pass_counters().iter().sum(),
            sent: sent(tables),
        }
    }
}

fn flows(tables: &HostTables) -> Flows {
    let keys = tables.flow_keys().into_iter();
    keys.filter_map(|key| Some((key, tables.entry(&key)?)))
        .collect()
}

fn sent(tables: &HostTables) -> [u64; DEVICES.len()] {
    let mut counts = [0; DEVICES.len()];
    for (id, count) in (0..).zip(&mut counts) {
        *count = tables.tunnel_counters(id).tx_packets;
    }
    counts
}

/// Panics if a flow is not where it should be after userspace asked for it.
pub(super) fn check_move(
    tables: &HostTables,
    before: &Before,
    key: &FlowKey,
    (from, to): (u32, u32),
    moved: bool,
) {
    let (old, new) = (before.flows[key], tables.entry(key).expect("an entry"));
    if !moved {
        assert_eq!(new, old);
        return;
    }
    assert_eq!((u32::from(old.tunnel), old.placer), (from, Placer::Near));
    assert_ne!(old.origin, Origin::Pinned);
    let expected = FlowEntry {
        tunnel: u16::try_from(to).expect("an id"),
        origin: Origin::Moved,
        ..old
    };
    assert_eq!(new, expected);
    let to = TunnelId::try_from(to).expect("an id");
    assert!(tables.tunnel(to).is_some_and(Tunnel::takes_new_flows));
    let group = tables.group_of(key.addr(old.local.other()));
    assert!(group.is_some_and(|group| tables.is_member(group, to)));
}

/// One packet, and what it did.
struct Promises<'p> {
    tables: &'p HostTables,
    before: &'p Before,
    after: Flows,
    arrival: &'p Arrival,
    ran: &'p Ran,
}

/// Panics if a packet did what it may not.
pub(super) fn check(tables: &HostTables, before: &Before, arrival: &Arrival, ran: &Ran) {
    let after = flows(tables);
    let promises = Promises {
        tables,
        before,
        after,
        arrival,
        ran,
    };
    promises.check();
}

impl Promises<'_> {
    fn check(&self) {
        self.check_table();
        self.check_counters();
        match self.ran.seen {
            Seen::Sent(exit) => self.check_sent(exit.tunnel, exit.ifindex),
            Seen::Passed(_) if self.arrival.hook.is_out() => {
                assert_eq!(self.ran.bytes, self.arrival.bytes, "passed as it came");
                self.check_nothing_placed();
            }
            Seen::Left if self.arrival.hook.is_out() => {
                assert_eq!(self.arrival.marker, STEERED);
                assert_eq!(self.ran.bytes, self.arrival.bytes, "passed as it came");
                assert_eq!(self.after, self.before.flows);
            }
            Seen::Passed(_) | Seen::Left | Seen::Forwarded(_) => self.check_learned(),
        }
    }

    /// The packet's flow, if it has one.
    fn parsed(&self) -> Option<Parsed> {
        self.ran.parsed.ok()
    }

    fn tunnel(&self, id: u32) -> Tunnel {
        let tunnel = usize::try_from(id)
            .ok()
            .and_then(|at| self.tables.tunnels[at]);
        tunnel.expect("a tunnel that there is")
    }

    /// Whether its device is there.
    fn exists(&self, tunnel: Tunnel) -> bool {
        self.tables.devices.contains_key(&tunnel.ifindex)
    }

    fn is_usable(&self, id: u32) -> bool {
        let tunnel = self.tunnel(id);
        tunnel.is_usable() && self.exists(tunnel)
    }

    /// The entry from before, as far as it counts for this packet.
    fn live(&self, parsed: &Parsed) -> Option<FlowEntry> {
        let entry = *self.before.flows.get(&parsed.key)?;
        let local = if self.arrival.hook.is_out() {
            parsed.source
        } else {
            parsed.source.other()
        };
        let opens = parsed.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
        let is_idle = is_idle(
            &self.tables.settings,
            &parsed.key,
            entry.phase,
            entry.last_seen_ns,
            self.tables.now_ns,
        );
        let is_of_home = entry.epoch == self.tables.settings.epoch
            || self
                .tables
                .group_of(parsed.key.addr(local.other()))
                .is_some_and(|group| u32::from(self.tables.home_of(group)) == entry.home);
        let holds = entry.local == local
            && !is_idle
            && !(entry.phase == Phase::Closing && opens)
            && is_of_home;
        holds.then_some(entry)
    }

    /// A packet changes the entry of its own flow, and there are never too many.
    fn check_table(&self) {
        assert!(self.after.len() <= ROOM);
        let own = self.parsed().map(|parsed| parsed.key);
        for (key, entry) in &self.before.flows {
            if own != Some(*key) {
                assert_eq!(self.after.get(key), Some(entry), "another flow's entry");
            }
        }
        for (key, entry) in &self.after {
            assert!(own == Some(*key) || self.before.flows.contains_key(key));
            assert!(usize::from(entry.tunnel) < DEVICES.len());
        }
    }

    fn check_counters(&self) {
        let passed: u64 = self.tables.pass_counters().iter().sum();
        let is_passed = matches!(self.ran.seen, Seen::Passed(_));
        assert_eq!(passed - self.before.passed, u64::from(is_passed));
        let mut expected = self.before.sent;
        if let Seen::Sent(exit) = self.ran.seen {
            expected[usize::from(exit.tunnel)] += u64::from(self.arrival.segments);
        }
        assert_eq!(sent(self.tables), expected);
    }

    /// It goes by a tunnel that can carry it, and a flow that could stay stayed.
    fn check_sent(&self, id: TunnelId, ifindex: u32) {
        let parsed = self.parsed().expect("a flow");
        let tunnel = self.tunnel(id.into());
        assert_eq!(tunnel.ifindex, ifindex);
        assert!(tunnel.is_wanted() && self.exists(tunnel), "{tunnel:?}");
        let live = self.live(&parsed);
        let stayed = live.is_some_and(|entry| entry.tunnel == u16::from(id));
        let remote = parsed.key.addr(parsed.source.other());
        let may_carry = |id: TunnelId| {
            let group = self.tables.group_of(remote);
            group.is_some_and(|group| self.tables.is_member(group, id))
        };
        if let Some(entry) = live {
            let was = TunnelId::try_from(entry.tunnel).expect("an id");
            let had_to = !self.is_usable(entry.tunnel.into()) || !may_carry(was);
            assert!(stayed || had_to, "{entry:?} moved");
        }
        if !stayed {
            assert!(tunnel.is_usable(), "{tunnel:?} takes a flow");
        }
        if let Some(entry) = self.after.get(&parsed.key) {
            assert_eq!(entry.tunnel, u16::from(id));
            assert_eq!(entry.last_seen_ns, self.tables.now_ns);
            // Whose address a flow has may be a tunnel of another group.
            assert!(entry.origin == Origin::Pinned || may_carry(id), "{entry:?}");
        } else {
            assert_eq!(self.after.len(), ROOM, "there was room");
        }
        self.check_mark(id);
    }

    fn check_mark(&self, id: TunnelId) {
        let mask = self.tables.settings.mark_mask;
        let is_marked = matches!(self.arrival.hook, Hook::Mark | Hook::MarkL3) && mask != 0;
        let (before, after) = (self.arrival.mark, self.ran.mark);
        if is_marked {
            assert_eq!(after & mask, Settings::mark_of(mask, id));
            assert_eq!(after & !mask, before & !mask);
        } else {
            assert_eq!(after, before);
        }
    }

    /// What the kernel gets is on no tunnel that it was not on before.
    fn check_nothing_placed(&self) {
        let places = |flows: &Flows| -> HashMap<FlowKey, (u16, u64)> {
            let flows = flows.iter();
            flows
                .map(|(key, entry)| (*key, (entry.tunnel, entry.tx_packets)))
                .collect()
        };
        assert_eq!(places(&self.after), places(&self.before.flows));
    }

    /// Whether replies may leave by the tunnel that the packet came out of.
    fn may_learn(&self, parsed: &Parsed) -> bool {
        let group = self.tables.group_of(parsed.key.addr(parsed.source));
        group.is_some_and(|group| self.tables.is_member(group, self.arrival.device))
    }

    /// A packet out of a tunnel moves no flow that this gateway placed.
    fn check_learned(&self) {
        let Some(parsed) = self.parsed() else {
            assert_eq!(self.after, self.before.flows);
            return;
        };
        let device = u16::from(self.arrival.device);
        let Some(entry) = self.after.get(&parsed.key) else {
            return;
        };
        match self.live(&parsed) {
            Some(before) if before.tunnel != entry.tunnel => {
                assert_eq!(before.placer, Placer::Far, "a flow placed here moved");
                assert_eq!(entry.tunnel, device);
                assert!(self.tunnel(device.into()).is_usable() && self.may_learn(&parsed));
            }
            Some(_) => {}
            None if Some(entry) == self.before.flows.get(&parsed.key) => {}
            None => {
                let is_new = entry.created_ns == self.tables.now_ns;
                assert!(is_new || entry.tunnel == self.before.flows[&parsed.key].tunnel);
                if is_new {
                    assert_eq!((entry.tunnel, entry.placer), (device, Placer::Far));
                    assert!(self.may_learn(&parsed));
                }
            }
        }
    }
}
